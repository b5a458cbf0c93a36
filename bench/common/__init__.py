"""What the benchmarks share: options, timing, results, simulated and real patients, opponents in plain PyTorch."""
