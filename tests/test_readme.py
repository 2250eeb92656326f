"""What README says is so: its table is its CSV's, its commands exist, its pictures are fresh."""

import hashlib
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from aesthemo_lib.data.readers import oasis
from aesthemo_lib.evaluation.comparison import collect, markdown_table, paired_differences, read_runs
from aesthemo_lib.training.config import Config
from aesthemo_studies import plots as study_plots, protocol as studies, readme_figures as figures
from aesthemo_studies.attribution_checks import ledgers as checks, study as check_study

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
RESULTS = (PROJECT / "results" / "README.md").read_text(encoding="utf-8")
OASIS_RUNS = PROJECT / "results" / "oasis-teach.csv"
MOST_LINES = 150


def test_the_results_table_is_drawn_from_its_file():
    (name, shown), = re.findall(r"<!-- table: (\S+) -->\n(.*?)\n<!-- end of table -->", RESULTS, flags=re.S)
    assert name == figures.COMPARED and shown.strip() == markdown_table(figures.compared_runs())


def test_the_table_of_oasis_is_drawn_from_its_file():
    shown = re.search(r"<!-- oasis teach -->\n(.*?)\n<!-- end of oasis teach -->", RESULTS, flags=re.S)[1]
    assert shown == markdown_table(read_runs(OASIS_RUNS))


def test_the_spread_of_oasis_votes_is_the_one_that_its_study_chose():
    shown = re.search(r"<!-- oasis spread -->\n(.*?)\n<!-- end of oasis spread -->", RESULTS, flags=re.S)[1]
    rows = studies.read("oasis_spread")
    by_spread = rows.assign(contender=rows["condition"], method=rows["condition"], condition="")
    assert shown == studies.auc_table(by_spread, ("aesthetics", "emotion"), "consensus")
    best = rows[rows["task"] == "emotion"].groupby("condition")["auc"].mean().idxmax()
    assert studies.study("oasis_spread").spec["conditions"][best]["data_options"]["spread"] == oasis.SPREAD


def test_the_settings_of_oasis_are_those_that_their_study_chose():
    shown = re.search(r"<!-- oasis settings -->\n(.*?)\n<!-- end of oasis settings -->", RESULTS, flags=re.S)[1]
    rows, spec = studies.read("oasis_settings"), studies.study("oasis_settings").spec
    assert shown == studies.settings_table(rows, ("aesthetics", "emotion"))
    lowest = spec["conditions"][studies.against_lowest(rows)["loss"].idxmin()]
    chosen = spec["settings"]["first"] | lowest.get("settings", {})
    preset = Config(data="oasis").training_settings()
    assert {name: getattr(preset, name) for name in chosen} == chosen


@pytest.mark.parametrize(("name", "ahead"), [("seeds", ["aesthetics", "emotion"]), ("fresh", ["emotion"])])
def test_the_networks_of_oasis_are_ahead_of_the_probe_where_results_say_so(name, ahead):
    shown = re.search(rf"<!-- oasis {name} -->\n(.*?)\n<!-- end of oasis {name} -->", RESULTS, flags=re.S)[1]
    rows = studies.selected(studies.read(f"oasis_{name}"))
    assert shown == studies.auc_table(rows, ("aesthetics", "emotion"), "linear_probe")
    auc = rows.groupby(["task", "method"])["auc"].mean().unstack().loc[ahead]
    assert (auc.drop(columns="linear_probe").min(axis=1) > auc["linear_probe"]).all()


def test_seed_0_is_the_lowest_of_oasis_seeds_as_results_say():
    rows = studies.read("oasis_seeds")
    auc = rows[rows["contender"] != "linear_probe"].groupby(["task", "contender", "seed"])["auc"].mean().unstack()
    assert set(auc.idxmin(axis=1)) == {0}


def test_the_main_table_of_oasis_holds_runs_of_the_study_of_seeds():
    place = ["task", "method", "split"]
    main = read_runs(OASIS_RUNS).set_index(place)["auc"]
    rows = studies.read("oasis_seeds").rename(columns={"contender": "method"})
    again = rows[rows["split"] == rows["seed"]].set_index(place)["auc"]
    pd.testing.assert_series_equal(main.sort_index(), again.sort_index(), atol=5e-5, rtol=0)


def test_every_command_is_one_that_exists():
    from aesthemo_lib import cli

    parser = cli._parser()
    blocks = "\n".join(re.findall(r"```\n(.*?)```", README, flags=re.S))
    lines = [line.removeprefix(".venv/bin/") for line in blocks.replace("<folder>", "folder").splitlines()]
    commands = [line for line in lines if line.startswith("aesthemo ")]
    assert len(commands) >= 4
    for line in commands:
        parser.parse_args(shlex.split(line.split("#")[0])[1:])
    targets = {*re.findall(r"(?:`|^)make (\w+)", README, flags=re.M), *re.findall(r"python run\.py (\w+)", README)}
    known = re.search(r"^TARGETS = (.*)$", (PROJECT / "Makefile").read_text(encoding="utf-8"), flags=re.M)[1].split()
    assert {"reproduce", "test"} <= targets <= {*known, "help"}


def test_every_notebook_of_the_map_is_there_and_none_is_missing():
    listed = re.findall(r"^\| `((?:more/)?\d\d_\w+)` \|.*\| (\d+)[^|]* \|$", README, flags=re.M)
    folder = PROJECT / "notebooks"
    there = [*sorted(folder.glob("[0-9]*.ipynb")), *sorted((folder / "more").glob("[0-9]*.ipynb"))]
    assert [name for name, _ in listed] == [path.relative_to(folder).with_suffix("").as_posix() for path in there]
    for path, (_, minutes) in zip(there, listed, strict=True):
        time = re.search(r"\*\*Time:\*\*(.*?)[;.]", path.read_text(encoding="utf-8"))[1]
        said = sum(map(int, re.findall(r"\d+", time)))
        assert not said or abs(said - int(minutes)) <= 5, f"{path.stem} says {time}"


def test_sections_come_in_the_order_that_a_reader_needs_them():
    assert re.findall(r"^## (.*)$", README, flags=re.M) == [
        "Two commands", "Your own photographs", "Results", "Notebooks", "The method", "Your GPU or cluster",
        "How to cite", "How to contribute",
    ]
    assert README.count("\n") <= MOST_LINES


def test_links_and_pictures_lead_somewhere():
    for text, folder in ((README, PROJECT), (RESULTS, PROJECT / "results")):
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("https://") or (folder / target).exists(), target


def test_pictures_have_their_alternative_text():
    shown = re.findall(r"!\[(.*?)\]\(figures/(.*?)\)", README, flags=re.S)
    assert len(shown) >= 2 and README.count("![") == len(shown)
    for text, name in shown:
        assert " ".join(text.split()) == figures.TEXTS[name], name


@pytest.fixture(scope="module")
def picture_sources():
    return figures.sources()


def test_no_picture_is_stale(picture_sources):
    pictures = {*picture_sources, "inspector.png"}
    assert pictures == set(figures.TEXTS) == {path.name for path in (PROJECT / "figures").glob("*.png")}
    for name, (source, _) in picture_sources.items():
        with Image.open(PROJECT / "figures" / name) as picture:
            assert picture.info["Source"] == source, f"{name} is stale: run 'python -m aesthemo_studies figures'"
            assert picture.info["Description"] == figures.TEXTS[name] and picture.info["Comment"] == "aesthemo figures"


def test_the_inspectors_picture_is_that_of_its_page():
    page = (PROJECT / "figures" / "inspector.html").read_bytes()
    with Image.open(PROJECT / "figures" / "inspector.png") as picture:
        assert picture.info["Source"] == hashlib.sha256(page).hexdigest(), "run 'python tests/browser/picture.py'"
        assert picture.info["Comment"] == "python tests/browser/picture.py"
        assert picture.info["Description"] == figures.TEXTS["inspector.png"]


def test_what_readme_says_beside_its_table_is_what_the_study_gives():
    rows = studies.selected(studies.read("compare"))
    auc = rows.pivot_table(index=["task", "split"], columns="method", values="auc")
    scatter = auc.drop(columns="independent").sub(auc["independent"], axis=0).groupby("task").std().stack().median()
    seen = studies.smallest_effect(scatter, rows["split"].nunique())
    lines = studies.read("compare.lines")
    probe = lines[lines["contender"] == "linear probe"].groupby("task")["auc"].mean()
    assert (probe > auc.groupby("task").mean().max(axis=1)).all()
    said = [f"{value:.{digits}f}".removeprefix("0") for value, digits in (
        (scatter, 2), (seen, 2), (probe["aesthetics"], 3), (probe["emotion"], 3))]
    text = " ".join(RESULTS.split())
    assert f"scatter by about {said[0]} from split to split, so a true difference in AUC of {said[1]} " in text
    assert f"with {said[2]} and {said[3]} (" in text
    run = {path.stem for path in (PROJECT / "results" / "studies").glob("*.csv")
           if "." not in path.stem and not path.with_suffix(".json").exists()}  # those with a protocol of their own
    asked = set(studies.protocol()["studies"]) - {"rehearsal"}
    done, missing = (set(re.findall(r"`(\w+)`", part)) for part in re.search(
        r"these have been run: ([^;.]*);? ?(?:these have not: ([^.]*))?\.", text).groups(default=""))
    assert (done, missing) == (run, asked - run), "results/README.md says which studies have been run"


def test_what_readme_says_of_the_null_is_what_the_attribution_study_gives():
    table = check_study.read("null").query("setting == @check_study.MAIN")
    excesses = {task: checks.excess(rows).iloc[-1] for task, rows in table.groupby("task")}  # all that is borrowed

    def short(value: float, digits: int = 3) -> str:
        return f"{value:.{digits}f}".replace("0.", ".")

    text, (first, second) = " ".join(RESULTS.split()), (excesses[task] for task in ("aesthetics", "emotion"))
    assert f"{short(first['trained'], 2)} of aesthetics' and {short(second['trained'], 2)} of emotion's ledger" in text
    said = [f"{short(row['excess'])} ({short(row['low'])}, {short(row['high'])})" for row in (first, second)]
    assert f"that is {said[0]} and {said[1]}" in text
    number = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")[table["seed"].nunique() - 1]
    assert f"{number} networks on drawn scenes" in text


REFERENCES = {"start": "diagonal .9/.1", "where": "all layers"}


@pytest.mark.parametrize("name", ["depth", "weights", "where", "three", "partial", "start", "recipe", "dose"])
def test_the_studies_that_tell_nothing_apart_tell_nothing_apart(name):
    reference = REFERENCES.get(name, "independent")
    rows = studies.selected(studies.read(name))
    table = study_plots.doses(rows) if name == "dose" else studies.differences(rows, "auc", reference)
    assert len(table) and ((table["low"] < 0) & (table["high"] > 0)).all(), "README says so"
    if name == "start":
        means = table.groupby(table["method"].str.contains("random|default"))["mean"]
        assert means.max()[True] < means.min()[False], "README says that random starts lie below diagonal ones"


def test_what_readme_says_of_drawn_scenes_is_what_the_kept_runs_give():
    runs = collect(PROJECT / "results" / "runs" / "scenes")
    table = paired_differences(runs, "auc", "independent", studies.OVERLAP)
    apart = table[(table["low"] > 0) | (table["high"] < 0)]
    (row,) = apart.itertuples()
    mean, low, high = (f"{value:.3f}".removeprefix("0") for value in (row.mean, row.low, row.high))
    assert f"one excludes zero, barely ({mean} ({low}, {high}), {row.task})" in README
    assert len(table) == 6 and row.method == "cross_branch.diagonal"
    auc = runs.groupby(["task", "method"])["auc"].mean().unstack()
    assert (auc.drop(columns="linear_probe").min(axis=1) > auc["linear_probe"]).all()


def test_the_tuned_table_of_oasis_is_what_both_studies_give():
    shown = re.search(r"<!-- oasis tuned -->\n(.*?)\n<!-- end of oasis tuned -->", RESULTS, flags=re.S)[1]
    tuned = studies.read("teach")
    whole = tuned.groupby("contender")["split"].transform("nunique") == 3
    rows = pd.concat([studies.selected(tuned[whole]), studies.selected(studies.read("teach_probe"))])
    names = re.findall(r"^\| `([^`]+)`", shown, flags=re.M)
    assert set(names) == set(rows["contender"])
    in_order = pd.concat([rows[rows["contender"] == name] for name in names])
    assert shown == studies.auc_table(in_order, ("aesthetics", "emotion"))
    chosen = studies.selected(tuned[whole])["candidate"]
    assert f"{(chosen == 'learning_rate=2.5e-05').sum()} of {len(chosen)} choices are the lowest rate" in RESULTS
