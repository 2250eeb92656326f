"""The repository's runs without weights: how they are kept, when a lesson shows them, and that they are today's."""

import ast
import json
import re
import shlex
import shutil
from pathlib import Path

import papermill
import pytest

from aesthemo_lib.cli import _parser, main as users_main
from aesthemo_lib.data.readers import data_root
from aesthemo_lib.evaluation.metrics import majority_class, task_metrics
from aesthemo_lib.files import digest, project_folder
from aesthemo_lib.headless.execute import checked_parameters, notebook_path
from aesthemo_lib.headless.parameters import training
from aesthemo_lib.training.config import SCENES, Config
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import describe, open_data, train
from aesthemo_studies import kept_runs, reproduce
from aesthemo_studies.__main__ import main
from aesthemo_studies.kept_runs import PLACE, REPOSITORYS, SMALL, YOURS, NothingToCompare, to_compare
from aesthemo_studies.reproduce import planned

FILES = {*SMALL, "config.json"}
COMMITTED = project_folder() / PLACE / "scenes"
MOST_BYTES = 2 * 10**6
AGAIN = "make them again: make reproduce, then aesthemo keep-runs"
JOINT = "cross_branch.diagonal"


# --- those that are committed


@pytest.fixture(scope="module")
def images():
    return open_data(Config("scenes"))


def test_the_committed_runs_are_what_reproduce_would_make_today(images):
    configs = planned("scenes", "teach", fixed=False)
    folders = {config.folder(COMMITTED.parent): config for config in configs}
    assert {path.parent for path in COMMITTED.rglob("*") if path.is_file()} == set(folders), AGAIN
    for folder, config in folders.items():
        asked, run = describe(config, images), Run(folder)
        assert run.described == asked, f"{folder}: a run of preset teach has other settings or images now; {AGAIN}"
        assert run.hash == digest(asked), AGAIN


def test_the_committed_runs_are_small_and_name_no_folder_of_whoever_made_them():
    files = [path for path in COMMITTED.rglob("*") if path.is_file()]
    assert {path.name for path in files} == FILES
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert str(project_folder()) not in text and not re.search(r'"/|\b[A-Z]:\\|/home/|/root/|/tmp/', text)


def test_the_committed_predictions_give_the_committed_metrics(images):
    for path in COMMITTED.rglob("config.json"):
        run = Run(path.parent)
        table, split = run.predictions(), images.split(run.described["split"])
        assert list(table["image"]) == [images.paths[row].name for row in split.test]
        for task in run.tasks:
            truth = images.labels(task.name)
            actual = task_metrics(truth[split.test], table[[f"{task.name}_{c}" for c in task.classes]].to_numpy(),
                                  majority_class(truth[split.train]))
            metrics = dict(run.metrics[task.name])
            assert actual.pop("confusion") == metrics.pop("confusion") and actual == pytest.approx(metrics)


# --- which a lesson shows


def own(out: Path, *places: str) -> Path:
    """A folder of runs with these of the committed ones: their small files are all that is read."""
    for place in places:
        shutil.copytree(COMMITTED / place, out / "scenes" / place)
    return out


@pytest.mark.parametrize("places, method, reason", [
    ((), "", r"no finished run of preset teach lies below .*scenes\. "),
    (("independent",), "", r"the finished runs of preset teach below .*scenes are of independent alone\. "),
    (("shared_bottom", JOINT), "", r"are of cross_branch\.diagonal, shared_bottom alone, none of independent\. "),
    (("shared_bottom", "independent"), JOINT, r"are of independent, shared_bottom alone, none of cross_branch\.diag"),
    (("independent/teach/split0-seed0", f"{JOINT}/teach/split1-seed1"), "",
     r"the runs of independent and cross_branch\.diagonal below .*scenes have no split and seed in common\. "),
], ids=["no run", "one method", "no reference", "another method", "other splits"])
def test_who_has_no_comparison_is_shown_the_repositorys_and_told_why(places, method, reason, tmp_path, capsys):
    runs, whose = to_compare(own(tmp_path / "runs é", *places), "scenes", "teach", "independent", method)
    assert whose == REPOSITORYS and runs["run"].nunique() == 12
    assert all(folder.is_relative_to(COMMITTED) for folder in runs["run"]), "the two are never mixed"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("These are the repository's runs, not yours: 12 runs of scenes, preset teach, kept in ")
    assert re.search(f"because .*{reason}", line)
    assert line.endswith("Make your own with lesson 3, or those of the main methods with: python run.py reproduce")


@pytest.mark.parametrize("places, reference, method", [
    (("independent/teach/split2-seed2", "shared_bottom/teach/split2-seed2"), "independent", ""),
    (("independent", JOINT), "independent", JOINT),
    (("shared_bottom", JOINT), "shared_bottom", ""),
    (("shared_bottom",), "", ""),
], ids=["one pair", "the method asked for", "another reference", "any run will do"])
def test_who_has_a_comparison_is_shown_that_alone(places, reference, method, tmp_path, capsys):
    runs, whose = to_compare(own(tmp_path, *places), "scenes", "teach", reference, method)
    assert whose == YOURS and "repository" not in whose
    assert set(runs["run"]) == {path.parent for path in tmp_path.rglob("metrics.json")}
    assert capsys.readouterr().out == ""


def test_the_repositorys_are_never_called_yours():
    assert to_compare(COMMITTED.parent, "scenes", "teach", "independent")[1] == REPOSITORYS


def test_runs_on_other_images_are_not_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SCENES, "teach", 24)
    with pytest.raises(NothingToCompare, match=r"^no finished run .*, and the repository's runs saw other images than "
                                               r"those that lie here\. .*: python run\.py reproduce ROOT=.*scenes$"):
        to_compare(tmp_path, "scenes", "teach", "independent", root=tmp_path / "scenes")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("data, preset, method, says", [
    ("oasis", "teach", "", r"not of oasis and preset teach\. .*reproduce DATA=oasis ROOT=photos$"),
    ("scenes", "paper", "", r"not of scenes and preset paper\. .*reproduce ROOT=photos PRESET=paper$"),
    ("scenes", "teach", "nddr",
     r"are of cross_branch\.diagonal, independent, linear_probe, shared_bottom\. .*with lesson 3, or "),
])
def test_what_the_repository_does_not_keep_is_a_clear_error(data, preset, method, says, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_runs, "open_data", None)  # nothing is drawn or read to find that out
    with pytest.raises(NothingToCompare, match=r"^no finished run of preset \w+ lies below .*" + says) as caught:
        to_compare(tmp_path, data, preset, "independent", method, Path("photos"))
    assert "\n" not in str(caught.value)


def test_a_library_without_its_checkout_has_none(tmp_path, monkeypatch):
    def gone():
        raise FileNotFoundError("no checkout")

    monkeypatch.setattr(kept_runs, "project_folder", gone)
    with pytest.raises(NothingToCompare, match="not of scenes and preset teach"):
        to_compare(tmp_path, "scenes", "teach", "independent")


# --- keeping


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What ``reproduce`` leaves of a small plan, with preset smoke; one of its runs was told the data's folder."""
    out, there = tmp_path_factory.mktemp("finished é"), tmp_path_factory.mktemp("there") / "scenes"
    open_data(Config("scenes", preset="smoke"))
    shutil.copytree(data_root("scenes"), there)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce, "MAIN_METHODS", {"scenes": (("independent", ""), ("shared_bottom", ""))})
        patch.setattr(reproduce, "SPLITS", 2)
        for config in planned("scenes", "smoke", fixed=False):
            run = train(config, out, there if config.split else None)
            (run.folder / "03_train.ipynb").write_text("{}", encoding="utf-8")
        train(Config("scenes", "nddr", preset="smoke"), out)  # not of the plan
        yield out


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_reproduce_made_is_kept_without_weights_and_without_anybodys_folder(finished, tmp_path, capsys):
    to = own(tmp_path, "independent")  # a kept run of another preset
    (to / "scenes" / "independent" / "smoke" / "split7-seed7").mkdir(parents=True)  # and an old one of this
    assert main(["keep-runs", "--out", str(finished), "--preset", "smoke", "--to", str(to)]) == 0
    assert capsys.readouterr().out.strip() == str(to / "scenes")
    kept, made = content(to / "scenes"), content(finished / "scenes")
    assert {name: kept.pop(name) for name in list(kept) if "teach" in name} == {
        f"independent/{name}": text for name, text in content(COMMITTED / "independent").items()}
    places = {f"{method}/smoke/split{n}-seed{n}" for method in ("independent", "shared_bottom") for n in (0, 1)}
    assert set(kept) == {f"{place}/{name}" for place in places for name in FILES}
    for name, text in kept.items():
        if name.endswith("config.json"):
            assert json.loads(text) == json.loads(made[name]) | {"root": None}
        else:
            assert text == made[name]
    assert any(json.loads(text)["root"] for name, text in made.items() if name.endswith("config.json"))


def test_all_are_kept_or_none(finished, tmp_path, monkeypatch, capsys):
    given = ["keep-runs", "--out", str(finished), "--preset", "smoke", "--to", str(tmp_path / "kept")]
    assert main(given) == 0
    before = content(tmp_path)
    copies, copy = [], shutil.copyfile

    def full(source, target):
        copies.append(target)
        if len(copies) == 10:
            raise OSError(28, "No space left on device")
        copy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        assert main(given) == 1 and len(copies) == 10
    assert "no room left" in capsys.readouterr().err
    assert content(tmp_path) == before and [path.name for path in (tmp_path / "kept").iterdir()] == ["scenes"]


@pytest.mark.parametrize("change, says", [
    (lambda out: shutil.rmtree(out / "scenes" / "shared_bottom"), "of 4 runs below .*scenes 2 are missing or not as"),
    (lambda out: train(Config("scenes", "independent", preset="smoke", settings={"epochs": 1}), out, redo=True),
     r"of 4 runs below .* 1 are missing or not as this version makes them \(independent split0-seed0\); .*"
     r"python run\.py reproduce PRESET=smoke"),
], ids=["missing", "other settings"])
def test_what_is_missing_or_was_made_otherwise_is_refused(finished, change, says, tmp_path, capsys):
    out = Path(shutil.copytree(finished, tmp_path / "runs"))
    change(out)
    assert main(["keep-runs", "--out", str(out), "--preset", "smoke", "--to", str(tmp_path / "kept")]) == 1
    assert re.search(says, capsys.readouterr().err) and not (tmp_path / "kept").exists()


def test_other_peoples_photographs_are_not_kept(tmp_path, capsys):
    assert main(["keep-runs", "--data", "oasis", "--to", str(tmp_path / "kept")]) == 1
    assert "passed on under their terms" in capsys.readouterr().err and not (tmp_path / "kept").exists()


# --- a run without weights


def test_a_kept_run_is_read_and_says_how_its_weights_are_made(capsys):
    for path in sorted(COMMITTED.rglob("config.json")):
        run = Run(path.parent)
        assert len(run.predictions()) and len(run.history()) and run.timing["training_seconds"] > 0
        assert run.metrics["emotion"]["n"] and run.settings.epochs
        with pytest.raises(ValueError, match=r"was kept without its weights \(model\.safetensors\)") as caught:
            run.network()
        assert "\n" not in str(caught.value)
        given = _parser().parse_args(shlex.split(str(caught.value).split("trained with: aesthemo ")[1]))
        lesson = notebook_path(given.notebook)
        defaults = {name: ast.literal_eval(of["default"]) for name, of in papermill.inspect_notebook(lesson).items()}
        config = training(defaults | checked_parameters(lesson, dict(given.parameter)))
        assert describe(config, open_data(config)) == run.described, "the command trains another run"
    assert users_main(["predict", str(run.folder), "photo.jpg"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_without_weights_is_trained_in_its_place(finished, tmp_path):
    config = Config("scenes", "shared_bottom", preset="smoke")
    shutil.copytree(config.folder(finished), config.folder(tmp_path))
    (config.folder(tmp_path) / "model.safetensors").unlink()
    again, before = train(config, tmp_path), Run(config.folder(finished))
    assert again.metrics == before.metrics and again.hash == before.hash
    assert (again.folder / "model.safetensors").read_bytes() == (before.folder / "model.safetensors").read_bytes()
