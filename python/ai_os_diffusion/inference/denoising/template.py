"""A JSON object whose values are to be found: its form as a canvas, and what was written as values."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Slot", "Template"]

_SCALARS: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_NAMED = {name: kind for kind, name in _SCALARS.items()} | {kind.__name__: kind for kind in _SCALARS}
_KINDS = ("string", "integer", "number", "boolean")
_SEPARATOR = re.compile(r'"\s*,\s*"')
_NUMBERS: Mapping[str, re.Pattern[str]] = {
    "integer": re.compile(r"-?\d+"),
    "number": re.compile(r"-?\d+(?:\.\d+)?"),
}
_MAX_DEPTH = 16
_KNOWN = frozenset(
    "type properties required items enum title description $schema additionalProperties".split()
)


@dataclass(frozen=True)
class Slot:
    """A value that is to be found.

    Attributes:
        path: names of the objects that it lies in, and its own.
        kind: "string", "integer", "number" or "boolean".
        is_list: whether it is a list of such values.
        may_be_null: whether it may stay empty; a text or list may in any case.
        options: of a text, the only values that it may have; empty for any.
    """

    path: tuple[str, ...]
    kind: str
    is_list: bool = False
    may_be_null: bool = False
    options: tuple[str, ...] = ()

    @property
    def may_be_empty(self) -> bool:
        """Whether nothing need be written."""
        return self.may_be_null or self.is_list or (self.kind == "string" and not self.options)

    def value(self, written: str) -> Any:
        """What was written as the value that it spells.

        Raises:
            SamplingError: it spells none.
        """
        text = written.strip()
        if self.is_list:
            parts = [part.strip() for part in _SEPARATOR.split(text)]
            return [self._scalar(part) for part in parts if part and self._is_scalar(part)]
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
        if not text and self.may_be_null:
            return None
        if self.kind == "string":
            return max(self.options, key=lambda option: _in_common(option, text)) if self.options else text
        if not self._is_scalar(text):
            raise SamplingError(f"template: {'.'.join(self.path)} is {text!r}, expected a {self.kind}")
        if self.kind == "boolean":
            # Tokens of both words, written together, spell neither; the first letter tells them apart.
            return text.startswith("t")
        found = _NUMBERS[self.kind].match(text)
        assert found is not None
        return int(found.group()) if self.kind == "integer" else float(found.group())


class Template:
    """The form of a JSON object: given names, and slots in their order.

    Args:
        form: names to types (`str`, `int`, `float`, `bool`, a list of one of these, one of these or None, a
            tuple of texts to choose from), to further such mappings, or a JSON schema of an object. As JSON
            has it: names of types ("string" or "str"), `["string"]` for a list, several texts to choose from.

    Raises:
        SamplingError: it has no slots, or asks for what no slot can hold.
    """

    def __init__(self, form: Mapping[str, Any]) -> None:
        if not isinstance(form, Mapping) or not form:
            raise SamplingError(f"template is {form!r}, expected names with their types, or a JSON schema")
        is_schema = form.get("type") == "object" and isinstance(form.get("properties"), Mapping)
        self._form = _from_schema(form, ()) if is_schema else _from_types(form, ())
        self.slots = tuple(_slots(self._form))
        if not self.slots:
            raise SamplingError("template: expected at least one value to be found")

    def pieces(self) -> list[str]:
        """The text of the object around its slots, as a model reads it: every value in quotation marks."""
        pieces = [""]
        _write(self._form, pieces)
        return pieces

    def value(self, written: Sequence[str]) -> dict[str, Any]:
        """The object with what was written into its slots.

        Raises:
            SamplingError: a value is not of its type.
        """
        values = iter([slot.value(text) for slot, text in zip(self.slots, written, strict=True)])
        return _filled(self._form, values)


_Form = dict[str, Any]


def _from_types(form: Mapping[str, Any], path: tuple[str, ...]) -> _Form:
    if len(path) > _MAX_DEPTH:
        raise SamplingError(f"template: nested deeper than {_MAX_DEPTH}")
    found: _Form = {}
    for name, kind in form.items():
        if not isinstance(name, str):
            raise SamplingError(f"template: names are texts, got {name!r}")
        here = (*path, name)
        found[name] = _from_types(kind, here) if isinstance(kind, Mapping) else _slot_of(kind, here)
    return found


def _slot_of(kind: Any, path: tuple[str, ...]) -> Slot:
    may_be_null = False
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        others = [one for one in typing.get_args(kind) if one is not type(None)]
        may_be_null = len(others) < len(typing.get_args(kind))
        kind = others[0] if len(others) == 1 else kind
    if isinstance(kind, tuple):
        return _choice(kind, path, may_be_null)
    if typing.get_origin(kind) is typing.Literal:
        return _choice(typing.get_args(kind), path, may_be_null)
    if isinstance(kind, list) and len(kind) != 1:
        return _choice(kind, path, may_be_null)
    is_list = typing.get_origin(kind) is list or kind is list or isinstance(kind, list)
    if is_list:
        kind = kind[0] if isinstance(kind, list) else next(iter(typing.get_args(kind)), str)
    kind = _NAMED.get(kind, kind) if isinstance(kind, str) else kind
    # By identity: True == 1.
    scalar = next((name for one, name in _SCALARS.items() if kind is one), None)
    if scalar is None:
        raise SamplingError(
            f"template: {'.'.join(path)} is {kind!r}, expected str, int, float, bool, a list of one of "
            "these, one of these or None, a tuple of texts, or a mapping"
        )
    return Slot(path, scalar, is_list, may_be_null)


def _choice(options: Sequence[Any], path: tuple[str, ...], may_be_null: bool) -> Slot:
    if not options or not all(isinstance(option, str) and option for option in options):
        raise SamplingError(f"template: {'.'.join(path)}: expected texts to choose from, got {options!r}")
    return Slot(path, "string", False, may_be_null, tuple(options))


def _from_schema(schema: Mapping[str, Any], path: tuple[str, ...]) -> _Form:
    if len(path) > _MAX_DEPTH:
        raise SamplingError(f"template: nested deeper than {_MAX_DEPTH}")
    found: _Form = {}
    for name, own in schema["properties"].items():
        here = (*path, name)
        place = ".".join(here)
        if not isinstance(own, Mapping):
            raise SamplingError(f"template: {place}: expected a schema, got {own!r}")
        unknown = sorted(set(own) - _KNOWN)
        if unknown:
            raise SamplingError(f"template: {place}: {unknown[0]!r} is not held to; leave it out")
        kinds = own.get("type", "string")
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        may_be_null = "null" in kinds
        kind = next((one for one in kinds if one != "null"), "string")
        if kind == "object":
            found[name] = _from_schema({"properties": {}, **own}, here)
        elif "enum" in own:
            found[name] = _choice(own["enum"], here, may_be_null)
        elif kind == "array":
            items = own.get("items", {})
            inner = items.get("type", "string") if isinstance(items, Mapping) else None
            if inner not in _KINDS:
                raise SamplingError(f"template: {place}: expected items of one type of {', '.join(_KINDS)}")
            found[name] = Slot(here, inner, True, may_be_null)
        elif kind in _KINDS:
            found[name] = Slot(here, kind, False, may_be_null)
        else:
            raise SamplingError(f"template: {place}: type is {kind!r}, expected one of {', '.join(_KINDS)}")
    return found


def _slots(form: _Form) -> Iterator[Slot]:
    for own in form.values():
        if isinstance(own, Slot):
            yield own
        else:
            yield from _slots(own)


def _write(form: _Form, pieces: list[str]) -> None:
    """Appends the text of a form; the last piece is still being written."""
    pieces[-1] += "{"
    for index, (name, own) in enumerate(form.items()):
        pieces[-1] += f"{', ' if index else ''}{json.dumps(name, ensure_ascii=False)}: "
        if isinstance(own, Slot):
            pieces[-1] += '["' if own.is_list else '"'
            pieces.append('"]' if own.is_list else '"')
        else:
            _write(own, pieces)
    pieces[-1] += "}"


def _filled(form: _Form, values: Iterator[Any]) -> dict[str, Any]:
    return {
        name: next(values) if isinstance(own, Slot) else _filled(own, values) for name, own in form.items()
    }


def _in_common(option: str, text: str) -> tuple[int, int]:
    """How long two texts are equal, and, of options as near, which is the shorter."""
    length = next((at for at, (a, b) in enumerate(zip(option, text, strict=False)) if a != b), len(text))
    return min(length, len(option)), -len(option)
