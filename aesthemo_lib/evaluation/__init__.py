"""Metrics of one run, comparisons of several, and the people they are compared with."""

from .calibration import expected_calibration_error, reliability, truth_and_probabilities
from .comparison import (
    bootstrap_interval,
    collect,
    compare,
    markdown_table,
    mean_interval,
    paired_differences,
    read_runs,
    rows_of,
)
from .metrics import METRICS, majority_class, prediction_table, softmax, task_metrics

__all__ = [
    "METRICS", "bootstrap_interval", "collect", "compare", "expected_calibration_error", "majority_class",
    "markdown_table", "mean_interval", "paired_differences", "prediction_table", "read_runs", "reliability", "rows_of",
    "softmax", "task_metrics", "truth_and_probabilities",
]
