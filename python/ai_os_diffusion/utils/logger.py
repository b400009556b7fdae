"""Logging of the library: one logger a module, silent until an application configures it."""

from __future__ import annotations

import logging

from ai_os_diffusion.utils.visible_text import visible_line

__all__ = ["get_logger"]

_ROOT = "ai_os_diffusion"
logging.getLogger(_ROOT).addHandler(logging.NullHandler())


class _VisibleArguments(logging.Filter):
    """What a message names may be foreign: it stays on its line of the log and does nothing to a terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                value if isinstance(value, (int, float)) else visible_line(str(value))
                for value in record.args
            )
        return True


_VISIBLE = _VisibleArguments()


def get_logger(name: str) -> logging.Logger:
    """The logger of a module.

    Args:
        name: the module's `__name__`.

    Returns:
        A logger below `ai_os_diffusion`, whose level and handlers are the application's to set. The arguments
        of its messages are made visible.
    """
    logger = logging.getLogger(name if name.startswith(_ROOT) else f"{_ROOT}.{name}")
    logger.addFilter(_VISIBLE)
    return logger
