"""Logging of the library: one logger a module, silent until an application configures it."""

from __future__ import annotations

import logging

__all__ = ["get_logger"]

_ROOT = "ai_os_diffusion"
logging.getLogger(_ROOT).addHandler(logging.NullHandler())


def get_logger(name: str) -> logging.Logger:
    """The logger of a module.

    Args:
        name: the module's `__name__`.

    Returns:
        A logger below `ai_os_diffusion`, whose level and handlers are the application's to set.
    """
    return logging.getLogger(name if name.startswith(_ROOT) else f"{_ROOT}.{name}")
