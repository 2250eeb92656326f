"""The study of ``results/studies/task_sequence.csv``: do answers stop contradicting one another in a sequence?

18 yes/no attributes of drawn scenes follow logical rules, so a contradiction can be counted. The same on OASIS' beauty,
valence, arousal and categories. The protocol, with its predictions, was committed before the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from aesthemo_lib.data.readers import oasis
from aesthemo_lib.device import set_threads

from ..cells import Sample, Study, read_protocol, samples
from ..contrasts import contrasts_by_source, keep_results
from ..drawn import collection
from ..few_labels.material import components
from ..neighbour_plots import broken_rules
from ..retrieval.study import photograph_views
from .attributes import FREE, RULED, categories, decoded, faults, sheets
from .heads import HEADS, chain, size, trained

NAME = "task_sequence"
PAIRS = (
    ("mlp", "separate"), ("cross_branch", "separate"), ("bilstm", "separate"), ("bilstm", "mlp"), ("answers", "bilstm"),
    ("answers", "separate"), ("chain", "separate"), ("chain", "answers"), ("bilstm_shuffled", "bilstm"),
    ("answers_shuffled", "answers"), ("chain_shuffled", "chain"), ("separate_decoded", "separate"),
    ("chain", "separate_decoded"),
)
ORDERED = ("bilstm", "answers", "chain")
"""The contenders that read the tasks in an order."""


def study(out: Path, oasis_root: Path | None = None) -> Study:
    """The study: a cell for each collection of scenes, with and without rules, and each split of OASIS, if given."""
    plan = read_protocol(NAME)
    numbers = {"ruled": plan["collections"], "free": plan["collections"],
               "oasis": range(plan["oasis"]["splits"] if oasis_root else 0)}
    cells = samples(numbers, {name: plan[name] for name in ("train", "validation", "test", "components")})
    return Study(NAME, cells, partial(measure, out=Path(out), oasis_root=oasis_root), Path(out))


def measure(cell: Sample, out: Path, oasis_root: Path | None) -> pd.DataFrame:
    """The rows of a cell: one for each contender."""
    set_threads()
    if cell.source == "oasis" and oasis_root:
        images = oasis.read(oasis_root, tasks=("aesthetics", "valence", "arousal", "category"))
        parts, labels = images.split(cell.number), [images.labels(task.name) for task in images.tasks]
        truth = np.stack([*(label == 1 for label in labels[:3]), *(labels[3] == c for c in range(4))], axis=1)
        rows, features = list(parts), photograph_views(images, np.arange(len(images)), out)[0]
    else:
        plan = read_protocol(NAME)
        sizes = [plan[part] for part in ("train", "validation", "test")]
        pictures = collection(cell.number, sum(sizes))
        truth = sheets(pictures.factors(), RULED if cell.source == "ruled" else FREE)
        rows, features = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:2]), pictures.seen(out)[0]
    fitted = np.isin(np.arange(len(truth)), rows[0])
    x = components(features, fitted, read_protocol(NAME)["components"])
    return pd.DataFrame([{"source": cell.source, "collection": cell.number, **row}
                         for row in contenders(x, truth, rows, cell.source == "ruled", cell.number)])


def contenders(x: np.ndarray, truth: np.ndarray, rows: Sequence[np.ndarray], ruled: bool, seed: int):
    """A row for each contender: trained on the first rows, stopped by the second, tested on the third.

    Args:
        x: (N, D) float32 features.
        truth: (N, T) bool.
        ruled: whether the sheets are those of ``RULED``, whose rules are known.
        seed: of the networks, and of the shuffled order.
    """
    train, validation, test = rows
    tasks, inputs, answers = truth.shape[1], torch.from_numpy(x), torch.from_numpy(truth).float()
    orders: dict[str, list[int]] = {
        "": list(range(tasks)), "_shuffled": np.random.default_rng(seed).permutation(tasks).tolist()}
    for name in (*HEADS, "chain") if tasks != len(FREE) else ("separate", *ORDERED):
        for ending, order in orders.items():
            if ending and (name not in ORDERED or not ruled):
                continue
            if name == "chain":
                known = np.concatenate([train, validation])  # nothing has to be stopped
                logits = chain(x[known].astype(float), truth[known].astype(int), x[test].astype(float), order)
                parameters = sum(x.shape[1] + place + 1 for place in range(tasks))
            else:
                network = trained(name, inputs[train], answers[train], (inputs[validation], answers[validation]),
                                  order, seed)
                with torch.no_grad():
                    logits, parameters = network(inputs[test]).numpy(), size(network)
            yield {"contender": name + ending, "parameters": parameters, **scores(logits, logits > 0, truth[test])}
            if ruled and name == "separate":
                yield {"contender": "separate_decoded", "parameters": parameters,
                       **scores(logits, decoded(logits), truth[test])}


def scores(logits: np.ndarray, answers: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean AUC and accuracy over the tasks, the share of sheets that are right in all, and of those that break a rule.
    """
    auc = np.mean([roc_auc_score(truth[:, task], logits[:, task]) for task in range(truth.shape[1])])
    right = answers == truth
    broken = faults(answers) if truth.shape[1] == len(RULED) else categories(answers) if truth.shape[1] == 7 else {}
    return {"auc": float(auc), "accuracy": float(right.mean()), "whole_sheet": float(right.all(axis=1).mean()),
            **{name: float(np.mean(values)) for name, values in broken.items()}}


def keep(made: Study, folder: Path) -> list[Path]:
    """Write the rows, the verdicts and the picture; returns their paths. Holm's family: a source's."""
    rows = made.gather()
    measures = {"ruled": ["auc", "accuracy", "whole_sheet", "two", "none", "mood", "any"],
                "free": ["auc", "accuracy", "whole_sheet"], "oasis": ["auc", "accuracy", "two", "none", "any"]}
    verdicts = contrasts_by_source(rows, PAIRS, measures, {}, {"oasis": read_protocol(NAME)["oasis"]["overlap"]})
    return keep_results(NAME, folder, rows, verdicts, broken_rules(rows))
