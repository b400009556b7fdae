"""Reads PDF in a process of its own: `LimitedProcess` runs this file as a script.

When it is ready it says so with a line. A request is a line of JSON with `size` (bytes of the file that
follow it), `first` (0-based page to begin with), `memory_bytes` (what may be used beyond what is),
`page_cpu_seconds` (for opening the file, and for each page) and `max_chars` (of text in all). The answer is
lines of JSON: `{"pages": n, "title": t, "bookmarks": b}`, b being [level, title, 0-based page] of each
where the first page is asked for, or `{"error": e}`; one for each page with its `text`, how many of its
letters have no meaning (`unknown`) and whether it `shows` anything, or with an `error`, or with `limit` where
the text would be too much; then `{"done": peak memory in bytes}`. Each tells the `cpu_seconds` that this
process has used. A page that kills this process is known by its absence.

It imports nothing of this package, so that it starts quickly.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium

try:
    import resource
except ImportError:  # Windows has no such limits; the asking side's patience is the only one there.
    resource = None  # type: ignore[assignment]

_MAX_TITLE_CHARS = 1000
_MAX_BOOKMARKS = 10_000


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    _limit("RLIMIT_CORE", 0)
    # Nothing that is read may write a file.
    _limit("RLIMIT_FSIZE", 0)
    if hasattr(signal, "SIGPROF"):
        # Whatever the asking process made of it, here the system ends what runs on behind its limit.
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    answers.write(b"{}\n")
    answers.flush()
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request["size"])
        _limit("RLIMIT_AS", _memory_bytes() + request["memory_bytes"])
        _limit_cpu(request["page_cpu_seconds"])
        for answer in _read(data, request["first"], request["max_chars"]):
            answer["cpu_seconds"] = time.process_time()
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
            _limit_cpu(request["page_cpu_seconds"])
        _limit_cpu(0)
        del data
        gc.collect()


def _read(data: bytes, first: int, max_chars: int) -> Iterator[dict[str, Any]]:
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        yield {"error": str(error)}
        return
    with document:
        title = str(document.get_metadata_dict().get("Title", ""))
        marks = _bookmarks(document) if first == 0 else []
        yield {"pages": len(document), "title": title[:_MAX_TITLE_CHARS], "bookmarks": marks}
        for index in range(first, len(document)):
            try:
                answer = _page(document, index)
            except (pypdfium2.PdfiumError, RuntimeError, ValueError) as error:
                answer = {"error": str(error)}
            if len(answer.get("text", "")) > max_chars:
                answer = {"limit": True}
            max_chars -= len(answer.get("text", ""))
            yield {"page": index, **answer}
    yield {"done": _peak_bytes()}


def _bookmarks(document: Any) -> list[tuple[int, str, int]]:
    """Those that lead to a page; none where they are damaged."""
    found = []
    with contextlib.suppress(pypdfium2.PdfiumError, RuntimeError, ValueError):
        for mark in itertools.islice(document.get_toc(), _MAX_BOOKMARKS):
            if hasattr(mark, "get_title"):
                title, place = mark.get_title(), mark.get_dest()
                page = place.get_index() if place else None
            else:  # pypdfium2 before 5
                title, page = mark.title, mark.page_index
            if page is not None and title.strip():
                found.append((mark.level, title[:_MAX_TITLE_CHARS], page))
    return found


def _page(document: Any, index: int) -> dict[str, Any]:
    page = document[index]
    # Notes and form fields are shown, but are text of a page only once they are flattened into it.
    if pdfium.FPDFPage_GetAnnotCount(page) and pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY):
        page.close()
        page = document[index]
    try:
        text_page = page.get_textpage()
        text = text_page.get_text_range(errors="replace")
        text_page.close()
        # pdfium marks a hyphen that ends a line with U+0002, or with U+FFFE in older releases.
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x02", "-").replace("\ufffe", "-")
        text = text.replace("\0", "\ufffd")
        shows = bool(text.strip()) or pdfium.FPDFPage_CountObjects(page) > 0
        return {"text": text, "unknown": text.count("\ufffd"), "shows": shows}
    finally:
        page.close()


def _limit(name: str, value: int) -> None:
    """Lower a limit of this process, where the system knows it."""
    kind = getattr(resource, name, None)
    if kind is None:
        return
    hard = resource.getrlimit(kind)[1]
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (bounded, hard))
    except (ValueError, OSError):  # macOS refuses a limit of memory below what is mapped.
        return


def _limit_cpu(seconds: float) -> None:
    """End this process when it has computed for so long from now on; 0 takes the limit away.

    A timer of processor time and not RLIMIT_CPU, which counts whole seconds and from the start.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _memory_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, AttributeError):
        return 0


def _peak_bytes() -> int:
    # Linux's `ru_maxrss` begins with the size of the process that started this one; its VmHWM does not.
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
