"""The four baselines of a comparison, each on one split: linear probe, late fusion, one rater and a new panel."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from aesthemo_lib.evaluation.baselines import new_panel, one_rater
from aesthemo_lib.evaluation.endpoints import endpoints
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.probe import late_fusion
from aesthemo_lib.training.runs import prepare, train


def references(config: Config, predictions: pd.DataFrame, root: Path | None = None) -> dict[str, dict[str, dict]]:
    """All four of a split, by name and task, in the form of ``calibration.endpoints``.

    Args:
        config: of the run of ``independent`` on that split.
        predictions: that run's ``predictions.csv``, all parts.
        root: the data's folder.
    """
    images, split = (prepared := prepare(config, root)).images, prepared.split
    return {
        "linear_probe": endpoints(_probe(config, root), images),
        "late_fusion": endpoints(late_fusion(predictions, images.tasks), images),
        "one_rater": one_rater(images, split.test), "new_panel": new_panel(images, split.test),
    }


def _probe(config: Config, root: Path | None) -> pd.DataFrame:
    """The predictions of a linear probe on the same split, seed and labels."""
    with tempfile.TemporaryDirectory() as out:
        run = train(replace(config, method="linear_probe", variant=None, options={}), out, root)
        return pd.read_csv(run.folder / "predictions.csv", encoding="utf-8", keep_default_na=False)
