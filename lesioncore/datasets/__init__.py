"""Public data sets, as people download them, made into BIDS data sets."""

from lesioncore.datasets.build import Imported, import_dataset
from lesioncore.datasets.catalogue import DATASETS
from lesioncore.datasets.description import Dataset

__all__ = ["DATASETS", "Dataset", "Imported", "import_dataset"]
