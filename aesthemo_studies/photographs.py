"""The bundled network for photographs: PARA in three stages, then packed in half precision.

A shared trunk learns first, since it costs half as much as two branches; the branches then start from it, exchange maps
after every conv group but the last, and end at a larger side. It takes about 75 CPU-minutes on a processor with AVX-512
and bfloat16:

    python -m aesthemo_studies photographs --root <PARA's folder> --oasis <OASIS' folder>
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aesthemo_lib import distributed
from aesthemo_lib.data import readers
from aesthemo_lib.evaluation import task_metrics
from aesthemo_lib.files import project_folder, write_json
from aesthemo_lib.prediction import Predictor
from aesthemo_lib.training import Config, Run, train

from .pack import pack

STAGES: tuple[dict[str, Any], ...] = (
    {"method": "shared_bottom", "settings": {"resize": 168, "crop": 160}},
    {"method": "cross_branch", "settings": {"resize": 160, "crop": 160, "learning_rate": 3e-4}},
    {"method": "cross_branch", "settings": {"resize": 192, "crop": 192, "learning_rate": 2e-4},
     "labels": {"train_share": 0.5}},
)
"""What each stage differs in from preset teach on PARA; each starts where the one before it ended."""


def config(stage: int, out: Path) -> Config:
    """The configuration of a stage, from 0; its run lies in a folder of its own below ``out``."""
    chosen = dict(STAGES[stage])
    settings = dict(chosen.pop("settings"))
    if stage:
        before = config(stage - 1, out)
        settings["weights"] = str(before.folder(out / f"stage{stage}"))
    return Config(data="para", preset="teach", settings=settings, **chosen)


def train_stages(root: Path, out: Path) -> Run:
    """Train what is not finished yet, and return the last stage's run."""
    for stage in range(len(STAGES)):
        run = train(config(stage, out), out / f"stage{stage + 1}", root)
        if not distributed.rank():
            print(f"stage {stage + 1} of {len(STAGES)}: {run.health()}", flush=True)
    return run


def on_oasis(run: Run, root: Path) -> dict[str, float]:
    """AUCs on OASIS, which no stage has seen: 'high' for beauty's consensus, 'positive' for a valence above 4."""
    images = readers.read("oasis", root)
    answers = Predictor(run).predict(list(images.paths))
    beauty, valence = images.labels("aesthetics"), images.facts["valence_mean"].to_numpy()
    pairs = {"beauty": (beauty, "aesthetics_high"), "valence": ((valence > 4).astype(int), "emotion_positive")}
    measured = {}
    for name, (truth, column) in pairs.items():
        p = answers[column].to_numpy()[truth >= 0]
        measured[name] = task_metrics(truth[truth >= 0], np.stack([1 - p, p], axis=1), 0)["auc"]
    return measured | {"photographs": len(images)}


def make(root: Path, oasis: Path, out: Path) -> Path:
    """Train, measure on OASIS too, write ``results/photographs.json``, and pack; returns the packed run's folder."""
    run = train_stages(root, out)
    foreign = on_oasis(run, oasis)
    stages = [Run(config(stage, out).folder(out / f"stage{stage + 1}")) for stage in range(len(STAGES))]
    write_json(project_folder() / "results" / "photographs.json", {
        "command": "python -m aesthemo_studies photographs --root <PARA's folder> --oasis <OASIS' folder>",
        "stages": [{"method": stage.name, "side": stage.settings.crop, "test": stage.metrics,
                    "training_seconds": stage.timing["training_seconds"], "processes": stage.timing["processes"],
                    "environment": stage.environment} for stage in stages],
        "oasis": foreign,
    })
    shown = {f"beauty (consensus of its raters) of {foreign['photographs']} photographs": foreign["beauty"],
             "valence above 4": foreign["valence"]}
    return pack(run, None, root, shown)
