"""Long runs keep memory and file handles flat. ``soak.py`` does the same at full length."""

import gc
from pathlib import Path

import psutil

from aesthemo_lib.inspector.widget import Inspector
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, train

MOST = 1.02
"""Growth from the warm part to the end that still is flat."""


def used() -> tuple[int, int]:
    """This process's memory in bytes, and its open files."""
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds() if hasattr(process, "num_fds") else process.num_handles()


def grown(seen: list[tuple[int, int]]) -> tuple[float, float]:
    """What the last quarter uses, over what the second quarter used: (memory, handles), by their largest values."""
    quarter = len(seen) // 4
    warm, end = (list(map(max, zip(*part, strict=True))) for part in (seen[quarter:2 * quarter], seen[-quarter:]))
    return end[0] / warm[0], end[1] / warm[1]


def train_long(root: Path, out: Path, epochs: int) -> tuple[float, float]:
    """One process, so many epochs of preset smoke."""
    seen = []
    config = Config(data="csv", preset="smoke", settings={"epochs": epochs, "patience": epochs})
    train(config, out, root, after_epoch=lambda row: seen.append(used()))
    assert len(seen) == epochs
    return grown(seen)


def ask_often(run: Run, root: Path, questions: int) -> tuple[float, float]:
    """One inspector, so many questions: photos, states of cut streams, maps."""
    inspector, answers, seen = Inspector([run.folder], root, count=4), [], []
    inspector.send = answers.append
    photos = list(inspector.paths)
    for number in range(questions):
        question = {"run": inspector.run, "name": photos[number % 4], "donor": "", "state": number % 16,
                    "what": "map" if number % 10 == 9 else "answers", "task": "aesthetics", "target": 1, "layer": 1}
        inspector._asked(None, question, [])
        assert "problem" not in answers.pop()
        seen.append(used())
    inspector.close()
    return grown(seen)


def test_epochs_and_questions_leave_memory_and_handles_flat(colours_root, tmp_path):
    gc.freeze()  # what is there already need not be gone through again and again
    try:
        assert max(train_long(colours_root, tmp_path / "long", 40)) <= MOST
        run = train(Config(data="csv", preset="smoke", settings={"epochs": 1}), tmp_path / "runs", colours_root)
        assert max(ask_often(run, colours_root, 40)) <= MOST
    finally:
        gc.unfreeze()
