"""A template is a form with slots; what is written into them always becomes values of their types."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.inference.denoising.forms.template import Template
from ai_os_diffusion.utils.errors import SamplingError

FORM = {
    "name": str,
    "age": int,
    "height": float,
    "is_member": bool,
    "tags": list[str],
    "scores": list[int],
    "size": ("small", "large"),
    "colour": Literal["red", "green"],
    "phone": str | None,
    "year": int | None,
    "home": {"city": str},
}


def test_the_form_is_read_as_json_with_every_value_in_quotation_marks():
    template = Template(FORM)
    values = ["Ann", "7", "1.5", "true", 'a", "b', '1", "2', "small", "red", "", "", "Rome"]
    text = template.pieces()[0] + "".join(a + b for a, b in zip(values, template.pieces()[1:], strict=True))
    read = json.loads(text)
    assert list(read) == list(FORM)
    assert read["tags"] == ["a", "b"]
    assert read["home"] == {"city": "Rome"}


def test_values_have_their_types():
    written = [" Ann B.", "7", "-1.50", "false", 'a", "b"', '1", "-2", "x', "larg", "red", "", "", 'Rome" {']
    assert Template(FORM).value(written) == {
        "name": "Ann B.",
        "age": 7,
        "height": -1.5,
        "is_member": False,
        "tags": ["a", 'b"'],
        "scores": [1, -2],
        "size": "large",
        "colour": "red",
        "phone": None,
        "year": None,
        "home": {"city": "Rome"},
    }


def test_a_schema_says_the_same():
    schema = {
        "type": "object",
        "required": list(FORM),
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "description": "in years"},
            "height": {"type": "number"},
            "is_member": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "scores": {"type": "array", "items": {"type": "integer"}},
            "size": {"enum": ["small", "large"]},
            "colour": {"type": "string", "enum": ["red", "green"]},
            "phone": {"type": ["string", "null"]},
            "year": {"type": ["integer", "null"]},
            "home": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    assert Template(schema).slots == Template(FORM).slots
    assert Template(schema).pieces() == Template(FORM).pieces()


@given(st.lists(st.text(max_size=20), min_size=4, max_size=4))
def test_texts_and_lists_take_whatever_is_written(written):
    template = Template({"a": str, "b": list[str], "c": list[float], "d": ("x", "yy")})
    value = template.value(written)
    assert json.loads(json.dumps(value)) == value
    assert isinstance(value["a"], str)
    assert all(isinstance(one, str) and one for one in value["b"])
    assert all(isinstance(one, float) for one in value["c"])
    assert value["d"] in ("x", "yy")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "template is {}, expected names with their types"),
        ([str], "expected names with their types"),
        ({"a": {}}, "at least one value"),
        ({"a": bytes}, "a is <class 'bytes'>, expected str, int, float, bool"),
        ({"a": 1}, "a is 1"),
        ({"a": True}, "a is True"),
        ({"a": ()}, "a: expected texts to choose from"),
        ({1: str}, "names are texts, got 1"),
        ({"a": list[dict]}, "expected str, int"),
        ({"type": "object", "properties": {"a": {"type": "date"}}}, "a: type is 'date'"),
        ({"type": "object", "properties": {"a": {"pattern": "x"}}}, "a: 'pattern' is not held to"),
        ({"type": "object", "properties": {"a": 3}}, "a: expected a schema, got 3"),
        ({"type": "object", "properties": {"a": {"type": "array"}, "b": {"enum": []}}}, "b: expected texts"),
        (
            {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}},
            "at least one value to be found",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}}},
            "a: no integer is at least 3 and at most 2",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array", "minItems": 3, "maxItems": 2}}},
            "a: minItems is 3, more than maxItems 2",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array", "minItems": 2, "uniqueItems": True}}},
            "a: 'uniqueItems' with minItems 2 is not held to",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array", "items": {"enum": "ab"}}}},
            "a: expected texts",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}},
            "'minLength' is not held",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "maximum": 2}}},
            "a: 'maximum' does not belong to type 'string'",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "enum": ["x"]}}},
            "a: none of .'x'. is what the schema asks for",
        ),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}},
            "a: .ref is '#/.defs/b', which is not",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "x.json"}}}, "a: .ref is 'x.json', expected"),
        (
            {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}], "type": "integer"}}},
            "a: 'type' is said twice, 'integer' and 'string'",
        ),
        (
            {"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}, {"maxLength": 2}]}}},
            "a: 'oneOf' of several schemas is not held to",
        ),
        ({"type": "object", "properties": {"a": False}}, "a: expected a schema, got False"),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": 3}, "required is 3"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}},
            },
            "nested deeper than 16",
        ),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "references lead nowhere"),
    ],
)
def test_what_no_slot_can_hold_is_refused(form, message):
    with pytest.raises(SamplingError, match=message):
        Template(form)


def test_endless_nesting_is_refused():
    form: dict = {"a": str}
    for _ in range(40):
        form = {"a": form}
    with pytest.raises(SamplingError, match="nested deeper"):
        Template(form)


@pytest.mark.parametrize(("name", "written"), [("age", "x"), ("age", ""), ("is_member", "yes"), ("age", "-")])
def test_what_is_no_value_is_told(name, written):
    template = Template({name: FORM[name]})
    assert not template.slots[0].is_value(written)
    with pytest.raises(SamplingError, match=f"{name} is '{written}'"):
        template.value([written])


def test_a_schema_of_pydantic_is_read():
    """References, alternatives with null, bounds, defaults, and lists of objects."""
    schema = {
        "$defs": {
            "Pet": {
                "properties": {
                    "name": {"title": "Name", "type": "string"},
                    "legs": {"default": 4, "minimum": 0, "maximum": 8, "title": "Legs", "type": "integer"},
                },
                "required": ["name"],
                "title": "Pet",
                "type": "object",
            },
            "Mood": {"enum": ["good", "bad"], "title": "Mood", "type": "string"},
        },
        "properties": {
            "age": {"anyOf": [{"exclusiveMinimum": 0, "type": "integer"}, {"type": "null"}], "title": "Age"},
            "mood": {"$ref": "#/$defs/Mood"},
            "level": {"enum": [1, 2.5, "high"]},
            "kind": {"const": "person", "type": "string"},
            "pets": {"items": {"$ref": "#/$defs/Pet"}, "minItems": 1, "title": "Pets", "type": "array"},
            "nick": {"maxLength": 3, "type": "string"},
        },
        "required": ["age", "mood", "kind", "pets"],
        "title": "Person",
        "type": "object",
    }
    template = Template(schema)
    assert "".join(template.pieces()) == (
        '{"age": "", "mood": "", "level": "", "kind": "person", "pets": [{"name": "", "legs": ""}, '
        '{"name": "", "legs": ""}, {"name": "", "legs": ""}], "nick": ""}'
    )
    written = ["-7", "goo", "2.", "Rex", "", "", "3", "Tom", "900", "Longer"]
    assert template.value(written) == {
        "age": 1,
        "mood": "good",
        "level": 2.5,
        "kind": "person",
        # The second pet has no name, which it needs; the third has too many legs.
        "pets": [{"name": "Rex"}, {"name": "Tom", "legs": 8}],
        "nick": "Lon",
    }
    assert template.value(["", "", "", "", "", "", "", "", "", ""]) == {
        "age": None,
        "mood": "bad",
        "kind": "person",
        "pets": [{"name": ""}],
    }


def test_equal_numbers_are_equal_however_they_are_written_and_however_deep():
    from ai_os_diffusion.inference.denoising.forms.slot import distinct

    assert distinct([{"a": 0.0}, {"a": -0.0}, {"a": 0}, {"a": False}]) == [{"a": 0.0}, {"a": False}]
    assert distinct([1, 1.0, True, "1", [1], [1.0], None, 1.5]) == [1, True, "1", [1], None, 1.5]
    assert distinct([10**30, 1e30]) == [10**30, 1e30]
