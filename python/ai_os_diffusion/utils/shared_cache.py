"""Results that are made when they are first asked for, once, whoever asks."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["shared_cache"]

P = ParamSpec("P")
T = TypeVar("T")


def shared_cache(make: Callable[P, T]) -> Callable[P, T]:
    """`functools.cache` for threads: that one runs the function in every thread that comes before the result.

    Here threads that come early wait for the first. Arguments are hashable and given by position.
    """
    results: dict[tuple[object, ...], T] = {}
    making = threading.RLock()

    @functools.wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if args not in results:
            with making:
                if args not in results:
                    results[args] = make(*args, **kwargs)
        return results[args]

    return call
