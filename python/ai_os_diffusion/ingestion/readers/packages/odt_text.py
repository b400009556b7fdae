"""The text of a part of an ODT: paragraphs, lists, tables and notes, and the styles that hide some."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ai_os_diffusion.ingestion.readers.packages.flow import Flow
from ai_os_diffusion.ingestion.readers.packages.odt_forms import OdtForms

__all__ = ["OdtStyles", "OdtText"]

# What a program keeps beside the text: authors and times of notes, templates of indexes, data, scripts.
_NOT_TEXT = frozenset("creator date date-string binary-data script event-listeners".split())
_NOT_TEXT_ENDING = "-source"
_CELLS = frozenset(("table-cell", "covered-table-cell"))
_OBJECTS = frozenset(("object", "object-ole"))
_PARAGRAPHS = frozenset(("p", "h"))
_APART = frozenset(("desc", "title", "ruby-text"))
_SPACE = re.compile(r"[ \t\r\n]+")
# A style is based on another, and so on; in circles only where the file is hostile.
_MAX_BASES = 32
_MAX_SPACES = 100
_TITLE = "Title"
_HIDDEN_REASON = "marked as not shown"
_DELETED_REASON = "deleted by tracked changes"
_OBJECT_REASON = (
    "charts, formulas and embedded files, whose words are not read; add them as files of their own"
)


class OdtStyles:
    """What the styles say of the text they are given to."""

    def __init__(self) -> None:
        self._bases: dict[str, str] = {}
        self._hides: dict[str, bool] = {}
        self._style = ""

    def note(self, name: str, attributes: Mapping[str, str]) -> None:
        """Take an element, in the order of the file."""
        if name == "style":
            self._style = attributes.get("name", "")
            self._bases[self._style] = attributes.get("parent-style-name", "")
        elif name == "text-properties" and "display" in attributes:
            self._hides[self._style] = attributes["display"] == "none"

    def is_hidden(self, style: str) -> bool:
        """Whether text of a style is not shown."""
        return next((self._hides[base] for base in self._line(style) if base in self._hides), False)

    def is_title(self, style: str) -> bool:
        """Whether a paragraph of a style is the title of the document."""
        return _TITLE in self._line(style)

    def _line(self, style: str) -> list[str]:
        """The style and those it is based on."""
        line: list[str] = []
        while style and len(line) < _MAX_BASES:
            line.append(style)
            style = self._bases.get(style, "")
        return line


class OdtText:
    """Takes the elements of a part; names are those of OpenDocument."""

    def __init__(self, flow: Flow, styles: OdtStyles) -> None:
        """Begin a part.

        Args:
            flow: takes its paragraphs.
            styles: of the document; those of the part are added.
        """
        self.flow = flow
        self._styles = styles
        self._skipped = 0
        self._forms = OdtForms()
        self._in_forms = 0
        self._levels: list[int | None] = []
        # Whether each item that is open has yet to have a paragraph.
        self._items: list[bool] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """As `XmlHandler.start`."""
        self._styles.note(name, attributes)
        if self._in_forms or name == "forms":
            self._in_forms += 1
            self._forms.start(name, attributes)
        elif self._skipped or self._is_left_out(name, attributes):
            self._skipped += 1
        elif name in _PARAGRAPHS:
            self.flow.begin_paragraph()
            self._levels.append(self._level(name, attributes))
        elif name == "s":
            count = attributes.get("c", "1")
            self.flow.add(" " * min(int(count[:4]) if count.isdecimal() else 1, _MAX_SPACES))
        elif name == "tab":
            self.flow.add("\t")
        elif name == "line-break":
            self.flow.add("\n")
        elif name in _APART:
            self.flow.add(" ")
        elif name == "list-item":
            self._items.append(True)
        elif name == "table":
            self.flow.begin_table()
        elif name == "table-header-rows":
            self.flow.begin_header()
        elif name == "table-row":
            self.flow.begin_row()
        elif name in _CELLS:
            self.flow.begin_cell()
        elif name == "control":
            self.flow.add_alone(f" {self._forms.take(attributes.get('control', ''))} ")
        elif name in _OBJECTS:
            self.flow.leave_out("no_text", _OBJECT_REASON)

    def end(self, name: str) -> None:
        """As `XmlHandler.end`."""
        if self._in_forms:
            self._in_forms -= 1
            self._forms.end()
        elif self._skipped:
            self._skipped -= 1
        elif name in _PARAGRAPHS:
            is_item = bool(self._items) and self._items[-1]
            if is_item:
                self._items[-1] = False
            self.flow.end_paragraph(self._levels.pop(), is_item=is_item)
        elif name in _APART:
            self.flow.add(" ")
        elif name == "list-item":
            self._items.pop()
        elif name == "table-row":
            self.flow.end_row()

    def text(self, text: str) -> None:
        """As `XmlHandler.text`."""
        if self._in_forms:
            self._forms.text(text)
        elif not self._skipped:
            self.flow.add(_SPACE.sub(" ", text))

    def _is_left_out(self, name: str, attributes: Mapping[str, str]) -> bool:
        if name in _NOT_TEXT or name.endswith(_NOT_TEXT_ENDING):
            return True
        if name == "tracked-changes":
            self.flow.leave_out("hidden", _DELETED_REASON)
            return True
        is_hidden = (
            name == "hidden-text"
            or (name == "section" and attributes.get("display", "true") != "true")
            or (name in ("p", "h", "span") and self._styles.is_hidden(attributes.get("style-name", "")))
        )
        if is_hidden:
            if name in _PARAGRAPHS:
                # It counts, as it does where it is shown.
                self.flow.begin_paragraph()
                self.flow.end_paragraph()
            self.flow.leave_out("hidden", _HIDDEN_REASON)
        return is_hidden

    def _level(self, name: str, attributes: Mapping[str, str]) -> int | None:
        if name == "h":
            said = attributes.get("outline-level", "1")
            return int(said[:2]) if said.isdecimal() else 1
        return 0 if self._styles.is_title(attributes.get("style-name", "")) else None
