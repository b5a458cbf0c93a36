"""Calibration on healthy people: data-consistency weight, thresholds, and the summary of scores behind them."""
