"""Imports go down the layers and never sideways; nothing heavy is imported at the top of a module."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import ai_os_diffusion

PACKAGE = Path(ai_os_diffusion.__file__).parent

# High to low. A module imports from rooms below its own and from its own; those of one line are siblings.
LAYERS = [
    ["cli"],
    ["runtime"],
    ["evolution"],
    ["answers", "training"],
    ["inference"],
    ["models"],
    ["diffusion", "storage", "ingestion"],
    ["config"],
    ["contracts", "utils"],
]
NATIVE_USERS = {"inference", "models", "ingestion", "storage", "training", "evolution"}
HEAVY = {"torch", "transformers", "pyarrow", "polars", "duckdb", "huggingface_hub", "rich", "yaml", "jinja2"}
HEAVY |= {"accelerate", "matplotlib"}
# What stands at the top of these is loaded on use: functions alone import them.
IMPORTED_ON_USE = (
    "inference/decoder_layers",
    "inference/template/",
    "inference/torch/",
    "training/torch/",
    "training/reader/torch/",
)
# A fuller room is two rooms, a longer file two files.
MOST_MODULES, MOST_LINES = 14, 400


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def rank(room: str) -> int:
    return next(level for level, rooms in enumerate(LAYERS) if room in rooms)


def is_imported_on_use(path: str) -> bool:
    return path.startswith(IMPORTED_ON_USE) and not path.endswith("/__init__")


def imports(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            module = node.module or ""
            if module == "ai_os_diffusion":
                names += [f"{module}.{alias.name}" for alias in node.names]
            else:
                names.append(module)
    return names


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> list[Path]:
    return [
        file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or file.stem != "__init__"
    ]


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file):
    own = room_of(file)
    for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
        if not name.startswith("ai_os_diffusion."):
            continue
        other = name.split(".")[1]
        if other.startswith("__"):
            continue
        if other == "_native":
            assert own in NATIVE_USERS, f"{own} imports the extension"
            continue
        assert other == own or rank(own) < rank(other), f"{own} imports {other}, which is not below it"


def test_imports_never_loop():
    """Neither at the top of modules nor within functions; what only a type checker sees does not count."""
    known = {name_of(file) for file in modules()}
    graph = {}
    for file in modules():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = []
        named = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        graph[name_of(file)] = {
            name if name in known else name.rpartition(".")[0] for name in named if name.startswith("ai_os_")
        }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_they_are_used(file):
    if is_imported_on_use(file.relative_to(PACKAGE).with_suffix("").as_posix()):
        return
    top = ast.parse(file.read_text(encoding="utf-8"))
    top.body = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not HEAVY & {name.partition(".")[0] for name in imports(top)}


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_modules_with_heavy_imports_are_imported_on_use(file):
    if is_imported_on_use(file.relative_to(PACKAGE).with_suffix("").as_posix()):
        return
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        for name in imports(node) if isinstance(node, ast.Import | ast.ImportFrom) else []:
            path = name.removeprefix("ai_os_diffusion.").replace(".", "/")
            assert not is_imported_on_use(path), f"{file.name} imports {name} at its top"


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, ai_os_diffusion, ai_os_diffusion.config; "
        f"loaded = {HEAVY | {'numpy'}!r} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_library_never_prints():
    for file in modules():
        if room_of(file) == "cli":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("print_"):
                node.body = [ast.Pass()]
        for node in ast.walk(tree):
            called = (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            )
            assert not called, f"{file.name}:{node.lineno} prints"


@pytest.mark.parametrize("room", sorted({file.parent for file in modules()}), ids=lambda room: room.name)
def test_a_room_is_not_too_full(room):
    assert len([file for file in room.glob("*.py") if file.stem != "__init__"]) <= MOST_MODULES


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_is_not_too_long(file):
    assert file.read_text(encoding="utf-8").count("\n") <= MOST_LINES


# Tests of something else than a room: what is on disk, what users and peers see, recipes, this house itself.
ACROSS = {"benchmarks", "compat", "durability", "e2e", "house", "parity", "property", "recipes", "support"}


def test_the_folders_of_tests_are_those_of_the_package():
    tests = Path(__file__).parents[1]
    for file in tests.rglob("test_*.py"):
        folder = file.parent.relative_to(tests)
        assert folder.parts[0] in ACROSS or (PACKAGE / folder).is_dir(), f"no room {folder} is there to test"


def test_a_question_loads_nothing_of_learning_or_of_reading_documents():
    """What answers is imported without what trains, and one module of a package without all others."""
    code = (
        "import sys; import ai_os_diffusion.runtime.answering, ai_os_diffusion.runtime.reading; "
        "from ai_os_diffusion.evolution import DecisionLog, EvolutionRouter; "
        "print([name for name in sys.modules if name.startswith('ai_os_diffusion.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(done.stdout)
    heavy = ("training", "diffusion", "ingestion.readers", "models.convert.converter", "evolution.objectives")
    rooms = tuple(f"ai_os_diffusion.{room}" for room in heavy)
    assert not [name for name in loaded if name.startswith(rooms)]
