"""Detection maps from residuals: smoothing, standardization, spread maps, asymmetry, and cleaning of masks."""
