"""Names given by others, before any of them becomes part of a path.

A hub, an archive, an index file or a model's metadata may say anything. Whatever it calls a file is put into
a path only if it is one clean name, on every system: a folder pulled on one machine is copied to another.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TypeGuard

__all__ = ["MAX_NAME_BYTES", "is_clean_name", "is_clean_path"]

MAX_NAME_BYTES = 200
"""In UTF-8. File systems take 255; what is put before and behind a name of its own needs room too."""

MAX_DEPTH = 8
"""Folders that a clean path goes down."""

# Separators and drives, streams, wildcards and quotes of Windows.
_FORBIDDEN = frozenset('/\\:*?"<>|')
# Windows opens a device for these whatever their extension, spaces and superscript digits included.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)


def is_clean_name(name: object) -> TypeGuard[str]:
    """Whether something is the name of one visible file or folder, the same on every system.

    It is not if it is no text, empty, too long, begins with a dot, ends with a dot or a space, holds a
    separator, a character that is not printable or has another form under normalisation, or is what Windows
    calls a device.
    """
    return (
        isinstance(name, str)
        and bool(name)
        and len(name) <= MAX_NAME_BYTES
        and name.isprintable()
        and len(name.encode()) <= MAX_NAME_BYTES
        and not _FORBIDDEN.intersection(name)
        and name[0] not in ". "
        and name[-1] not in ". "
        and unicodedata.is_normalized("NFC", name)
        and not _DEVICES.fullmatch(name)
    )


def is_clean_path(path: object) -> TypeGuard[str]:
    """Whether something is a relative path of clean names, separated by `/`."""
    if not isinstance(path, str) or len(path) > MAX_DEPTH * (MAX_NAME_BYTES + 1):
        return False
    names = path.split("/")
    return len(names) <= MAX_DEPTH and all(map(is_clean_name, names))
