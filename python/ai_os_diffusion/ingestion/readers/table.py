"""Tables of separated values (RFC 4180 and its kin): each row with the names of its columns."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from ai_os_diffusion.ingestion.document import Block, Remark, spans
from ai_os_diffusion.ingestion.readers.text import TextReader

__all__ = ["TableReader"]

_DELIMITERS = ",;\t|"
_TAB_SEPARATED = (".tsv", ".tab")
# Enough rows to tell what separates them and whether the first one names the columns.
_SAMPLE_CHARS = 1 << 16
_MAX_ROWS_ABOVE = 16
# Prose has as many commas in most of its lines only by rare chance.
_MIN_REGULAR_SHARE = 0.5
# A name stands before each of its values, so that a long one would multiply the text.
_MAX_NAME_CHARS = 40
_MAX_HEADER_CELL_CHARS = 80
# Rows that are longer, which may be cut, have a line for each cell and their first cell as title.
_LONG_ROW_CHARS = 400
_MAX_TITLE_CHARS = 80
# The longest row that is waited for, or line that is held.
_MAX_ROW_CHARS = 1 << 20
# Each quote that stays open may cost a look at as much as a row may be long; only so many do.
_MAX_OPEN_QUOTES = 64
_YEAR = re.compile(r"[12]\d{3}")

_OPEN_QUOTE = "a quote that does not end where a cell does; its lines were read as they stand"
_LONG_LINE = f"a line of more than {_MAX_ROW_CHARS:,} characters; read without the names of its columns"


class TableReader:
    """Reads comma-, semicolon-, tab- or bar-separated values; each row tells the names of its columns.

    The first row that fills most columns names them, unless it holds what no name is (a number, a date, an
    address, a value of the rows below); columns without a name are numbered. What stands above is text. A
    short row is one line, "name: value | name: value"; a long one has a line for each cell. A text that is
    not in columns is read as plain text.
    """

    def __init__(self, name: str) -> None:
        """Begin.

        Args:
            name: file name, the outermost heading.
        """
        self._name = name
        self._held, self._line = "", 1
        self._rows: _Rows | None = None
        # What stands before the cells of each column.
        self._names: list[str] = []
        # Rows down to the one that names the columns, which are told as they stand.
        self._above = 0
        self._text: TextReader | None = None
        self._is_in_long_line = False
        self._long_lines: list[int] = []

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """As `PieceReader.read`."""
        if self._text is not None:
            yield from self._text.read(text, first_line)
            return
        if not self._held:
            self._line = first_line
        self._held += text
        if self._rows is not None or len(self._held) >= _SAMPLE_CHARS:
            yield from self._take(is_end=False)

    def end(self) -> Iterator[Block]:
        """As `PieceReader.end`; yields the last row, or all of a short table."""
        yield from self._take(is_end=True)
        if self._text is not None:
            yield from self._text.end()

    def take_remarks(self) -> list[Remark]:
        """Lines with quotes that stay open, and lines that are too long to be rows."""
        remarks = []
        if self._rows is not None and self._rows.open_quotes:
            remarks.append(Remark("damaged", _OPEN_QUOTE, lines=spans(self._rows.open_quotes)))
            self._rows.open_quotes = []
        if self._long_lines:
            remarks.append(Remark("limit", _LONG_LINE, lines=spans(self._long_lines)))
            self._long_lines = []
        return remarks

    def _take(self, *, is_end: bool) -> Iterator[Block]:
        """The blocks of what is held, which is held no longer, except a row that goes on."""
        if self._rows is None and self._text is None:
            self._look()
        if self._rows is None:
            held, self._held = self._held, ""
            if held and self._text is not None:
                yield from self._text.read(held, self._line)
            return
        if self._is_in_long_line:
            yield from self._long_line(self._held.find("\n") + 1)
        used = yield from self._blocks(self._rows.split(self._held, self._line, is_end=is_end))
        self._line += self._held.count("\n", 0, used)
        self._held = self._held[used:]
        if len(self._held) > _MAX_ROW_CHARS and "\n" not in self._held:
            self._long_lines.append(self._line)
            self._is_in_long_line = True
            yield from self._long_line(0)

    def _blocks(self, rows: _Split) -> Generator[Block, None, int]:
        """The block of each row as it is split off; returns what `split` does."""
        while True:
            try:
                row = next(rows)
            except StopIteration as end:
                return int(end.value)
            if self._above:
                self._above -= 1
                block = self._as_it_stands(row)
            else:
                block = self._block(row)
            if block is not None:
                yield block

    def _look(self) -> None:
        """Tell from what is held how its rows are separated, and which names their columns."""
        sample = self._held[:_SAMPLE_CHARS]
        if len(sample) < len(self._held):
            sample = sample[: sample.rfind("\n") + 1] or sample
        found = _delimiter_of(sample, self._name)
        if found is None:
            self._text = TextReader(self._name)
            return
        delimiter, width = found
        rows = list(_Rows(delimiter).split(sample, 1, is_end=True))
        self._rows = _Rows(delimiter, width)
        for index, row in enumerate(rows[:_MAX_ROWS_ABOVE]):
            # A title is followed by empty cells; an index, which has no name, by names.
            if 2 * sum(map(bool, map(str.strip, row.cells))) + (not row.cells[0].strip()) > width:
                if _is_header(row.cells, [below.cells for below in rows[index + 1 :]]):
                    names = map(" ".join, map(str.split, row.cells))
                    self._names = [
                        f"{name[:_MAX_NAME_CHARS]}: " if name else f"column {number}: "
                        for number, name in enumerate(names, 1)
                    ]
                    index += 1
                self._above = index
                return

    def _long_line(self, end: int) -> Iterator[Block]:
        """What is held, up to where its first line ends, as text; 0 where it goes on."""
        self._is_in_long_line = not end
        part, self._held = self._held[: end or len(self._held)], self._held[end:] if end else ""
        if part.strip():
            yield Block(part.strip(), self._line, self._line, "prose", (self._name,))
        self._line += part.count("\n")

    def _as_it_stands(self, row: _Row) -> Block | None:
        text = " | ".join(filter(None, map(str.strip, row.cells)))
        return Block(text, row.line, row.end_line, "row", (self._name,)) if text else None

    def _block(self, row: _Row) -> Block | None:
        """A row with the names of its columns; cells that are empty are left out."""
        cells, names = row.cells, self._names
        if len(cells) > len(names):
            names += (f"column {number}: " for number in range(len(names) + 1, len(cells) + 1))
        told = [name + said for name, cell in zip(names, cells, strict=False) if (said := cell.strip())]
        text = " | ".join(told)
        if not text:
            return None
        if len(text) <= _LONG_ROW_CHARS and "\n" not in text:
            return Block(text, row.line, row.end_line, "row", (self._name,))
        title = " ".join(told[0].split())
        titles = (self._name, title) if len(told) > 1 and len(title) <= _MAX_TITLE_CHARS else (self._name,)
        return Block("\n\n".join(told), row.line, row.end_line, "prose", titles)


class _Row(NamedTuple):
    """The cells of a row, and its first and last line."""

    cells: Sequence[str]
    line: int
    end_line: int


_Split = Generator[_Row, None, int]


class _Rows:
    """Splits text into rows, and rows into cells.

    A quote that is still open where the text ends, or a row is longer than any, is no quote: its line is read
    as it stands, and reading goes on with the next one.
    """

    def __init__(self, delimiter: str, width: int = 0) -> None:
        """Begin.

        Args:
            delimiter: what separates cells.
            width: cells of most rows, where it is known.
        """
        self.open_quotes: list[int] = []
        """Lines with a quote that was none."""
        self._delimiter = delimiter
        self._width = width
        self._left = _MAX_OPEN_QUOTES

    def split(self, text: str, first_line: int, *, is_end: bool) -> _Split:
        """Yield the rows that end in a text; returns the number of characters that they take.

        One by one: so many small objects at a time would make garbage collection a third of the work.

        Args:
            text: lines separated by line feeds; it begins with a row.
            first_line: number of its first line.
            is_end: nothing comes behind it.
        """
        *lines, last = text.split("\n")
        lines = [f"{line}\n" for line in lines]
        if is_end and last:
            lines.append(last)
        begin = 0
        while begin < len(lines):
            begin, end, is_open = yield from self._read(lines, begin, first_line)
            if begin == end:
                break
            if is_open and not is_end:
                waiting = sum(map(len, islice(lines, begin, None)))
                if waiting <= _MAX_ROW_CHARS:
                    return len(text) - waiting - len(last)
            # Looking again from the next line finds what another quote holds together.
            self._left -= 1
            end = begin + 1 if self._left >= 0 else end
            self.open_quotes.append(first_line + begin)
            yield from self._lines(lines, begin, end, first_line)
            begin = end
        return len(text) if is_end else len(text) - len(last)

    def _read(
        self, lines: Sequence[str], first: int, first_line: int
    ) -> Generator[_Row, None, tuple[int, int, bool]]:
        """Yield the rows from a line on, up to one that cannot be read.

        Returns:
            Its first line, the one behind what was looked at, and whether it is open where the lines end.
        """
        ended: list[bool] = []
        source = chain(islice(lines, first, None), _noted(ended))
        reader = csv.reader(source, delimiter=self._delimiter, skipinitialspace=True)
        begin = end = first
        try:
            for cells in reader:
                end = first + reader.line_num
                if ended:
                    return begin, end, True
                if end - begin > 1 and self._is_merged(lines[begin:end]):
                    self.open_quotes.append(first_line + begin)
                    yield from self._lines(lines, begin, end, first_line)
                elif cells:
                    yield _Row(cells, first_line + begin, first_line + end - 1)
                begin = end
        except csv.Error:
            # A cell is longer than the module takes.
            return begin, first + reader.line_num, False
        return end, end, False

    def _lines(self, lines: Sequence[str], begin: int, end: int, first_line: int) -> Iterator[_Row]:
        """Lines as rows of their own, with their quotes."""
        for index in range(begin, end):
            cells = lines[index].rstrip("\n").split(self._delimiter)
            yield _Row(cells, first_line + index, first_line + index)

    def _is_merged(self, lines: Sequence[str]) -> bool:
        """Whether lines that quotes hold together are rows by themselves, and a quote ends within a cell."""
        if any(line.count(self._delimiter) + 1 != self._width for line in lines):
            return False
        try:
            list(csv.reader(lines, delimiter=self._delimiter, skipinitialspace=True, strict=True))
        except csv.Error:
            return True
        return False


def _noted(ended: list[bool]) -> Iterator[str]:
    """No line; notes that one was asked for."""
    ended.append(True)
    yield from ()


def _delimiter_of(sample: str, name: str) -> tuple[str, int] | None:
    """What separates the cells of a table, and how many most of its rows have; None if it has no columns."""
    found: list[tuple[float, int, str]] = []
    for delimiter in _DELIMITERS:
        rows = list(_Rows(delimiter).split(sample, 1, is_end=True))
        widths = Counter(len(row.cells) for row in rows)
        width, count = max(widths.items(), key=lambda item: item[1], default=(0, 0))
        if width > 1 and count >= _MIN_REGULAR_SHARE * len(rows):
            # What the name says, as long as it can be.
            is_named = delimiter == "\t" and name.lower().endswith(_TAB_SEPARATED)
            found.append((2 if is_named else count / len(rows), width, delimiter))
    if not found:
        return None
    _, width, delimiter = max(found)
    return delimiter, width


def _is_header(cells: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a row names the columns of those below.

    Names differ, are short, and are no values: neither numbers, dates and addresses nor what stands in their
    column again. Years may be names of columns that hold something else.
    """
    names = [cell.strip() for cell in cells]
    said = [name.casefold() for name in names if name]
    if len(set(said)) < len(said):
        return False
    rows = [row for row in below if row != cells]
    for column, name in enumerate(names):
        if not name:
            continue
        values = [row[column].strip() for row in rows if len(row) > column]
        if (
            name in values
            or len(name) > _MAX_HEADER_CELL_CHARS
            or "\n" in name
            or "@" in name
            or "://" in name
        ):
            return False
        if any(map(str.isdigit, name)) and not any(map(str.isalpha, name)):
            is_year = _YEAR.fullmatch(name) and values
            if not is_year or any(map(_YEAR.fullmatch, values)):
                return False
    return True
