"""Many jobs at once: in this process, on Ray, or as parts of an array of batch jobs."""
