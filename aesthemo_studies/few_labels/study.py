"""The draws: which task has few labels, how many, in which replicate, and under which control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from aesthemo_lib.files import write_table

from ..cells import Study, key, read_protocol
from .contenders import PROBE_STRENGTHS, Draw, maps_in_turn, probe, probes, receiving, regression, scores, trained
from .material import TASKS, Material, material
from .verdicts import CONTROLS, DRAWS, VERDICTS, read, verdicts

CANDIDATES = {"few": (0.003, 0.01, 0.03, 0.1, 0.3), "rich": (0.001, 0.003, 0.01, 0.03)}
"""C of the networks' penalties, chosen on only the pilot's training sets."""


@dataclass(frozen=True)
class Cell:
    """One draw: which task has few labels, how many, in which replicate; or the same under a control."""

    control: str
    direction: str
    replicate: int
    labels: int


def drawn(data: Material, cell: Cell) -> Draw:
    """The draw of a cell. Sets of more labels hold those of fewer.

    'noisy_copy' makes the few task the rich one with a tenth of the training labels turned: there is much to carry.
    'permuted' permutes the rich task's training labels: there is nothing to carry.
    """
    rows, few = data.replicates[cell.replicate], TASKS.index(cell.direction)
    rng = np.random.default_rng([cell.replicate, few])
    labels = {t: data.y[rows, t] for t in range(2)}
    truth = [data.y[data.test, few], data.y[data.test, 1 - few]]
    if cell.control == "noisy_copy":
        labels[few] = labels[1 - few] ^ (rng.random(len(rows)) < 0.1)
        truth[0] = truth[1]
    elif cell.control == "permuted":
        labels[1 - few] = rng.permutation(labels[1 - few])
    return Draw(data.x[rows], labels[few][:cell.labels], labels[1 - few], data.x[data.test], (truth[0], truth[1]))


@dataclass
class Known:
    """What is the same whatever the number of few labels, kept for the draws to come."""

    values: dict

    def __call__(self, make: Callable, data: Material, cell: Cell):
        """``make(data, cell)``, once for each control, direction and replicate."""
        of = (make.__name__, id(data), cell.control, cell.direction, cell.replicate)
        if of not in self.values:
            self.values[of] = make(data, cell)
        return self.values[of]


KNOWN = Known({})


def rich_probe(data: Material, cell: Cell):
    """The rich task's probe, and the logits that it gives to its own photographs when they are held out."""
    draw = drawn(data, cell)
    return probe(draw.x, draw.rich)


def answer_of_others(data: Material, cell: Cell):
    """The rich task learnt from the photographs of all other replicates: what could be known."""
    others = np.concatenate([rows for r, rows in enumerate(data.replicates) if r != cell.replicate])
    rich = data.y[others, 1 - TASKS.index(cell.direction)]
    return regression(data.x[others].astype(np.float64), rich, PROBE_STRENGTHS[2])


def measured(data: Material, cell: Cell, strengths: dict[str, list[float]], explain: bool = False) -> pd.DataFrame:
    """A draw's rows: every contender on the same photographs.

    Args:
        strengths: C by network; the probes choose theirs in every draw.
        explain: also let a probe receive the hidden map of the independent rich head.
    """
    draw = drawn(data, cell)
    by_name = probes(draw, KNOWN(rich_probe, data, cell))
    if not cell.control:
        by_name["oracle"] = oracle(data, cell, draw)
    for name, chosen in strengths.items():
        network = trained(name, draw.x, draw.few, draw.rich, chosen, cell.replicate)
        by_name[name] = draw.aucs(*scores(network, draw.test))
        if name == "independent" and explain:
            by_name["cross_branch.maps_in_turn"] = maps_in_turn(network, draw)
    return pd.DataFrame([
        {"direction": cell.direction, "labels": cell.labels, "contender": name, "replicate": cell.replicate, **aucs}
        for name, aucs in by_name.items()])


def oracle(data: Material, cell: Cell, draw: Draw) -> dict[str, float]:
    """What could be carried: a probe that receives the answer learnt from the rich labels of all other replicates."""
    model, n = KNOWN(answer_of_others, data, cell), len(draw.few)
    answer, answer_test = model.decision_function(draw.x[:n]), model.decision_function(draw.test)
    return draw.aucs(receiving(draw.x[:n], draw.few, answer)(draw.test, answer_test), answer_test)


def measure(root: Path, out: Path, cell: Cell) -> pd.DataFrame:
    """``measured`` with PARA and the protocol's strengths; exchanges of some channels at the main number of labels."""
    plan = read_protocol("few_labels")
    whole = not cell.control and cell.labels == plan["main"]
    strengths = {name: c for name, c in plan["strengths"].items() if whole or "channels" not in name}
    table = measured(material(root, out), cell, strengths, whole)
    return table.assign(control=cell.control) if cell.control else table


def study(out: Path, root: Path) -> Study:
    """All draws: first those at the main number of labels, then the controls, then the other numbers."""
    plan = read_protocol("few_labels")
    everyone = list(product(TASKS, range(plan["replicates"])))
    cells = [Cell("", *one, plan["main"]) for one in everyone]
    cells += [Cell(control, *one, plan["main"]) for control in plan["controls"] for one in everyone]
    cells += [Cell("", *one, n) for n in plan["labels"] if n != plan["main"] for one in everyone]
    cells = {key(c.control, c.direction, c.labels, f"replicate{c.replicate}", plan=[plan["strengths"], plan["rich"]]): c
             for c in cells}
    return Study("few_labels", cells, partial(measure, Path(root), Path(out)), Path(out))


def pilots(plan: dict) -> range:
    """The numbers of the replicates that are kept apart, to choose C and to foresee the scatter."""
    return range(plan["replicates"], plan["replicates"] + plan["pilot"])


def tuned(data: Material, replicates: Sequence[int], contender: str, labels: Sequence[int] = (100, 400)):
    """Choose a network's C, first of the rich task, then of the few one, by log-loss on photographs held out.

    Returns:
        the two chosen (few task first), and the losses: contender, task, strength, log_loss (mean over the draws).
    """
    chosen, rows = [CANDIDATES["few"][2], CANDIDATES["rich"][1]], []
    for place, task in ((1, "rich"), (0, "few")):
        losses = {}
        for c in CANDIDATES[task]:
            strengths = [c if p == place else chosen[p] for p in range(2)]
            losses[c] = float(np.mean([held_out_losses(drawn(data, Cell("", d, r, n)), contender, strengths, r)[place]
                                       for d, r, n in product(TASKS, replicates, labels)]))
            rows.append({"contender": contender, "task": task, "strength": c, "log_loss": losses[c]})
        chosen[place] = min(losses, key=lambda c: losses[c])
    return chosen, rows


def held_out_losses(draw: Draw, contender: str, strengths: Sequence[float], seed: int) -> list[float]:
    """Log-losses of the few and of the rich task on a third of a draw's photographs that neither task trained on."""
    n, size = len(draw.few), len(draw.rich)
    few, rich = 2 * n // 3, 2 * size // 3
    rows = np.r_[0:few, n:rich]
    network = trained(contender, draw.x[rows], draw.few[:few], draw.rich[rows], strengths, seed)
    held = ((draw.few[few:], slice(few, n)), (draw.rich[rich:], slice(rich, size)))
    return [float(np.logaddexp(0, np.where(y == 1, -1, 1) * scores(network, draw.x[part])[t]).mean())
            for t, (y, part) in enumerate(held)]


def pilot(root: Path, out: Path) -> dict[str, pd.DataFrame]:
    """What the protocol was fixed with: the losses of every candidate for C, and draws of the pilot's replicates.

    Returns:
        tables by the ending of their files in ``results/studies``.
    """
    plan, data = read_protocol("few_labels"), material(Path(root), Path(out))
    choices = {name: tuned(data, pilots(plan), name) for name in plan["networks"]}
    strengths = {name: chosen for name, (chosen, _) in choices.items()}
    cells = [Cell("", d, r, n) for d, r, n in product(TASKS, pilots(plan), (50, plan["main"], 1000))]
    return {"few_labels.pilot-losses.csv": pd.DataFrame([row for _, rows in choices.values() for row in rows]),
            "few_labels.pilot-draws.csv": pd.concat([measured(data, cell, strengths) for cell in cells])}


def keep_pilot(root: Path, out: Path, folder: Path) -> list[Path]:
    """Run the pilot and write its tables; returns their paths."""
    for name, table in (tables := pilot(root, out)).items():
        write_table(folder / name, table, "%.5f")
    return [folder / name for name in tables]


def keep(study: Study, folder: Path) -> list[Path]:
    """Write the draws, the controls' draws and the verdicts; returns their paths.

    A number of labels, or a control, enters when all its draws are finished: a mean over some replicates would be of
    another collection than the next one's.
    """
    missing = {(cell.control, cell.labels) for name, cell in study.cells.items() if not study.path(name).exists()}
    whole = {(cell.control, cell.labels) for cell in study.cells.values()} - missing
    draws, controls, verdict_table = (folder / path.name for path in (DRAWS, CONTROLS, VERDICTS))
    study.keep(draws, lambda cell: not cell.control and ("", cell.labels) in whole)
    write_table(verdict_table, verdicts(read(draws)), "%.5f")
    if not any(control for control, _ in whole):
        return [draws, verdict_table]
    study.keep(controls, lambda cell: cell.control and (cell.control, cell.labels) in whole)
    return [draws, verdict_table, controls]
