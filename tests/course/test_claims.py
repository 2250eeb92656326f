"""What the second part and the page on published sets say is held to the files: a claim that no longer holds fails."""

import json
import re
from pathlib import Path

import pytest

from aesthemo_lib.data.readers import iae
from aesthemo_lib.data.readers.published import SPELLINGS
from aesthemo_lib.files import read_json
from aesthemo_lib.tasks import EMOTION
from aesthemo_studies import protocol
from aesthemo_studies.attribution_checks import ledgers as checks, study as check_study
from aesthemo_studies.few_labels import verdicts as few_labels

PROJECT = Path(__file__).resolve().parents[2]
TURN, MAPS = "cross_branch.answers_in_turn", "cross_branch.diagonal"
TASKS = ("aesthetics", "emotion")


def prose(lesson: str) -> str:
    cells = json.loads((PROJECT / "notebooks" / "more" / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.fixture(scope="module")
def few():
    """The verdicts of the study of few labels, by question, task, number of labels, contender and reference."""
    table = few_labels.verdicts(few_labels.read())
    return table.set_index(["question", "direction", "labels", "contender", "reference"]).sort_index()


def difference(few, task, contender, reference="linear_probe", labels=200):
    return few.loc[("difference", task, labels, contender, reference)]


def test_few_labels_gain_from_answers_and_not_from_hidden_maps(few):
    text = prose("09_when_exchange_helps")
    assert "it helps if the branches exchange *answers*" in text and "carried next to nothing" in text
    for task in TASKS:
        assert difference(few, task, TURN)["verdict"] == "ahead"
        assert difference(few, task, MAPS)["mean"] < 0.005
    assert "With many labels for both tasks, the gain disappears" in text
    assert all(abs(difference(few, task, TURN, labels=2000)["mean"]) < 0.005 for task in TASKS)


def test_why_hidden_maps_fail(few):
    text = prose("09_when_exchange_helps")
    assert "Fewer channels make it worse" in text
    assert all(difference(few, task, f"cross_branch.channels_{k}", MAPS)["high"] < 0 for task in TASKS for k in (1, 4))
    assert "stay below the exchange of answers in both directions, for emotion significantly" in text
    below = {task: difference(few, task, "cross_branch.maps_in_turn", TURN) for task in TASKS}
    assert all(one["mean"] < 0 for one in below.values()) and below["emotion"]["verdict"] == "behind"
    assert below["aesthetics"]["verdict"] != "behind"


def test_the_controls_of_few_labels(few):
    text = prose("09_when_exchange_helps")
    assert "passes both controls" in text and "does not gain even where the two tasks are the same" in text
    wide = few_labels.pd.read_csv(few_labels.CONTROLS).pivot_table(
        index=["control", "replicate"], columns="contender", values="auc_few")  # the mean of both directions
    over = wide.sub(wide["linear_probe"], axis=0)
    copy, permuted = (over.loc[name] for name in ("noisy_copy", "permuted"))
    assert few_labels.mean_interval(copy[TURN].to_numpy())[1] > 0
    low, high = few_labels.mean_interval(permuted[TURN].to_numpy())[1:]
    assert low < 0 < high
    assert few_labels.mean_interval(copy[MAPS].to_numpy())[2] < 0


def test_what_lesson_8_says_of_its_null_and_of_invisible_noise():
    text = prose("08_attribution_checks")
    assert "Most of what a ledger calls *borrowed* also comes from a branch that knows nothing about its task" in text
    table = check_study.read("null").query("setting == @check_study.MAIN")
    borrowed = {task: checks.excess(rows).set_index("player").loc["borrowed"] for task, rows in table.groupby("task")}
    assert set(borrowed) == set(TASKS) and all(row["null"] > row["trained"] / 2 for row in borrowed.values())
    assert "Some of these tests are failed here" in text
    assert "A map that changes this much under invisible noise may be shown for one photo as an illustration" in text
    noise = check_study.read("faithful").query("check == 'sensitivity' and setting == @check_study.MAIN")
    assert (noise.groupby("task")["value"].mean() > 0.2).all()


def test_random_initialisations_lie_left_and_four_splits_cannot_show_it():
    text = prose("09_when_exchange_helps")
    assert "The means of the random initialisations lie far to the left, but four splits give wide intervals" in text
    table = protocol.differences(protocol.selected(protocol.read("start")), "auc", "diagonal .9/.1")
    random = table[table["method"].str.startswith("random")]
    assert (random["mean"] < -0.05).all() and (random["high"] > 0).all()
    assert "with eight splits finds its random initialisation behind" in text
    compare = protocol.differences(protocol.selected(protocol.read("compare")), "auc")
    assert (compare[compare["method"] == "cross_branch.random"]["high"] < 0).all()


def table_rows(text: str) -> list[list[str]]:
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines()
            if re.match(r"\| [\d`]", line)]


def test_the_page_on_published_sets_repeats_its_sources():
    text = (PROJECT / "docs" / "published.md").read_text(encoding="utf-8")
    rows = table_rows(text)
    numbers = [row for row in rows if row[0].isdigit()]
    assert numbers == [[str(k), SPELLINGS.get(one, one), other]
                       for k, (one, other) in enumerate(zip(iae.EMOTIONS, EMOTION.classes, strict=True))]
    kept = read_json(PROJECT / "results" / "iae.json")
    cost = kept["expected"]
    assert [row for row in rows if not row[0].isdigit()] == [
        [name, str(one["million_parameters"]), str(one["gpu_hours"]), str(one["gpu_memory_gb"])]
        for name, one in cost["methods"].items()]
    assert f"{cost['runs']} runs, {cost['gpu_hours']} GPU hours" in text and f"{cost['disk_gb']} GB of disk" in text
    assert f"{cost['assumed']['operations_a_second'] / 1e12:.0f} tera-operations" in text
    assert f"**Status: {kept['status']}** ({len(kept['rows'])} of {cost['runs']} runs)" in text
    assert kept["fill"] in text and kept["command"] in text
