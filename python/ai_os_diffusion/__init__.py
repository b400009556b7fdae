"""A local AI engine that embeds, remembers and answers on one ordinary machine.

The names below are imported on first use: importing the package loads nothing heavy and reads no file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_os_diffusion.inference import ArrowEngine
    from ai_os_diffusion.runtime import open_runtime
    from ai_os_diffusion.storage import ArrowStorage

__all__ = ["ArrowEngine", "ArrowStorage", "__version__", "open_runtime"]

__version__ = "0.1.0"

_HOMES = {"ArrowEngine": "inference", "ArrowStorage": "storage", "open_runtime": "runtime"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
