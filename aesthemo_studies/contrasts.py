"""Planned comparisons of a study: paired differences over its collections, Holm's correction over their family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from aesthemo_lib.evaluation.comparison import mean_interval
from aesthemo_lib.files import write_table
from aesthemo_lib.plots.style import save

from .cells import short
from .few_labels.verdicts import holm


def contrasts(
    rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], measures: Sequence[str], by: Sequence[str],
    unit: str = "collection", overlap: float = 0.0,
) -> pd.DataFrame:
    """A row for each comparison: the difference's mean, 95 % interval, sign count, p, and Holm's p over all rows.

    Args:
        rows: with the columns ``contender``, ``unit``, and those of ``measures`` and ``by``.
        pairs: contender and reference; a pair enters wherever both were measured.
        measures: the columns that are compared.
        by: what each comparison is made within, such as the dose.
        unit: what pairs the rows.
        overlap: see ``mean_interval``; 0 for collections that share no picture.
    """
    compared = []
    for place, part in rows.groupby(list(by), sort=False):
        for measure in measures:
            table = part.pivot_table(index=unit, columns="contender", values=measure)
            for contender, reference in pairs:
                d = table.get(contender, np.nan) - table.get(reference, np.nan)
                d = np.asarray(d)[np.isfinite(d)]
                if len(d) > 1:  # one collection has no interval
                    where = dict(zip(by, place, strict=True))
                    compared.append({**where, "measure": measure, "contender": contender, "reference": reference,
                                     **difference(d, overlap)})
    table = pd.DataFrame(compared)
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def contrasts_by_source(
    rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], measures: Mapping[str, Sequence[str]],
    by: Mapping[str, Sequence[str]], overlaps: Mapping[str, float],
) -> pd.DataFrame:
    """``contrasts`` within each source of several collections; Holm's family is a source's comparisons.

    Args:
        measures, by, overlaps: see ``contrasts``, by source; without an entry, ``by`` is the source and overlap is 0.
    """
    return pd.concat([
        contrasts(part, pairs, measures[source], by.get(source, ["source"]), overlap=overlaps.get(source, 0.0))
        for source, part in rows.groupby("source", sort=False) if part["collection"].nunique() > 1])


def keep_results(study: str, folder: Path, rows: pd.DataFrame, verdicts: pd.DataFrame, picture: Figure) -> list[Path]:
    """Write a study's rows, verdicts and picture; returns their paths."""
    paths = [folder / f"{study}.{ending}" for ending in ("csv", "verdicts.csv", "png")]
    write_table(paths[0], rows, "%.5f")
    write_table(paths[1], verdicts, "%.5f")
    save(picture, paths[2])
    return paths


def difference(d: np.ndarray, overlap: float = 0.0) -> dict[str, float]:
    """Mean, interval, sign count and p of some paired differences."""
    mean, low, high = mean_interval(d, overlap=overlap)
    standard_error = d.std(ddof=1) * np.sqrt(1 / len(d) + overlap)
    p = 2 * stats.t.sf(abs(mean) / standard_error, len(d) - 1) if standard_error > 0 else float(mean == 0)
    return {"mean": mean, "low": low, "high": high, "above": int((d > 0).sum()), "n": len(d), "p": float(p)}


def comparison_table(table: pd.DataFrame) -> pd.DataFrame:
    """Comparisons for a reader: one per line, with the difference, its interval, its sign count and Holm's p."""
    lines = [{"comparison": name_of(row), "difference": f"{row.mean:+.3f}",
              "95 % interval": f"{row.low:+.3f} to {row.high:+.3f}", "above zero": f"{row.above} of {row.n}",
              "Holm's p": f"{row.p_holm:.3f}"} for row in table.itertuples()]
    return pd.DataFrame(lines).set_index("comparison")


def name_of(row) -> str:
    """What a row of ``contrasts`` compares, in words."""
    given = {name: getattr(row, name, np.nan) for name in ("dose", "labels")}
    where = [f"{name} {value:g}" for name, value in given.items() if pd.notna(value)]
    return f"{row.measure}: {row.contender} minus {row.reference}" + (f" ({', '.join(where)})" if where else "")


def markdown(table: pd.DataFrame) -> str:
    """The same comparisons as a Markdown table."""
    lines = ["| comparison | difference (95 % interval) | above zero | Holm's p |", "|---|---|---|---|"]
    for row in table.itertuples():
        mean, low, high, p = map(short, (row.mean, row.low, row.high, row.p_holm))
        lines.append(f"| {name_of(row)} | {mean} ({low}, {high}) | {row.above} of {row.n} | {p} |")
    return "\n".join(lines)
