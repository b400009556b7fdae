"""JSON of a schema, as a text that is written from left to right."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ai_os_diffusion.inference.constraints.constraint import SPACE
from ai_os_diffusion.inference.constraints.matches import Matches
from ai_os_diffusion.inference.denoising.forms.form import Fixed, Form, ListForm, ObjectForm
from ai_os_diffusion.inference.denoising.forms.slot import Slot, distinct
from ai_os_diffusion.inference.denoising.forms.template import Template

__all__ = ["FollowsSchema"]

# What people and models put between the parts of JSON; without a bound a text could be all white space.
_SPACE = r"(?: |\n {0,16})?"
_COMMA = f",{_SPACE}"
_HEX = "[0-9a-fA-F]"
# Halves of pairs are valid JSON and no text.
_UNIT = rf'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u(?:[0-9a-ceA-CEfF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}))'
_WHOLE = r"(?:0|[1-9][0-9]{0,15})"
_NUMBERS = {"integer": _WHOLE, "number": rf"{_WHOLE}(?:\.[0-9]{{1,16}})?"}
_MOST_COUNTED = 64
"""Characters and values that a pattern counts; longer texts and lists are looked at in the end."""


class FollowsSchema(Matches):
    """The text is JSON that a schema accepts, its names in the order of the schema.

    The text is held to its form character by character. Bounds of numbers, great lengths and values that are
    to differ are looked at when it is whole.

    Args:
        schema: a JSON schema of an object, or names with types, as a template of `diffuse` takes them: what
            of a schema can be held to is held to, all else is refused by name. A list of objects whose length
            the schema leaves open has three at most.

    Raises:
        SamplingError: the schema asks for what cannot be held to.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._form = Template(schema).form
        self._hold_to(_pattern(self._form))

    def violation(self, text: str) -> str | None:
        """Where it is not what the schema asks for."""
        if not self._accepts(text.strip(SPACE)):
            return "the text is no JSON of the schema"
        return _fault(self._form, json.loads(text), "the value")


def _pattern(form: Form) -> str:
    """The regular expression of the JSON of a form."""
    if isinstance(form, Fixed):
        return _literal(form.value)
    if isinstance(form, Slot):
        return _slot(form)
    if isinstance(form, ObjectForm):
        members = [
            (f"{_literal(name)}:{_SPACE}{_pattern(own)}", name in form.optional)
            for name, own in form.members.items()
        ]
        return rf"\{{{_SPACE}{_in_order(members)}{_SPACE}\}}"
    items = [(_pattern(own), place >= form.least) for place, own in enumerate(form.items)]
    return rf"\[{_SPACE}{_closing_up(items)}{_SPACE}\]"


def _in_order(members: Sequence[tuple[str, bool]]) -> str:
    """Parts with commas between those that are there; some may be left out."""
    found = []
    for at, (own, may_lack) in enumerate(members):
        others = "".join(
            f"(?:{_COMMA}{other})?" if is_optional else f"{_COMMA}{other}"
            for other, is_optional in members[at + 1 :]
        )
        found.append(own + others)
        if not may_lack:
            return f"(?:{'|'.join(found)})"
    return f"(?:{'|'.join(found)})?"


def _closing_up(items: Sequence[tuple[str, bool]]) -> str:
    """Parts of which the last ones may be left out, but none before one that is there."""
    found = ""
    for at in range(len(items) - 1, -1, -1):
        own, may_lack = items[at]
        found = f"{_COMMA if at else ''}{own}{found}"
        found = f"(?:{found})?" if may_lack else found
    return found


def _slot(slot: Slot) -> str:
    if slot.options:
        found = "|".join(map(_literal, slot.values or slot.options))
    elif slot.kind == "string":
        bound = (
            "*" if slot.is_list or slot.most is None or slot.most > _MOST_COUNTED else f"{{0,{slot.most}}}"
        )
        found = f'"{_UNIT}{bound}"'
    elif slot.kind == "boolean":
        found = "true|false"
    else:
        found = f"{'' if slot.low is not None and slot.low >= 0 else '-?'}{_NUMBERS[slot.kind]}"
    if slot.is_list:
        counted = slot.most is not None and 0 < slot.most <= _MOST_COUNTED
        more = f"{{0,{slot.most - 1}}}" if counted and slot.most else "*"
        values = "" if slot.most == 0 else f"(?:(?:{found})(?:{_COMMA}(?:{found})){more})?"
        found = rf"\[{_SPACE}{values}{_SPACE}\]"
    return f"(?:{found}|null)" if slot.may_be_null else f"(?:{found})"


def _literal(value: Any) -> str:
    return re.escape(json.dumps(value, ensure_ascii=False))


def _fault(form: Form, value: Any, place: str) -> str | None:
    """What is wrong with a value whose text has the form."""
    if isinstance(form, ObjectForm):
        found = (_fault(form.members[name], own, f"{place}.{name}") for name, own in value.items())
        return next(filter(None, found), None)
    if isinstance(form, ListForm) or (isinstance(form, Slot) and form.is_list and value is not None):
        if form.is_set and len(distinct(value)) < len(value):
            return f"{place} holds a value twice"
        if isinstance(form, Slot):
            if form.most is not None and len(value) > form.most:
                return f"{place} has {len(value)} values, more than {form.most}"
            found = (_scalar_fault(form, own, place) for own in value)
        else:
            found = (_fault(own, one, place) for own, one in zip(form.items, value, strict=False))
        return next(filter(None, found), None)
    return _scalar_fault(form, value, place) if isinstance(form, Slot) and not form.options else None


def _scalar_fault(slot: Slot, value: Any, place: str) -> str | None:
    if isinstance(value, str):
        is_long = not slot.is_list and slot.most is not None and len(value) > slot.most
        return f"{place} has {len(value)} characters, more than {slot.most}" if is_long else None
    if value is None or isinstance(value, bool):
        return None
    if slot.low is not None and value < slot.low:
        return f"{place} is {value}, less than {slot.low}"
    return (
        f"{place} is {value}, more than {slot.high}" if slot.high is not None and value > slot.high else None
    )
