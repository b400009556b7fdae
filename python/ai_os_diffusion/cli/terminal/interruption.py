"""Ctrl-C, also where Python loses it.

A KeyboardInterrupt may come up inside a callback, where Python only mentions it, or inside native code, which
makes another error of it. What ends a command after Ctrl-C is the Ctrl-C, whatever it looks like.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Deferral", "deferred", "hear", "leave", "pass_over", "was_heard"]

_INTERRUPTED = 130
_PIECE_S = 0.1
_heard = False


def was_heard() -> bool:
    """Whether somebody pressed Ctrl-C that nobody has answered yet."""
    return _heard


def pass_over() -> None:
    """It is answered: what it stopped is over, and the program goes on."""
    global _heard
    _heard = False


def hear() -> None:
    """Have Ctrl-C raise KeyboardInterrupt, and remember it."""
    import signal

    signal.signal(signal.SIGINT, _interrupt)
    mention = sys.unraisablehook

    def end_where_it_is_lost(lost: Any) -> None:
        # What was acknowledged is on disk, and drafts are cleared by whoever comes next.
        if issubclass(lost.exc_type, KeyboardInterrupt):
            leave()
        mention(lost)

    sys.unraisablehook = end_where_it_is_lost


class Deferral:
    """Whether somebody asked a command to end, which it does where it has something to save.

    Attributes:
        asked: by Ctrl-C, or by a request to terminate.
    """

    def __init__(self) -> None:
        self.asked = False

    def wait(self, time_s: float) -> bool:
        """Wait for so long, or until somebody asks; whether somebody did."""
        end = time.monotonic() + time_s
        while not self.asked and (left := end - time.monotonic()) > 0:
            # A signal that is handled here does not end a sleep.
            time.sleep(min(left, _PIECE_S))
        return self.asked


@contextmanager
def deferred() -> Iterator[Deferral]:
    """Within the block the first Ctrl-C only asks; the second interrupts."""
    import signal

    deferral = Deferral()

    def ask(*_signal: object) -> None:
        if deferral.asked:
            _interrupt()
        deferral.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield deferral
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(*_signal: object) -> None:
    """End the process at once, where there is nothing to save."""
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(_INTERRUPTED)


def _interrupt(*_signal: object) -> None:
    global _heard
    _heard = True
    raise KeyboardInterrupt
