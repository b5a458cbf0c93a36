"""The paper's limits of the false-positive rate."""

LIMITS = (0.01, 0.05, 0.10)
"""Limits of the false-positive rate at which detection is judged (paper section 3.2)."""

LIMIT_KEYS = {f"fpr{round(100 * limit):02d}": limit for limit in LIMITS}
"""The same by the names that they have in names of files, such as ``fpr05``."""
