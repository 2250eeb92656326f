"""The wheel with the packages that the core requires and no others, used from an empty folder without a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from aesthemo_lib import __version__

PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="needs the packages of requirements-test.lock")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def required() -> set[str]:
    """The packages that the core requires, and those that these require, as installed here."""
    queue, seen = [(Requirement(line), {""}) for line in PYPROJECT["dependencies"]], set()
    while queue:
        wish, extras = queue.pop()
        if wish.marker and not any(wish.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name = canonicalize_name(wish.name)
        if (name, frozenset(wish.extras)) not in seen:
            seen.add((name, frozenset(wish.extras)))
            queue += [(Requirement(line), {"", *wish.extras}) for line in metadata.requires(name) or []]
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory) -> Path:
    """The folder of programs of an environment with the wheel, and the packages that it requires, and no others."""
    folder = tmp_path_factory.mktemp("environment") / "ours é"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    if os.name == "nt":  # symbolic links are for administrators: the whole environment is lent, but for its .pth files
        packages = folder / "Lib" / "site-packages"
        (packages / "lent.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    else:
        packages = next(folder.glob("lib/python*/site-packages"))
        for name in required():
            here = metadata.distribution(name)
            for top in {file.parts[0] for file in here.files} - {"..", "__pycache__"}:
                if not (packages / top).exists():
                    (packages / top).symlink_to(here.locate_file(top))
        (folder / "share").symlink_to(Path(sys.prefix) / "share")  # Jupyter's kernel
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", str(wheel)], check=True)
    return programs


def test_the_wheel_holds_the_library_and_its_data_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert packages == {"aesthemo_lib", "aesthemo_scenes"}
    command = ["git", "ls-files", "aesthemo_lib", "aesthemo_scenes"]
    tracked = subprocess.check_output(command, cwd=PROJECT, encoding="utf-8").split("\n")
    assert set(filter(None, tracked)) <= set(names)
    assert "aesthemo_lib/py.typed" in names and "aesthemo_lib/bundled/photographs/model.safetensors" in names


def test_version_and_metadata_are_one(wheel):
    installed = metadata.PathDistribution(zipfile.Path(wheel) / f"{wheel.stem.rsplit('-', 3)[0]}.dist-info/")
    citation = (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {installed.version}\n" in citation and f"\n## {installed.version} (" in changes
    assert {"Typing :: Typed", "Framework :: Jupyter"} <= set(installed.metadata.get_all("Classifier"))


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What this project's metadata are made from, in a git repository without a remote."""
    pytest.importorskip("hatchling", reason="needs the packages of requirements-test.lock")
    folder = tmp_path / "checkout"
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md", "aesthemo_lib/__init__.py",
                 "aesthemo_scenes/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def built(folder: Path, target: str) -> tuple[Path, str]:
    """A distribution of a folder, and what the build said."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, encoding="utf-8")
    (made,) = (folder / "dist").glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[target])
    return made, done.stderr


def links(wheel: Path) -> list[str]:
    installed = metadata.PathDistribution(zipfile.Path(wheel) / f"{wheel.stem.rsplit('-', 3)[0]}.dist-info/")
    return installed.metadata.get_all("Project-URL") or []


def test_the_metadata_link_the_repository_that_the_checkout_was_cloned_from(checkout, tmp_path):
    """Also in a wheel that is made from the source distribution, which is no checkout."""
    command = ["git", "-C", str(checkout), "remote", "add", "origin", "git@github.com:ann/art.git"]
    subprocess.run(command, check=True)
    expected = ["Source, https://github.com/ann/art", "Documentation, https://github.com/ann/art#readme",
                "Issues, https://github.com/ann/art/issues", "Changelog, https://github.com/ann/art/blob/HEAD/CHANGELOG.md"]
    assert sorted(links(built(checkout, "wheel")[0])) == sorted(expected)
    archive, _ = built(checkout, "sdist")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert sorted(links(built(source, "wheel")[0])) == sorted(expected)


def test_without_a_remote_the_metadata_link_nothing_and_the_build_says_so(checkout):
    wheel, said = built(checkout, "wheel")
    assert links(wheel) == [] and "no remote 'origin' with a page on the web" in said


@pytest.mark.parametrize("remote, page", [
    ("https://github.com/ann/art.git", "https://github.com/ann/art"),
    ("https://ann:secret@github.com/ann/art", "https://github.com/ann/art"),
    ("https://git.example.org:8443/group/sub/art/", "https://git.example.org:8443/group/sub/art"),
    ("http://git.example.org/art", "http://git.example.org/art"),
    ("git@gitlab.com:ann/art.git", "https://gitlab.com/ann/art"), ("gitlab.com:art", "https://gitlab.com/art"),
    ("ssh://git@git.example.org:2222/ann/art.git", "https://git.example.org/ann/art"),
    ("/home/ann/art", None), ("../art.git", None), ("file:///home/ann/art", None), (r"C:\art", None),
    ("gh:ann/art", None), ("https://github.com/", None), ("", None),
])  # fmt: skip
def test_a_page_on_the_web_is_found_in_what_git_calls_a_remote(remote, page):
    from hatch_build import web_address

    assert web_address(remote) == page


DRIVE = """
import contextlib, importlib.util, io, json, sys
from pathlib import Path
from aesthemo_lib.cli import main
assert not [name for name in ("aesthemo_studies", "bench", "pytest", "jupyterlab") if importlib.util.find_spec(name)]
run = "runs/scenes/cross_branch.diagonal/smoke/split0-seed0"
said = {}
for asked in ("predict orange.png --csv judged.csv", "train -p preset smoke", f"evaluate {run} --data scenes",
              "doctor"):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = main(asked.split())
    said[asked.split()[0]] = [status, out.getvalue()]
for asked in ("reproduce", "train -s aggregation upgrad"):
    with contextlib.redirect_stderr(io.StringIO()) as refused:
        status = main(asked.split())
    said[f"{asked}, refused"] = [status, refused.getvalue()]
from aesthemo_lib.inspector.page import html
from aesthemo_lib.inspector.session import Session
said["inspect"] = [0, html([Session(Path(run), count=2).page], live=True)]
print("SAID" + json.dumps(said))
"""
"""What a user would ask for, in one process, since importing torch takes longer than all of it."""


def test_it_works_from_an_empty_folder(scripts, tmp_path, tmp_path_factory):
    ours = ("PYTHONPATH", "AESTHEMO_DATA", "PYTHONWARNDEFAULTENCODING")
    variables = {key: value for key, value in os.environ.items() if key not in ours}
    variables |= {"AESTHEMO_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1"}
    version = subprocess.check_output([scripts / "aesthemo", "--version"], env=variables, encoding="utf-8")
    assert version.split() == ["aesthemo", __version__]

    Image.new("RGB", (64, 48), "orange").save(tmp_path / "orange.png")
    command = [scripts / "python", "-c", DRIVE]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.partition("SAID")[2])
    for name in [name for name in said if "refused" in name]:
        status, line = said.pop(name)
        assert (status, line.count("\n")) == (1, 1) and "come with the checkout: no checkout of the project" in line
    assert {name: status for name, (status, _) in said.items()} == dict.fromkeys(said, 0), (said, done.stderr)
    assert "orange.png" in said["predict"][1]
    assert (tmp_path / "judged.csv").read_text(encoding="utf-8").count("\n") == 2
    assert set(json.loads(said["evaluate"][1])["tasks"]) == {"aesthetics", "emotion"}
    assert "<script" in said["inspect"][1] and "connect-src 'self'" in said["inspect"][1]
    assert "EfficientNet-Lite0" in said["doctor"][1]
    assert "epoch 2: training loss" in done.stderr  # no terminal, so a line for each epoch
    assert not (tmp_path / "data").exists()  # data never lie where one happens to stand
