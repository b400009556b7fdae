"""The text of a part of a DOCX: paragraphs, runs and tables of WordprocessingML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ai_os_diffusion.ingestion.document import Remark
from ai_os_diffusion.ingestion.readers.packages.docx_styles import DocxStyles, heading_level, is_on
from ai_os_diffusion.ingestion.readers.packages.flow import Flow

__all__ = ["DocxNotes", "DocxText"]

_DELETED = frozenset(("del", "moveFrom"))
# Codes of fields, and properties of before a change.
_NOT_TEXT = frozenset(
    "instrText delInstrText pPrChange rPrChange tblPrChange trPrChange tcPrChange sectPrChange".split()
)
_WRITTEN = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": " ", "sym": " "}
_NOTES = {"footnoteReference": "footnote", "endnoteReference": "endnote", "commentReference": "comment"}
_SEPARATORS = frozenset(("separator", "continuationSeparator", "continuationNotice"))
_OBJECTS = frozenset(("OLEObject", "chart", "relIds", "altChunk"))
# As Word before 2010 wrote it.
_FIRST_ROW = 0x20
_HIDDEN_REASON = "marked as not shown"
_DELETED_REASON = "deleted by tracked changes"
_OBJECT_REASON = (
    "charts, diagrams and embedded files, whose words are not read; add them as files of their own"
)


@dataclass(slots=True)
class _Paragraph:
    style: str = ""
    level: int | None = None
    has_level: bool = False
    is_item: bool = False


class DocxText:
    """Takes the elements of a part; names are those of WordprocessingML, or of what stands within it."""

    def __init__(self, flow: Flow, styles: DocxStyles, notes: dict[tuple[str, str], str]) -> None:
        """Begin a part.

        Args:
            flow: takes its paragraphs.
            styles: of the document.
            notes: texts of what is referred to, by kind ("footnote") and id; each is taken once.
        """
        self.flow = flow
        self._styles = styles
        self._notes = notes
        self._paragraphs: list[_Paragraph] = []
        # Whether each alternative that is open has been taken.
        self._taken: list[bool] = []
        self._skipped = 0
        self._properties = 0
        self._is_text = False
        # Whether each run that is open is hidden; None where its paragraph decides.
        self._runs: list[bool | None] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """As `XmlHandler.start`."""
        if self._skipped or self._is_left_out(name):
            self._skipped += 1
        elif self._properties:
            self._properties += name == "pPr"
            self._property(name, attributes)
        elif name == "pPr":
            self._properties = 1
        elif name == "p":
            self.flow.begin_paragraph()
            self._paragraphs.append(_Paragraph())
        elif name == "r":
            self._runs.append(None)
        elif name == "t":
            self._is_text = True
        elif name in _WRITTEN:
            self._add(_WRITTEN[name])
        elif name == "tr":
            self.flow.begin_row()
        elif name == "tc":
            self.flow.begin_cell()
        elif name == "AlternateContent":
            self._taken.append(False)
        else:
            self._other(name, attributes)

    def end(self, name: str) -> None:
        """As `XmlHandler.end`."""
        if self._skipped:
            self._skipped -= 1
        elif self._properties:
            self._properties -= name == "pPr"
        elif name == "p":
            paragraph = self._paragraphs.pop()
            level = paragraph.level if paragraph.has_level else self._styles.levels.get(paragraph.style)
            self.flow.end_paragraph(level, is_item=paragraph.is_item)
        elif name == "r":
            self._runs.pop()
        elif name == "t":
            self._is_text = False
        elif name == "tr":
            self.flow.end_row()
        elif name == "AlternateContent":
            self._taken.pop()

    def text(self, text: str) -> None:
        """As `XmlHandler.text`."""
        if self._is_text and not self._skipped:
            self._add(text)

    def _is_left_out(self, name: str) -> bool:
        if name in _NOT_TEXT:
            return True
        if name in _DELETED and not self._properties:
            self.flow.leave_out("hidden", _DELETED_REASON)
            return True
        if name in ("Choice", "Fallback") and self._taken:
            was_taken, self._taken[-1] = self._taken[-1], True
            return was_taken
        return False

    def _property(self, name: str, attributes: Mapping[str, str]) -> None:
        """A property of a paragraph, or of its mark, which is no text."""
        if not self._paragraphs:
            return
        paragraph = self._paragraphs[-1]
        if name == "pStyle":
            paragraph.style = attributes.get("val", "")
        elif name == "outlineLvl":
            paragraph.level, paragraph.has_level = heading_level(attributes.get("val")), True
        elif name == "numId":
            paragraph.is_item = attributes.get("val") != "0"

    def _other(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "vanish" and self._runs:
            self._runs[-1] = is_on(attributes)
        elif name == "rStyle" and self._runs:
            if self._runs[-1] is None and attributes.get("val") in self._styles.hidden:
                self._runs[-1] = True
        elif name in _NOTES:
            if note := self._notes.pop((_NOTES[name], attributes.get("id", "")), ""):
                self.flow.add_beside(note)
        elif name == "docPr":
            self._add(f" {attributes.get('descr', '')} ")
        elif name == "listEntry":
            # What a list of a form offers; the one that was chosen is among them.
            self._add(f" {attributes.get('val', '')} ")
        elif name == "textpath":
            self._add(f" {attributes.get('string', '')} ")
        elif name == "tbl":
            self.flow.begin_table()
        elif (name == "tblHeader" and is_on(attributes)) or (name == "tblLook" and _has_header(attributes)):
            self.flow.begin_header()
        elif name in _OBJECTS:
            self.flow.leave_out("no_text", _OBJECT_REASON)

    def _add(self, text: str) -> None:
        is_hidden = self._runs[-1] if self._runs else None
        if is_hidden is None and self._paragraphs:
            is_hidden = self._paragraphs[-1].style in self._styles.hidden
        if not is_hidden:
            self.flow.add(text)
        elif text.strip():
            self.flow.leave_out("hidden", _HIDDEN_REASON)


def _has_header(look: Mapping[str, str]) -> bool:
    """Whether the look of a table is of one whose first row is a header."""
    said = look.get("val", "")
    flags = int(said, 16) if len(said) == 4 and set(said) <= set("0123456789abcdefABCDEF") else 0
    return is_on({"val": look.get("firstRow", "1" if flags & _FIRST_ROW else "0")})


class DocxNotes:
    """Takes the elements of a part with footnotes, endnotes or comments.

    Attributes:
        notes: their texts, by kind and id.
        remarks: what is not in them.
    """

    def __init__(self, styles: DocxStyles) -> None:
        """Begin a part.

        Args:
            styles: of the document.
        """
        self.notes: dict[tuple[str, str], str] = {}
        self.remarks: list[Remark] = []
        self._styles = styles
        self._note: DocxText | None = None
        self._key = ("", "")
        self._said_by = ""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """As `XmlHandler.start`."""
        if self._note is not None:
            self._note.start(name, attributes)
        elif name in _NOTES.values() and attributes.get("type") not in _SEPARATORS:
            self._note = DocxText(Flow(), self._styles, {})
            self._key = name, attributes.get("id", "")
            author = " ".join(attributes.get("author", "").split())
            self._said_by = f"{author}: " if author else ""

    def end(self, name: str) -> None:
        """As `XmlHandler.end`."""
        if self._note is None:
            return
        if name != self._key[0]:
            self._note.end(name)
            return
        blocks, remarks = self._note.flow.end()
        self._note = None
        self.remarks += [Remark(remark.kind, remark.reason) for remark in remarks]
        if blocks:
            self.notes[self._key] = self._said_by + "\n".join(block.text for block in blocks)

    def text(self, text: str) -> None:
        """As `XmlHandler.text`."""
        if self._note is not None:
            self._note.text(text)
