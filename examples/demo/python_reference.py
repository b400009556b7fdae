"""Write the reference of this Python's standard library as Markdown, one page a module.

The text is what the interpreter itself carries: the docstrings of modules, classes, methods and functions.
Run as a script: `python python_reference.py FOLDER`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import sys
import textwrap
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

# Importing these has side effects, or needs a display; or they are another module's implementation.
SKIPPED = {
    "antigravity",
    "this",
    "idlelib",
    "lib2to3",
    "turtle",
    "turtledemo",
    "tkinter",
    "test",
    "ntpath",
    "posixpath",
    "nt",
    "posix",
    "genericpath",
    "nturl2path",
    "opcode",
    "sre_compile",
    "sre_constants",
    "sre_parse",
    "pydoc_data",
}
# Public modules inside packages, which the list of top-level names does not show.
INNER = [
    "collections.abc",
    "concurrent.futures",
    "email.message",
    "email.mime.text",
    "html.parser",
    "http.client",
    "http.cookiejar",
    "http.server",
    "importlib.metadata",
    "importlib.resources",
    "json.tool",
    "logging.config",
    "logging.handlers",
    "multiprocessing.pool",
    "multiprocessing.shared_memory",
    "os.path",
    "unittest.mock",
    "urllib.error",
    "urllib.parse",
    "urllib.request",
    "xml.dom.minidom",
    "xml.etree.ElementTree",
    "xmlrpc.client",
    "xmlrpc.server",
]
# A line that Markdown takes for a heading, or that makes the line above one.
HEADING = re.compile(r"^(#+(?:\s|$)|=+\s*$|-+\s*$)", re.MULTILINE)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
PLAIN_TYPES = (int, str, float, bytes, list, dict, set, frozenset, tuple, bool, complex, type(None))


def module_names() -> list[str]:
    """Public modules of the standard library, sorted."""
    top = {name for name in sys.stdlib_module_names if not name.startswith("_") and name not in SKIPPED}
    return sorted(top.union(INNER))


def docstring(thing: object) -> str:
    """The docstring of a thing itself, as Markdown: what would read as a heading is escaped."""
    text = getattr(thing, "__doc__", None)
    return HEADING.sub(r"\\\1", ADDRESS.sub("", inspect.cleandoc(text))) if isinstance(text, str) else ""


def summary(text: str) -> str:
    """The first sentence of a docstring, for the title of its page."""
    first = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")
    return textwrap.shorten(first, 90, placeholder=" …")


def signature(thing: object) -> str:
    """The parameters of a callable, or nothing where the interpreter does not know them."""
    try:
        text = str(inspect.signature(thing))  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001  # evaluating a default runs code of the module, which may raise anything
        return "()"
    # An address differs from run to run.
    text = ADDRESS.sub("", text)
    return text if len(text) <= 200 else "(...)"


def members(module: types.ModuleType) -> Iterator[tuple[str, object]]:
    """What a module offers: the names of its `__all__`, else those defined in it."""
    listed = getattr(module, "__all__", None)
    for name in sorted(listed if listed is not None else vars(module)):
        thing = getattr(module, name, None)
        if name.startswith("_") or isinstance(thing, (types.ModuleType, *PLAIN_TYPES)):
            continue
        home = getattr(thing, "__module__", None)
        if listed is None and home not in (None, module.__name__, f"_{module.__name__}"):
            continue
        yield name, thing


def class_sections(title: str, cls: type) -> Iterator[str]:
    """A section for a class and one for each of its own documented public methods."""
    text = docstring(cls)
    if text:
        yield f"## class {title}\n\n{text}\n"
    for name, member in sorted(vars(cls).items()):
        if name.startswith("_"):
            continue
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        text = docstring(function)
        if text and (callable(function) or isinstance(function, property)):
            call = "" if isinstance(function, property) else signature(function)
            yield f"### {title}.{name}{call}\n\n{text}\n"


def page(module: types.ModuleType) -> str:
    """The reference of one module as Markdown."""
    name = module.__name__ if module.__name__ not in ("posixpath", "ntpath") else "os.path"
    text = docstring(module)
    parts = [f"# {name}: {summary(text)}\n\n{text}\n" if text else f"# {name}\n"]
    for member, thing in members(module):
        title = member if name == "builtins" else f"{name}.{member}"
        if inspect.isclass(thing):
            parts += class_sections(title, thing)
        elif callable(thing) and docstring(thing):
            parts.append(f"## {title}{signature(thing)}\n\n{docstring(thing)}\n")
    return "\n".join(parts)


def load(name: str) -> types.ModuleType | None:
    """Import a module quietly; None where this platform or build lacks it."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def write_reference(folder: Path) -> int:
    """Write every page that has text; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for name in module_names():
        module = load(name)
        if module is None:
            continue
        text = page(module)
        if len(text) > 200:
            (folder / f"{name}.md").write_text(text, encoding="utf-8", errors="replace")
            written += 1
    return written


if __name__ == "__main__":
    print(write_reference(Path(sys.argv[1])), "pages")
