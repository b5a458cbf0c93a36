"""Fast evaluation of a prior's evidence lower bound and its gradient: batches, number formats, CUDA graphs."""
