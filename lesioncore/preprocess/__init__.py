"""Bringing a scan to what a prior was trained on, one step per module."""
