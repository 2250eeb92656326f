"""The command line: what it refuses in one line, and what it writes."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from aesthemo_lib.cli import main
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, train


@pytest.fixture(scope="module")
def run(colours_root, tmp_path_factory) -> Run:
    return train(Config(data="csv", preset="smoke"), tmp_path_factory.mktemp("runs"), colours_root)


def test_predict_writes_the_table_and_the_contact_sheet(run, colours_root, tmp_path, capsys):
    photos = [str(colours_root / f"{i}.png") for i in range(3)]
    outputs = ["--csv", str(tmp_path / "judged.csv"), "--sheet", str(tmp_path / "judged.png")]
    assert main(["predict", str(run.folder), *photos, *outputs]) == 0
    table = pd.read_csv(tmp_path / "judged.csv")
    assert table["photo"].tolist() == photos
    for task in run.tasks:
        columns = [f"{task.name}_{name}" for name in task.classes]
        assert table[columns].sum(axis=1).tolist() == pytest.approx([1, 1, 1])
        assert (table[columns].idxmax(axis=1).str.removeprefix(f"{task.name}_") == table[task.name]).all()
    with Image.open(tmp_path / "judged.png") as sheet:
        assert sheet.width > 300
    assert photos[0] in capsys.readouterr().out


def test_a_broken_photograph_is_named_and_left_out(run, colours_root, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_text("no picture", encoding="utf-8")
    arguments = [str(colours_root / "1.png"), str(tmp_path / "broken.jpg"), "--csv", str(tmp_path / "judged.csv")]
    assert main(["predict", str(run.folder), *arguments]) == 0
    said = capsys.readouterr().err
    assert "broken.jpg" in said and "not an image" in said and "1.png" not in said
    assert pd.read_csv(tmp_path / "judged.csv")["photo"].tolist() == arguments[:1]


def test_evaluate_on_its_own_data_gives_the_runs_own_metrics(run, colours_root, tmp_path):
    arguments = ["evaluate", str(run.folder), "--data", "csv", "--root", str(colours_root)]
    assert main([*arguments, "--json", str(tmp_path / "m.json")]) == 0
    result = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    for task, values in run.metrics.items():
        assert result["tasks"][task]["confusion"] == values["confusion"]
        assert result["tasks"][task]["majority_accuracy"] == values["majority_accuracy"]
    assert result["images"].startswith("the run's ")


def test_evaluate_on_a_part_of_its_data_takes_its_test_images_and_the_shared_tasks(run, colours_root, tmp_path, capsys):
    lines = (colours_root / "labels.csv").read_text(encoding="utf-8").splitlines()
    table = "\n".join(line.rsplit(",", 1)[0] for line in lines[:21])  # twenty images, aesthetics alone
    (colours_root / "some.csv").write_text(table + "\n", encoding="utf-8")
    assert main(["evaluate", str(run.folder), "--data", "csv", "--root", str(colours_root / "some.csv")]) == 0
    result = json.loads(capsys.readouterr().out)
    own = run.predictions("test")["image"].isin([f"{i}.png" for i in range(20)]).sum()
    assert list(result["tasks"]) == ["aesthetics"] and result["tasks"]["aesthetics"]["n"] == own
    assert result["images"].startswith(f"{own} of the run's ") and "only aesthetics" in result["left_out"]["emotion"]


def test_evaluate_refuses_data_with_other_classes(run, colours_root, capsys):
    for name, colour in (("red", 0), ("blue", 2)):
        (colours_root / "by class" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), colour).save(colours_root / "by class" / name / "a.png")
    arguments = ["--data", "folders", "--root", str(colours_root / "by class")]
    assert main(["evaluate", str(run.folder), *arguments]) == 1
    assert "expected a task with the same name and classes" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "says"), [
    (["predict", "nowhere", "a.jpg"], "nowhere holds no finished run"),
    (["run", "99_none"], "no notebook '99_none'"),
    (["reproduce", "--data", "imagenet"], "data: unknown 'imagenet'; choose one of scenes"),
    (["reproduce", "--preset", "huge"], "preset: unknown 'huge'"),
    (["table", "nowhere"], "no finished run"),
])
def test_faults_are_one_line_and_status_1(arguments, says, capsys):
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_photo_that_is_not_there_is_not_taken_for_a_run(capsys):
    assert main(["predict", "nowhere.jpg"]) == 1
    assert "'nowhere.jpg': the file does not exist" in capsys.readouterr().err


def test_help_does_not_import_torch():
    code = ("import sys; from aesthemo_lib.cli import main\ntry: main(['--help'])\n"
            "finally: assert not {'torch', 'matplotlib', 'pandas'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and "reproduce" in done.stdout, done.stderr


def test_table_prints_what_its_csv_prints_again(run, tmp_path, capsys):
    assert main(["table", str(run.folder.parents[2]), "--csv", str(tmp_path / "runs.csv")]) == 0
    first = capsys.readouterr().out
    assert main(["table", str(tmp_path / "runs.csv")]) == 0
    assert capsys.readouterr().out == first
    assert f"| aesthetics | cross_branch.diagonal | {run.metrics['aesthetics']['auc']:.3f}".replace("0.", ".") in first


def test_fetch_has_data_and_weights_ready_or_says_what_is_missing(colours_root, tmp_path, monkeypatch, capsys):
    import torch

    def offline(url, *_, **__):
        raise OSError(f"no route to {url}")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    fetch = ["fetch", "--data", "csv", "--root", str(colours_root)]
    assert main(fetch) == 0 and "vgg16" not in capsys.readouterr().out  # only the preset 'paper' needs its 528 MB
    assert main([*fetch, "--preset", "paper"]) != 0
    said = capsys.readouterr()
    assert "csv: 60 images" in said.out and "efficientnet_lite0: ImageNet weights at" in said.out
    assert "vgg16 could not be had" in said.err and "Fetch https://" in said.err and said.err.count("\n") == 1


def test_the_help_names_every_data_set():
    from aesthemo_lib.cli import DATA_HELP
    from aesthemo_lib.data.readers import READERS

    assert set(READERS) <= set(DATA_HELP.replace(" or ", ", ").split(", "))
