"""Locks of files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import sys
from typing import IO, Any

__all__ = ["hold"]


def hold(file: IO[Any], *, waits: bool) -> bool:
    """Lock an open file until it is closed.

    Args:
        file: what is locked; other processes, and other openings of this one, hold it no more than once.
        waits: for another that holds it.

    Returns:
        Whether it is held now. Where a file system or a system knows no locks, it is.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
