"""A JSON schema as a form: what of it can be held to, held to; all else is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ai_os_diffusion.inference.denoising.forms.form import Fixed, Form, ListForm, ObjectForm, slots_of
from ai_os_diffusion.inference.denoising.forms.slot import Slot
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["MAX_DEPTH", "choice", "form_of_schema", "is_schema"]

MAX_DEPTH = 16
_KINDS = ("string", "integer", "number", "boolean")
_ITEMS = 3
"""Values of a list whose length the schema leaves open, where each has a place of its own."""

_MOST_ITEMS = 64
_ANNOTATIONS = "title description $schema $id $comment $anchor default examples deprecated readOnly writeOnly"
_HELD: Mapping[str, str] = {
    "": "type enum const anyOf oneOf allOf $ref $defs definitions",
    "object": "properties required additionalProperties unevaluatedProperties",
    "array": "items minItems maxItems uniqueItems",
    "string": "maxLength",
    "integer": "minimum maximum exclusiveMinimum exclusiveMaximum",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum",
}
_KNOWN = frozenset(f"{_ANNOTATIONS} {' '.join(_HELD.values())}".split())

Path = tuple[str, ...]


def is_schema(form: Mapping[str, Any]) -> bool:
    """Whether a template is a schema of an object, not names with their types."""
    is_object = form.get("type") == "object" and isinstance(form.get("properties"), Mapping)
    return is_object or (isinstance(form.get("$ref"), str) and isinstance(form.get("$defs"), Mapping))


def form_of_schema(schema: Mapping[str, Any]) -> Form:
    """The form of an object.

    Raises:
        SamplingError: the schema asks for what cannot be held to, or contradicts itself.
    """
    return _Reader(schema).form(schema, ())


def choice(
    path: Path, options: Sequence[Any], *, may_be_null: bool = False, is_optional: bool = False
) -> Form:
    """One of several values; null is one where `options` have it."""
    if not isinstance(options, Sequence) or isinstance(options, str) or not options:
        raise SamplingError(f"template: {_place(path)}: expected texts to choose from, got {options!r}")
    may_be_null = may_be_null or None in options
    values = [one for one in options if one is not None and one != ""]
    if "" in options or not values:
        # Nothing written is the empty text, or null.
        empty: Any = "" if "" in options else None
        if not values:
            return Fixed(empty)
        if empty == "" and not may_be_null:
            texts = [_text(one) for one in values]
            return Slot(path, "string", options=("", *texts), values=("", *values), is_optional=is_optional)
    if len(values) == 1 and not may_be_null and not is_optional:
        return Fixed(values[0])
    are_texts = all(isinstance(one, str) for one in values)
    return Slot(
        path,
        "string",
        may_be_null=may_be_null,
        options=tuple(map(_text, values)),
        values=() if are_texts else tuple(values),
        is_optional=is_optional and not may_be_null,
    )


class _Reader:
    """Reads the schemas of one document.

    Args:
        root: the document, which references point into.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def form(self, schema: Any, path: Path, *, is_optional: bool = False, depth: int = 0) -> Form:
        """The form of a value.

        Args:
            schema: of the value.
            path: where it lies.
            is_optional: whether it may be left out.
            depth: how deep the schema is nested.
        """
        if depth > MAX_DEPTH:
            raise SamplingError(f"template: {_place(path)}: nested deeper than {MAX_DEPTH}")
        own, may_be_null = self._resolved(schema, path)
        if isinstance(own.get("const"), Mapping | list):
            return Fixed(own["const"])
        if "const" in own:
            own["enum"] = [own["const"]]
        if "enum" in own:
            fitting = _fitting(own, path)
            return choice(path, fitting, may_be_null=may_be_null, is_optional=is_optional)
        kind = _kind(own, path)
        wrong = next((name for name in own if name in _KNOWN and not _is_of(name, kind)), None)
        if wrong is not None:
            raise SamplingError(f"template: {_place(path)}: {wrong!r} does not belong to type {kind!r}")
        if kind == "object":
            return self._object(own, path, is_optional=is_optional, depth=depth)
        if kind == "array":
            return self._array(own, path, is_optional=is_optional, depth=depth)
        low, high = _bounds(own, path, kind)
        return Slot(
            path,
            kind,
            may_be_null=may_be_null,
            is_optional=is_optional and not may_be_null,
            low=low,
            high=high,
            most=_count(own, "maxLength", path),
        )

    def _resolved(self, schema: Any, path: Path) -> tuple[dict[str, Any], bool]:
        """A schema without references and alternatives, and whether null is allowed too."""
        if schema is True:
            schema = {}
        if not isinstance(schema, Mapping):
            raise SamplingError(f"template: {_place(path)}: expected a schema, got {schema!r}")
        own, may_be_null = dict(schema), False
        for _ in range(MAX_DEPTH):
            joined = next((name for name in ("$ref", "allOf", "anyOf", "oneOf") if name in own), None)
            if joined is None:
                break
            said = own.pop(joined)
            if joined == "$ref":
                own = _joined(self._target(said, path), own, path)
                continue
            if not isinstance(said, Sequence) or isinstance(said, str) or not said:
                raise SamplingError(
                    f"template: {_place(path)}: {joined} is {said!r}, expected several schemas"
                )
            others = [one for one in said if one != {"type": "null"}]
            may_be_null = may_be_null or (len(others) < len(said) and joined != "allOf")
            if not others:
                return {"const": None}, False
            if joined != "anyOf" and len(others) > 1:
                raise SamplingError(
                    f"template: {_place(path)}: {joined!r} of several schemas is not held to; give one"
                )
            # Of alternatives the first is written: what fits one fits all of them together.
            own = _joined(others[0], own, path)
        else:
            raise SamplingError(f"template: {_place(path)}: references lead nowhere")
        unknown = next((name for name in own if name not in _KNOWN), None)
        if unknown is not None:
            raise SamplingError(f"template: {_place(path)}: {unknown!r} is not held to; leave it out")
        kinds = own.get("type")
        if kinds in ("null", ["null"]):
            return {"const": None}, False
        return own, may_be_null or (isinstance(kinds, list) and "null" in kinds)

    def _target(self, reference: Any, path: Path) -> Mapping[str, Any]:
        found: Any = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise SamplingError(f"template: {_place(path)}: $ref is {reference!r}, expected '#/$defs/NAME'")
        for part in reference.lstrip("#").strip("/").split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) and name else found
        if not isinstance(found, Mapping) or found is self._root:
            raise SamplingError(f"template: {_place(path)}: $ref is {reference!r}, which is not there")
        return found

    def _object(self, own: Mapping[str, Any], path: Path, *, is_optional: bool, depth: int) -> Form:
        members = own.get("properties", {})
        required = own.get("required")
        if not isinstance(members, Mapping) or not all(isinstance(name, str) for name in members):
            raise SamplingError(f"template: {_place(path)}: properties is {members!r}, expected names")
        if required is not None and not (
            isinstance(required, Sequence) and all(isinstance(name, str) for name in required)
        ):
            raise SamplingError(f"template: {_place(path)}: required is {required!r}, expected names")
        # What is needed without being described may be anything.
        all_members = {**members, **{name: {} for name in required or () if name not in members}}
        # Without any word on what is needed, everything is wanted.
        optional = frozenset(name for name in members if required is not None and name not in required)
        return ObjectForm(
            {
                name: self.form(
                    schema,
                    (*path, name),
                    is_optional=name in optional or is_optional,
                    depth=depth + 1,
                )
                for name, schema in all_members.items()
            },
            optional,
            is_optional,
        )

    def _array(self, own: Mapping[str, Any], path: Path, *, is_optional: bool, depth: int) -> Form:
        least, most = _count(own, "minItems", path) or 0, _count(own, "maxItems", path)
        if most is not None and least > most:
            raise SamplingError(f"template: {_place(path)}: minItems is {least}, more than maxItems {most}")
        is_set = bool(own.get("uniqueItems", False))
        if is_set and least > 1:
            raise SamplingError(
                f"template: {_place(path)}: 'uniqueItems' with minItems {least} is not held to"
            )
        item = self.form(own.get("items", {}), path, depth=depth + 1)
        is_free = isinstance(item, Slot) and not (
            item.is_list or item.options or item.may_be_null or item.kind == "boolean"
        )
        if is_free and not least:
            assert isinstance(item, Slot)
            if item.most is None or item.kind != "string":
                return Slot(
                    path,
                    item.kind,
                    is_list=True,
                    is_optional=is_optional,
                    low=item.low,
                    high=item.high,
                    most=most,
                    is_set=is_set,
                )
        places = max(least, _ITEMS) if most is None else min(most, max(least, _ITEMS))
        if places > _MOST_ITEMS:
            raise SamplingError(f"template: {_place(path)}: {places} values, expected {_MOST_ITEMS} at most")
        schema = own.get("items", {})
        items = [
            self.form(schema, path, is_optional=is_optional or place >= least, depth=depth + 1)
            for place in range(places)
        ]
        # Of a given value there is no telling whether it is meant to be there.
        kept = tuple(one for place, one in enumerate(items) if place < least or any(slots_of(one)))
        return ListForm(kept, least, is_optional, is_set)


def _joined(schema: Any, own: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What two schemas of one value say, of which neither may say what the other does otherwise."""
    if not isinstance(schema, Mapping):
        raise SamplingError(f"template: {_place(path)}: expected a schema, got {schema!r}")
    both = [name for name in own if name in schema and name not in _ANNOTATIONS.split()]
    wrong = next((name for name in both if own[name] != schema[name]), None)
    if wrong is not None:
        raise SamplingError(
            f"template: {_place(path)}: {wrong!r} is said twice, {own[wrong]!r} and "
            f"{schema[wrong]!r}; say it once"
        )
    return {**schema, **own}


def _fitting(own: Mapping[str, Any], path: Path) -> Sequence[Any]:
    """The values of an `enum` that fit what is said beside it."""
    options = own["enum"]
    if not isinstance(options, list | tuple) or not options:
        raise SamplingError(f"template: {_place(path)}: expected texts to choose from, got {options!r}")
    kinds = own.get("type")
    named = [kinds] if isinstance(kinds, str) else kinds
    low, high = _bounds(own, path, "number")
    most = _count(own, "maxLength", path)

    def fits(value: Any) -> bool:
        if named is not None and not any(_is_a(value, kind) for kind in named):
            return False
        if isinstance(value, str):
            return most is None or len(value) <= most
        if type(value) in (int, float):
            return (low is None or value >= low) and (high is None or value <= high)
        return value is None or isinstance(value, bool)

    fitting = [value for value in options if fits(value)]
    if not fitting:
        raise SamplingError(f"template: {_place(path)}: none of {options!r} is what the schema asks for")
    return fitting


def _is_a(value: Any, kind: Any) -> bool:
    types = {
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "null": (type(None),),
    }
    return type(value) in types.get(kind, ())


def _kind(own: Mapping[str, Any], path: Path) -> str:
    """The type of a schema; of several the first that is not null, of none what its names belong to."""
    said = own.get("type")
    kinds = [said] if isinstance(said, str) else list(said or ()) if isinstance(said, list | None) else [said]
    if said is None:
        for kind in ("object", "array", "integer", "number"):
            if any(name in own for name in _HELD[kind].split()):
                return "number" if kind == "integer" else kind
        return "string"
    kind = next((one for one in kinds if one != "null"), "null")
    if kind not in (*_KINDS, "object", "array"):
        expected = ", ".join((*_KINDS, "object", "array"))
        raise SamplingError(f"template: {_place(path)}: type is {kind!r}, expected one of {expected}")
    return str(kind)


def _is_of(name: str, kind: str) -> bool:
    owners = [own for own, names in _HELD.items() if own and name in names.split()]
    return not owners or kind in owners


def _bounds(own: Mapping[str, Any], path: Path, kind: str) -> tuple[float | None, float | None]:
    """Least and greatest value of a number."""
    if kind not in ("integer", "number"):
        return None, None
    found: list[float | None] = []
    for name, exclusive, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
        bounds = []
        for key in (name, exclusive):
            value = own.get(key)
            if value is None:
                continue
            if type(value) not in (int, float) or not math.isfinite(value):
                raise SamplingError(f"template: {_place(path)}: {key} is {value!r}, expected a number")
            bound = value
            if kind == "integer":
                bound = math.ceil(value) if sign > 0 else math.floor(value)
            if key == exclusive and bound == value:
                bound = bound + sign if kind == "integer" else math.nextafter(value, sign * math.inf)
            bounds.append(bound)
        found.append(None if not bounds else max(bounds) if sign > 0 else min(bounds))
    low, high = found
    if low is not None and high is not None and low > high:
        raise SamplingError(f"template: {_place(path)}: no {kind} is at least {low} and at most {high}")
    return low, high


def _count(own: Mapping[str, Any], key: str, path: Path) -> int | None:
    value = own.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise SamplingError(
            f"template: {_place(path)}: {key} is {value!r}, expected a whole number of 0 or more"
        )
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _place(path: Path) -> str:
    return ".".join(path) or "the schema"
