"""The page on scale: its table is the committed figures', by hand once, and the page shows it."""

import re
from pathlib import Path

import pytest

from aesthemo_lib.files import read_json
from bench import on_paper as scale

PROJECT = Path(__file__).resolve().parents[2]
FILE = read_json(PROJECT / "results" / "scale.json")


def test_the_file_is_what_the_command_makes_of_its_figures():
    assert scale.table(FILE["measured"]) == FILE


def test_the_page_shows_the_table():
    page = (PROJECT / "docs" / "scale.md").read_text(encoding="utf-8")
    shown, = re.findall(r"<!-- table: results/scale.json -->\n(.*?)\n<!-- end of table -->", page, re.DOTALL)
    assert shown == scale.markdown(FILE) and scale.shown(page, FILE) == page
    assert scale.shown(page.replace("| IAE | 1 |", "| IAE | 2 |"), FILE) == page
    for where, images in FILE["images_a_gpu_that_hide_the_exchange"].items():
        assert f"{images:.0f} images" in page, where


def test_a_row_by_hand():
    """10 MB of gradients, 4 images a step and GPU of a second each, between machines that exchange 1 MB a second."""
    cost = {"operations": 1e6, "parameters": 2.5e6, "bytes": 1000, "batch": 4, "epochs": 2}
    stated = {"operations_a_second": 1e6, "link_bytes_a_second": 1e6, "network_bytes_a_second": 1e6,
              "disk_bytes_a_second": 1e9, "memory_bytes": 1e12, "cores": 10}
    row = scale.row("IAE", 16, {"decoded_a_core_second": 2}, cost, stated)
    assert (row["step_ms"], row["exchange_ms"], row["bound"]) == (4000, 18750, "exchange")  # 2 x 10 MB x 15/16
    assert row["steps"] == 2 * 346 and row["training_hours"] == pytest.approx(692 * 18.75 / 3600, abs=0.01)
    assert row["kept_batch_hours"] == pytest.approx(2 * 87 * 18.75 / 3600, abs=0.01)
    assert row["decoding_minutes"] == pytest.approx(22086 / 2 / 10 / 2 / 60, abs=0.1)
    from_disk = stated | {"memory_bytes": 0, "disk_bytes_a_second": 1e3}
    slow = scale.row("IAE", 16, {"decoded_a_core_second": 2}, cost, from_disk)
    assert slow["bound"] == "disk" and slow["read_mb_a_second"] == 0  # 8 x 4 kB in 18.75 s would be 1.7 kB a second
    assert slow["training_hours"] == pytest.approx(row["training_hours"] * 32 / 18.75, rel=0.01)


def test_decoding_is_measured_on_what_is_there(colours_root):
    found = scale.measure(colours_root, "csv", images=5)
    assert found["images"] == 5 and found["decoded_a_core_second"] > 1 and found["read_bytes_a_core_second"] > 1e6
