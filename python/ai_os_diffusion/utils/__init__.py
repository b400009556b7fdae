"""What every layer uses: errors, files, texts made visible, numbers that were fitted."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["imported_on_use"]


def imported_on_use(homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names are imported when they are first asked for.

    Whoever imports one module of a package does not wait for all of the others.

    Args:
        homes: of each name the module that has it, below `ai_os_diffusion`; behind a colon what it is called
            there, where that is something else.
    """

    def find(name: str) -> Any:
        home, _, there = homes.get(name, "").partition(":")
        if not home:
            raise AttributeError(f"no attribute {name!r}; there are {', '.join(homes)}")
        return getattr(importlib.import_module(f"ai_os_diffusion.{home}"), there or name)

    return find
