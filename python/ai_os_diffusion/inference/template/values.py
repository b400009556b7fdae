"""What a template handles: plain data, texts, and the few things that can be called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Undefined

from ai_os_diffusion.inference.template.marked_text import cut, trust
from ai_os_diffusion.inference.template.meter import ITEM, Meter
from ai_os_diffusion.utils.errors import TokenizerError

__all__ = ["Function", "Group", "Loop", "Namespace", "items_of", "plain_data", "size_of", "text_of"]


class Function:
    """Something of ours that a template may call; nothing else can be called."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name, self.call = name, call

    def __repr__(self) -> str:
        return f"<function {self.name}>"


class Group(NamedTuple):
    """What `groupby` puts together."""

    grouper: Any
    list: list[Any]


class Namespace:
    """`namespace(...)`: variables that inner blocks can set."""

    def __init__(self, *given: Any, **values: Any) -> None:
        self.values: dict[str, Any] = {**dict(*given), **values}


class Loop:
    """`loop`, the state of a `for`.

    Args:
        items: all of it.
        depth: of recursive calls.
        again: runs the same body over other items.
    """

    def __init__(self, items: Sequence[Any], depth: int, again: Callable[[Any], str] | None) -> None:
        self._items, self.index0, self.depth0 = items, -1, depth
        self.again = again
        self._changed: tuple[Any, ...] | None = None

    def run(self) -> Iterator[Any]:
        """The items, one after the other."""
        for item in self._items:
            self.index0 += 1
            yield item

    def attribute(self, name: str) -> Any:
        """The value of `loop.name`."""
        at, length = self.index0, len(self._items)
        known: dict[str, Callable[[], Any]] = {
            "index0": lambda: at,
            "index": lambda: at + 1,
            "revindex0": lambda: length - at - 1,
            "revindex": lambda: length - at,
            "first": lambda: at == 0,
            "last": lambda: at == length - 1,
            "length": lambda: length,
            "depth0": lambda: self.depth0,
            "depth": lambda: self.depth0 + 1,
            "previtem": lambda: self._items[at - 1] if at else Undefined("there is no previous item"),
            "nextitem": lambda: (
                self._items[at + 1] if at + 1 < length else Undefined("there is no next item")
            ),
            "cycle": lambda: Function("cycle", lambda *values: values[at % len(values)]),
            "changed": lambda: Function("changed", self._is_changed),
        }
        return known[name]() if name in known else Undefined(obj=self, name=name)

    def _is_changed(self, *values: Any) -> bool:
        before, self._changed = self._changed, values
        return before != values


def plain_data(value: Any, place: str) -> Any:
    """A copy of a caller's value in the types of JSON, its texts unmarked; records become dictionaries.

    Raises:
        TokenizerError: it is of another type; the message names the place.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if value is None or isinstance(value, bool):
        return value
    # Subclasses, as of enums, may print otherwise than numbers.
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {
            plain_data(key, f"a key of {place}"): plain_data(item, f"{place}[{key!r}]")
            for key, item in value.items()
        }
    if isinstance(value, tuple):
        return tuple(plain_data(item, f"{place}[{index}]") for index, item in enumerate(value))
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain_data(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_data(
            {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, place
        )
    if not isinstance(value, type) and callable(dump := getattr(value, "model_dump", None)):
        return plain_data(dump(), place)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return plain_data(value.item(), place)
    raise TokenizerError(
        f"chat template: {place} is of type {type(value).__name__}, "
        "expected text, numbers, lists and dictionaries"
    )


def size_of(value: Any) -> int:
    """What plain data would cost to make."""
    if isinstance(value, str):
        return ITEM + len(value)
    if isinstance(value, dict):
        return ITEM + sum(size_of(key) + size_of(item) for key, item in value.items())
    return ITEM + sum(map(size_of, value)) if isinstance(value, list | tuple) else ITEM


def text_of(value: Any, meter: Meter) -> str:
    """A value as it is printed. Numbers are the template's: they spell nothing."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return trust(str(value))
    # The longest that one character becomes is `\U0001f600`.
    meter.pay_all(value, 10)
    return str(value)


def items_of(value: Any, meter: Meter) -> list[Any]:
    """What a `for` or a filter goes through.

    Raises:
        TypeError: the value holds no items.
    """
    if isinstance(value, str):
        meter.pay_items(len(value))
        return [cut(value, at, at + 1) for at in range(len(value))]
    if isinstance(value, list | tuple | dict | range):
        meter.pay_items(len(value))
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__!r} object is not iterable")
