"""The benchmark's rows: what holds, what is kept, and that its clocks and counts measure what they say."""

import json
import mmap
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aesthemo_lib.data import readers
from aesthemo_lib.data.batches import TrainingBatches
from aesthemo_lib.files import read_json
from bench import costs, measure, report, rows, scale, training
from bench.child import MODULES, Job
from bench.photos import draw_photos
from bench.rows import AVX2, AVX512, EITHER, GPU, GPU32

PROJECT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "samples", "target", "holds"), [
    ("vgg16_loop", [0.99, 0.94, 0.95], None, True), ("vgg16_loop", [0.949], None, False),
    ("start_help", [0.3], None, True), ("start_help", [0.1, 0.31, 0.5], None, False),
    ("reproduce_wall", [3.0], None, True), ("reproduce_wall", [3.0], 2.0, False), ("teach_images", [5.0], None, None),
])
def test_a_row_holds_by_its_median_and_says_its_spread(name, samples, target, holds):
    made = rows.row(name, samples, AVX2, "one core", target)
    assert made["holds"] is holds and made["value"] == np.median(samples) and made["kind"] == AVX2
    assert made["spread"] == [min(samples), max(samples)] and made["rounds"] == len(samples)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", made["date"]) and json.loads(json.dumps(made)) == made


def test_groups_are_found_by_their_rows_and_the_long_ones_must_be_named():
    assert rows.groups(["start_training", "cache"]) == ["cache", "starting"]
    assert set(rows.groups([])) == set(MODULES) - set(rows.NAMED) and rows.groups([], True) == list(rows.ON_GPU)
    assert {spec.group for spec in rows.ROWS.values()} == set(MODULES)
    with pytest.raises(ValueError, match="unknown 'vgg17'; choose of vgg16_loop, "):
        rows.groups(["vgg17"])


def test_each_kind_of_processor_is_measured_that_is_there(monkeypatch):
    monkeypatch.setattr(report, "instructions", lambda: AVX512)
    assert list(report.planned(["teach", "cache"])) == [("teach", AVX512), ("teach", AVX2), ("cache", EITHER)]
    monkeypatch.setattr(report, "instructions", lambda: AVX2)
    assert list(report.planned(["teach", "cache"])) == [("teach", AVX2), ("cache", EITHER)]
    assert list(report.planned(["tests", "vgg16"], "cuda")) == [("vgg16", GPU), ("vgg16", GPU32), ("tests", GPU)]


def test_the_script_for_a_gpu_asks_all_that_a_gpu_is_asked():
    script = (PROJECT / "bench" / "gpu.sh").read_text(encoding="utf-8")
    asked = [word for line in re.findall(r"^part .*--rows ([a-z0-9 ]+)", script, re.MULTILINE) for word in line.split()]
    assert sorted(asked) == sorted(rows.ON_GPU) and rows.groups(asked) and os.access(PROJECT / "bench/gpu.sh", os.X_OK)


def test_rows_are_kept_one_by_one_and_a_stopped_bench_loses_none(tmp_path, monkeypatch, capsys):
    def measured(group, how, environment):
        asked.append((group, how["kind"]))
        assert environment == rows.KINDS[how["kind"]]
        if group == "cache":
            raise subprocess.CalledProcessError(1, group)
        names = [name for name, spec in rows.ROWS.items() if spec.group == group and name != "vgg16_memory"]
        for name in names[:2] if "stop" in how["root"] else names:
            yield {"name": name, "samples": [1.0], "profile": ["- its profile"]}
        if "stop" in how["root"]:
            raise KeyboardInterrupt

    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(report, "measured", measured)
    monkeypatch.setattr(report, "instructions", lambda: AVX512)
    file = tmp_path / "bench.json"
    with pytest.raises(KeyboardInterrupt):
        report.run(["vgg16"], tmp_path / "bench", root=Path("stop"))
    assert [(one["name"], one["kind"]) for one in read_json(file)] == [("vgg16_loop", AVX512), ("vgg16_peak", AVX512)]
    with pytest.raises(RuntimeError, match=r"cache, either kind \(exit status 1\)"):
        report.run(["cache", "starting", "vgg16"], tmp_path / "bench", root=Path("go"), missing=True)
    assert asked[1:] == [("vgg16", AVX512), ("vgg16", AVX2), ("cache", EITHER), ("starting", EITHER)]
    assert "start_help" in capsys.readouterr().out
    report.run(["vgg16", "starting"], tmp_path / "bench", root=Path("go"), missing=True)
    assert len(asked) == 5  # nothing was missing
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert page == report.page(read_json(file)) and "| `matrix_peak` |" in page
    assert "### start_help" in page and "### vgg16_loop" not in page  # only what misses is explained


def test_a_column_that_a_machine_has_not_keeps_its_figures(tmp_path, monkeypatch):
    old = [rows.row("teach_images", [60.0], kind, f"another, {AVX512}") for kind in (AVX512, AVX2)]
    report.write([one | {"date": "2026-01-02"} for one in old], tmp_path / "bench")
    assert "a stand-in" in (tmp_path / "bench.md").read_text(encoding="utf-8")
    monkeypatch.setattr(report, "instructions", lambda: AVX2)
    monkeypatch.setattr(report, "measured", lambda *_: iter([{"name": "teach_images", "samples": [20.0]}]))
    entries = report.run(["teach"], tmp_path / "bench")
    assert [(one["value"], one["kind"]) for one in entries] == [(60.0, AVX512), (20.0, AVX2)]
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert "| 60 images/s | 20 images/s |" in page and f"another, {AVX512}, 2026-01-02" in page


def test_a_group_is_measured_in_a_process_of_its_own(tmp_path):
    entries = report.run(["cold_cache"], tmp_path / "small", small=True)
    assert [one["name"] for one in entries] == ["cold_cache", "scaled_jpeg"] and 0 < entries[0]["value"] < 2
    page = (tmp_path / "small.md").read_text(encoding="utf-8")
    assert read_json(tmp_path / "small.json") == entries and "| `cold_cache` |" in page


# --- clocks


def test_works_take_turns_and_the_first_round_does_not_count():
    order = []
    works = {"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.02))}
    times = measure.in_turn(works, 2, CPU)
    assert "".join(order) == "ababab" and len(times["a"]) == 2 and times["b"].min() >= 0.02


def test_the_loop_is_timed_with_all_that_it_does_around_a_step(tmp_path, monkeypatch):
    this = training.race(Job("cpu", True, None, tmp_path, AVX2), "vgg16", 16, 3, 4)
    real = TrainingBatches.images
    monkeypatch.setattr(TrainingBatches, "images", lambda *given: (time.sleep(0.1), real(*given))[1])
    network = this.network()
    step = training.step_of(network, this.settings, training.batch_of(this))
    works = {"step": lambda: [step() for _ in range(this.steps)]}
    times = training.fit_in_turn(this, network, this.data(tmp_path), works)
    assert [len(values) for values in times.values()] == [this.rounds] * 2
    assert times["fit"].min() >= 0.1 * this.steps  # each batch's loading counts


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 3, stride=2),
                         nn.Flatten(), nn.Linear(6 * 9, 5))


def test_the_meter_counts_what_torch_counts_and_changes_no_gradient():
    images, gradients = torch.randn(2, 4, 8, 8), []
    with FlopCounterMode(display=False) as counter:
        convolutions()(images).sum().backward()
    for metered in (False, True):
        network, meter = convolutions(), measure.Meter({torch.float32: 1e12}, 1e11)
        if metered:
            with meter:
                network(images).sum().backward()
        else:
            network(images).sum().backward()
        gradients.append([weight.grad for weight in network.parameters()])
    assert meter.total.operations == counter.get_total_flops()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))
    assert {"conv 1x1", "conv 3x3 stride 2", "conv 3x3 stride 2, gradient by data"} <= set(meter.costs)
    assert "conv 3x3, gradient by weights" in meter.costs and 0 < meter.total.floor <= meter.total.seconds


def test_a_depthwise_convolution_costs_what_a_channel_costs_times_channels():
    with measure.Meter() as meter:
        nn.Conv2d(8, 8, 5, groups=8, bias=False)(torch.ones(3, 8, 9, 9)).sum().backward()
    forward = 2 * 3 * 8 * 5 * 5 * 5 * 5
    assert meter.costs["conv depthwise 5x5"].operations == forward
    assert meter.total.operations == 2 * forward  # the images need no gradient


def test_moving_is_told_from_computing():
    with measure.Meter() as meter:
        x = torch.ones(512, 512)
        torch.cat([x, x]).clone()
        moved = meter.moved
        x @ x
    assert moved == pytest.approx(meter.costs["cat"].seconds + meter.costs["clone"].seconds) and meter.moved == moved


# --- memory and scale


def test_a_process_of_its_own_says_what_a_training_took():
    cost = costs.at(**costs.TINY, checkpoint=False)
    assert 0 < cost["epoch"] < 30 and 0 < cost["before"] < cost["all"] < cost["resident"] < 5e9


@pytest.mark.skipif(os.name != "posix", reason="asks POSIX for memory")
def test_memory_that_is_mapped_does_not_count(tmp_path):
    held = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(64 * 2**20,))
    with costs.Watch() as watch:
        before = watch.most
        held[:] = 1
    assert watch.most - before < 16 * 2**20
    with costs.Watch() as watch:
        before = watch.most
        # Straight from the system: an array could lie where another test's memory was given back.
        kept = np.frombuffer(mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
        kept[:] = 1
    assert len(kept) and watch.most - before > 60 * 2**20


def test_the_last_epochs_steps_are_timed_from_the_first_to_the_validation():
    passes = [(True, 0.0), (True, 5.0), (False, 6.0), (True, 10.0), (True, 11.0), (False, 13.5)]
    assert costs._last_epoch(passes) == 3.5


def test_ratings_for_the_long_table_can_be_counted(tmp_path):
    images = readers.read("csv", scale.write_ratings(tmp_path / "ratings", 12))
    assert len(images) == 12 and images.votes["emotion"].sum(axis=1).tolist() == [10.0] * 12


def test_drawn_photographs_cost_what_photographs_cost(tmp_path):
    paths = draw_photos(tmp_path, 5, 2)
    sizes = [path.stat().st_size for path in paths]
    assert 60_000 < np.mean(sizes) < 105_000 and sizes[0] == sizes[2] == sizes[4] != sizes[1]
    with Image.open(paths[3]) as photo:
        assert photo.size == (500, 400) and 30 < np.asarray(photo).std() < 70


# --- what is committed


def quoted(text: str) -> list[tuple[str, float, int]]:
    """Each row that a text quotes, as '98 % (`vgg16_loop`)' does: name, number, digits behind the point."""
    matches = re.findall(r"(\d+(?:\.\d+)?)( %)?[^()|\n]{0,60}\(`(\w+)`\)", text)
    return [(name, float(number) / (100 if share else 1), len(number.partition(".")[2]) + 2 * bool(share))
            for number, share, name in matches if name in rows.ROWS]


def test_a_quoted_row_is_seen():
    assert quoted("it reaches 98 % (`vgg16_loop`) or 2.31 times as much (`teach_plain`)") == [
        ("vgg16_loop", 0.98, 2), ("teach_plain", 2.31, 2)]


@pytest.mark.parametrize("name", ["bench", "gpu", "gpu-one-thread"])
def test_the_committed_page_follows_from_its_rows_and_texts_quote_them(name):
    file = PROJECT / "results" / f"{name}.json"
    kept = read_json(file)
    assert file.with_suffix(".md").read_text(encoding="utf-8") == report.page(kept)
    for one in kept:
        again = rows.row(one["name"], [one["value"]], one["kind"], one["machine"], one["target"])
        assert again["holds"] == one["holds"] and one["spread"][0] <= one["value"] <= one["spread"][1]
        assert one["holds"] is not False or one["profile"] or not rows.ROWS[one["name"]].why, one["name"]
    for kind in rows.KINDS:
        assert len({one["machine"] for one in kept if one["kind"] == kind}) <= 1, kind
    said = [line for path in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
            for line in quoted(path.read_text(encoding="utf-8"))]
    for row, number, digits in said if name == "bench" else ():
        values = [round(one["value"], digits) for one in kept if one["name"] == row]
        assert any(value == pytest.approx(number) for value in values), row
