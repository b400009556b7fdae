"""The entry point of `aios`.

It imports next to nothing itself: Ctrl-C is heard from here on, while the program is still being imported.
"""

from __future__ import annotations

import sys

from ai_os_diffusion.cli.terminal import interruption

__all__ = ["run"]


def run() -> None:
    """Run the program and end the process with its exit code."""
    try:
        import signal

        is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_heard:
            # A KeyboardInterrupt could come up in the middle of any module; there is nothing to save yet.
            signal.signal(signal.SIGINT, interruption.leave)
    except KeyboardInterrupt:
        interruption.leave()
    from ai_os_diffusion.cli.program import main

    if is_heard:
        interruption.hear()
    code = main()
    if is_heard:
        # All is written; the interpreter is only taken down.
        signal.signal(signal.SIGINT, interruption.leave)
    sys.exit(code)
