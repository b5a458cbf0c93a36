"""Images, their orientation, and the prior's grid."""

from lesioncore.data.grid import GridPlan, SliceGrid
from lesioncore.data.nifti import check_image, load_image, save_image
from lesioncore.data.orientation import Orientation

__all__ = ["GridPlan", "Orientation", "SliceGrid", "check_image", "load_image", "save_image"]
