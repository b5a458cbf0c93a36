"""Records of calibrations: weight, thresholds and healthy scores. `lesioncore.restoration.calibrate` makes them."""
