"""From scans to restored images, scores and masks; and calibration, which restores healthy scans."""
