"""Whatever a schema asks for, of what is held to, and whatever a model writes: the result validates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.forms.template import Template
from ai_os_diffusion.models.convert import convert_model
from support.diffusion_checkpoints import write_checkpoint

jsonschema = pytest.importorskip("jsonschema")

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""A schema that fails is small already; making it smaller takes minutes."""

NAMES = st.text(min_size=1, max_size=6)
SCALARS = (
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5) | st.sampled_from([0.5, -2.25])
)


@st.composite
def numbers(draw, kind: str) -> dict[str, Any]:
    low, width = draw(st.integers(-50, 50)), draw(st.integers(2, 40))
    schema: dict[str, Any] = {"type": kind}
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + width
    return schema


@st.composite
def texts(draw) -> dict[str, Any]:
    return {"type": "string", **({"maxLength": draw(st.integers(0, 8))} if draw(st.booleans()) else {})}


@st.composite
def arrays(draw, items: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    least = draw(st.integers(0, 2))
    schema: dict[str, Any] = {"type": "array", "items": draw(items)}
    if least:
        schema["minItems"] = least
    if draw(st.booleans()):
        schema["maxItems"] = least + draw(st.integers(0, 2))
    if least < 2 and draw(st.booleans()):
        schema["uniqueItems"] = True
    return schema


@st.composite
def objects(draw, members: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(st.dictionaries(NAMES, members, max_size=4))
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if draw(st.booleans()):
        schema["required"] = draw(st.lists(st.sampled_from([*properties, "other"]), unique=True))
    if draw(st.booleans()) and "other" not in schema.get("required", ()):
        schema["additionalProperties"] = False
    return schema


@st.composite
def nullable(draw, schemas: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    schema = draw(schemas)
    return draw(st.sampled_from([schema, {"anyOf": [schema, {"type": "null"}]}, {"title": "A", **schema}]))


LEAVES = nullable(
    texts()
    | numbers("integer")
    | numbers("number")
    | st.just({"type": "boolean"})
    | st.just({"type": "null"})
    | st.just({"type": ["integer", "null"]})
    | st.just({})
    | st.lists(SCALARS, min_size=1, max_size=4).map(lambda options: {"enum": options})
    | SCALARS.map(lambda value: {"const": value})
    | st.just({"$ref": "#/$defs/shared"})
)
SCHEMAS = st.recursive(LEAVES, lambda inner: nullable(arrays(inner) | objects(inner)), max_leaves=6)


@st.composite
def documents(draw) -> dict[str, Any]:
    root = draw(objects(SCHEMAS))
    root["properties"]["found"] = {"type": "string"}
    shared = draw(objects(LEAVES.filter(lambda schema: "ref" not in json.dumps(schema))))
    return {**root, "$defs": {"shared": shared}}


def checked(schema: dict[str, Any], text: str) -> None:
    value = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=PHASES)
@given(documents(), st.data())
def test_what_was_written_becomes_what_the_schema_asks_for(schema, data):
    template = Template(schema)
    numbers = st.from_regex(r"-?[0-9]{1,4}([.][0-9]{0,3})?", fullmatch=True)
    written = []
    for slot in template.slots:
        # What `SlotTokens` holds a number or truth value to; elsewhere anything may be written.
        held = {"integer": numbers, "number": numbers, "boolean": st.sampled_from(["true", "false", "tr"])}
        texts = (
            st.text(max_size=12)
            if slot.is_list or slot.options
            else held.get(slot.kind, st.text(max_size=12))
        )
        written.append(data.draw(texts | st.just("") if slot.may_be_empty or slot.options else texts))
    checked(schema, json.dumps(template.value(written)))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writes")
    write_checkpoint(folder / "source", "llada", config={"max_sequence_length": 4096})
    convert_model(folder / "source", folder / "out")
    with ArrowEngine(folder / "out", device="cpu") as engine:
        yield engine


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=PHASES)
@given(documents().filter(lambda schema: len(Template(schema).slots) <= 12), st.integers(0, 2**32))
def test_a_model_of_random_weights_meets_every_schema(engine, schema, seed):
    found = engine.diffuse(template=schema, max_fill=4, num_steps=4, temperature=1.5, seed=seed)
    checked(schema, found)
    assert found.value == json.loads(found)
