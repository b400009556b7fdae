"""mbox (RFC 4155): many messages one below the other, read one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ai_os_diffusion.ingestion.document import Block, Remark
from ai_os_diffusion.ingestion.readers.mail.message import ReadAttachment, read_message
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["MboxReader"]

_MAX_MESSAGE_CHARS = 64_000_000
# Reasons that are told apart, of all messages together.
_MAX_REASONS = 64
# Who sent it and when; a line of a message that begins so has a mark before it, or no time in it.
_BEGIN = re.compile(r"(?<=\n\n)From [^\n]{0,400}?\d:\d\d[^\n]{0,100}\n")


class MboxReader:
    """Splits an mbox at its `From ` lines; each message has its number, from 1, as metadata `message`.

    The text is bytes read as Latin-1: each message says itself in which encodings its parts are.
    """

    def __init__(self, read_attachment: ReadAttachment) -> None:
        """Begin.

        Args:
            read_attachment: reads what is attached.
        """
        self._read_attachment = read_attachment
        self._held: list[str] = []
        self._chars = 0
        self._tail = "\n\n"
        self._line = 1
        self._number = 0
        self._found = 0
        self._remarks: list[Remark] = []
        self._reasons: set[str] = set()

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """As `PieceReader.read`."""
        joined = self._tail + text
        begin, line = len(self._tail), first_line
        for found in _BEGIN.finditer(joined, begin):
            at = found.start()
            self._hold(joined[begin:at])
            line += joined.count("\n", begin, at)
            yield from self._end_message()
            self._number += 1
            # The line itself is none of the message's.
            self._line = line + 1
            begin, line = found.end(), line + 1
        self._hold(joined[begin:])
        self._tail = joined[-2:]

    def end(self) -> Iterator[Block]:
        """As `PieceReader.end`."""
        yield from self._end_message()
        if not self._found:
            raise IngestError(
                "no message begins in it (a line `From SENDER DATE` and headers); rename it to .txt"
            )

    def take_remarks(self) -> list[Remark]:
        """As `PieceReader.take_remarks`."""
        remarks, self._remarks = self._remarks, []
        return remarks

    def _hold(self, text: str) -> None:
        self._chars += len(text)
        self._held.append(text if self._chars <= _MAX_MESSAGE_CHARS else "\n" * text.count("\n"))

    def _end_message(self) -> Iterator[Block]:
        text, is_whole = "".join(self._held), self._chars <= _MAX_MESSAGE_CHARS
        self._held, self._chars = [], 0
        if is_whole and not text.strip():
            return
        try:
            if not self._number:
                raise IngestError("text above the first message")
            if not is_whole:
                raise IngestError(f"a message of more than {_MAX_MESSAGE_CHARS / 1e6:.0f} MB")
            data = text.encode("latin-1", "replace")
            blocks, remarks = read_message(data, self._read_attachment, self._line)
        except IngestError as error:
            last = self._line + (text.rstrip("\n") if is_whole else text[1:]).count("\n")
            self._tell(Remark("damaged", str(error), lines=((self._line, last),)))
            return
        self._found += 1
        for remark in remarks:
            self._tell(remark)
        number = self._number
        for text, line, end_line, kind, headings, metadata, columns in blocks:
            yield Block(text, line, end_line, kind, headings, {**metadata, "message": number}, columns)

    def _tell(self, remark: Remark) -> None:
        if remark.reason not in self._reasons and len(self._reasons) >= _MAX_REASONS:
            remark = Remark(remark.kind, "more of the like in other messages")
        self._reasons.add(remark.reason)
        self._remarks.append(remark)
