"""A value of a template that is to be found, and what was written for it as that value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["ABSENT", "SEPARATOR", "Slot", "distinct"]

SEPARATOR = re.compile(r'"\s*,\s*"')
"""Parts what is written for the values of a list."""
_NUMBERS: Mapping[str, re.Pattern[str]] = {
    "integer": re.compile(r"-?\d+"),
    "number": re.compile(r"-?\d+(?:\.\d+)?"),
}

ABSENT: Any = object()
"""No value: nothing was written for one that may be left out."""


@dataclass(frozen=True)
class Slot:
    """A value that is to be found.

    Attributes:
        path: names of the objects that it lies in, and its own.
        kind: "string", "integer", "number" or "boolean".
        is_list: whether it is a list of such values.
        may_be_null: whether it may stay empty; a text or list may in any case.
        options: what may be written, if not anything: a text as it is, another value as JSON.
        values: what `options` stand for; empty where each is itself.
        is_optional: whether the value may be left out, where nothing is written.
        low: least value of a number.
        high: greatest value of a number.
        most: characters of a text, or values of a list, at most.
        is_set: whether values of a list are all different.
    """

    path: tuple[str, ...]
    kind: str
    is_list: bool = False
    may_be_null: bool = False
    options: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    is_optional: bool = False
    low: float | None = None
    high: float | None = None
    most: int | None = None
    is_set: bool = False

    @property
    def may_be_empty(self) -> bool:
        """Whether nothing need be written."""
        return (
            self.may_be_null
            or self.is_optional
            or self.is_list
            or (self.kind == "string" and not self.options)
        )

    @property
    def place(self) -> str:
        """Names it in messages."""
        return ".".join(self.path)

    def value(self, written: str) -> Any:
        """What was written as the value that it spells; `ABSENT` where it is left out.

        Raises:
            SamplingError: it spells none.
        """
        text = written.strip()
        if self.is_list:
            parts = [part.strip() for part in SEPARATOR.split(text)]
            found = [self._scalar(part) for part in parts if part and self._is_scalar(part)]
            found = distinct(found) if self.is_set else found
            return ABSENT if not found and self.is_optional else found[: self.most]
        # What stands behind a quotation mark is no part of a value.
        return self._scalar(text.partition('"')[0].strip())

    def is_value(self, written: str) -> bool:
        """Whether `value` takes it."""
        try:
            self.value(written)
        except SamplingError:
            return False
        return True

    def _is_scalar(self, text: str) -> bool:
        if self.kind == "boolean":
            return text[:1] in ("t", "f")
        return self.kind == "string" or _NUMBERS[self.kind].match(text) is not None

    def _scalar(self, text: str) -> Any:
        if not text and (self.may_be_null or self.is_optional):
            return None if self.may_be_null else ABSENT
        if self.options:
            nearest = max(range(len(self.options)), key=lambda at: _in_common(self.options[at], text))
            return self.values[nearest] if self.values else self.options[nearest]
        if self.kind == "string":
            return text if self.most is None or self.is_list else text[: self.most]
        if not self._is_scalar(text):
            raise SamplingError(f"template: {self.place} is {text!r}, expected a {self.kind}")
        if self.kind == "boolean":
            # Tokens of both words, written together, spell neither; the first letter tells them apart.
            return text.startswith("t")
        found = _NUMBERS[self.kind].match(text)
        assert found is not None
        return self._bounded(int(found.group()) if self.kind == "integer" else float(found.group()))

    def _bounded(self, number: float) -> float:
        """The number, or the bound that it is beyond: what is held to is held to."""
        whole = self.kind == "integer"
        if self.low is not None and number < self.low:
            return math.ceil(self.low) if whole else float(self.low)
        if self.high is not None and number > self.high:
            return math.floor(self.high) if whole else float(self.high)
        return number


def distinct(values: Sequence[Any]) -> list[Any]:
    """The first of equal values each, as JSON schema tells them apart: 1 is 1.0, and neither is true."""
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(json.dumps(_plain(value), sort_keys=True), value)
    return list(found.values())


def _plain(value: Any) -> Any:
    """A JSON value in which equal numbers are written alike, however deep."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, list) else value


def _in_common(option: str, text: str) -> tuple[int, int]:
    """How long two texts are equal, and, of options as near, which is the shorter."""
    length = next((at for at, (a, b) in enumerate(zip(option, text, strict=False)) if a != b), len(text))
    return min(length, len(option)), -len(option)
