"""TensorBoard's event files hold what history.csv holds, and change nothing else of a run."""

import pytest

from aesthemo_lib import cli
from aesthemo_lib.training import config
from aesthemo_lib.training.run import Run


def test_a_history_is_there_as_events(colours_root, tmp_path, capsys):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator",
                                      reason="needs the packages of requirements-test.lock")
    train = ["train", "-p", "preset", "smoke", "-p", "data", "csv", "-p", "root", str(colours_root),
             "-p", "method", "independent", "--out"]
    assert cli.main([*train, str(tmp_path / "plain")]) == 0
    plain = Run(capsys.readouterr().out.splitlines()[-1])
    assert cli.main([*train, str(tmp_path / "logged"), "-s", "log", "tensorboard"]) == 0
    said = capsys.readouterr()
    logged = Run(said.out.splitlines()[-1])
    assert logged.hash == plain.hash and not (plain.folder / "tensorboard").exists()
    assert said.err.count("epoch 2: training loss") == 2  # its two networks, a line an epoch
    history = logged.history()
    for name, rows in history.groupby("network"):
        log = accumulator.EventAccumulator(str(logged.folder / "tensorboard" / name)).Reload()
        for column in ("train_loss", "validation_loss", f"validation_accuracy_{name}"):
            events = [(event.step, event.value) for event in log.Scalars(column)]
            assert events == [(step, pytest.approx(value, rel=1e-6))
                              for step, value in zip(rows["epoch"], rows[column], strict=True)]


@pytest.mark.parametrize("log, there, says", [
    ("wandb", True, "settings: log: unknown 'wandb'"), ("tensorboard", False, "pip install tensorboard"),
])
def test_a_log_that_cannot_be_written_is_refused_before_any_work(log, there, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config, "find_spec", lambda name: there)
    assert cli.main(["train", "-p", "preset", "smoke", "-s", "log", log, "--out", str(tmp_path / "runs")]) != 0
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not (tmp_path / "runs").exists()
