"""From a configuration to a finished run folder, and back."""

from .config import PRESETS, Config
from .run import Run
from .runs import RunExists, build_network, open_data, prepare, train

__all__ = ["PRESETS", "Config", "Run", "RunExists", "build_network", "open_data", "prepare", "train"]
