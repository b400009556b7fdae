"""Foreign text made safe to show: what would steer a terminal, or pass for another line, is written out.

Texts, names and messages that come from documents, models and other machines pass through here on their way
to a person: to a terminal, a pipe that ends in one, or a log. What is escaped are the characters that act on
others in place of showing something: control characters (C0, DEL, C1), the bidirectional formatting
characters that reorder their neighbours (CVE-2021-42574), the separators that some viewers take for a line
break, and lone surrogates, which no encoding can write. Letters of right-to-left scripts, joiners and marks
stay as they are.
"""

from __future__ import annotations

import re

__all__ = ["VisibleLines", "visible_json", "visible_line", "visible_text", "without_controls"]

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
# Patterns that `re` compiles, and keeps, when one is first needed.
_ACTING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT = f"[{_ACTING}]"
_IN_LINE = f"[\t\n{_ACTING}]"
# Sequences of ECMA-48, whose parameters would be left as words: of control (CSI), strings (OSC, DCS and their
# like), and those of two characters.
_SEQUENCE = (
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]"
)
_CONTROL = "[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]"


def visible_text(text: str, indent: str = "") -> str:
    r"""Text of several lines: tabs and line breaks are kept, all else that acts is shown, ESC as "\x1b".

    Args:
        text: any text.
        indent: put before every line but the first and empty ones, so that none can pass for a line of ours.
    """
    shown = _shown(text, _IN_TEXT, text.replace("\n", "").replace("\t", ""))
    return re.sub(r"\n(?=[^\n])", f"\n{indent}", shown) if indent else shown


def visible_line(text: str) -> str:
    r"""Text on one line: as `visible_text`, and line breaks and tabs are shown too, as "\n" and "\t"."""
    return _shown(text, _IN_LINE, text)


def visible_json(document: str) -> str:
    """A JSON document with what acts as JSON's own escapes: the same value to whoever parses it."""
    return re.sub(_IN_TEXT, lambda found: f"\\u{ord(found[0]):04x}", document)


def without_controls(text: str) -> str:
    """Text without escape sequences and control characters; line breaks and tabs stay."""
    plain = text.replace("\n", "").replace("\t", "")
    return text if plain.isprintable() else re.sub(_CONTROL, "", re.sub(_SEQUENCE, "", text))


class VisibleLines:
    """`visible_text` of a text that comes in pieces: the same, wherever it is cut."""

    def __init__(self, indent: str = "") -> None:
        """Begin.

        Args:
            indent: put before every line but the first and empty ones.
        """
        self._indent = indent
        self._is_line_start = False

    def feed(self, piece: str) -> str:
        """What to show of the next piece."""
        shown = visible_text(piece, self._indent)
        if self._is_line_start and shown and not shown.startswith("\n"):
            shown = self._indent + shown
        if shown:
            self._is_line_start = shown.endswith("\n")
        return shown


def _shown(text: str, acting: str, plain: str) -> str:
    # Most of what is written holds nothing to escape, and needs no pattern.
    return text if plain.isprintable() else re.sub(acting, _escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
