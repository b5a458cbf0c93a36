from .base import UndefinedMetricError as UndefinedMetricError
from .bootstrap import bootstrap_interval as bootstrap_interval, bootstrap_mean as bootstrap_mean
from .boxes import (
    BoxCounts as BoxCounts,
    box_iou as box_iou,
    component_boxes as component_boxes,
    match_boxes as match_boxes,
)
from .confusion import Confusion as Confusion, dice as dice
from .contrast import lesion_contrast as lesion_contrast
from .histogram import RocCurve as RocCurve, ScoreHistogram as ScoreHistogram
from .lesions import (
    LesionCounts as LesionCounts,
    LesionRow as LesionRow,
    lesion_counts as lesion_counts,
    lesion_table as lesion_table,
)
from .limits import LIMITS as LIMITS
from .surface import hausdorff as hausdorff
from .thresholds import conformal_threshold as conformal_threshold, fpr_threshold as fpr_threshold
