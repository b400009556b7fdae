"""Standard output and standard error: whole or an error, and nothing foreign acts on a terminal.

Python's own streams lose what a descriptor does not take at once: unbuffered ones (PYTHONUNBUFFERED) drop the
rest of a short write, which a stopped process or a pipe that does not block gives, and end with success.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import warnings
from collections.abc import Iterable
from typing import IO, Any, cast

from ai_os_diffusion.cli.terminal.wrapping import LineWrapper, is_styled, width_of
from ai_os_diffusion.utils.visible_text import visible_text

__all__ = [
    "INDENT",
    "abandon_output",
    "ask",
    "flush_output",
    "guard_streams",
    "styled",
    "tell",
    "write_wrapped",
]

# Before the further lines of a message, so that none of them passes for a message of its own.
INDENT = "  "

_OUTPUT, _ERRORS = 1, 2


class WholeOutput(io.RawIOBase):
    """A descriptor that takes all it is given, or raises once and takes nothing from then on."""

    def __init__(self, descriptor: int, name: str | None) -> None:
        """Wrap a descriptor, which stays open.

        Args:
            descriptor: where to write.
            name: what an error calls it; None raises none, for remarks that nobody may be there to read.
        """
        self._descriptor = descriptor
        self._name = name
        self._is_abandoned = False

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a person watches."""
        return os.isatty(self._descriptor)

    def abandon(self) -> None:
        """Take nothing from now on."""
        self._is_abandoned = True

    def write(self, data: Any) -> int:
        """Write all of it, waiting where the descriptor would have one come back later.

        Raises:
            OSError: it cannot be written: the reader left, the disk is full, the descriptor is closed.
        """
        rest = memoryview(data).cast("B")
        size_bytes = rest.nbytes
        while rest and not self._is_abandoned:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.abandon()
                if self._name is not None:
                    reason = "it is closed" if error.errno == errno.EBADF else error.strerror
                    raise OSError(error.errno, reason, self._name) from None
        return size_bytes


class VisibleStream(io.TextIOWrapper):
    """A text stream on which foreign text shows what would steer a terminal in place of doing it."""

    _wrapper: LineWrapper | None = None

    def write(self, text: str) -> int:
        """Write text, of which only line breaks and tabs act."""
        self.write_styled(visible_text(text))
        return len(text)

    def write_styled(self, text: str) -> int:
        """Write text of ours, with the escape sequences that style it."""
        self.end_word()
        if self._wrapper is not None:
            self._wrapper.note(text)
        return super().write(text)

    def write_wrapped(self, text: str, indent: str = "", *, strong: bool = False) -> None:
        """Write text for people, broken into lines where the stream has a width.

        Args:
            text: visible, but for line breaks and tabs.
            indent: spaces before the further lines of a line that is broken.
            strong: whether it stands out, where that can be seen.
        """
        wrapper = self._wrapper
        if wrapper is None or wrapper.is_at_start:
            width = width_of(self)
            if width is None:
                super().write(text)
                return
            if wrapper is None:
                wrapper = self._wrapper = LineWrapper(width, styled=is_styled(self))
            wrapper.width = width
        super().write(wrapper.feed(text, indent, strong=strong))

    def begin_line(self) -> None:
        """Note that somebody ended the line, whose terminal shows it."""
        self.end_word()
        if self._wrapper is not None:
            self._wrapper.note("\n")

    def end_word(self) -> None:
        """Write the word that is held back until it is known to end."""
        if self._wrapper is not None and (held := self._wrapper.finish()):
            super().write(held)


class _Styled:
    """A stream as a library writes to it that styles its text, and was given only what is visible."""

    def __init__(self, stream: VisibleStream) -> None:
        self._stream = stream
        self.write = stream.write_styled

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """Put such streams in the place of `sys.stdout` and `sys.stderr`, and have warnings on one line each."""
    _fill_closed_descriptors()
    # Where these have no descriptor of their own, somebody else takes what is written.
    for name, descriptor, called in (
        ("stdout", _OUTPUT, "standard output"),
        ("stderr", _ERRORS, None),
    ):
        stream = getattr(sys, name)
        if stream is None or _descriptor(stream) == descriptor:
            setattr(sys, name, _guarded(stream, WholeOutput(descriptor, called)))
    format_warning = warnings.formatwarning

    def on_one_line(*about: Any, **more: Any) -> str:
        return visible_text(format_warning(*about, **more), INDENT)

    warnings.formatwarning = on_one_line


def flush_output() -> None:
    """Write what is still held back.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(sys.stdout, VisibleStream):
        sys.stdout.end_word()
    sys.stdout.flush()


def abandon_output() -> None:
    """Give up on what is still held back: its reader is gone, or the user does not want to wait for it."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, WholeOutput):
        raw.abandon()


def styled(stream: IO[str]) -> IO[str]:
    """The same stream for a library that writes escape sequences of its own; give it visible text only."""
    return cast(IO[str], _Styled(stream)) if isinstance(stream, VisibleStream) else stream


def write_wrapped(stream: IO[str], text: str, indent: str = "", *, strong: bool = False) -> None:
    """Write text for people, as `VisibleStream.write_wrapped` where the stream is one."""
    if isinstance(stream, VisibleStream):
        stream.write_wrapped(text, indent, strong=strong)
    else:
        stream.write(text)


def ask(prompt: str) -> None:
    """Write a prompt on standard error, whose line ends with what is typed."""
    write_wrapped(sys.stderr, visible_text(prompt, INDENT), INDENT)
    if isinstance(sys.stderr, VisibleStream):
        sys.stderr.begin_line()
    sys.stderr.flush()


def tell(text: str) -> None:
    """Say something beside the data, on standard error; further lines of it are indented."""
    write_wrapped(sys.stderr, f"{visible_text(text, INDENT)}\n", INDENT)
    sys.stderr.flush()


def _guarded(stream: Any, raw: WholeOutput) -> VisibleStream:
    is_unbuffered = getattr(stream, "write_through", False)
    return VisibleStream(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", "utf-8"),
        # What the encoding lacks is written out too.
        errors="backslashreplace",
        line_buffering=is_unbuffered or raw.isatty() or raw.fileno() == _ERRORS,
    )


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def _fill_closed_descriptors() -> None:
    """Keep a file that is opened later, such as the store's, from becoming a standard stream.

    Standard output takes no byte then, so that writing to it is an error, as it should be.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (_OUTPUT, os.O_RDONLY), (_ERRORS, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
