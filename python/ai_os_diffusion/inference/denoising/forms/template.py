"""A JSON object whose values are to be found: its form as a canvas, and what was written as values."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ai_os_diffusion.inference.denoising.forms.form import Form, ObjectForm, filled, slots_of, write
from ai_os_diffusion.inference.denoising.forms.json_schema import MAX_DEPTH, choice, form_of_schema, is_schema
from ai_os_diffusion.inference.denoising.forms.slot import Slot
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Template"]

_SCALARS: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_NAMED = {name: kind for kind, name in _SCALARS.items()} | {kind.__name__: kind for kind in _SCALARS}
_MOST_SLOTS = 512


class Template:
    """The form of a JSON object: given names, and slots in their order.

    Args:
        form: names to types (`str`, `int`, `float`, `bool`, a list of one of these, one of these or None, a
            tuple of texts to choose from), to further such mappings, or a JSON schema of an object. As JSON
            has it: names of types ("string" or "str"), `["string"]` for a list, several texts to choose from.

    Attributes:
        form: what is given of it, and the slots.

    Raises:
        SamplingError: it has no slots, or asks for what no slot can hold.
    """

    def __init__(self, form: Mapping[str, Any]) -> None:
        if not isinstance(form, Mapping) or not form:
            raise SamplingError(f"template is {form!r}, expected names with their types, or a JSON schema")
        self.form = form_of_schema(form) if is_schema(form) else _from_types(form, ())
        self.slots = tuple(slots_of(self.form))
        if not 0 < len(self.slots) <= _MOST_SLOTS:
            raise SamplingError(
                f"template: expected at least one value to be found and {_MOST_SLOTS} at most, got "
                f"{len(self.slots)}"
            )

    def pieces(self) -> list[str]:
        """The text of the object around its slots, as a model reads it: every value in quotation marks."""
        pieces = [""]
        write(self.form, pieces)
        return pieces

    def value(self, written: Sequence[str]) -> dict[str, Any]:
        """The object with what was written into its slots.

        Raises:
            SamplingError: a value is not of its type.
        """
        values = iter([slot.value(text) for slot, text in zip(self.slots, written, strict=True)])
        found: dict[str, Any] = filled(self.form, values)
        return found


def _from_types(form: Mapping[str, Any], path: tuple[str, ...]) -> Form:
    if len(path) > MAX_DEPTH:
        raise SamplingError(f"template: nested deeper than {MAX_DEPTH}")
    found: dict[str, Form] = {}
    for name, kind in form.items():
        if not isinstance(name, str):
            raise SamplingError(f"template: names are texts, got {name!r}")
        here = (*path, name)
        found[name] = _from_types(kind, here) if isinstance(kind, Mapping) else _slot_of(kind, here)
    return ObjectForm(found)


def _slot_of(kind: Any, path: tuple[str, ...]) -> Form:
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


def _choice(options: Sequence[Any], path: tuple[str, ...], may_be_null: bool) -> Form:
    if not options or not all(isinstance(option, str) and option for option in options):
        raise SamplingError(f"template: {'.'.join(path)}: expected texts to choose from, got {options!r}")
    if len(options) == 1:
        return Slot(path, "string", may_be_null=may_be_null, options=tuple(options))
    return choice(path, options, may_be_null=may_be_null)
