"""What a lesson offers to move by hand is redrawn when it is moved, and is a picture where there is no kernel."""

import json
from pathlib import Path

import pytest
from ipywidgets import Image, SelectionSlider
from ipywidgets.widgets import widget
from matplotlib.figure import Figure

from aesthemo_course.sliders import by_hand

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
MOVED = {
    "01_data_and_labels": "split_by=", "02_network": "alpha=(", "03_train": "emotion_weight=(",
    "04_compare": "number_of_splits=", "more/10_how_sure": "rho=(",
}
"""The five things to move, by lesson."""


def bar(height):
    figure = Figure((2, 1))
    figure.subplots().bar([0], [height])
    return figure, f"The bar is {height} high."


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in order."""
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda *what, **how: displayed.extend(what))
    return displayed


def test_a_slider_redraws_the_figure_and_its_caption(shown):
    before = set(widget._instances)
    by_hand(bar, height=(1, 2, 3))
    made = [one for name, one in widget._instances.items() if name not in before]
    (slider,) = (one for one in made if isinstance(one, SelectionSlider))
    (picture,) = (one for one in made if isinstance(one, Image))
    assert slider.value == 1 and slider.options == (1, 2, 3)
    slider.value = 3
    first = bytes(picture.value)
    assert first.startswith(b"\x89PNG")
    slider.value = 2
    assert bytes(picture.value) != first
    assert any(getattr(one, "value", "") == "The bar is 2 high." for one in made)


def test_without_a_kernel_the_first_state_is_a_picture_and_the_sliders_are_a_sentence(shown):
    by_hand(bar, height=(1, 2))
    assert any("The bar is 1 high." in str(getattr(one, "data", "")) for one in shown), "its caption"
    assert "sliders here move height" in shown[-1]["text/html"]


@pytest.mark.parametrize("lesson", MOVED)
def test_the_lessons_have_something_to_move(lesson):
    cells = json.loads((NOTEBOOKS / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert any(line.startswith("by_hand(") and MOVED[lesson] in line for line in code.splitlines())
