"""Every parameter of every notebook: unknown, of the wrong type, out of range or contradictory, it is refused first."""

import json
from pathlib import Path

import papermill
import pytest

from aesthemo_lib import __version__, cli
from aesthemo_lib.files import read_json, write_json
from aesthemo_lib.headless import execute
from aesthemo_lib.headless.parameters import FREE
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, RunExists, train
from aesthemo_studies import reproduce

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
PASSED_OVER = {".ipynb_checkpoints", "exercises"}
NOTEBOOKS = sorted(path for path in FOLDER.rglob("*.ipynb") if not PASSED_OVER & set(path.parts))
KNOWN = {path: papermill.inspect_notebook(str(path)) for path in NOTEBOOKS}
WRONG_TYPE = {"int": ["two", "1.5", "True", ""], "float": ["fast", "nan", "True"], "bool": ["yes", "1"], "str": [3]}
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("the notebook was started"))


def refused(path: Path, out: Path, given: dict) -> str:
    """The one line that the command says instead of starting anything."""
    with pytest.raises(ValueError) as caught:
        execute.run_notebook(path.relative_to(FOLDER).with_suffix("").as_posix(), given, out)
    assert not out.exists() and "\n" not in str(caught.value)
    return str(caught.value)


@every
def test_an_unknown_name_is_refused_with_the_known_ones(path, tmp_path):
    said = refused(path, tmp_path / "out", {"sed": "1"})
    assert f"{path.stem} has no parameter 'sed'" in said and all(name in said for name in KNOWN[path])


@every
def test_values_of_the_wrong_type_are_refused(path, tmp_path):
    for name, known in KNOWN[path].items():
        kind = known["inferred_type_name"]
        for value in WRONG_TYPE[kind]:
            assert f"parameter {name}: expected {kind}, got" in refused(path, tmp_path / "out", {name: value})


OUT_OF_RANGE = {
    "preset": ["fast", ""], "data": ["flickr", ""], "root": ["/not there"], "seed": ["-1"], "split": ["-1"],
    "method": ["resnet", "cross_branch.sideways"], "reference": ["nobody"], "variant": ["sideways"],
    "epochs": ["-1"], "learning_rate": ["-0.1", "inf"], "exchange_factor": ["-1"], "depth": ["-1"],
    "weights": ["no such file.pth"], "backbone": ["resnet"], "emotion_weight": ["inf"], "middle": ["inf"],
    "metric": ["kappa", ""], "photo": ["-1"], "photos": ["0"], "layer": ["0"], "width": ["0"], "count": ["0"],
    "k": ["0"], "run": ["/not there"], "on_bad_image": ["ignore", ""], "out": [__file__, f"{__file__}/below"],
    "class_folder": [__file__], "steps": ["-1"], "cycle": ["-1"], "identity": ["-1"], "pool": ["-1"],
}
"""For each name values outside its range. A name that a notebook brings anew belongs in here, or in ``FREE``."""


@every
def test_values_out_of_range_are_refused(path, tmp_path):
    for name in KNOWN[path]:
        assert name in {*OUT_OF_RANGE, *FREE}, f"what may {name} be? Say so in headless/parameters.py, and here"
        for value in OUT_OF_RANGE.get(name, ()):
            with pytest.raises(ValueError, match=f"parameter {name}: expected .*, got"):
                execute.checked_parameters(path, {"out": str(tmp_path / "out")} | {name: value})


@every
def test_defaults_are_in_range(path, tmp_path):
    execute.checked_parameters(path, {"preset": "smoke", "out": str(tmp_path)})


@pytest.mark.parametrize(("given", "says"), [
    ({"method": "independent", "variant": "random"}, "method 'independent' has no variant 'random'"),
    ({"method": "cross_branch", "depth": "2"}, "depth"),
    ({"method": "cross_branch", "variant": "diagonal", "depth": "1"}, "depth"),
])
def test_contradictions_are_refused(given, says, tmp_path):
    assert says in refused(FOLDER / "03_train.ipynb", tmp_path / "out", given)


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    assert cli.main(["run", "03_train", "-p", "seed", "-1", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said == "aesthemo: parameter seed: expected a number of 0 or more, got -1\n"


# --- run folders of another configuration, or of another version


@pytest.fixture
def run(colours_root, tmp_path) -> Run:
    return train(Config(data="csv", preset="smoke", settings={"epochs": 1}), tmp_path / "runs", colours_root)


def changed(run: Run, change) -> None:
    content = read_json(run.folder / "config.json")
    change(content)
    write_json(run.folder / "config.json", content)


@pytest.mark.parametrize("change", [
    lambda content: content["config"]["settings"].update(cosine=True),
    lambda content: content["config"]["settings"].pop("crop"),
    lambda content: content.pop("environment"),
    lambda content: content["config"].pop("tasks"),
], ids=["a setting of a newer version", "one that an older lacked", "no environment", "no tasks"])
def test_a_run_of_another_version_is_refused_with_the_reason(run, change, colours_root, capsys):
    changed(run, change)
    says = rf"split0-seed0 was written by another version than {__version__} of aesthemo_lib, or changed since \("
    with pytest.raises(ValueError, match=says):
        Run(run.folder)
    assert cli.main(["predict", str(run.folder), str(colours_root / "1.png")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    config = Config(data="csv", preset="smoke", settings={"epochs": 1})
    out = run.folder.parents[3]
    with pytest.raises(RunExists, match="holds a run of another configuration or version .*ask to redo it"):
        train(config, out, colours_root)
    assert train(config, out, colours_root, redo=True).hash == run.hash


def test_a_run_from_before_a_setting_was_added_is_read_with_its_default(run):
    changed(run, lambda content: content["config"]["settings"].pop("momentum"))
    assert Run(run.folder).settings.momentum == 0.9


def test_the_main_job_does_such_a_run_again(run, colours_root, tmp_path, monkeypatch):
    changed(run, lambda content: content["config"]["settings"].pop("crop"))
    (run.folder / "03_train.ipynb").write_text("{}", encoding="utf-8")
    config, again = Config(data="csv", method="cross_branch", variant="diagonal", preset="smoke"), []
    monkeypatch.setattr(reproduce, "OTHER_METHODS", (("cross_branch", "diagonal"),))
    monkeypatch.setattr(reproduce, "SPLITS", 1)
    monkeypatch.setattr(reproduce, "READING_NOTEBOOKS", ())
    monkeypatch.setattr(reproduce, "FIRST_NOTEBOOKS", ())
    monkeypatch.setattr(reproduce, "execute_training", lambda *_: again.append(
        train(config, tmp_path / "runs", colours_root, redo=True)))
    reproduce.reproduce("csv", colours_root, "smoke", tmp_path / "runs")
    assert len(again) == 1 and Run(run.folder).hash == again[0].hash


@pytest.mark.parametrize("harm", ["cut", "text", "other network", "gone"])
def test_weights_that_are_damaged_are_named(run, harm):
    from safetensors.torch import load_file, save_file

    file = run.folder / "model.safetensors"
    tensors = load_file(file)
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif harm == "text":
        file.write_text("not weights", encoding="utf-8")
    elif harm == "other network":
        save_file({"mean_image": tensors["mean_image"]}, file)
    else:
        file.unlink()
    says = "kept without its weights" if harm == "gone" else "model.safetensors is damaged|written by another version"
    with pytest.raises(ValueError, match=says) as caught:
        run.network()
    assert "\n" not in str(caught.value)


def test_a_damaged_state_is_named_with_what_to_do(colours_root, tmp_path):
    config = Config(data="csv", preset="smoke", settings={"epochs": 4, "patience": 4})

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, colours_root, after_epoch=stop)
    (state,) = tmp_path.rglob("epoch-2")
    (state / "best.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"epoch-2 is damaged, or of another version .*; delete .*joint to train from"):
        train(config, tmp_path, colours_root)


def test_one_configuration_has_one_file_that_says_so(run):
    """What a run was made with is in its folder, whole: the hash is that of the configuration beside it."""
    from aesthemo_lib.files import digest

    record = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    assert digest(record["config"]) == record["hash"] == run.hash


@pytest.mark.parametrize("fault", [
    ImportError("final_aes_emo.h5 needs the package h5py to be read; install it with: pip install h5py"),
    NotADirectoryError(20, "Not a directory", "file/below"), OSError(5, "Input/output error", "photo.jpg"),
    PermissionError(13, "Permission denied", "runs"), RuntimeError("another process is training in runs"),
], ids=lambda fault: type(fault).__name__)
def test_what_the_machine_refuses_is_one_line_too(fault, monkeypatch, capsys):
    def fails(*_):
        raise fault

    monkeypatch.setattr(execute, "run_notebook", fails)
    assert cli.main(["run", "03_train"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("aesthemo: ") and said.count("\n") == 1 and str(fault.args[-1]) in said
