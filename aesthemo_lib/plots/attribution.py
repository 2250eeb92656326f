"""Figures of signed maps, ledgers and mixtures."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..attribution.ledger import Ledger
from .data import _pixels
from .runs import panels
from .style import NEUTRAL, task_colour


def signed_maps(photo: np.ndarray, maps: dict[str, np.ndarray]) -> Figure:
    """A photo, then signed maps over its grey version: red speaks for the logit, blue against it.

    ``maps``: (s, s) by title, as ``attribution.SignedMap.at`` gives them; all on one scale, so that they compare.
    """
    most = max((float(np.abs(values).max()) for values in maps.values()), default=0.0)
    scale, most = f"colour: ±{most:.1g}" if most else "zero everywhere", most or 1.0
    figure, axes = panels(1 + len(maps), 2.3, 2.6)
    for ax, (title, values) in zip(axes, {"the photo": None, **maps}.items(), strict=True):
        ax.set_axis_off()
        ax.set_title(title, parse_math=False)
        if values is None:
            ax.imshow(_pixels(photo))
            continue
        ax.imshow(np.asarray(photo).mean(axis=2), cmap="gray", vmin=-150, vmax=400, extent=(0, 1, 1, 0))
        strength = (np.abs(values) / most) ** 0.7
        ax.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, alpha=strength, extent=(0, 1, 1, 0))
    figure.axes[-1].text(1, 1.02, scale, va="top", ha="right", color=NEUTRAL)
    return figure


def ledger_bars(
    ledgers: Sequence[Ledger], classes: Mapping[str, Sequence[str]], image: int = 0, photo: np.ndarray | None = None,
    null: Mapping[str, Mapping] | None = None,
) -> Figure:
    """One image's ledgers: one bar per class, what speaks for it to the right, what against it to the left.

    A piece has the colour of the task whose maps it is, darker for later layers; hatched pieces act through another
    branch. The diamond is logit(image) - logit(baseline) from plain passes, which the pieces' sum must hit. For two
    classes the difference of their logits is drawn. Pieces within the null are pale.

    Args:
        ledgers, classes: of one or several tasks, side by side; the classes by task name.
        image, photo: which of the ledgers' images, and its (S, S, 3) pixels, to be shown next to them.
        null: by task, the 'low' and 'high' (rows, P) of trunk ledgers with nothing to borrow.
    """
    widest, shown = max(len(classes[ledger.task]) for ledger in ledgers), photo is not None
    columns = 1 if max(len(label) for ledger in ledgers for label in ledger.players) > 24 else 2
    lines = max(len(ledger.players) // columns for ledger in ledgers) + 1  # of the legend
    figure, axes = panels(len(ledgers) + shown, height=2.2 + 0.36 * widest + 0.25 * max(0, lines - 3))
    if photo is not None:
        axes[0].imshow(_pixels(photo))
        axes[0].set_axis_off()
    for ax, ledger in zip(axes[shown:], ledgers, strict=True):
        names = classes[ledger.task]
        values, whole = ledger.values[image], ledger.logits[image] - ledger.baseline[image]
        if len(names) == 2:  # the two logits are mirror images
            names, values, whole = [f"{names[1]}\nminus {names[0]}"], np.diff(values, axis=0), np.diff(whole)
        _stacked(ax, ledger, values, (null or {}).get(ledger.task))
        at = np.arange(len(names))
        ax.plot(whole, at, "D", color="black", ms=6, clip_on=False, label="image - baseline")
        ax.axvline(0, color=NEUTRAL, lw=1)
        ax.set(title=f"{ledger.task}: what its logits are made of", xlabel="logit", yticks=at,
               yticklabels=names, ylim=(len(at) - 0.4, -0.6))
        ax.locator_params(axis="x", nbins=6)
        ax.grid(axis="y", visible=False)
        key = ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.45 / (0.36 * widest + 0.4)), ncols=columns)
        mpl.artist.setp(key.legend_handles, alpha=1)  # the first class's bar may be pale
    return figure


def _stacked(ax: Axes, ledger: Ledger, values: np.ndarray, null: Mapping | None) -> None:
    """A (rows, P) ledger's pieces, end to end; pale where the null reaches them."""
    for p, label in enumerate(ledger.players):
        start = np.where(values[:, p] > 0, values[:, :p].clip(min=0).sum(1), values[:, :p].clip(max=0).sum(1))
        bars = ax.barh(range(len(values)), values[:, p], 0.7, left=start, label=label, edgecolor="white", lw=0.8,
                       **_look(ledger, p))
        for c, bar in enumerate(bars):
            if null and null["low"][c][p] <= values[c, p] <= null["high"][c][p]:
                bar.set_alpha(0.35)


def _look(ledger: Ledger, player: int) -> dict:
    stream = ledger.streams[player]
    if stream is None:
        return {"color": task_colour(ledger.task)}
    layers = sorted({s.layer for s in ledger.streams if s})
    shade = 1.0 if len(layers) == 1 else 0.45 + 0.55 * layers.index(stream.layer) / (len(layers) - 1)
    colour = np.array(mpl.colors.to_rgb(task_colour(stream.source)))
    return {"color": 1 - shade * (1 - colour), "hatch": "" if stream.receiver == ledger.task else "////"}


def flow_bars(ledgers: dict[str, Ledger], image_classes: dict[str, np.ndarray], null: Mapping | None = None) -> Figure:
    """Over a set: each player's share of one logit, mean and 95 % interval over images; the tick is its mean size.

    ``ledgers``: trunk ledgers by task name; ``image_classes``: (N,) by task name, such as each image's answer;
    ``null``: by task name, the 'low' and 'high' (P,) of networks with nothing to borrow, grey behind what is borrowed.
    """
    figure, axes = panels(len(ledgers))
    for ax, (task, ledger) in zip(axes, ledgers.items(), strict=True):
        values = ledger.values[np.arange(len(ledger.values)), image_classes[task]]  # (N, P)
        half = 1.96 * values.std(axis=0, ddof=1) / len(values) ** 0.5
        for p in range(len(half)):
            if null and ledger.streams[p]:
                low = null[task]["low"][p]
                ax.barh(p, null[task]["high"][p] - low, 0.9, left=low, color="#C9C9C9")
            ax.barh(p, values[:, p].mean(), 0.7, xerr=half[p], error_kw={"lw": 1.2}, **_look(ledger, p))
            ax.plot(np.abs(values[:, p]).mean(), p, "|", color="black", ms=14, mew=2)
        ax.axvline(0, color=NEUTRAL, lw=1)
        ax.set(title=f"{task}: the answer's logit", xlabel="logit beyond the baseline", ylim=(len(half) - 0.4, -0.6))
        ax.set_yticks(range(len(half)), ledger.players)
        ax.grid(axis="y", visible=False)
    return figure
