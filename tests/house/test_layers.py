"""Imports go down the layers and never sideways; nothing heavy is imported at the top of a module."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ai_os_diffusion

PACKAGE = Path(ai_os_diffusion.__file__).parent

# High to low. A module may import from layers below its own and from its own part only.
LAYERS = [
    {"cli"},
    {"runtime", "grounding", "excerpts", "support", "indexing", "recall"},
    {"inference"},
    {"models"},
    {"storage", "ingestion"},
    {"config"},
    {"contracts", "utils"},
]
# A layer made of cooperating modules rather than of siblings.
TOGETHER = [{"runtime", "grounding", "excerpts", "support", "indexing", "recall"}]
NATIVE_USERS = {"inference", "models", "ingestion", "storage"}
HEAVY = {"torch", "transformers", "pyarrow", "polars", "duckdb", "huggingface_hub", "rich", "yaml", "jinja2"}

# Modules that only functions import, so what stands at their top is loaded on use.
IMPORTED_ON_USE = {
    "inference/template/chat_template.py",
    "inference/decoder_layers.py",
    "inference/template/conditions.py",
    "inference/template/evaluator.py",
    "inference/template/filters.py",
    "inference/template/methods.py",
    "inference/template/renderer.py",
    "inference/template/values.py",
    "inference/torch/torch_core.py",
}


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def rank(part: str) -> int:
    return next(level for level, parts in enumerate(LAYERS) if part in parts)


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


def modules() -> list[Path]:
    return [
        file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or file.stem != "__init__"
    ]


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file):
    own = part_of(file)
    for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
        if not name.startswith("ai_os_diffusion."):
            continue
        other = name.split(".")[1]
        if other.startswith("__"):
            continue
        if other == "_native":
            assert own in NATIVE_USERS, f"{own} imports the extension"
            continue
        allowed = other == own or rank(own) < rank(other) or any({own, other} <= group for group in TOGETHER)
        assert allowed, f"{own} imports {other}, which is not below it"


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_they_are_used(file):
    if file.relative_to(PACKAGE).as_posix() in IMPORTED_ON_USE:
        return
    top = ast.parse(file.read_text(encoding="utf-8"))
    top.body = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not HEAVY & {name.partition(".")[0] for name in imports(top)}


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_modules_with_heavy_imports_are_imported_on_use(file):
    if file.relative_to(PACKAGE).as_posix() in IMPORTED_ON_USE:
        return
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        for name in imports(node) if isinstance(node, ast.Import | ast.ImportFrom) else []:
            path = name.removeprefix("ai_os_diffusion.").replace(".", "/") + ".py"
            assert path not in IMPORTED_ON_USE, f"{file.name} imports {name} at its top"


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, ai_os_diffusion, ai_os_diffusion.config; "
        f"loaded = {HEAVY | {'numpy'}!r} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_library_never_prints():
    for file in modules():
        if part_of(file) == "cli":
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
