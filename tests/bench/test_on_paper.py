"""The page on scale: its table is what the script prints, and one row is worked out by hand."""

import re
from pathlib import Path

import pytest

from bench import on_paper

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")


def test_the_page_shows_what_the_script_prints():
    shown, = re.findall(r"<!-- table: python -m bench.on_paper -->\n(.*?)\n<!-- end of table -->", PAGE, re.DOTALL)
    assert shown == on_paper.table()


def test_a_row_by_hand():
    """EmoSet on 64 GPUs: 31.8 billion multiplications an image, 270 million parameters."""
    name, gpus, batch, gigabytes, computing, ring, bytes_read, hours, kept = list(on_paper.rows())[5]
    assert (name, gpus, batch, gigabytes) == ("EmoSet", 64, 2048, pytest.approx(118_102 * 256 * 256 * 3 / 1e9, abs=0.1))
    assert computing == pytest.approx(1000 * 6 * 31.75e9 * 32 / 40e12, rel=0.01)
    assert ring == pytest.approx(1000 * 8 * 269.96e6 * 63 / 64 / 20e9, rel=0.01)
    assert bytes_read == pytest.approx(8 * 32 * 196_608 / 0.1524 / 1e6, rel=0.01)
    assert hours == pytest.approx(58 * 30 * 0.1524 / 3600, abs=0.01) and kept == pytest.approx(
        462 * 30 * 0.1063 / 3600, abs=0.01)  # 58 batches of 2,048, each bound by computing; 462 of 256, by the exchange


def test_the_pages_other_figures_follow_from_the_same_numbers():
    computing, parameters = list(on_paper.rows())[0][4] / 1000 / 32, 269_956_618
    for bandwidth, where in ((on_paper.LINK, "within a machine"), (on_paper.NETWORK, "between machines")):
        images = round(8 * parameters / bandwidth / computing)
        assert re.search(rf"{images} images[^.]*{where}", PAGE), where
