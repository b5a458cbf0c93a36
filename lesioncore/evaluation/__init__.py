"""Evaluation of detectors on scans with known lesions and on healthy ones: statistics, tables and pictures."""

from lesioncore.evaluation.case import CaseScore, LimitScore, score_case
from lesioncore.evaluation.protocol import LIMITS, Evaluation, evaluate, thresholds_from
from lesioncore.evaluation.report import write_report
from lesioncore.evaluation.summary import compare, summarise

__all__ = [
    "LIMITS",
    "CaseScore",
    "Evaluation",
    "LimitScore",
    "compare",
    "evaluate",
    "score_case",
    "summarise",
    "thresholds_from",
    "write_report",
]
