"""Jupyter notebooks: Markdown cells as Markdown, code cells as code, outputs that are text, in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json import JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from ai_os_diffusion.ingestion.document import Block, BlockKind, Remark, RemarkKind, spans
from ai_os_diffusion.ingestion.readers.code import CodeReader, read_python
from ai_os_diffusion.ingestion.readers.html import read_html
from ai_os_diffusion.ingestion.readers.jsonl import storable
from ai_os_diffusion.ingestion.readers.markdown import MarkdownReader
from ai_os_diffusion.ingestion.readers.outline import Outline
from ai_os_diffusion.ingestion.readers.text import paragraphs
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["read_notebook"]

# Colours of tracebacks and of what programs write (ECMA-48, CSI).
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
# What an object is called that is shown in another form: "<Figure size 640x480 with 1 Axes>".
_NO_WORDS = re.compile(r"<[^<>\n]*>")
# What nbformat 3 calls the media of nbformat 4.
_MEDIA = {
    "text": "text/plain",
    "html": "text/html",
    "latex": "text/latex",
    **{name: f"image/{name}" for name in ("png", "jpeg", "svg", "pdf")},
}
_PICTURES = ("image/", "audio/", "video/", "application/pdf")
_HEADING = 6

_PICTURE = "pictures, which are not read"
_NO_TEXT = "outputs in no form that is text"
_UNKNOWN = "not what a cell of a notebook holds (nbformat 3 or 4)"


def read_notebook(text: str, name: str) -> tuple[list[Block], list[Remark]]:
    """Read the cells of a notebook (nbformat 3 or 4), with their numbers and their lines in the file.

    Titles of Markdown cells stand above the cells below them. Of an output in several forms one that is text
    is taken; pictures are left out and named.

    Args:
        text: the file, lines separated by line feeds.
        name: file name; it is no title.

    Raises:
        IngestError: it is not JSON, or no notebook.
    """
    try:
        notebook = _Decoder().decode(text)
    except RecursionError as error:
        raise IngestError("damaged: its JSON is nested deeper than any notebook") from error
    except ValueError as error:
        raise IngestError(
            f"damaged: it is not JSON ({error}); restore it, or rename it to .txt to take it as text"
        ) from error
    cells = _cells_of(notebook)
    if cells is None:
        raise IngestError(
            "it has no list of cells, as notebooks have (nbformat 3 or 4); "
            "rename it to .json or .txt to take it as text"
        )
    reader = _Cells(name, _language_of(notebook))
    blocks = [block for cell in cells for block in reader.read(cell)]
    blocks += reader.end()
    return [reader.placed(block) for block in blocks], reader.remarks()


class _Written(str):
    """A string of a JSON text, which knows the line that it stands on.

    Attributes:
        line: 1-based line of the text.
    """

    __slots__ = ("line",)
    line: int


class _Decoder(JSONDecoder):
    """Decodes JSON; every string that is a value is `_Written`."""

    def __init__(self) -> None:
        super().__init__()
        self._at, self._line = 0, 1
        # The scanner that is written in C asks for no strings.
        self.parse_string = self._string
        self.scan_once = py_make_scanner(self)

    def _string(self, text: str, begin: int, _strict: bool) -> tuple[_Written, int]:
        # Strings come in their order. One that holds line feeds is not JSON, but can be read.
        value, end = scanstring(text, begin, False)
        self._line += text.count("\n", self._at, begin)
        self._at = begin
        written = _Written(value)
        written.line = self._line
        return written, end


class _Cells:
    """Reads cell after cell.

    Blocks first have the lines of all cells' texts below each other; `placed` gives them those of the file.
    """

    def __init__(self, name: str, language: str) -> None:
        self._name = name
        self._language = language
        self._outline = Outline()
        self._cell = 0
        # Of the latest text, among the lines of all of them.
        self._first = 1
        # The line of the file, and the cell, of each line of the cells' texts.
        self._lines: list[int] = []
        self._cells: list[int] = []
        self._remarks: dict[tuple[RemarkKind, str], list[int]] = {}

    def read(self, cell: Any) -> Iterator[Block]:
        """Yield the blocks of the next cell."""
        self._cell += 1
        if not isinstance(cell, dict):
            self._remark("damaged", _UNKNOWN, _lines_in(cell))
            return
        source = cell.get("source", cell.get("input"))
        kind, text = cell.get("cell_type"), self._text(source)
        if text is None:
            self._remark("damaged", _UNKNOWN, _lines_in(source))
        elif kind == "markdown":
            yield from self._markdown(text)
        elif kind == "heading":
            yield from self._heading(text, cell.get("level"))
        elif kind == "code":
            yield from self._code(text, str(cell.get("language") or self._language))
        else:
            yield from self._paragraphs(text)
        self._remark("opaque", _PICTURE, _lines_in(cell.get("attachments")))
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else ():
            yield from self._output(output)

    def end(self) -> Iterator[Block]:
        """Yield a title that has nothing below."""
        return self._outline.end()

    def placed(self, block: Block) -> Block:
        """A block with its lines in the file, below titles that know none, and the number of its cell."""
        line, end_line = self._lines[block.line - 1], self._lines[block.end_line - 1]
        metadata = {**block.metadata, "cell": self._cells[block.line - 1]}
        titles = tuple(map(str, block.headings))
        return block._replace(line=line, end_line=max(line, end_line), headings=titles, metadata=metadata)

    def remarks(self) -> list[Remark]:
        """What is not in the blocks."""
        return [Remark(*what, lines=spans(lines)) for what, lines in self._remarks.items()]

    def _remark(self, kind: RemarkKind, reason: str, lines: Iterable[int]) -> None:
        for line in lines:
            self._remarks.setdefault((kind, reason), []).append(line)

    def _text(self, value: Any, between: str = "") -> str | None:
        """A text that is one string or several; its lines are the next. None if it is something else.

        Args:
            value: of the JSON.
            between: what ends each string.
        """
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, _Written) for part in parts):
            return None
        lines: list[int] = []
        texts: list[str] = []
        is_begun = False
        for part in parts:
            texts.append(storable(f"{part}{between}"))
            *ended, last = texts[-1].split("\n")
            for _ in ended:
                if not is_begun:
                    lines.append(part.line)
                is_begun = False
            if last and not is_begun:
                lines.append(part.line)
                is_begun = True
        if not is_begun:
            lines.append(parts[-1].line if parts else 1)
        self._first = len(self._lines) + 1
        self._lines += lines
        self._cells += [self._cell] * len(lines)
        return "".join(texts)

    def _markdown(self, text: str) -> Iterator[Block]:
        reader = MarkdownReader(self._name, self._outline)
        yield from reader.read(text, self._first)
        yield from reader.end()
        self._take(reader.take_remarks(), 1)

    def _heading(self, text: str, level: Any) -> Iterator[Block]:
        written = Block(text.strip(), self._first, self._first + text.count("\n"))
        level = level if isinstance(level, int) else _HEADING
        yield from self._outline.title(level, " ".join(text.split()), written)

    def _code(self, text: str, language: str) -> Iterator[Block]:
        if language.lower() in ("python", "ipython"):
            blocks, _ = read_python(text, self._name)
        else:
            blocks = list(CodeReader(self._name).read(text))
        yield from self._below(blocks)

    def _paragraphs(self, text: str, kind: BlockKind = "prose") -> Iterator[Block]:
        yield from self._below([block._replace(kind=kind, headings=("",)) for block in paragraphs(text)])

    def _below(self, blocks: Sequence[Block]) -> Iterator[Block]:
        """Blocks of the latest text, below the titles so far in place of their outermost."""
        above, before = self._outline.headings, self._first - 1
        for block in blocks:
            self._outline.fill()
            yield block._replace(
                line=before + block.line,
                end_line=before + block.end_line,
                headings=(*above, *block.headings[1:]),
            )

    def _output(self, output: Any) -> Iterator[Block]:
        if not isinstance(output, dict):
            self._remark("damaged", _UNKNOWN, _lines_in(output))
        elif output.get("output_type") in ("error", "pyerr"):
            told = output.get("traceback") or [output.get("ename"), output.get("evalue")]
            yield from self._terminal(told, "\n")
        elif output.get("output_type") == "stream":
            yield from self._terminal(output.get("text"))
        elif isinstance(output.get("data"), dict):
            yield from self._forms(output["data"])
        else:
            yield from self._forms({_MEDIA[key]: value for key, value in output.items() if key in _MEDIA})

    def _terminal(self, value: Any, between: str = "") -> Iterator[Block]:
        """What a program wrote, without its colours."""
        text = self._text(value, between)
        if text is None:
            self._remark("damaged", _UNKNOWN, _lines_in(value))
            return
        yield from self._paragraphs(_ESCAPE.sub("", text), "code")

    def _forms(self, forms: Mapping[str, Any]) -> Iterator[Block]:
        """The form of an output that is text; what is no more than a name only if there is no other."""
        pictures = [value for medium, value in forms.items() if medium.startswith(_PICTURES)]
        self._remark("opaque", _PICTURE, (line for value in pictures for line in _lines_in(value)))
        plain = forms.get("text/plain")
        said = "".join(_strings_in(plain)).strip()
        if said and not _NO_WORDS.fullmatch(said):
            yield from self._terminal(plain)
        elif "text/markdown" in forms:
            yield from self._terminal(forms["text/markdown"])
        elif "text/html" in forms:
            yield from self._html(forms["text/html"])
        elif "text/latex" in forms:
            yield from self._terminal(forms["text/latex"])
        elif said and not pictures:
            yield from self._terminal(plain)
        elif not pictures:
            self._remark("opaque", _NO_TEXT, _lines_in(forms))

    def _html(self, value: Any) -> Iterator[Block]:
        text = self._text(value)
        if text is None:
            self._remark("damaged", _UNKNOWN, _lines_in(value))
            return
        blocks, remarks = read_html(text, self._name)
        yield from self._below([block._replace(headings=("", *block.headings)) for block in blocks])
        self._take(remarks, self._first)

    def _take(self, remarks: Iterable[Remark], first_line: int) -> None:
        """Take the remarks of a reader, whose line 1 is this one among the lines of all texts."""
        for remark in remarks:
            for first, last in remark.lines:
                self._remark(
                    remark.kind, remark.reason, self._lines[first_line + first - 2 : first_line + last - 1]
                )


def _cells_of(notebook: Any) -> list[Any] | None:
    """The cells of a notebook, those of all its work sheets in nbformat 3."""
    if not isinstance(notebook, dict):
        return None
    if isinstance(notebook.get("cells"), list):
        return list(notebook["cells"])
    sheets = notebook.get("worksheets")
    if not isinstance(sheets, list) or not all(isinstance(sheet, dict) for sheet in sheets):
        return None
    lists = [sheet.get("cells") for sheet in sheets]
    return [cell for cells in lists if isinstance(cells, list) for cell in cells]


def _language_of(notebook: Mapping[str, Any]) -> str:
    """The language of the code cells, in which most are Python."""
    metadata = notebook.get("metadata")
    for group, key in (("language_info", "name"), ("kernelspec", "language")):
        known = metadata.get(group) if isinstance(metadata, dict) else None
        if isinstance(known, dict) and isinstance(known.get(key), str):
            return str(known[key])
    return "python"


def _strings_in(value: Any) -> Iterator[_Written]:
    """All strings of a JSON value, in their order."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, _Written):
            yield value
        elif isinstance(value, (list, dict)):
            left += reversed(value.values() if isinstance(value, dict) else value)


def _lines_in(value: Any) -> Iterator[int]:
    """The lines of the file on which the strings of a JSON value stand."""
    return (written.line for written in _strings_in(value))
