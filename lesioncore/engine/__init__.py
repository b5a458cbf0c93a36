"""The gradient of a prior's evidence lower bound, fast: batches, number formats, CUDA graphs."""
