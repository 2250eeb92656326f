"""Figures of photographs, votes, judgements and labels; each function returns a matplotlib ``Figure``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.images import decode
from ..data.ratings import distribution
from ..data.table import AnnotatedImages
from .style import task_colour, use_style


def photo_grid(photos: Sequence[Path | np.ndarray], titles: Sequence[str] = (), columns: int = 6) -> Figure:
    """Photographs (files, or (S, S, 3) pixels in 0..255) side by side, squared as the network sees them."""
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
    """These images, each above the share of its votes that each class got; the consensus stands out."""
    panels = []
    for row in rows:
        labels = [[*t.classes, "no votes"][images.labels(t.name)[row]] for t in images.tasks]
        shares = [np.nan_to_num(distribution(images.votes[t.name][[row]])[0]) for t in images.tasks]
        panels.append((images.paths[row], labels, shares))
    return _judged(panels, {t.name: t.classes for t in images.tasks}, columns=4 if len(panels) % 4 == 0 else 5)


def contact_sheet(photos: Sequence[Path | str], predictions: pd.DataFrame) -> Figure:
    """Photographs, each above the answers and the probability of every class, as ``Predictor.predict`` tables them."""
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
    stems = Counter(path.stem for path, _, _ in panels)
    width, height = columns * (photo + gap), rows * (photo + bars + 2 * gap)
    figure, inches = Figure((width, height), layout="none"), np.array([width, height, width, height])
    for number, (path, answers, values) in enumerate(panels):
        left, top = number % columns * (photo + gap), height - number // columns * (photo + bars + 2 * gap) - gap
        ax = figure.add_axes(np.array([left, top - photo, photo, photo]) / inches)
        ax.imshow(_pixels(path))
        ax.set_axis_off()
        name = path.stem if stems[path.stem] == 1 else f"{path.parent.name}/{path.stem}"
        ax.set_title(f"{name[:26]}\n{' · '.join(answers)}", fontsize=8, loc="center", parse_math=False)
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
    """How the labels of the first two tasks go together: counts, and by colour the shares of each row."""
    import seaborn

    use_style()
    first, second = images.tasks[:2]
    labels = [pd.Series(pd.Categorical.from_codes(images.labels(task.name), task.classes), name=f"{task.name} (label)")
              for task in (second, first)]
    counts = pd.crosstab(*labels).reindex(index=second.classes, columns=first.classes, fill_value=0)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    figure = Figure((2.4 + 1.1 * counts.shape[1], 1 + 0.42 * len(counts)))
    seaborn.heatmap(shares, vmin=0, cmap="cividis", annot=counts, fmt="d", ax=figure.subplots(),
                    cbar_kws={"label": "share of the row"})
    return figure
