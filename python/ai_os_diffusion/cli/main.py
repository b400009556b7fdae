"""The entry point of `aios`.

It imports next to nothing itself: Ctrl-C is heard from here on, while the program is still being imported.
"""

from __future__ import annotations

import os
import sys

__all__ = ["run"]

_INTERRUPTED = 130


def run() -> None:
    """Run the program and end the process with its exit code."""
    try:
        import signal

        is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_heard:
            # A KeyboardInterrupt could come up in the middle of any module; there is nothing to save yet.
            signal.signal(signal.SIGINT, _leave)
    except KeyboardInterrupt:
        _leave()
    from ai_os_diffusion.cli.program import main

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())


def _leave(*_signal: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(_INTERRUPTED)
