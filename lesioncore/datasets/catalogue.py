"""All data sets that can be imported."""

from __future__ import annotations

from lesioncore.datasets.healthy import HEALTHY
from lesioncore.datasets.patients import PATIENTS

DATASETS = {dataset.name: dataset for dataset in (*HEALTHY, *PATIENTS)}
"""By the names of the command line."""
