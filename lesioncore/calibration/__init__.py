"""What healthy people tell: data-consistency weight and thresholds, and the summary of scores behind them."""
