"""Fuzz targets: what reads files that others made, each with sound files to begin with."""
