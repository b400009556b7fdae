"""What the styles of a DOCX say of the text they are given to: titles, and what is hidden."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ai_os_diffusion.ingestion.readers.packages.xml_parts import Element

__all__ = ["DocxStyles", "heading_level", "is_on"]

_HEADING = re.compile(r"heading ([1-9])")
_BODY_LEVEL = 9
# A style is based on another, and so on; in circles only where the file is hostile.
_MAX_BASES = 32


@dataclass(frozen=True, slots=True)
class DocxStyles:
    """Styles by their id.

    Attributes:
        levels: level of the titles of a style; one that is missing is of text.
        hidden: styles whose text is not shown.
    """

    levels: Mapping[str, int] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tree: Element) -> DocxStyles:
        """Read the file of styles."""
        styles = {
            style.attributes["styleId"]: style
            for style in tree.every("style")
            if "styleId" in style.attributes
        }
        levels: dict[str, int] = {}
        hidden: set[str] = set()
        for name in styles:
            level, is_hidden = _inherited(name, styles)
            if level is not None:
                levels[name] = level
            if is_hidden:
                hidden.add(name)
        return cls(levels, frozenset(hidden))


def heading_level(said: str | None) -> int | None:
    """The level of a title from an outline level, which counts from 0; None for text."""
    if said is None or not said.isdecimal() or not 0 <= int(said[:4]) < _BODY_LEVEL:
        return None
    return int(said[:4]) + 1


def is_on(attributes: Mapping[str, str]) -> bool:
    """Whether a property that is there is on."""
    return attributes.get("val", "true") not in ("0", "false", "off")


def _inherited(name: str, styles: Mapping[str, Element]) -> tuple[int | None, bool]:
    level: int | None = None
    is_level_known, is_hidden = False, None
    for _ in range(_MAX_BASES):
        style = styles.get(name)
        if style is None:
            break
        outline, vanish = style.first("outlineLvl"), style.first("vanish")
        called = _value(style, "name").lower()
        if not is_level_known and outline is not None:
            level, is_level_known = heading_level(outline.attributes.get("val")), True
        elif not is_level_known and (found := _HEADING.fullmatch(called)):
            level, is_level_known = int(found[1]), True
        elif not is_level_known and called == "title":
            level, is_level_known = 0, True
        if is_hidden is None and vanish is not None:
            is_hidden = is_on(vanish.attributes)
        name = _value(style, "basedOn")
    return level, bool(is_hidden)


def _value(element: Element, name: str) -> str:
    child = element.first(name)
    return child.attributes.get("val", "") if child else ""
