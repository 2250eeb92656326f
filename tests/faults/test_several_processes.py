"""One training on several processes: the same numbers as in one, and what is left when one of them is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import killing
import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from aesthemo_lib import distributed
from aesthemo_lib.models import inference
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training import fit as loop, runs
from aesthemo_lib.training.fit import Data, Settings, fit

CPU = torch.device("cpu")
SETTINGS = Settings("tiny", "none", resize=20, crop=16, batch=8, epochs=3, patience=3, learning_rate=0.02)
"""A network without batch statistics and dropout: those depend on how a batch is parted."""
posix = pytest.mark.skipif(os.name == "nt", reason="SIGKILL and process groups are POSIX")


def data(train: int) -> Data:
    """The labels of the emotion are not spread evenly, so that parts of a batch hold unlike numbers of them."""
    n, rng = train + 70, np.random.default_rng(0)
    labels = {"aesthetics": np.arange(n) % 2, "emotion": np.where(np.arange(n) % 7 < 3, -1, np.arange(n) % 8)}
    pixels = rng.integers(0, 100, (n, 20, 20, 3), dtype=np.uint8)
    pixels[labels["aesthetics"] == 1] += 120
    return Data(pixels, pixels.mean(axis=0).astype(np.float32), labels, np.arange(train), np.arange(train, n))


def network():
    return build("cross_branch", PATENT_TASKS, "tiny", "none", "diagonal")


def train(settings: Settings, images: int, out: Path, after_epoch=None) -> None:
    """Train, in float32, and write history, weights and logits, if this is the first of the processes."""
    before = loop.fast_precision
    loop.fast_precision = inference.fast_precision = lambda device: torch.float32
    try:
        net, training = network(), data(images)
        history = fit(net, training, settings, 1, CPU, out / "state", after_epoch=after_epoch)
        logits = predict_logits(net, training.pixels, training.validation, training.mean, 16, CPU, batch=16)
    finally:
        loop.fast_precision = inference.fast_precision = before
    if distributed.rank() == 0:
        kept = net.state_dict() | {f"logits {name}": torch.from_numpy(values) for name, values in logits.items()}
        save_file({name: value.contiguous() for name, value in kept.items()}, out / "kept.safetensors")
        (out / "history.json").write_text(json.dumps(history), encoding="utf-8")


def job(number: int, size: int, port: int, settings: dict, images: int, out: str, stop: int = 0) -> None:
    """One of the processes, as torchrun would start it; after epoch ``stop`` it waits for the file 'go'."""
    def report(row):
        while row["epoch"] == stop and not (Path(out) / "go").exists():
            time.sleep(0.005)

    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with distributed.together(CPU):
        train(replace(SETTINGS, **settings), images, Path(out), report)


def start(size: int, out: Path, images: int = 33, stop: int = 0, **settings) -> list:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out.mkdir(exist_ok=True)
    return [killing.start(job, number, size, port, settings, images, str(out), stop)
            for number in range(size)]


def end(started: list) -> list[int]:
    for process in started:
        process.join(600)
    return [process.exitcode for process in started]


def results(out: Path) -> tuple[list, dict]:
    return json.loads((out / "history.json").read_text(encoding="utf-8")), load_file(out / "kept.safetensors")


@pytest.mark.parametrize(("size", "images", "settings"), [
    (2, 33, {}),
    (3, 26, {"accumulate": 3, "aggregation": "uncertainty"}),  # the last batch has two images: one process has none
])
def test_several_processes_have_the_losses_of_one_with_the_whole_batch(size, images, settings, tmp_path, monkeypatch):
    started = start(size, tmp_path / "several", images, **settings)
    (tmp_path / "one").mkdir()
    train(replace(SETTINGS, **settings | {"accumulate": 1}), images, tmp_path / "one")
    assert end(started) == [0] * size
    (many, kept), (one, expected) = results(tmp_path / "several"), results(tmp_path / "one")
    for got, wanted in zip(many, one, strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)
    assert one[-1]["train_loss"] < 0.9 * one[0]["train_loss"]  # there was something to get wrong
    for name, value in expected.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-4, atol=1e-6)
    # evaluation alone, from these weights: the very same bits, each image once
    net, training = network(), data(images)
    net.load_state_dict({name: value for name, value in kept.items() if not name.startswith("logits")})
    net.to(memory_format=torch.channels_last)
    monkeypatch.setattr(inference, "fast_precision", lambda device: torch.float32)
    single = predict_logits(net, training.pixels, training.validation, training.mean, 16, CPU, batch=16)
    for name, values in single.items():
        assert np.array_equal(values, kept[f"logits {name}"].numpy())


@posix
def test_one_of_them_killed_ends_all_and_they_resume_to_the_same_bits(tmp_path):
    undisturbed = start(2, tmp_path / "whole", epochs=15, patience=15)
    assert end(undisturbed) == [0, 0]
    first, second = start(2, tmp_path / "killed", stop=4, epochs=15, patience=15)
    while not (tmp_path / "killed" / "state" / "epoch-4").exists():
        assert first.is_alive() and second.is_alive()
        time.sleep(0.005)
    os.kill(second.pid, signal.SIGKILL)
    (tmp_path / "killed" / "go").touch()
    first.join(600)
    assert first.exitcode not in (None, 0), "the other one waits for the dead"
    assert not (tmp_path / "killed" / "kept.safetensors").exists()
    assert end(start(2, tmp_path / "killed", epochs=15, patience=15)) == [0, 0]
    (history, kept), (expected, weights) = results(tmp_path / "killed"), results(tmp_path / "whole")
    assert history == expected and all(torch.equal(kept[name], value) for name, value in weights.items())


@posix
def test_torchrun_runs_the_command_and_takes_its_processes_with_it(colours_root, tmp_path):
    """torchrun is killed, its processes go too; one process alone ends the run, near a run that one alone has made."""
    many = ["-s", "patience", "4000", "-p", "epochs", "4000"]
    asked = ["-p", "data", "csv", "-p", "root", str(colours_root), "-p", "preset", "smoke", *many, "--out", "runs"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               "-m", "aesthemo_lib.cli", "train", *asked]
    environment = os.environ | {"PYTHONPATH": str(killing.PROJECT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as torchrun:
        while torchrun.poll() is None and not killing.exists_below(tmp_path, "epoch-*"):
            time.sleep(0.02)
        assert torchrun.poll() is None, torchrun.stderr.read().decode()
        workers = psutil.Process(torchrun.pid).children(recursive=True)
        assert len(workers) == 2
        torchrun.kill()
    _, alive = psutil.wait_procs(workers, timeout=600)
    assert not alive
    state = max(tmp_path.rglob("*.resume/*/joint/epoch-*"), key=lambda path: int(path.name.partition("-")[2]))
    history = json.loads((state / "history.json").read_text(encoding="utf-8"))
    config = runs.Config(data="csv", preset="smoke", settings={"epochs": 4000, "patience": 4000})
    rows = []

    def enough(row):
        rows.append(row)
        raise KeyboardInterrupt

    for out in (tmp_path / "runs", tmp_path / "alone"):
        with pytest.raises(KeyboardInterrupt):
            runs.train(config, out, colours_root, after_epoch=enough)
    assert [row["epoch"] for row in rows] == [len(history) + 1, 1]
    # bfloat16's eight bits, where the processor has it
    assert history[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-2)


def test_what_can_not_be_parted_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'hard_tasks' needs a batch as a whole: .* one process, with accumulate 1"):
        fit(network(), data(8), replace(SETTINGS, aggregation="hard_tasks", accumulate=2), 0, CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setenv("RANK", "0")
        with pytest.raises(ValueError, match="on cuda or cpu, not on mps"), distributed.together(torch.device("mps")):
            pass
