"""Untrusted values, read one at a time: each of the type and in the range that its reader expects.

A configuration may hold a text where a number belongs, a number no machine could act on, or a million levels
of nesting. Whoever reads it says what is acceptable; anything else is refused by its name, before a loop runs
as often or memory is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError
from ai_os_diffusion.utils.files.regular_file import Raised, parse_json, read_regular

__all__ = [
    "MAX_CONFIG_BYTES",
    "MAX_EXTENT",
    "MAX_LAYERS",
    "MAX_TOKENIZER_BYTES",
    "MAX_TOKENS",
    "UntrustedValues",
    "read_document",
    "read_values",
    "shown",
]

MAX_CONFIG_BYTES = 8 << 20
"""The largest that configurations are allowed: those with a list of all added tokens have about one MiB."""

MAX_TOKENIZER_BYTES = 64 << 20
"""As above, of a tokenizer.json: that of 256 thousand tokens has 33 MB."""

MAX_ITEMS = 1 << 22
"""Values in one document. Each takes about a hundred bytes once it is parsed."""

MAX_TEXT = 1 << 20
"""Characters of one text: a chat template, a prompt, a token."""

MAX_EXTENT = 1 << 20
"""Rows, columns, heads: the native core's own limit."""

MAX_TOKENS = 1 << 24
"""Rows of a vocabulary, positions: the native core's own limit."""

MAX_LAYERS = 1 << 12

_REQUIRED: Any = object()


def shown(value: Any) -> str:
    """A value for a message, cut to a line's length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class UntrustedValues:
    """An object of values that others wrote. What is null counts as not there.

    Args:
        place: names the object in messages: `config.json`.
        values: by name.
        error: class of the error to raise.
        prefix: what the names in messages begin with, where it is left out of `values`.
        names: what `values` calls what is asked for by another name.
    """

    def __init__(
        self,
        place: str,
        values: Mapping[str, Any],
        error: Raised = ModelDamagedError,
        prefix: str = "",
        *,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.place, self.values, self._error, self._prefix = place, values, error, prefix
        self._names = names or {}

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it stands, of any type."""
        value = self.values.get(self._names.get(key, key))
        return default if value is None else value

    def named(self, key: str) -> str:
        """Where a value stands, and what it is."""
        return f"{self.place}: {self._prefix}{self._names.get(key, key)} is {shown(self.get(key))}"

    def renamed(self, names: Mapping[str, str]) -> UntrustedValues:
        """The same values, asked for by other names; messages say those that stand there."""
        return UntrustedValues(self.place, self.values, self._error, self._prefix, names=names)

    def fault(self, key: str, expected: str) -> Exception:
        """The error for a value that is not as expected."""
        return self._error(f"{self.named(key)}, expected {expected}")

    def refusal(self, key: str, expected: str) -> ModelLoadError:
        """The error for a value that is sound, and asks for what is not done here."""
        return ModelLoadError(f"{self.named(key)}, expected {expected}")

    def integer(self, key: str, default: int = _REQUIRED, *, low: int = 1, high: int = MAX_EXTENT) -> int:
        """A whole number from `low` to `high`."""
        value = self._value(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self.fault(key, f"a whole number from {low} to {high}")
        return value

    def maybe_integer(self, key: str, *, low: int = 0, high: int = MAX_TOKENS) -> int | None:
        """As `integer`; None where there is none."""
        return self.integer(key, low=low, high=high) if key in self else None

    def number(self, key: str, default: float = _REQUIRED, *, low: float = 0.0, high: float = 1e12) -> float:
        """A finite number from `low` to `high`."""
        value = self._value(key, default)
        # A number that is none is in no range.
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.fault(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str, default: bool = _REQUIRED) -> bool:
        """True or false."""
        value = self._value(key, default)
        if type(value) is not bool:
            raise self.fault(key, "true or false")
        return value

    def text(self, key: str, default: str = _REQUIRED, *, high: int = MAX_TEXT) -> str:
        """A text of at most `high` characters that can be written as UTF-8."""
        value = self._value(key, default)
        if not isinstance(value, str) or len(value) > high or not _is_unicode(value):
            raise self.fault(key, f"a text of at most {high} characters")
        return value

    def maybe_text(self, key: str) -> str | None:
        """As `text`; None where there is none."""
        return self.text(key) if key in self else None

    def texts(self, key: str, *, high: int = MAX_ITEMS) -> list[str]:
        """A list of texts; empty where there is none."""
        values = self.items(key, high=high)
        if not all(isinstance(value, str) and len(value) <= MAX_TEXT for value in values):
            raise self.fault(key, "a list of texts")
        return values

    def items(self, key: str, *, high: int = MAX_ITEMS) -> list[Any]:
        """A list of at most `high` values of any type; empty where there is none."""
        value = self.get(key, [])
        if not isinstance(value, list) or len(value) > high:
            raise self.fault(key, f"a list of at most {high} values")
        return value

    def section(self, key: str) -> UntrustedValues:
        """An object; empty where there is none."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            raise self.fault(key, "an object")
        return UntrustedValues(f"{self.place}: {key}", value, self._error)

    def sections(self, key: str) -> list[UntrustedValues]:
        """A list of objects; empty where there is none."""
        return sections(f"{self.place}: {key}", self.items(key), self._error)

    def ids(self, key: str) -> list[int]:
        """A token id, or a list of them."""
        value = self.get(key, [])
        listed = value if isinstance(value, list) else [value]
        if len(listed) > MAX_LAYERS or not all(type(id) is int and 0 <= id < MAX_TOKENS for id in listed):
            raise self.fault(key, "one or several ids of tokens")
        return listed

    def _value(self, key: str, default: Any) -> Any:
        value = self.get(key, default)
        if value is _REQUIRED:
            raise self._error(f"{self.place}: {self._prefix}{self._names.get(key, key)} is missing")
        return value


def sections(place: str, items: list[Any], error: Raised = ModelDamagedError) -> list[UntrustedValues]:
    """The objects of a list that holds nothing else."""
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise error(f"{place}[{index}] is {shown(item)}, expected an object")
    return [UntrustedValues(f"{place}[{index}]", item, error) for index, item in enumerate(items)]


def read_document(path: Path, max_bytes: int = MAX_CONFIG_BYTES, error: Raised = ModelDamagedError) -> Any:
    """Parse a JSON file whose size, number of values and depth are bounded.

    Raises:
        FileNotFoundError: there is none.
        error: it is no regular file, too large, or no JSON.
    """
    content = read_regular(path, max_bytes, error)
    # A value ends at a comma or begins behind a bracket. Counted before: parsed, they take far more memory.
    if content.count(b",") + content.count(b"[") + content.count(b"{") >= MAX_ITEMS:
        raise error(f"{path}: holds more than {MAX_ITEMS} values; it is no file of its kind")
    return parse_json(content, str(path), error)


def read_values(
    path: Path, max_bytes: int = MAX_CONFIG_BYTES, error: Raised = ModelDamagedError
) -> UntrustedValues:
    """As `read_document`, of a file that holds an object.

    Raises:
        FileNotFoundError: there is none.
        error: as `read_document`, or it holds something else.
    """
    value = read_document(path, max_bytes, error)
    if not isinstance(value, dict):
        raise error(f"{path}: expected a JSON object, got {type(value).__name__}")
    return UntrustedValues(str(path), value, error)


def _is_unicode(text: str) -> bool:
    """Whether it has no lone surrogate, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
