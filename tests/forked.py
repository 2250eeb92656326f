"""Forked processes for the tests, see ``aesthemo_studies.forked``; their server lives as long as the tests."""

from __future__ import annotations

import os
import sys
from multiprocessing import forkserver

from aesthemo_studies import forked
from aesthemo_studies.forked import context

__all__ = ["context", "forked_kernels"]


def forked_kernels():
    """Jupyter's kernels are forked where they would be started; they don't see the tests' modules."""
    if forked.FORKS:
        context()
        forkserver.ensure_running()
    return forked.forked_kernels([place for place in sys.path if os.path.basename(os.path.dirname(place)) != "tests"])
