"""The licences of packages, as they state them."""

from __future__ import annotations

import re
import zipfile
from email.parser import Parser
from pathlib import Path

__all__ = ["debian_licence", "wheel_licence"]

_PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|ISC|MPL|Mozilla|Zope|Unlicense|CC0"
    r"|0BSD|HPND|Public Domain)",
    re.I,
)


def debian_licence(tree: Path, package: str) -> str:
    """The short names of `debian/copyright`, or where to read the text; all of Debian main may be used so."""
    path = tree / "usr" / "share" / "doc" / package / "copyright"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    names = dict.fromkeys(re.findall(r"^License:[ \t]*(\S.{0,60})$", text, re.M))
    return ", ".join(list(names)[:4]) or f"Debian main, {package}: copyright"


def wheel_licence(wheel: Path) -> str | None:
    """What METADATA says, where it is permissive; None of others."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith(".dist-info/METADATA")), None)
        if name is None:
            return None
        about = Parser().parsestr(archive.read(name).decode(errors="replace"), headersonly=True)
    said = [about.get("License-Expression") or "", (about.get("License") or "").split("\n")[0][:80]]
    said += [
        one.rpartition(":: ")[2] for one in about.get_all("Classifier", []) if one.startswith("License ::")
    ]
    told = next((text for text in said if _PERMISSIVE.search(text)), None)
    return told.strip() if told and not re.search("GPL", " ".join(said)) else None
