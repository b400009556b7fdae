"""What was decided about skills, as a picture that a browser shows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ai_os_diffusion.evolution.decision_log import Decision
from ai_os_diffusion.utils.errors import ConfigurationError
from ai_os_diffusion.utils.files.atomic_file import replacing
from ai_os_diffusion.utils.visible_text import visible_line

__all__ = ["draw_history"]

_COLOURS = {
    "kept": "#2a7d3f",
    "rejected": "#b3382c",
    "retired": "#7a5c99",
    "rolled back": "#b07d1e",
    "removed": "#555555",
    "proven": "#9db8a5",
}
"""Decisions about skills; what a router decided is in the list alone."""

_LEFT, _TOP, _WIDTH, _ROW = 190, 46, 760, 64
_LETTERS = 24
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Skills</title>
<style>body{font:14px/1.4 sans-serif;margin:2em;max-width:70em}td,th{text-align:left;padding:.1em 1em .1em 0;\
vertical-align:top}</style>
<h1>Skills</h1>
"""


def draw_history(decisions: Sequence[Decision], path: Path) -> None:
    """Draw a row a skill, a mark a decision in their order, at the height of its share of right answers.

    Args:
        decisions: of a `DecisionLog`.
        path: the file: `.svg` holds the picture alone, `.html` is a page with the decisions below it.

    Raises:
        ConfigurationError: it has another ending.
    """
    kind = path.suffix.lower()
    if kind not in (".svg", ".html"):
        raise ConfigurationError(f"{path}: expected a name that ends in .html or .svg, got {kind!r}")
    shown = [one for one in decisions if one.decision in _COLOURS]
    picture = _picture(shown)
    with replacing(path) as draft:
        if kind == ".html":
            picture = f"{_PAGE}{picture}{_table(shown)}</html>\n"
        draft.write_text(picture, encoding="utf-8")


def _picture(shown: Sequence[Decision]) -> str:
    skills = list(dict.fromkeys(one.skill for one in shown))
    height = _TOP + _ROW * max(len(skills), 1) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" height="{height}" '
        'font-family="sans-serif" font-size="12">'
    ]
    for number, (name, colour) in enumerate(_COLOURS.items()):
        x = float(_LEFT + number * 110)
        parts.append(f'<circle cx="{x}" cy="14" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 10}" y="18">{name}</text>')
    for row, skill in enumerate(skills):
        top, bottom = _TOP + row * _ROW, _TOP + (row + 1) * _ROW - 20
        name = visible_line(skill)
        short = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
        parts.append(f'<text x="8" y="{bottom}">{escape(short)}</text>')
        for label, line in (("100%", top), ("0%", bottom)):
            parts.append(f'<path d="M{_LEFT} {line}h{_WIDTH}" stroke="#ddd"/>')
            parts.append(f'<text x="{_LEFT - 36}" y="{line + 4}" fill="#777">{label}</text>')
        marks = []
        for at, one in enumerate(shown):
            if one.skill == skill:
                x = _LEFT + 10 + (_WIDTH - 20) * at / max(len(shown) - 1, 1)
                share = min(max(one.figures.get("right_after", 0.0), 0.0), 1.0)
                marks.append((x, bottom - share * (bottom - top), one))
        # What is in use from one decision to the next.
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y, one in marks if one.decision in ("kept", "proven"))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{_COLOURS["kept"]}" opacity=".5"/>')
        for x, y, one in marks:
            title = escape(visible_line(f"{one.decided_at} {one.decision}: {_why(one)}"))
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_COLOURS[one.decision]}">'
                f"<title>{title}</title></circle>"
            )
    return "\n".join([*parts, "</svg>\n"])


def _table(shown: Sequence[Decision]) -> str:
    rows = [
        "<tr>"
        + "".join(
            f"<td>{escape(visible_line(cell))}</td>"
            for cell in (one.decided_at, one.skill, one.decision, _why(one))
        )
        + "</tr>"
        for one in shown
    ]
    head = "<tr><th>when<th>skill<th>decision<th>why</tr>"
    return "\n".join(["<table>", head, *rows, "</table>\n"])


def _why(decision: Decision) -> str:
    figures = ", ".join(f"{name} {value:.3g}" for name, value in decision.figures.items())
    return "; ".join([*decision.reasons, figures]) if figures else "; ".join(decision.reasons)
