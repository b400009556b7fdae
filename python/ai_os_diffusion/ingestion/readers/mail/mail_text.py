"""The texts within a message, and on which of its lines each stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from email.message import Message
from typing import Any

from ai_os_diffusion.ingestion.decoding import decode, read_labelled
from ai_os_diffusion.ingestion.document import Block, Remark, spans

__all__ = ["MailText"]

_ENCODED = frozenset("base64 quoted-printable x-uuencode uuencode uue x-uue".split())


class MailText:
    """Goes through the bytes of a message, part after part.

    Attributes:
        line: of the message, on which the part begins that was reached last.
        end_line: on which it ends.
    """

    def __init__(self, data: bytes, first_line: int) -> None:
        """Begin at the top.

        Args:
            data: the message.
            first_line: number of its first line.
        """
        self.line = first_line
        self.end_line = first_line
        # As the parser has it: a character a byte.
        self._written = data.decode("ascii", "surrogateescape")
        self._at, self._line_at = 0, first_line
        # Line of the message of each line of the part; empty where they have nothing to do with each other.
        self._lines: Sequence[int] = ()
        # The part as it is written, where it is in no encoding for its way.
        self._plain: bytes | None = None

    def go_to(self, part: Message) -> None:
        """Go on to a part that holds no others."""
        encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
        is_written = encoding not in _ENCODED
        payload: Any = part.get_payload(decode=True) if is_written else part.get_payload()
        self._plain = payload if is_written else None
        if is_written and payload:
            # As it is written, which the parser else decodes.
            payload = payload.decode("ascii", "surrogateescape")
        # What is not there would be looked for to the end, for every part.
        if not payload or not (is_written or payload.isascii()) or not self._find(payload):
            self._lines = ()
            return
        if encoding == "quoted-printable":
            written = payload.split("\n")
            ends = [True, *(not line.rstrip("\r").endswith("=") for line in written)]
            self._lines = [self.line + index for index in range(len(written)) if ends[index]]
        else:
            self._lines = range(self.line, self.end_line + 1) if is_written else ()

    def go_to_header(self, value: str) -> None:
        """Go on to a header; its line is that of what a message says of itself."""
        self._find(value)

    def _find(self, written: str) -> bool:
        at = self._written.find(written, self._at)
        if at < 0:
            return False
        self.line = self._line_at + self._written.count("\n", self._at, at)
        self.end_line = self.line + written.rstrip("\r\n").count("\n")
        self._at, self._line_at = at + len(written), self.line + written.count("\n")
        return True

    def decoded(self, part: Message) -> tuple[str, list[Remark]]:
        """The text of the part that was reached, lines separated by line feeds; which bytes are not of it.

        Raises:
            IngestError: it is no text.
        """
        data: Any = self._plain if self._plain is not None else part.get_payload(decode=True) or b""
        is_typed = "Content-Type" in part
        label = part.get_content_charset() if is_typed else None
        read = read_labelled(data, label) if label else None
        if read is None:
            is_html = is_typed and part.get_content_subtype() == "html"
            found = decode(data, "html" if is_html else "text")
            read = found.text, found.encoding, not found.replaced_lines
        text = read[0].replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
        if "\ufffd" not in text:
            return text, []
        odd = [number for number, line in enumerate(text.split("\n"), 1) if "\ufffd" in line]
        reason = f"bytes that are not {read[1]}, each read as one U+FFFD"
        return text, [Remark("replaced", reason, lines=spans(odd))]

    def placed(self, blocks: Iterable[Block], headings: tuple[str, ...]) -> list[Block]:
        """Blocks of the part's text with lines of the message, below titles of it; their own know none."""
        return [
            Block(
                text,
                self._line_of(line, self.line),
                self._line_of(end_line, self.end_line),
                kind,
                (*headings, *map(str, above)),
                metadata,
                columns,
            )
            for text, line, end_line, kind, above, metadata, columns in blocks
        ]

    def placed_remarks(self, remarks: Iterable[Remark]) -> list[Remark]:
        """Remarks on the part's text with lines of the message."""
        return [
            replace(
                remark,
                lines=tuple(
                    (self._line_of(first, self.line), self._line_of(last, self.end_line))
                    for first, last in remark.lines
                ),
            )
            for remark in remarks
        ]

    def _line_of(self, number: int, otherwise: int) -> int:
        return self._lines[min(number, len(self._lines)) - 1] if self._lines else otherwise
