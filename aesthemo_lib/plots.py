"""Figures, all in one style: the two tasks have the same colours everywhere, safe for colour-blind readers.

Each function returns a matplotlib ``Figure``; ``show`` puts one into a notebook with its alternative text, ``save``
writes one to a file.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from .data.images import decode
from .data.ratings import distribution
from .data.table import AnnotatedImages
from .files import atomic
from .ledger import Ledger
from .models.networks import map_shapes

TASK_COLOURS = {"aesthetics": "#0072B2", "emotion": "#D55E00"}
"""Fixed everywhere; from the palette of Okabe & Ito (2008), which colour-blind readers can tell apart."""
MORE_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
NEUTRAL = "#6B6B6B"
"""What belongs to no task: reference lines, notes, shared parts."""


def task_colour(name: str) -> str:
    """A task's colour: the fixed one, or for any other task one that depends on nothing but its name.

    >>> task_colour("aesthetics"), task_colour("emotion")  # blue and vermilion, told apart by colour-blind eyes
    ('#0072B2', '#D55E00')
    """
    number = sum(place * byte for place, byte in enumerate(name.encode()))  # of valence and arousal two different ones
    return TASK_COLOURS.get(name) or MORE_COLOURS[number % len(MORE_COLOURS)]


def use_style() -> None:
    """The project's look, for this process: large enough to be projected, no frame, a light grid to read values at.

    >>> use_style()
    >>> mpl.rcParams["axes.spines.top"]
    False
    """
    mpl.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 130, "figure.constrained_layout.use": True, "font.size": 11,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titlelocation": "left",
        "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E6E6E6", "legend.frameon": False,
        "axes.prop_cycle": mpl.cycler(color=[*TASK_COLOURS.values(), *MORE_COLOURS]),
    })


def png(figure: Figure, metadata: dict[str, str] | None = None) -> bytes:
    """A figure as the bytes of a PNG; equal figures give equal bytes.

    Args:
        metadata: text that the file carries, such as the command that drew it or the hash of its data.

    >>> figure = Figure((1, 1))
    >>> png(figure, {"Comment": "drawn by hand"}) == png(figure, {"Comment": "drawn by hand"})
    True
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": "aesthemo", **(metadata or {})})
    return file.getvalue()


def save(figure: Figure, path: Path | str, metadata: dict[str, str] | None = None) -> None:
    """Write a figure as a PNG, whole or not at all (see ``png``).

    >>> save(Figure((1, 1)), "empty.png")
    >>> Path("empty.png").read_bytes()[1:4]
    b'PNG'
    """
    data = png(figure, metadata)
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(data)


def show(figure: Figure, caption: str) -> None:
    """Put a figure into a notebook: the caption says what to see, below it and as its alternative text.

    >>> show(Figure((1, 1)), "An empty figure.")
    <IPython.core.display.Image object> <IPython.core.display.Markdown object>
    """
    import matplotlib.pyplot as plt
    from IPython.display import Image, Markdown, display

    display(Image(png(figure), alt=caption), Markdown(f"*{caption}*"))
    plt.close(figure)  # or the inline backend would draw it a second time


# --- photographs and judgements


def photo_grid(photos: Sequence[Path | np.ndarray], titles: Sequence[str] = (), columns: int = 6) -> Figure:
    """Photographs side by side, squared as the network sees them.

    Args:
        photos: files, or (S, S, 3) pixels in 0..255.
        titles: a line above each.

    >>> grey = np.full((8, 8, 3), 128)
    >>> figure = photo_grid([grey, grey], ["first", "second"])
    >>> [ax.get_title() for ax in figure.axes]
    ['first', 'second']
    """
    use_style()
    columns = min(columns, len(photos))
    rows = -(-len(photos) // columns)
    figure = Figure((1.7 * columns, (1.95 if len(titles) else 1.75) * rows))
    for number, ax in enumerate(figure.subplots(rows, columns, squeeze=False).ravel()):
        ax.set_axis_off()
        if number < len(photos):
            ax.imshow(_pixels(photos[number]))
        if number < len(titles):
            ax.set_title(titles[number], fontsize=9, loc="center", parse_math=False)
    return figure


def _pixels(photo: Path | str | np.ndarray) -> np.ndarray:
    values = decode(Path(photo), 256) if isinstance(photo, Path | str) else np.asarray(photo)
    return values.clip(0, 255).astype(np.uint8)


def vote_bars(images: AnnotatedImages, rows: Sequence[int]) -> Figure:
    """These images, each above the share of its votes that each class got; the consensus stands out.

    >>> from .data.readers import read
    >>> images = read("scenes", "scenes", images=3, size=32)
    >>> figure = vote_bars(images, [0, 2])
    >>> len(figure.axes)
    4
    """
    panels = []
    for row in rows:
        labels = [[*t.classes, "no votes"][images.labels(t.name)[row]] for t in images.tasks]
        shares = [np.nan_to_num(distribution(images.votes[t.name][[row]])[0]) for t in images.tasks]
        panels.append((images.paths[row], labels, shares))
    return _judged(panels, {t.name: t.classes for t in images.tasks}, columns=4 if len(panels) % 4 == 0 else 5)


def contact_sheet(photos: Sequence[Path | str], predictions: pd.DataFrame) -> Figure:
    """Photographs, each above the answers and the probability of every class.

    Args:
        photos: N files.
        predictions: N rows, as ``prediction.Predictor.predict`` returns them.

    >>> mpl.image.imsave("a.jpg", np.zeros((8, 8, 3)))
    >>> answers = pd.DataFrame({"photo": ["a.jpg"], "aesthetics": ["high"], "aesthetics_low": [0.2],
    ...                         "aesthetics_high": [0.8]})
    >>> len(contact_sheet(["a.jpg"], answers).axes)
    2
    """
    tasks = {name: [c.removeprefix(f"{name}_") for c in predictions if c.startswith(f"{name}_")]
             for name in predictions if f"{name}_{predictions[name].iloc[0]}" in predictions}
    panels = [(Path(photo), [row[name] for name in tasks], [[row[f"{n}_{c}"] for c in tasks[n]] for n in tasks])
              for photo, (_, row) in zip(photos, predictions.iterrows(), strict=True)]
    return _judged(panels, tasks, columns=max(5, round(len(panels) ** 0.5)))


def _judged(panels: list[tuple], tasks: Mapping[str, Sequence[str]], columns: int) -> Figure:
    """A grid of (path, an answer a task, the classes' values in 0..1 a task); ``tasks`` has their classes."""
    use_style()
    photo, gap, text = 1.9, 0.35, 1.05  # inches
    bars = 0.15 * sum(len(classes) + 0.6 for classes in tasks.values())
    columns, rows = min(columns, len(panels)), -(-len(panels) // columns)
    width, height = columns * (photo + gap), rows * (photo + bars + 2 * gap)
    figure, inches = Figure((width, height), layout="none"), np.array([width, height, width, height])
    for number, (path, answers, values) in enumerate(panels):
        left, top = number % columns * (photo + gap), height - number // columns * (photo + bars + 2 * gap) - gap
        ax = figure.add_axes(np.array([left, top - photo, photo, photo]) / inches)
        ax.imshow(_pixels(path))
        ax.set_axis_off()
        ax.set_title(f"{path.stem[:26]}\n{' · '.join(answers)}", fontsize=8, loc="center", parse_math=False)
        ax = figure.add_axes(np.array([left + text, top - photo - bars, photo - text, bars]) / inches)
        _bars(ax, tasks, answers, values)
    return figure


def _bars(ax: Axes, tasks: Mapping[str, Sequence[str]], answers: list[str], values: list[Sequence[float]]) -> None:
    at = 0.0
    for (task, classes), answer, shares in zip(tasks.items(), answers, values, strict=True):
        for name, share in zip(classes, shares, strict=True):
            weight = "bold" if name == answer else "normal"
            ax.barh(at, share, 0.8, color=task_colour(task), alpha=1 if name == answer else 0.4)
            ax.text(-0.06, at, name, ha="right", va="center", fontsize=7, fontweight=weight, parse_math=False)
            if name == answer:
                ax.text(share + 0.04, at, f"{share:.2f}", va="center", fontsize=7)
            at += 1
        at += 0.6
    ax.set(xlim=(0, 1.3), ylim=(at - 0.6, -0.9), xticks=[0.5, 1], yticks=[])
    ax.tick_params(labelbottom=False, length=0)
    ax.spines["bottom"].set_visible(False)


def label_table(images: AnnotatedImages) -> Figure:
    """How the labels of the first two tasks go together: counts, and by colour the shares of each row.

    >>> from .data.readers import read
    >>> figure = label_table(read("scenes", "scenes", images=3, size=32))
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('aesthetics (label)', 'emotion (label)')
    """
    import seaborn

    use_style()
    first, second = images.tasks[:2]
    labels = [pd.Series(pd.Categorical.from_codes(images.labels(task.name), task.classes), name=f"{task.name} (label)")
              for task in (second, first)]
    counts = pd.crosstab(*labels).reindex(index=second.classes, columns=first.classes, fill_value=0)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    figure = Figure((2.4 + 1.1 * counts.shape[1], 1 + 0.42 * len(counts)))
    seaborn.heatmap(shares, vmin=0, vmax=1, cmap="cividis", annot=counts, fmt="d", ax=figure.subplots(),
                    cbar_kws={"label": "share of the row"})
    return figure


# --- the network

STEP, HALF_WIDTH, HALF_HEIGHT, GATE = 1.7, 0.48, 0.26, 0.14
"""Inches: from box to box, half a box, and half the box of a 1x1 convolution."""


def network_diagram(network: nn.Module, side: int = 224) -> Figure:
    """The picture of a network, drawn from the network itself: its groups, what lies between them, its heads.

    Args:
        network: any of ``models.networks``, on any device ('meta' will do: nothing is computed).
        side: the images' width and height; the sizes of the maps follow from it.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> figure = network_diagram(build("cross_branch", PATENT_TASKS, "tiny", "none"), side=32)
    >>> [text.get_text().split("\\n")[0] for text in figure.axes[0].texts if "classes" in text.get_text()]
    ['aesthetics', 'emotion']
    """
    use_style()
    columns, exchanges = _columns(network, side), len(getattr(network, "exchanges", ()))
    half = max(abs(y) for _, y, _ in columns[-1]) + 0.45
    left, right = -0.6, len(columns) * STEP + 0.2
    figure = Figure((right - left, 2 * half), layout="none")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(-half, half))
    ax.set_axis_off()
    for i, (here, there) in enumerate(pairwise(columns)):
        _connect(ax, i * STEP, here, there, exchanged=1 <= i <= exchanges)
    for i, column in enumerate(columns):
        for box in column:
            _box(ax, i * STEP, *box)
    for task, (colour, y, _) in zip(network.tasks, columns[-1], strict=True):
        text = f"{task.name}\n{len(task.classes)} classes"
        ax.text((len(columns) - 1) * STEP + 0.6, y, text, va="center", color=colour, fontweight="bold")
    return figure


def _columns(network: nn.Module, side: int) -> list[list[tuple[str, float, str]]]:
    """What stands above one another, from left to right: (colour, height, text) of each box."""
    rows = [(task_colour(t.name), 0.55 * (len(network.tasks) - 1) - 1.1 * i) for i, t in enumerate(network.tasks)]
    shared = len(getattr(network, "trunk", ()))
    columns = [[(NEUTRAL, 0.0, f"image\n3 × {side} × {side}")]]
    for i, shape in enumerate(map_shapes(network, side), start=1):
        text = f"conv group {i}\n" + " × ".join(map(str, shape))
        columns.append([(*row, text) for row in ([(NEUTRAL, 0.0)] if i <= shared else rows)])
    heads = [sum(isinstance(m, nn.Linear) for m in branch.head.modules()) for branch in network.built]
    columns.append([(*row, f"{full} fully\nconnected") for row, full in zip(rows, heads, strict=True)])
    return columns


def _connect(ax: Axes, x: float, here: list, there: list, exchanged: bool) -> None:
    """Arrows from one column to the next; if they exchange, from all branches through a 1x1 convolution for each."""
    gate, end = x + STEP - HALF_WIDTH - 2 * GATE, x + STEP - HALF_WIDTH
    for target, (colour, y, _) in enumerate(there):
        for source, height, _ in here if exchanged or len(here) == 1 else [here[target]]:
            _arrow(ax, (x + HALF_WIDTH, height), (gate - GATE if exchanged else end, y), source)
        if exchanged:
            _arrow(ax, (gate + GATE, y), (end, y), colour)
            _box(ax, gate, colour, y, "1×1", GATE, GATE)


def _arrow(ax: Axes, start: tuple, end: tuple, colour: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0, "lw": 1.4})


def _box(ax, x, colour, y, text, width=HALF_WIDTH, height=HALF_HEIGHT) -> None:
    ax.add_patch(Rectangle((x - width, y - height), 2 * width, 2 * height, facecolor="white", edgecolor=colour, lw=1.6))
    ax.text(x, y, text, ha="center", va="center", fontsize=8)


# --- figures of attribution


def signed_maps(photo: np.ndarray, maps: dict[str, np.ndarray]) -> Figure:
    """A photo, and beside it signed maps over its grey version: red speaks for the logit, blue against it.

    Args:
        photo: (S, S, 3) pixels in 0..255.
        maps: (s, s) by title, as ``attribution.SignedMap.at`` gives them, each on a scale of its own.

    >>> figure = signed_maps(np.full((8, 8, 3), 128), {"what awe owes to the sky": np.eye(4)})
    >>> [ax.get_title("left") for ax in figure.axes]
    ['the photo', 'what awe owes to the sky']
    """
    figure, axes = _row(1 + len(maps), 2.5, 2.8)
    for ax, (title, values) in zip(axes, {"the photo": None, **maps}.items(), strict=True):
        ax.set_axis_off()
        ax.set_title(title, fontsize=9, parse_math=False)
        if values is None:
            ax.imshow(_pixels(photo))
            continue
        most = np.abs(values).max()
        scale = f"colour: ±{most:.1g}" if most else "zero everywhere"
        most = most or 1.0
        ax.imshow(np.asarray(photo).mean(axis=2), cmap="gray", vmin=-150, vmax=400, extent=(0, 1, 1, 0))
        strength = (np.abs(values) / most) ** 0.7
        ax.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, alpha=strength, extent=(0, 1, 1, 0))
        ax.text(0, 1.02, scale, va="top", fontsize=7, color=NEUTRAL)
    return figure


def _row(count: int, width: float, height: float, **how) -> tuple[Figure, np.ndarray]:
    use_style()
    figure = Figure((width * count, height))
    return figure, figure.subplots(1, count, squeeze=False, **how)[0]


def ledger_bars(
    ledgers: Sequence[Ledger], classes: Mapping[str, Sequence[str]], image: int = 0, photo: np.ndarray | None = None
) -> Figure:
    """One image's ledgers: a bar a class, what speaks for it to the right, what against it to the left.

    A piece has the colour of the task whose maps it is, the darker the later the layer; hatched is what acts through
    another branch. The diamond is logit(image) - logit(baseline) from plain passes: the pieces' sum must hit it.

    Args:
        ledgers: of one or several tasks, side by side.
        classes: the classes by task name.
        image: which of the ledgers' images.
        photo: (S, S, 3) pixels to be shown beside them.

    >>> from .models.fusion import Stream
    >>> ledger = Ledger("aesthetics", ("own", "borrowed at 1"), (None, Stream(1, "aesthetics", "emotion")),
    ...                 np.array([[[3.0, 1.0], [-2.0, 0.5]]]), np.array([[4.0, -1.5]]), np.zeros((1, 2)))
    >>> figure = ledger_bars([ledger], {"aesthetics": ("low", "high")})
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['low', 'high']
    """
    widest, shown = max(len(classes[ledger.task]) for ledger in ledgers), photo is not None
    figure, axes = _row(len(ledgers) + shown, 5.2 - 0.6 * shown, 2.2 + 0.36 * widest)
    if photo is not None:
        axes[0].imshow(_pixels(photo))
        axes[0].set_axis_off()
        axes = axes[1:]
    for ax, ledger in zip(axes, ledgers, strict=True):
        values, at = ledger.values[image], np.arange(len(classes[ledger.task]))
        for p, label in enumerate(ledger.players):
            start = np.where(values[:, p] > 0, values[:, :p].clip(min=0).sum(1), values[:, :p].clip(max=0).sum(1))
            ax.barh(at, values[:, p], 0.7, left=start, label=label, edgecolor="white", lw=0.8, **_look(ledger, p))
        ax.plot(ledger.logits[image] - ledger.baseline[image], at, "D", color="black", ms=6, label="image - baseline")
        ax.axvline(0, color=NEUTRAL, lw=1)
        ax.set(title=f"{ledger.task}: what its logits are made of", xlabel="logit", yticks=at,
               yticklabels=classes[ledger.task], ylim=(len(at) - 0.4, -0.6))
        ax.locator_params(axis="x", nbins=6)
        ax.grid(axis="y", visible=False)
        ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.45 / (0.36 * widest + 0.4)), ncols=2, fontsize=8)
    return figure


def _look(ledger: Ledger, player: int) -> dict:
    stream = ledger.streams[player]
    if stream is None:
        return {"color": task_colour(ledger.task)}
    layers = sorted({s.layer for s in ledger.streams if s})
    shade = 1.0 if len(layers) == 1 else 0.3 + 0.7 * layers.index(stream.layer) / (len(layers) - 1)
    colour = np.array(mpl.colors.to_rgb(task_colour(stream.source)))
    return {"color": 1 - shade * (1 - colour), "hatch": "" if stream.receiver == ledger.task else "////"}


def flow_bars(ledgers: dict[str, Ledger], image_classes: dict[str, np.ndarray]) -> Figure:
    """Over a set: what one logit owes to each player, mean and 95 % interval over images; the tick: without the sign.

    Args:
        ledgers: trunk ledgers of N images by task name.
        image_classes: (N,) by task name, the class whose logit is looked at, such as each image's answer.

    >>> from .models.fusion import Stream
    >>> ledger = Ledger("aesthetics", ("own", "borrowed at 1"), (None, Stream(1, "aesthetics", "emotion")),
    ...                 np.array([[[3.0, 1.0], [-2.0, 0.5]]] * 2), np.array([[4.0, -1.5]] * 2), np.zeros((2, 2)))
    >>> figure = flow_bars({"aesthetics": ledger}, {"aesthetics": np.array([0, 1])})
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['own', 'borrowed at 1']
    """
    figure, axes = _row(len(ledgers), 4.6, 3.0)
    for ax, (task, ledger) in zip(axes, ledgers.items(), strict=True):
        values = ledger.values[np.arange(len(ledger.values)), image_classes[task]]  # (N, P)
        half = 1.96 * values.std(axis=0, ddof=1) / len(values) ** 0.5
        for p in range(len(half)):
            ax.barh(p, values[:, p].mean(), 0.7, xerr=half[p], error_kw={"lw": 1.2}, **_look(ledger, p))
            ax.plot(np.abs(values[:, p]).mean(), p, "|", color="black", ms=14, mew=2)
        ax.axvline(0, color=NEUTRAL, lw=1)
        ax.set(title=f"{task}: the answer's logit", xlabel="logit beyond the baseline", ylim=(len(half) - 0.4, -0.6))
        ax.set_yticks(range(len(half)), ledger.players)
        ax.grid(axis="y", visible=False)
    return figure
