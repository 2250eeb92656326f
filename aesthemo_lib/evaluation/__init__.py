"""Metrics of one run, and comparisons of several: what lessons use of them."""

from .calibration import expected_calibration_error, reliability, truth_and_probabilities
from .comparison import bootstrap_interval, compare, mean_interval, paired_differences
from .metrics import METRICS, softmax, task_metrics

__all__ = [
    "METRICS", "bootstrap_interval", "compare", "expected_calibration_error", "mean_interval", "paired_differences",
    "reliability", "softmax", "task_metrics", "truth_and_probabilities",
]
