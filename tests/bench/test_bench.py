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

from aesthemo_lib.data.batches import TrainingBatches
from aesthemo_lib.files import digest, read_json
from bench import costs, measure, measure as rows_measure, picture, report, rows, training
from bench.child import MODULES, Job
from bench.photos import draw_photos

PROJECT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "samples", "target", "holds"), [
    ("vgg16_loop_16", [0.99, 0.96, 0.97], None, True), ("vgg16_loop_16", [0.969], None, False),
    ("start_help", [0.3], None, True), ("start_help", [0.1, 0.31, 0.5], None, False),
    ("vgg16_plain", [2.0], 1.2, True), ("vgg16_plain", [2.0], None, False), ("teach_images", [5.0], None, None),
])
def test_a_row_holds_by_its_median_and_says_its_spread(name, samples, target, holds):
    made = rows.row(name, samples, "one core", target)
    assert made["holds"] is holds and made["value"] == np.median(samples)
    assert made["spread"] == [min(samples), max(samples)] and made["rounds"] == len(samples)
    assert {"name", "value", "target", "unit", "holds"} <= set(made) and json.loads(json.dumps(made)) == made


def test_groups_are_found_by_their_rows_and_the_long_ones_must_be_named():
    assert rows.groups(["start_import", "cache"]) == ["cache", "starting"]
    assert set(rows.groups([], "cpu")) == set(MODULES) - set(rows.LONG) and rows.groups(["reproduce"]) == ["reproduce"]
    assert {spec.group for spec in rows.ROWS.values()} == set(MODULES)
    with pytest.raises(ValueError, match="unknown 'vgg17'; choose of vgg16_loop_16, "):
        rows.groups(["vgg17"])


def test_rows_are_kept_one_by_one_and_a_stopped_bench_loses_none(tmp_path, monkeypatch, capsys):
    def measured(group, how):
        asked.append(group)
        if group == "cache":
            raise subprocess.CalledProcessError(1, group)
        names = [name for name, spec in rows.ROWS.items() if spec.group == group]
        for name in names[:2] if "stop" in how["root"] else names:
            yield {"name": name, "samples": [1.0], "profile": ["- its profile"]}
        if "stop" in how["root"]:
            raise KeyboardInterrupt

    asked: list[str] = []
    monkeypatch.setattr(report, "measured", measured)
    file = tmp_path / "bench.json"
    with pytest.raises(KeyboardInterrupt):
        report.run(["vgg16"], tmp_path / "bench", "cpu", Path("stop"))
    assert [one["name"] for one in read_json(file)] == ["vgg16_loop_16", "vgg16_loop_32"]
    with pytest.raises(RuntimeError, match=r"cache \(exit status 1\)"):
        report.run(["cache", "starting", "vgg16"], tmp_path / "bench", "cpu", Path("go"), missing=True)
    assert asked == ["vgg16", "vgg16", "cache", "starting"] and "start_help" in capsys.readouterr().out
    names = [one["name"] for one in read_json(file)]
    assert names == [name for name, spec in rows.ROWS.items() if spec.group in ("vgg16", "starting")]
    report.run(["vgg16", "starting"], tmp_path / "bench", "cpu", Path("go"), missing=True)
    assert len(asked) == 4  # nothing was missing
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert page == report.page(read_json(file), "bench-growth.png")
    assert "### start_help" in page and "### vgg16_loop_16" not in page  # only what misses is explained
    file.write_text(file.read_text(encoding="utf-8").replace(rows_measure.describe("cpu"), "another"), encoding="utf-8")
    report.run(["start_help"], tmp_path / "bench", "cpu", Path("go"))
    assert [one["name"] for one in read_json(file)] == ["start_help", "start_import", "start_training"]


def test_a_group_is_measured_in_a_process_of_its_own(tmp_path):
    found = report.run(["cold_cache"], tmp_path / "small", "cpu", small=True)
    assert [one["name"] for one in found] == ["cold_cache"] and 0 < found[0]["value"] < 2
    page = (tmp_path / "small.md").read_text(encoding="utf-8")
    assert read_json(tmp_path / "small.json") == found and "| `cold_cache` |" in page


# --- clocks


def test_works_take_turns_and_the_first_round_does_not_count():
    order = []
    works = {"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.02))}
    times = measure.in_turn(works, 2, CPU)
    assert "".join(order) == "ababab" and len(times["a"]) == 2 and times["b"].min() >= 0.02


def test_the_loop_is_timed_with_all_that_it_does_around_a_step(tmp_path, monkeypatch):
    this = training.race(Job("cpu", True, None, tmp_path), "vgg16", 16, 3, 4)
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


# --- memory and growth


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_exponents_are_the_power_that_was_put_in(power):
    assert costs.exponents([(x, 3 * x**power) for x in (1, 2, 5, 10)]) == pytest.approx([power] * 3)


def test_a_process_of_its_own_says_what_a_training_took():
    small = costs.USUAL | costs.TINY
    found = costs.at(**small)
    assert 0 < found["epoch"] < 30 and 0 < found["own"] < found["all"] < found["resident"] < 5e9


@pytest.mark.parametrize("small", [True, False])
def test_growth_and_memory_find_each_of_their_rows(small, tmp_path, monkeypatch):
    """A cost that is known: time as the square of a batch, memory as its root, all else alike."""
    def at(**how):
        asked.append(how)
        epoch = how["images"] * how["batch"] * how["tasks"]
        held = {"own": 1e6 * how["batch"] ** 0.5, "before": 1, "all": 12e9, "weights": 2, "resident": 13e9}
        return {"epoch": epoch} | held

    asked: list[dict] = []
    monkeypatch.setattr(costs, "at", at)
    job = Job("cpu", small, None, tmp_path)
    for group in ("growth", "memory"):
        found = {name: rows.row(name, samples, "one core", **more)
                 for name, samples, more in getattr(costs, group)(job)}
        assert set(found) == {name for name, spec in rows.ROWS.items() if spec.group == group}
        if group == "growth":
            assert [found[f"growth_{what}_batch"]["value"] for what in ("time", "memory")] == [2.0, 0.5]
            assert found["growth_time_tasks"]["value"] == found["growth_time_images"]["value"] == 1.0
            assert found["growth_time_batch"]["holds"] is False and len(found["growth_time_batch"]["profile"]) >= 2
    assert not found["memory_vgg16"]["holds"] and found["memory_images"]["value"] == 1.0
    assert "- maps for the backward pass" in found["memory_vgg16"]["profile"][4]
    assert "not counted" in found["memory_vgg16"]["profile"][5] and "1.00 GB" in found["memory_vgg16"]["profile"][5]
    assert asked[-1]["images"] == (200 if small else 100_000)


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
    assert costs._last_epoch(passes) == 3.5 and costs._last_epoch(passes[:2]) == 5.0


def test_the_picture_has_each_row_and_its_power(tmp_path):
    points = [[x, 0.1 * x] for x in (4, 8, 16)]
    grown = [rows.row(f"growth_{what}_batch", costs.exponents(points), "one core", points=points)
             for what in ("time", "memory")]
    figure = picture.growth_figure(grown)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["time: power 1.00", "memory: power 1.00"]
    assert figure.axes[1].get_ylabel() == "GB" and figure.axes[0].get_xlabel() == "images a batch"
    report.write(grown, tmp_path / "b")
    with Image.open(tmp_path / "b-growth.png") as drawn:
        assert drawn.info["Description"] == rows.PICTURE and drawn.info["Comment"] == rows.COMMAND
    assert f"![{rows.PICTURE}](b-growth.png)" in (tmp_path / "b.md").read_text(encoding="utf-8")


def test_drawn_photographs_cost_what_photographs_cost(tmp_path):
    paths = draw_photos(tmp_path, 5, 2)
    sizes = [path.stat().st_size for path in paths]
    assert 60_000 < np.mean(sizes) < 105_000 and sizes[0] == sizes[2] == sizes[4] != sizes[1]
    with Image.open(paths[3]) as photo:
        assert photo.size == (500, 400) and 30 < np.asarray(photo).std() < 70


# --- what is committed


def quoted(text: str) -> list[tuple[str, float, int]]:
    """Each row that a text quotes, as '98 % (`vgg16_loop_32`)' does: name, number, digits behind the point."""
    found = re.findall(r"(\d+(?:\.\d+)?)( %)?[^()|\n]{0,60}\(`(\w+)`\)", text)
    return [(name, float(number) / (100 if share else 1), len(number.partition(".")[2]) + 2 * bool(share))
            for number, share, name in found if name in rows.ROWS]


def test_a_quoted_row_is_seen():
    assert quoted("it reaches 98 % (`vgg16_loop_32`) or 2.31 times as much (`vgg16_plain`)") == [
        ("vgg16_loop_32", 0.98, 2), ("vgg16_plain", 2.31, 2)]


def test_the_committed_page_follows_from_its_rows_and_texts_quote_them():
    said = [told for path in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
            for told in quoted(path.read_text(encoding="utf-8"))]
    file = PROJECT / "results" / "bench.json"
    if not file.exists():
        assert not said, "rows are quoted, but results/bench.json is not there"
        return
    kept = {one["name"]: one for one in read_json(file)}
    out = file.with_suffix("")
    assert file.with_suffix(".md").read_text(encoding="utf-8") == report.page(list(kept.values()), "bench-growth.png")
    assert set(kept) <= set(rows.ROWS) and len({one["machine"] for one in kept.values()}) == 1
    for one in kept.values():
        again = rows.row(one["name"], [one["value"]], one["machine"], one["target"])
        assert again["holds"] == one["holds"] and one["spread"][0] <= one["value"] <= one["spread"][1]
        assert one["holds"] is not False or one["profile"] or not rows.ROWS[one["name"]].why, one["name"]
    grown = [one for one in kept.values() if one["points"]]
    if grown:
        with Image.open(report.picture_of(out)) as drawn:
            assert drawn.info["Source"] == digest([[one["name"], one["points"]] for one in grown]), "run 'make bench'"
    for name, number, digits in said:
        assert round(kept[name]["value"], digits) == pytest.approx(number), name
