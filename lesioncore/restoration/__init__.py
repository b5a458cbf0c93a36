"""Restoration of scans to healthy images, scores and masks; and calibration, which restores healthy scans."""
