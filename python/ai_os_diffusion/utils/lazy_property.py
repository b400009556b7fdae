"""An attribute that is made when it is first asked for, once, whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["lazy_property"]

T = TypeVar("T")


class lazy_property(Generic[T]):  # noqa: N801  # used as a decorator, like `property`
    """`functools.cached_property` for objects that threads share.

    That one runs the method in every thread that comes before the value is there (since Python 3.12; before,
    it kept a lock for all objects of a class). Here threads that come early wait for the first, each object
    and attribute by itself. An error is nobody's value: the next one who asks tries again.

    The value lives in the object's `__dict__`, so asking again costs an attribute.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = ""
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> T | Self:
        if instance is None:
            return self
        values = instance.__dict__
        # `setdefault` is atomic, so the first thread's lock becomes everybody's.
        pending = f"{self._name} is being made"
        with values.setdefault(pending, threading.RLock()):
            if self._name not in values:
                values[self._name] = self._make(instance)
            # From here on nobody needs it; objects with locks cannot be copied.
            values.pop(pending, None)
            value: T = values[self._name]
            return value
