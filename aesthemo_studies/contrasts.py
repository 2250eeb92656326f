"""Planned comparisons of a study: paired differences over its collections, Holm's correction over their family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from aesthemo_lib.evaluation.comparison import mean_interval

from .few_labels.verdicts import holm


def contrasts(
    rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], measures: Sequence[str], by: Sequence[str],
    unit: str = "collection", overlap: float = 0.0,
) -> pd.DataFrame:
    """A row a comparison: the difference's mean, 95 % interval, sign count, p, and Holm's p over all rows.

    Args:
        rows: with the columns ``contender``, ``unit``, and those of ``measures`` and ``by``.
        pairs: contender and reference; a pair enters wherever both were measured.
        measures: the columns that are compared.
        by: what each comparison is made within, such as the dose.
        unit: what pairs the rows.
        overlap: see ``mean_interval``; 0 for collections that share no picture.
    """
    found = []
    for place, part in rows.groupby(list(by), sort=False):
        for measure in measures:
            table = part.pivot_table(index=unit, columns="contender", values=measure)
            for contender, reference in pairs:
                d = table.get(contender, np.nan) - table.get(reference, np.nan)
                d = np.asarray(d)[np.isfinite(d)]
                if len(d) > 1:  # one collection has no interval
                    where = dict(zip(by, place, strict=True))
                    found.append({**where, "measure": measure, "contender": contender, "reference": reference,
                                  **difference(d, overlap)})
    table = pd.DataFrame(found)
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def difference(d: np.ndarray, overlap: float = 0.0) -> dict[str, float]:
    """Mean, interval, sign count and p of some paired differences."""
    mean, low, high = mean_interval(d, overlap=overlap)
    spread = d.std(ddof=1) * np.sqrt(1 / len(d) + overlap)
    p = 2 * stats.t.sf(abs(mean) / spread, len(d) - 1) if spread > 0 else float(mean == 0)
    return {"mean": mean, "low": low, "high": high, "above": int((d > 0).sum()), "n": len(d), "p": float(p)}


def told(table: pd.DataFrame) -> pd.DataFrame:
    """Comparisons as a reader wants them: a line each, with the difference, its interval, its sign and Holm's p."""
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
    """The lines of ``told`` as a Markdown table."""
    lines = ["| comparison | difference (95 % interval) | above zero | Holm's p |", "|---|---|---|---|"]
    for row in table.itertuples():
        values = (row.mean, row.low, row.high, row.p_holm)
        mean, low, high, p = (f"{value:.3f}".replace("0.", ".", 1) for value in values)
        lines.append(f"| {name_of(row)} | {mean} ({low}, {high}) | {row.above} of {row.n} | {p} |")
    return "\n".join(lines)
