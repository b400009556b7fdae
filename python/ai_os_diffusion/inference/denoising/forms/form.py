"""The form of a JSON value: what is given of it, and slots for what is to be found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.inference.denoising.forms.slot import ABSENT, Slot, distinct

__all__ = ["Fixed", "Form", "ListForm", "ObjectForm", "filled", "slots_of", "write"]


@dataclass(frozen=True)
class Fixed:
    """A value that is given."""

    value: Any


@dataclass(frozen=True)
class ObjectForm:
    """An object.

    Attributes:
        members: forms by their names.
        optional: names that are left out where nothing was written.
        is_optional: whether the object itself is left out where nothing was written into it, or where a value
            that it needs is missing.
    """

    members: Mapping[str, Form]
    optional: frozenset[str] = frozenset()
    is_optional: bool = False


@dataclass(frozen=True)
class ListForm:
    """A list with a form for each place; those that are left out close up.

    Attributes:
        items: forms, as many as the list has values at most.
        least: values that it needs.
        is_optional: whether a list is left out that is empty, or lacks values that it needs.
        is_set: whether its values are all different.
    """

    items: tuple[Form, ...]
    least: int = 0
    is_optional: bool = False
    is_set: bool = False


Form = Slot | Fixed | ObjectForm | ListForm


def slots_of(form: Form) -> Iterator[Slot]:
    """Its slots, in the order in which they are written."""
    if isinstance(form, Slot):
        yield form
    for part in _parts(form):
        yield from slots_of(part)


def _parts(form: Form) -> list[Form]:
    if isinstance(form, ObjectForm):
        return list(form.members.values())
    return list(form.items) if isinstance(form, ListForm) else []


def write(form: Form, pieces: list[str]) -> None:
    """Append the text of a form, every value in quotation marks; the last piece is still being written."""
    if isinstance(form, Slot):
        pieces[-1] += '["' if form.is_list else '"'
        pieces.append('"]' if form.is_list else '"')
    elif isinstance(form, Fixed):
        pieces[-1] += json.dumps(form.value, ensure_ascii=False)
    elif isinstance(form, ObjectForm):
        pieces[-1] += "{"
        for index, (name, own) in enumerate(form.members.items()):
            pieces[-1] += f"{', ' if index else ''}{json.dumps(name, ensure_ascii=False)}: "
            write(own, pieces)
        pieces[-1] += "}"
    else:
        pieces[-1] += "["
        for index, own in enumerate(form.items):
            pieces[-1] += ", " if index else ""
            write(own, pieces)
        pieces[-1] += "]"


def filled(form: Form, values: Iterator[Any]) -> Any:
    """The value with those of its slots, in their order; `ABSENT` where it is left out."""
    if isinstance(form, Slot):
        return next(values)
    if isinstance(form, Fixed):
        return form.value
    if isinstance(form, ListForm):
        found = [one for one in [filled(own, values) for own in form.items] if one is not ABSENT]
        if form.is_set:
            found = distinct(found)
        return ABSENT if form.is_optional and len(found) < max(form.least, 1) else found
    members = {name: filled(own, values) for name, own in form.members.items()}
    there = {name: value for name, value in members.items() if value is not ABSENT}
    if form.is_optional:
        said = [value for value in there.values() if value not in ("", None, [], {})]
        needed = [name for name in members if name not in form.optional]
        if not said or any(name not in there for name in needed):
            return ABSENT
    return there
