"""Planned comparisons against SciPy and by hand, and the lines of results/README.md against the committed tables."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aesthemo_lib.files import project_folder
from aesthemo_studies.contrasts import comparison_table, contrasts, difference, markdown

STUDIES = ("retrieval", "task_sequence", "style_transfer")


def table(values: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame([{"source": "drawn", "collection": n, "contender": name, "map": value}
                         for name, column in values.items() for n, value in enumerate(column)])


def test_a_comparison_is_a_paired_t_test():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal([[0.6], [0.5], [0.5]], 0.05, (3, 9)).round(4)
    actual = contrasts(table({"a": a, "b": b, "c": c}), [("a", "b"), ("c", "b"), ("a", "absent")], ["map"], ["source"])
    assert len(actual) == 2
    for row, x in zip(actual.itertuples(), (a, c), strict=True):
        expected = stats.ttest_rel(x, b)
        low, high = expected.confidence_interval()
        assert (row.mean, row.p) == (pytest.approx((x - b).mean()), pytest.approx(expected.pvalue))
        assert (row.low, row.high) == (pytest.approx(low), pytest.approx(high))
        assert (row.above, row.n) == ((x > b).sum(), 9)
    first, second = sorted(actual["p"])
    assert sorted(actual["p_holm"]) == pytest.approx([min(2 * first, 1), max(2 * first, second)])


def test_overlapping_splits_widen_the_interval_and_the_p():
    d = np.array([0.03, 0.05, 0.01, 0.04])
    disjoint, overlapping = difference(d), difference(d, 0.25)
    ratio = (overlapping["high"] - overlapping["low"]) / (disjoint["high"] - disjoint["low"])
    assert ratio == pytest.approx(np.sqrt(2)) and overlapping["p"] > disjoint["p"]
    assert difference(np.zeros(4))["p"] == 1


def test_lines_say_what_is_compared():
    rows = contrasts(table({"both": [0.5, 0.7], "pixels": [0.4, 0.5]}).assign(dose=0.5, labels=200),
                     [("both", "pixels")], ["map"], ["dose", "labels"])
    assert comparison_table(rows).index[0] == "map: both minus pixels (dose 0.5, labels 200)"
    assert markdown(rows).splitlines()[-1].startswith("| map: both minus pixels (dose 0.5, labels 200) | .150 (-")


def test_results_readme_quotes_the_committed_tables():
    folder = project_folder() / "results"
    known = set()
    for name in STUDIES:
        kept = pd.read_csv(folder / "studies" / f"{name}.verdicts.csv", encoding="utf-8")
        known |= set(markdown(kept).splitlines())
    text = (folder / "README.md").read_text(encoding="utf-8")
    section = text[text.index("<!-- neighbours -->"):text.index("<!-- end of neighbours -->")]
    quoted = [line for line in section.splitlines() if " minus " in line and line.startswith("|")]
    assert len(quoted) > 20 and not set(quoted) - known
