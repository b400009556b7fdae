"""A mail message (RFC 5322, MIME): who wrote what to whom, and what is attached."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32
from typing import Any

from ai_os_diffusion.ingestion.decoding import decode
from ai_os_diffusion.ingestion.document import Block, Document, Remark, RemarkKind
from ai_os_diffusion.ingestion.kinds import kind_of
from ai_os_diffusion.ingestion.readers.compressed import inner_document
from ai_os_diffusion.ingestion.readers.html import read_html
from ai_os_diffusion.ingestion.readers.mail.mail_text import MailText
from ai_os_diffusion.ingestion.readers.packages.parts import of_part, with_few_remarks
from ai_os_diffusion.ingestion.readers.text import paragraphs
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["ReadAttachment", "read_message"]

ReadAttachment = Callable[[str, bytes], Document]
"""Reads an attachment, given its name and content, or raises an `IngestError`."""

_SHOWN = frozenset(("from", "to", "cc", "date", "subject"))
# A message has one of these, whoever wrote it.
_KNOWN = _SHOWN | {"received", "message-id", "return-path", "sender"}
_MAX_HEADER_CHARS = 1 << 14
_MAX_SUBJECT_CHARS = 160
# Every line is looked at for the end of every part that is open.
_MAX_LOOKS = 50_000_000
_SPARE_LOOKS = 10
_MAX_DEPTH = 4
# Of parts within parts; how deep calls may go is the program's own setting, and says nothing of messages.
_MAX_NESTED = 100
_MAX_ATTACHMENTS = 256
_MEDIA = frozenset(("image", "audio", "video", "font", "model"))


class _Bounded(Compat32):
    """Keeps headers short: taking them apart costs the square of their length."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """As in the policy of compatibility, but for the length."""
        name, value = super().header_source_parse(sourcelines)
        return name, value[:_MAX_HEADER_CHARS]


_policy = _Bounded()
_parser = BytesParser(policy=_policy)
# Headers of one line each, none of which says what the text is.
_SIMPLE = re.compile(rb"(?:(?!content-|mime-)[!-9;-~]+:[^\r\n]*\n)+\n", re.IGNORECASE)


def read_message(
    data: bytes, read_attachment: ReadAttachment, first_line: int = 1, depth: int = 0
) -> tuple[list[Block], list[Remark]]:
    """Read a message: its headers, its text, and its attachments by their own readers.

    Lines are those of the message as it is sent; of what is attached those of the attachment, which is the
    `part` of the blocks. Of alternatives the plain text is read, unless there is none.

    Args:
        data: the message's bytes.
        read_attachment: reads what is attached.
        first_line: number of its first line.
        depth: of messages that this one is attached to.

    Raises:
        IngestError: it is no message, or one that only attacks.
    """
    looks = (data.count(b"\n") + data.count(b"\r")) * (_SPARE_LOOKS + data.lower().count(b"boundary"))
    if looks > _MAX_LOOKS:
        raise IngestError("it has far more lines and parts than messages have")
    try:
        message = _parsed(data)
        if _KNOWN.isdisjoint(map(str.lower, message.keys())):
            raise IngestError("not a mail message: it has no sender, recipient, date or subject")
        return _Message(MailText(data, first_line), read_attachment, depth).read(message)
    except RecursionError as error:
        raise _nested_too_deeply() from error


def _nested_too_deeply() -> IngestError:
    return IngestError("its parts are nested more deeply than messages are")


def _parsed(data: bytes) -> Message:
    """The message by the parser of the library; a simple one as it has it, in a third of the time."""
    head = _SIMPLE.match(data)
    if head is None:
        return _parser.parsebytes(data)
    message: Message = Message(_policy)
    for line in data[: head.end() - 2].decode("ascii", "surrogateescape").split("\n"):
        message.set_raw(*_policy.header_source_parse([line]))
    message.set_payload(data[head.end() :].decode("ascii", "surrogateescape"))
    return message


class _Message:
    def __init__(self, text: MailText, read_attachment: ReadAttachment, depth: int) -> None:
        self._text = text
        self._read_attachment = read_attachment
        self._depth = depth
        self._attached = 0
        self._blocks: list[Block] = []
        self._remarks: list[Remark] = []

    def read(self, message: Message) -> tuple[list[Block], list[Remark]]:
        """Blocks and remarks of the message."""
        for part, headings, is_body in self._leaves(message):
            self._text.go_to(part)
            try:
                self._leaf(part, headings, is_body=is_body)
            except IngestError as error:
                self._leave_out("damaged", f"a part of type {part.get_content_type()}: {error}")
        return self._blocks, with_few_remarks(self._remarks)

    def _leaves(self, message: Message) -> Iterator[tuple[Message, tuple[str, ...], bool]]:
        """Parts that hold no others, the titles above each, and whether its text is not said elsewhere."""
        headings = self._begin(message, ())
        left: list[tuple[Message, tuple[str, ...], bool, int]] = [(message, headings, True, 0)]
        while left:
            part, headings, is_body, depth = left.pop()
            if depth > _MAX_NESTED:
                raise _nested_too_deeply()
            if not part.is_multipart():
                yield part, headings, is_body
                continue
            parts: Any = part.get_payload()
            kind = part.get_content_type()
            if kind == "message/delivery-status":
                told = [f"{name}: {_decoded(said)}" for one in parts for name, said in one.raw_items()]
                self._say("\n".join(told), headings)
                continue
            if kind.startswith("message/"):
                left += [(inner, self._begin(inner, headings), is_body, depth + 1) for inner in parts]
                continue
            chosen = _chosen(parts) if kind == "multipart/alternative" else None
            bodies = [is_body and (chosen is None or inner is chosen) for inner in parts]
            inners = [(inner, headings, body, depth + 1) for inner, body in zip(parts, bodies, strict=True)]
            left += reversed(inners)

    def _begin(self, message: Message, headings: tuple[str, ...]) -> tuple[str, ...]:
        """Tell the headers of a message; returns the titles above its text."""
        said = [(name.title(), value) for name, value in message.raw_items() if name.lower() in _SHOWN]
        if said:
            self._text.go_to_header(said[0][1])
        if any(len(value) >= _MAX_HEADER_CHARS for _, value in said):
            self._leave_out("limit", f"headers are read to {_MAX_HEADER_CHARS:,} characters")
        told = [(name, _decoded(value)) for name, value in said]
        self._say("\n".join(f"{name}: {value}" for name, value in told if value), headings)
        subject = next((value for name, value in told if name == "Subject"), "")[:_MAX_SUBJECT_CHARS]
        return (*headings, subject) if subject else headings

    def _say(self, text: str, headings: tuple[str, ...]) -> None:
        """A block of what the message says of itself, at the line that was reached."""
        if text:
            self._blocks.append(Block(text, self._text.line, self._text.line, "prose", headings))

    def _leaf(self, part: Message, headings: tuple[str, ...], *, is_body: bool) -> None:
        if not any(name.lower().startswith("content-") for name in part):
            # Nothing says that it is more than text, as in most messages.
            if is_body:
                self._body(part, headings)
            return
        name = _decoded(part.get_filename() or "")
        is_attached = bool(name) or part.get_content_disposition() == "attachment"
        if part.get_content_maintype() == "text" and not is_attached:
            if is_body:
                self._body(part, headings)
            return
        data: Any = part.get_payload(decode=True)
        if data:
            self._attachment(name or f"attachment {self._attached + 1}", data, part, headings)

    def _body(self, part: Message, headings: tuple[str, ...]) -> None:
        text, remarks = self._text.decoded(part)
        if "Content-Type" in part and part.get_content_subtype() == "html":
            blocks, others = read_html(text, "")
            remarks += others
        else:
            blocks = list(paragraphs(text))
        self._blocks += self._text.placed(blocks, headings)
        self._remarks += self._text.placed_remarks(remarks)

    def _attachment(self, name: str, data: bytes, part: Message, headings: tuple[str, ...]) -> None:
        if part.get_content_maintype() in _MEDIA:
            media = part.get_content_maintype()
            self._leave_out("no_text", f"attachments of type {media}, which are not read")
            return
        self._attached += 1
        if self._attached > _MAX_ATTACHMENTS:
            self._leave_out("limit", f"attachments beyond {_MAX_ATTACHMENTS} of one message")
            return
        try:
            # Here, so that mail in gzip files counts as what it is.
            inner, data = inner_document(name, data)
            kind = kind_of(inner, data)
            if kind == "mail" and self._depth < _MAX_DEPTH:
                found, remarks = read_message(data, self._read_attachment, depth=self._depth + 1)
            elif kind in ("mail", "mbox"):
                raise IngestError(
                    "mail attached to mail is read a few deep only; add it as a file of its own"
                )
            else:
                document = self._read_attachment(inner, data)
                found, remarks = list(document.blocks), list(document.remarks)
        except IngestError as error:
            self._leave_out("no_text", f"attachment {name}: {error}")
            return
        blocks, about = of_part(name, found, remarks, headings)
        self._blocks += blocks
        self._remarks += about

    def _leave_out(self, kind: RemarkKind, reason: str) -> None:
        self._remarks.append(Remark(kind, reason, lines=((self._text.line, self._text.end_line),)))


def _chosen(parts: list[Message]) -> Message | None:
    """Of alternatives the plain text, if it says something, else the last one, which is the richest."""
    for part in parts:
        if part.get_content_type() == "text/plain" and str(part.get_payload()).strip():
            return part
    return parts[-1] if parts else None


def _decoded(value: str) -> str:
    """A header as people read it, in one line."""
    text = value
    is_plain = value.isascii()
    if not is_plain:
        # Bytes that should have been encoded.
        text = decode(value.encode("utf-8", "surrogateescape")).text
    if is_plain and "=?" not in text:
        return " ".join(text.replace("\0", "").split())
    with contextlib.suppress(HeaderParseError, LookupError, ValueError):
        text = "".join(
            piece if isinstance(piece, str) else piece.decode(charset or "raw-unicode-escape", "replace")
            for piece, charset in decode_header(text)
        )
    return " ".join(text.encode("utf-8", "replace").decode().replace("\0", "").split())
