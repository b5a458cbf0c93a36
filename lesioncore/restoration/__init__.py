"""Restoration of scans to healthy images, scores and masks, and its calibration on healthy scans."""
