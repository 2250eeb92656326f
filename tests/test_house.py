"""The floor plan: imports run downwards only and in no circle, files stay small, and git holds no litter."""

import ast
import pydoc
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("aesthemo_scenes", "aesthemo_lib", "aesthemo_studies", "aesthemo_course", "bench")
FLOORS = [
    {"tasks", "files", "device", "distributed"}, {"data"}, {"models", "evaluation"}, {"training"},
    {"attribution", "export", "prediction"}, {"plots"}, {"inspector", "headless", "cli", "doctor"},
]
"""From the ground up. Rooms of one floor don't import one another, but those of the first and of the last may."""
MOST_LINES = 350
LIBRARY_LINES = 10_000
READING_PATH = [
    "data/ratings", "data/table", "data/batches", "models/fusion", "models/networks", "models/backbones",
    "training/config", "training/losses", "training/fit", "training/run", "evaluation/metrics", "evaluation/comparison",
    "attribution/streams", "attribution/maps", "attribution/ledger",
]
READING_LINES = 3_500
BY_NAME = {
    ("aesthemo_lib.cli", "import_module(f'aesthemo_studies.{module}')"),
    ("aesthemo_lib.cli", "_from_the_checkout('reproduce')"),
    ("aesthemo_lib.cli", "_from_the_checkout('gradient_aggregation')"),
    ("aesthemo_lib.data.decoding", "import_module('pillow_heif')"),
    ("aesthemo_lib.data.readers", "import_module(f'.{module}')"),
}
"""All that the library imports by names in strings, which ``imported`` can't see; two commands need the checkout."""
TOP_LEVEL = (*PACKAGES, "course", "docs", "figures", "notebooks",
             "results", "tests", ".ci", ".github", ".devcontainer", "binder")


def module_of(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))}


def imported(source: str, module: str, is_package: bool = False, known=frozenset(FILES)) -> set[str]:
    """The project's modules that a source imports, at its top or within a function; a package counts as itself."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names = {f"{base}.{a.name}" for a in node.names}
            modules |= {name if name in known else base for name in names}
        elif isinstance(node, ast.Import):
            modules |= {a.name for a in node.names}
    return {name for name in modules if name in known}


IMPORTS = {module: imported(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
           for module, path in FILES.items()}


def floor(module: str) -> int | None:
    """Which floor of the library a module is on; None for the package itself."""
    name = module.split(".")[1] if "." in module else None
    return next((i for i, rooms in enumerate(FLOORS) if name in rooms), None)


def faults(module: str, target: str) -> str:
    """Why a module may not import another one; '' if it may."""
    house, other = module.split(".")[0], target.split(".")[0]
    if PACKAGES.index(house) < min(PACKAGES.index(other), 2):
        return "the scenes import none of ours, and the library nothing that stands on it"
    if {house, other} == {"aesthemo_lib"}:
        here, there = floor(module), floor(target)
        if here is None or there is None:
            return ""
        rooms = module.split(".")[1], target.split(".")[1]
        beside = here == there and rooms[0] != rooms[1] and here not in (0, len(FLOORS) - 1)
        return "upwards" if there > here else "a room of the same floor" if beside else ""
    return ""


def imported_by_name(source: str) -> set[str]:
    """The calls by which a source imports, or runs, a module that it names in a string."""
    ways = ("import_module", "__import__", "run_module", "run_path", "spec_from_file_location", "_from_the_checkout")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = {call: ast.unparse(call.func).rpartition(".")[2] for call in calls}
    return {f"{way}({ast.unparse(call.args[0])})" for call, way in named.items() if way in ways}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """One circle of imports as a path, [] if there is none. A package's ``__init__`` re-exports, and starts none."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module):], module]
        if module in done:
            return []
        for target in sorted(imports.get(module, ())):
            if path := walk(target, [*way, module]):
                return path
        done.add(module)
        return []

    return next((path for module in imports if (path := walk(module, []))), [])


def test_the_guards_see_what_they_guard_against():
    known = {"aesthemo_lib.data.table", "aesthemo_lib.plots.data", "aesthemo_studies.cells"}
    source = "def f():\n    from ..plots import data\n    from aesthemo_studies.cells import run\n"
    names = imported(source, "aesthemo_lib.data.table", known=known)
    assert names == {"aesthemo_lib.plots.data", "aesthemo_studies.cells"}
    assert all(faults("aesthemo_lib.data.table", target) for target in names)
    assert faults("aesthemo_lib.models.networks", "aesthemo_lib.evaluation.metrics")
    assert faults("aesthemo_scenes.drawing", "aesthemo_lib.files")
    assert not faults("aesthemo_lib.data.readers.scenes", "aesthemo_scenes.drawing")
    assert not faults("aesthemo_lib.plots.data", "aesthemo_lib.data.table")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b"}, "b": set()}) == []
    assert imported_by_name("def f():\n    x = importlib.import_module('a')\n    g(__import__('b'))") == {
        "import_module('a')", "__import__('b')"}


def test_every_room_of_the_library_has_its_floor():
    rooms = {path.stem for path in (PROJECT / "aesthemo_lib").iterdir()
             if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())}
    assert rooms == set().union(*FLOORS)
    assert len([name for name in rooms if (PROJECT / "aesthemo_lib" / f"{name}.py").exists()]) <= 8


def test_imports_run_downwards_only():
    assert [f"{module} imports {target}: {why}" for module, targets in IMPORTS.items() for target in sorted(targets)
            if (why := faults(module, target))] == []


def test_what_the_library_imports_by_name_is_listed():
    assert {(module, call) for module, path in FILES.items() if module.split(".")[0] in PACKAGES[:2]
            for call in imported_by_name(path.read_text(encoding="utf-8"))} == BY_NAME


def test_there_is_no_circle():
    assert circle({m: t for m, t in IMPORTS.items() if FILES[m].name != "__init__.py"}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_files_are_small(package):
    lines = {module: path.read_text(encoding="utf-8").count("\n") for module, path in FILES.items()}
    assert {m: n for m, n in lines.items() if m.split(".")[0] == package and n > MOST_LINES} == {}


def test_the_library_and_its_reading_path_are_small():
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in (PROJECT / "aesthemo_lib").rglob("*.py")}
    assert sum(lines.values()) <= LIBRARY_LINES
    assert sum(lines[PROJECT / "aesthemo_lib" / f"{name}.py"] for name in READING_PATH) <= READING_LINES


def test_the_reading_path_is_the_one_that_contributing_names():
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.search(r"\(the \*reading path\*\): ([^.]+)\.", text)[1]
    rooms = [re.findall(r"`([\w/]+)`", part) for part in listed.split(";")]
    whole = [name if "/" in name else f"{first.partition('/')[0]}/{name}" for first, *more in rooms
             for name in (first, *more)]
    assert whole == READING_PATH


def test_the_walks_that_contributing_names_are_there():
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walks = text[text.index("Three walks"):text.index("Users have the command")]
    names = re.findall(r"`([a-z_]+(?:\.\w+)+)`", walks)
    assert len(names) > 20 and [name for name in names if not callable(pydoc.locate(f"aesthemo_lib.{name}"))] == []


def test_git_holds_no_litter():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, encoding="utf-8")
    if done.returncode:
        pytest.skip("needs a git checkout")
    files = [Path(name) for name in done.stdout.split("\0") if name]
    assert sorted({file.parts[0] for file in files if len(file.parts) > 1} - set(TOP_LEVEL)) == []
    kinds = {".png", ".jpg", ".csv", ".json", ".npy", ".log", ".h5", ".pt"}
    assert [file.as_posix() for file in files if len(file.parts) == 1 and file.suffix in kinds] == []
    big = [file.as_posix() for file in files if (PROJECT / file).is_file() and (PROJECT / file).stat().st_size > 25e6]
    assert big == []
