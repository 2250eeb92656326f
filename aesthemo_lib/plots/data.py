"""Figures of photographs, votes, judgements and labels; each function returns a matplotlib ``Figure``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from ..data.images import decode
from ..data.ratings import distribution
from ..data.table import AnnotatedImages
from ..device import allowed_cores
from ..files import atomic, show_progress
from .style import MORE_COLOURS, task_colour, use_style

PAGE, DPI = 48, 130
"""Photographs on a page of contact sheets, and its pixels an inch."""
PHOTO, GAP, BAR = 1.9, 0.35, 0.16
"""Inches: a photograph's side, the gap between two, and a class' bar with the gap to the next."""


def photo_grid(photos: Sequence[Path | np.ndarray], titles: Sequence[str] = (), columns: int = 5) -> Figure:
    """Photographs (files, or (S, S, 3) pixels in 0..255) side by side, squared as the network sees them."""
    use_style()
    rows, columns = _grid(len(photos), columns)
    figure = Figure((1.7 * columns, (1.95 if len(titles) else 1.75) * rows))
    for number, ax in enumerate(figure.subplots(rows, columns, squeeze=False).ravel()):
        ax.set_axis_off()
        if number < len(photos):
            ax.imshow(_pixels(photos[number]))
        if number < len(titles):
            ax.set_title(titles[number], loc="center", parse_math=False)
    return figure


def _grid(count: int, most: int) -> tuple[int, int]:
    """Rows and columns for so many pictures, at most so many side by side, the rows about equally long."""
    rows = -(-count // most)
    return rows, -(-count // rows)


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
    return _judged(panels, {t.name: t.classes for t in images.tasks}, columns=4)


def contact_sheet(photos: Sequence[Path | str], predictions: pd.DataFrame) -> Figure:
    """Photographs, each above the answers and the probability of every class, as ``Predictor.predict`` tables them."""
    tasks = {name: [c.removeprefix(f"{name}_") for c in predictions if c.startswith(f"{name}_")]
             for name in predictions if f"{name}_{predictions[name].iloc[0]}" in predictions}
    panels = [(Path(photo), [row[name] for name in tasks], [[row[f"{n}_{c}"] for c in tasks[n]] for n in tasks])
              for photo, (_, row) in zip(photos, predictions.iterrows(), strict=True)]
    return _judged(panels, tasks, columns=max(4, round((1.5 * len(panels)) ** 0.5)))


def save_sheets(predictions: pd.DataFrame, path: Path) -> list[Path]:
    """Write the contact sheets of what ``Predictor.predict`` tabled, ``PAGE`` photographs a page; returns the files.

    Args:
        path: a PDF of all pages; or a PNG or JPEG, of which further pages are files of their own, numbered from 2.
    """
    pages = [predictions[start:start + PAGE] for start in range(0, len(predictions), PAGE)]
    pdf = path.suffix.lower() == ".pdf"
    files = [path, *(path.with_stem(f"{path.stem}-{n}") for n in range(2, len(pages) + 1) if not pdf)]
    with ExitStack() as stack:
        targets = [stack.enter_context(atomic(file)) for file in files]
        for number, page in enumerate(tqdm(pages, desc="contact sheets", unit="page", disable=not show_progress())):
            canvas = FigureCanvasAgg(contact_sheet(page["photo"].tolist(), page))
            canvas.draw()
            picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
            options = {"append": number > 0, "resolution": DPI} if pdf else {}
            picture.save(targets[0 if pdf else number], quality=85, **options)
    return files


def _judged(panels: list[tuple], tasks: Mapping[str, Sequence[str]], columns: int) -> Figure:
    """A grid of (path, an answer a task, the classes' values in 0..1 a task); ``tasks`` has their classes.

    All is drawn in one pair of axes, in inches: axes for each photograph took most of the time.
    """
    use_style()
    rows, columns = _grid(len(panels), columns)
    wide, high = PHOTO + GAP, PHOTO + BAR * sum(len(classes) + 0.6 for classes in tasks.values()) + 2 * GAP
    figure = Figure((columns * wide, rows * high), dpi=DPI, layout="none")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, columns * wide), ylim=(rows * high, 0), autoscale_on=False)
    ax.set_axis_off()
    stems = Counter(path.stem for path, _, _ in panels)
    with ThreadPoolExecutor(allowed_cores()) as pool:  # each photograph is decoded once, at the size that it is shown
        pictures = pool.map(lambda panel: decode(panel[0], round(PHOTO * DPI)), panels)
    for number, ((path, answers, values), picture) in enumerate(zip(panels, pictures, strict=True)):
        left, top = number % columns * wide + GAP / 2, number // columns * high + GAP
        ax.imshow(picture, extent=(left, left + PHOTO, top + PHOTO, top), aspect="auto")
        name = path.stem if stems[path.stem] == 1 else path.as_posix()
        title = f"{name if len(name) < 24 else f'..{name[-22:]}'}\n{' · '.join(answers)}"
        ax.text(left + PHOTO / 2, top - 0.05, title, ha="center", va="bottom", parse_math=False)
        _bars(ax, left + 0.55 * PHOTO, top + PHOTO + BAR, tasks, answers, values)
    return figure


def _bars(ax: Axes, left: float, top: float, tasks: Mapping, answers: list[str], values: list[Sequence[float]]) -> None:
    length, at = 0.35 * PHOTO, top  # of a bar of 1
    for (task, classes), answer, shares in zip(tasks.items(), answers, values, strict=True):
        for name, share in zip(classes, shares, strict=True):
            weight, alpha = ("bold", 1) if name == answer else ("normal", 0.4)
            ax.barh(at, share * length, 0.8 * BAR, left=left, color=task_colour(task), alpha=alpha)
            ax.text(left - 0.05, at, name, ha="right", va="center", fontweight=weight, parse_math=False)
            if name == answer:
                ax.text(left + share * length + 0.03, at, f"{share:.2f}", va="center")
            at += BAR
        at += 0.6 * BAR
    ax.vlines([left + length / 2, left + length], top - BAR / 2, at - BAR, color="#E6E6E6", linewidth=0.8, zorder=0)


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
    seaborn.heatmap(shares, vmin=0, cmap=seaborn.light_palette(MORE_COLOURS[2], as_cmap=True), ax=figure.subplots(),
                    annot=counts.map(lambda count: str(count or "")), fmt="", annot_kws={"color": "black"},
                    cbar_kws={"label": "share of the row"})
    return figure
