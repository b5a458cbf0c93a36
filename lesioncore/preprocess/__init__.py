"""Preprocessing of a scan for a prior, one step per module."""
