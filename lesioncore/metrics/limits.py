"""The paper's limits of the false-positive rate."""

LIMITS = (0.01, 0.05, 0.10)
"""Limits of the false-positive rate at which detection is judged (paper section 3.2)."""
