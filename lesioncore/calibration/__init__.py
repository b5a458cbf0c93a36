"""The record of a calibration: weight, thresholds and healthy scores. `lesioncore.restoration.calibrate` makes one."""
