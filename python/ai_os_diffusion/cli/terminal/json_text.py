"""JSON as it goes into a stream: whole for any encoding, and without effect on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from ai_os_diffusion.utils.visible_text import visible_json

__all__ = ["write_json"]


def write_json(stream: TextIO, value: Any, indent: int | None = None) -> None:
    """Write a document and a line break, and let it be read at once.

    Letters stay as they are where the stream can write them all; controls and the like are always escaped.
    """
    import json

    is_unicode = (stream.encoding or "utf-8").lower().startswith("utf")
    document = json.dumps(value, ensure_ascii=not is_unicode, indent=indent, default=_plain)
    stream.write(f"{visible_json(document)}\n")
    stream.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
