"""Figures say what their data say: boxes, bars and numbers are counted and compared, not looked at."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, PdfParser

from aesthemo_lib import plots
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.evaluation.metrics import prediction_table
from aesthemo_lib.models.networks import build, map_shapes
from aesthemo_lib.plots import data, runs as run_plots
from aesthemo_lib.tasks import PATENT_TASKS, Task

TASKS = (Task("aesthetics", ("low", "high")), Task("mood", ("calm", "very_wild", "$5")))


@pytest.fixture
def photos(tmp_path):
    """Four small plain pictures with awkward names."""
    paths = []
    for number, name in enumerate(("a_b", "größe $1$", "c", "d")):
        paths.append(tmp_path / f"{name}.png")
        Image.new("RGB", (30, 20), (60 * number, 10, 200)).save(paths[-1])
    return paths


@pytest.fixture
def annotated(photos):
    votes = {"aesthetics": [[3, 1], [2, 2], [0, 5], [0, 0]], "mood": [[1, 0, 0], [1, 2, 1], [0, 0, 4], [0, 3, 1]]}
    return AnnotatedImages("toy", TASKS, photos, {name: np.array(v, float) for name, v in votes.items()})


def bars(ax) -> list[tuple[float, str, float]]:
    """Width, colour and opacity of each bar, from the top."""
    bars = [p for p in ax.patches if isinstance(p, Rectangle)]
    return [(p.get_width(), to_hex(p.get_facecolor()), p.get_alpha()) for p in sorted(bars, key=lambda p: p.get_y())]


def panels(figure: Figure) -> tuple[list[str], list[list[tuple[float, str, float]]], list[str]]:
    """Of judged photographs the titles, the bars of each (share, colour, opacity), and all other words."""
    (ax,) = figure.axes
    texts = [text.get_text() for text in ax.texts]
    drawn = [(round(p.get_width() / (0.35 * data.PHOTO), 4), to_hex(p.get_facecolor()), p.get_alpha())
             for p in ax.patches]
    count = sum(len(task.classes) for task in TASKS)
    return ([text for text in texts if "\n" in text], [drawn[i:i + count] for i in range(0, len(drawn), count)],
            [text for text in texts if "\n" not in text])


# --- style and files


def test_task_colours_are_apart_for_colour_blind_readers_and_from_white():
    # Viénot, Brettel & Mollon (1999): what deuteranopes see, in linear RGB
    seen = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    first, second = (np.array(to_rgb(colour)) ** 2.2 for colour in plots.TASK_COLOURS.values())
    assert np.linalg.norm(seen @ first - seen @ second) > 0.4
    for colour in (first, second):
        luminance = colour @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) > 3  # WCAG's contrast for graphics


def test_a_task_has_the_same_colour_whatever_stands_beside_it():
    assert plots.task_colour("aesthetics") == plots.TASK_COLOURS["aesthetics"]
    assert plots.task_colour("mood") == plots.task_colour("mood") not in plots.TASK_COLOURS.values()


def test_save_writes_metadata_equal_bytes_and_nothing_half(tmp_path, monkeypatch):
    def figure(height=1):
        made = Figure((1, 1))
        made.subplots().bar([0], [height])
        made.text(0, 0, "small", fontsize=7.5)
        return made

    target = tmp_path / "new folder" / "é.png"
    plots.save(figure(), target, {"data": "abc"})
    with Image.open(target) as image:
        assert image.text["data"] == "abc" and image.text["Type"] == "7.5"  # the smallest type
    before = target.read_bytes()
    plots.save(figure(), target, {"data": "abc"})
    assert target.read_bytes() == before
    broken = figure(2)
    monkeypatch.setattr(broken, "savefig", lambda file, **_: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plots.save(broken, target)
    assert target.read_bytes() == before and len(list(target.parent.iterdir())) == 1


def test_show_gives_the_caption_as_alternative_text(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects: shown.extend(objects))
    plots.show(Figure((1, 1)), "what to see")
    data, metadata = shown[0]._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == "what to see" and data["image/png"]
    assert shown[1].data == "*what to see*"


# --- photographs and judgements


def test_photo_grid_shows_files_and_pixels_in_order(photos):
    pixels = np.full((4, 4, 3), [300.0, -5.0, 20.4])  # a difference of images may leave 0..255
    axes = plots.photo_grid([photos[1], pixels, photos[3]], ["one", "$", "3"], columns=2).axes
    assert [ax.get_title() for ax in axes] == ["one", "$", "3", ""]
    assert axes[0].images[0].get_array()[0, 0].tolist() == [60, 10, 200]
    assert axes[1].images[0].get_array()[0, 0].tolist() == [255, 0, 20]
    assert not axes[3].images


def test_vote_bars_are_the_shares_of_the_votes(annotated):
    figure = plots.vote_bars(annotated, [1, 3])
    titles, charts, _ = panels(figure)
    assert titles == ["größe $1$\nlow · very_wild", "d\nno votes · very_wild"]
    blue, other = plots.TASK_COLOURS["aesthetics"].lower(), plots.task_colour("mood").lower()
    assert charts[0] == [
        (0.5, blue, 1), (0.5, blue, 0.4), (0.25, other, 0.4), (0.5, other, 1), (0.25, other, 0.4),
    ]
    assert [width for width, *_ in charts[1]] == [0, 0, 0, 0.75, 0.25]  # unlabelled is empty, not an error
    plots.png(figure)  # '$' in a name is no formula


def test_contact_sheet_shows_what_the_predictions_say(photos):
    rng = np.random.default_rng(0)
    probabilities = {task.name: rng.dirichlet(np.ones(len(task.classes)), 4) for task in TASKS}
    table = prediction_table(TASKS, probabilities, photo=[str(path) for path in photos])
    figure = plots.contact_sheet([str(path) for path in photos], table)
    titles, charts, words = panels(figure)
    assert len(figure.axes[0].images) == len(titles) == 4
    for row, (title, chart) in enumerate(zip(titles, charts, strict=True)):
        assert title.splitlines()[1] == f"{table['aesthetics'][row]} · {table['mood'][row]}"
        expected = [*probabilities["aesthetics"][row], *probabilities["mood"][row]]
        np.testing.assert_allclose([width for width, *_ in chart], expected, atol=1e-4)
        assert [alpha for *_, alpha in chart].count(1) == 2
        assert f"{max(probabilities['mood'][row]):.2f}" in words and {"very_wild", "$5", "low", "high"} <= set(words)
    plots.png(figure)


def test_photographs_of_one_name_have_captions_that_differ(photos, tmp_path):
    same = [tmp_path / place for place in ("2023/the best/1.png", "2024/the best/1.png", "2024/the best/1.bmp")]
    for path in same:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    table = prediction_table(TASKS, {t.name: np.eye(len(t.classes))[[0] * 3] for t in TASKS}, photo=[*map(str, same)])
    titles, _, _ = panels(plots.contact_sheet(same, table))
    names = [title.splitlines()[0] for title in titles]
    assert [name[-19:] for name in names] == [str(path)[-19:] for path in same] and max(map(len, names)) <= 27


@pytest.mark.parametrize("name, files", [("s.png", ["s-2.png", "s-3.png", "s.png"]), ("s.pdf", ["s.pdf"])])
def test_sheets_are_pages_and_a_photograph_is_decoded_once_at_its_size(photos, tmp_path, monkeypatch, name, files):
    monkeypatch.setattr(data, "PAGE", 3)
    decoded = []
    monkeypatch.setattr(data, "decode", lambda *given: decoded.append(given) or np.zeros((*2 * given[1:], 3), np.uint8))
    photo = [str(path) for path in photos] * 2
    table = prediction_table(TASKS, {t.name: np.eye(len(t.classes))[[0] * 8] for t in TASKS}, photo=photo)
    out = tmp_path / "sheets"
    assert sorted(path.name for path in data.save_sheets(table, out / name)) == sorted(files)
    assert sorted(path.name for path in out.iterdir()) == files
    assert sorted(path for path, _ in decoded) == sorted(map(Path, photo)) and {side for _, side in decoded} == {247}
    if name.endswith("pdf"):
        with PdfParser.PdfParser(str(out / name)) as pdf:
            assert len(pdf.pages) == 3
    for file in out.glob("*.png"):
        with Image.open(file) as sheet:
            assert sheet.width < 3 * 247 * 1.4 and np.asarray(sheet).min() == 0
    monkeypatch.setattr(data, "contact_sheet", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        data.save_sheets(table, out / f"new {name}")
    assert sorted(path.name for path in out.iterdir()) == files  # nothing half


def test_label_table_counts_images_that_have_both_labels(annotated):
    ax = plots.label_table(annotated).axes[0]
    expected = pd.DataFrame([[1, 0], [1, 0], [0, 1]], index=TASKS[1].classes, columns=TASKS[0].classes)
    assert [text.get_text() for text in ax.texts] == [str(count or "") for count in expected.to_numpy().ravel()]
    assert [text.get_text() for text in ax.get_yticklabels()] == list(TASKS[1].classes)
    assert ax.get_xlabel().startswith("aesthetics")


def test_cells_without_images_are_blank():
    (ax,) = run_plots.confusion({"a": np.array([[3, 1], [0, 0]])}, ("low", "high"), "#0072B2").axes
    assert [text.get_text() for text in ax.texts] == ["75 %\n(3)", "25 %\n(1)", "", ""]
    change = np.array([[0.25, -0.25], [0, np.nan]])
    (ax,) = run_plots.confusion_difference(change, change > 0, ("low", "high"), "b").axes
    assert [text.get_text() for text in ax.texts] == ["+25", "−25", "", ""]


def test_numbers_stand_out_from_their_cells():
    def luminance(colour):  # relative luminance of WCAG 2
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
        return np.array(linear) @ [0.2126, 0.7152, 0.0722]

    counts = np.diag(np.arange(1, 20)) + np.roll(np.diag(np.arange(19, 0, -1)), 1, axis=1)  # shares of .05 to .95
    classes = tuple(map(str, range(19)))
    change = np.linspace(-0.5, 0.5, 19 * 19).reshape(19, 19)
    for figure in (run_plots.confusion({"a": counts}, classes, plots.TASK_COLOURS["emotion"]),
                   run_plots.confusion({"a": counts}, classes, plots.TASK_COLOURS["aesthetics"]),
                   run_plots.confusion_difference(change, change > 1, classes, "b")):
        (image,) = figure.axes[0].images
        cells = image.to_rgba(image.get_array()).reshape(-1, 4)
        for text, cell in zip(figure.axes[0].texts, cells, strict=True):
            low, high = sorted((luminance(text.get_color()), luminance(cell[:3])))
            assert (high + 0.05) / (low + 0.05) > 4.4


# --- the network


def boxes(figure: Figure) -> list[Rectangle]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize(("method", "options", "expected"), [
    ("independent", {}, 1 + 2 * 3 + 2),
    ("cross_branch", {}, 1 + 2 * 3 + 2 * 2 + 2),
    ("cross_branch", {"after_last": True}, 1 + 2 * 3 + 2 * 3 + 2),
    ("shared_bottom", {}, 1 + 3 + 2),
    ("shared_bottom", {"depth": 1}, 1 + 1 + 2 * 2 + 2),
])
def test_the_diagram_has_a_box_for_each_part_of_the_network(method, options, expected):
    figure = plots.network_diagram(build(method, PATENT_TASKS, "tiny", "none", **options), side=32)
    assert len(boxes(figure)) == expected


def test_every_branch_of_an_exchange_reaches_every_other():
    three = (*PATENT_TASKS, TASKS[1])
    figure = plots.network_diagram(build("cross_branch", three, "tiny", "none"), side=32)
    arrows = [a for a in figure.axes[0].texts if getattr(a, "arrow_patch", None)]
    # image to 3 branches; at 2 exchanges 3 x 3 into the 1x1 boxes and 3 out of them; 3 into the heads
    assert len(arrows) == 3 + 2 * (9 + 3) + 3
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words.count("1×1") == 6 and words.count("3 fully connected") == 3
    assert {"aesthetics\n2 classes", "emotion\n8 classes", "mood\n3 classes"} <= set(words)


def test_the_diagram_shows_frozen_groups_as_shared_and_exchanges_only_behind_them():
    full, frozen = (build("cross_branch", PATENT_TASKS, "efficientnet_lite0", "none", frozen=n) for n in (0, 2))
    figure = plots.network_diagram(frozen, side=64)
    words = [text.get_text() for text in figure.axes[0].texts]
    shapes = ["×".join(map(str, shape)) for shape in map_shapes(full, 64)]
    assert map_shapes(frozen, 64) == map_shapes(full, 64) and words.count("1×1") == 2 * 2
    for number, shape in enumerate(shapes, start=1):
        assert words.count(f"{'frozen' if number < 3 else 'conv'} group {number}: {shape}") == 1 + (number > 2)
    assert len(boxes(figure)) == 1 + 2 + 2 * 3 + 2 * 2 + 2  # image, frozen, two branches of three, 1×1, heads


def test_the_diagram_names_the_sizes_that_a_real_pass_has_and_leaves_the_network_alone():
    network = build("cross_branch", PATENT_TASKS, "efficientnet_lite0", "none").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    words = [text.get_text() for text in plots.network_diagram(network, side=64).axes[0].texts]
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    x, shapes = torch.zeros(1, 3, 64, 64), []
    with torch.no_grad():
        for group in network.eval().parts()[0][0]:
            x = group(x)
            shapes.append(tuple(x.shape[1:]))
    assert map_shapes(network, 64) == shapes
    assert not any(group._forward_hooks for group in network.parts()[0][0])
    for number, shape in enumerate(shapes, start=1):
        assert f"conv group {number}: {'×'.join(map(str, shape))}" in words
