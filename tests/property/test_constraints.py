"""Whatever is asked of a text, it holds or is said not to; and a seed repeats it.

The tiny models write bytes without sense, so that what is banned would occur and what is required would not.
"""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_os_diffusion.inference import ArrowEngine, Banned, FollowsSchema, Matches, Required
from ai_os_diffusion.utils.errors import ConstraintError

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,!"
SLOW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PHRASE = st.text("ab1z", min_size=1, max_size=3)
PATTERN = st.sampled_from([r"[a-z ]+", r"\d{1,6}", r"(yes|no)\.", r"[^a]{3,9}", r".*z", r"[A-Z]\w+( \w+)*"])


@pytest.fixture(scope="module")
def engine(tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, num_threads=2, device="cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def diffusing(tiny_diffusion_dir):
    with ArrowEngine(tiny_diffusion_dir, num_threads=2, device="cpu") as engine:
        yield engine


def outcome(write):
    """The text and whether it was taken, or the nearest and what it violates."""
    try:
        return write(), []
    except ConstraintError as error:
        return error.text, error.violations or ["nothing"]


def check(write, banned, required, pattern):
    """A text is as it was asked for, or named; the same twice."""
    text, violations = outcome(write)
    again, _ = outcome(write)
    assert again == text
    own = str(text).strip(" \t\r\n")
    found = {
        "banned": any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", own.casefold()) for one in banned),
        "missing": not all(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", own.casefold()) for one in required),
        "match": pattern is not None and re.fullmatch(pattern, own) is None,
    }
    said = " ".join(violations)
    assert "nothing" not in violations
    assert {name for name, is_so in found.items() if is_so} == {name for name in found if name in said}, own


@SLOW
@given(
    banned=st.lists(PHRASE, max_size=3),
    required=st.lists(PHRASE, max_size=2),
    pattern=st.none() | PATTERN,
    seed=st.integers(0, 99),
    temperature=st.sampled_from([0.0, 1.0]),
    attempts=st.integers(1, 3),
)
def test_generated_texts_are_as_told(engine, banned, required, pattern, seed, temperature, attempts):
    required = [one for one in required if all(Banned(other).violation(one) is None for other in banned)]
    constraints = [Banned(*banned)] if banned else []
    constraints += [Required(*required)] if required else []
    constraints += [] if pattern is None else [Matches(pattern)]
    if not constraints:
        return

    def write():
        return engine.generate(
            "Once",
            constraints=constraints,
            max_tokens=24,
            seed=seed,
            temperature=temperature,
            attempts=attempts,
        )

    check(write, banned, required, pattern)


@SLOW
@given(st.lists(PHRASE, min_size=1, max_size=3), st.integers(0, 99), st.sampled_from([0.0, 1.0]))
def test_with_room_what_is_required_is_always_written(engine, required, seed, temperature):
    text = engine.generate(
        "Once", constraints=Required(*required), max_tokens=24, seed=seed, temperature=temperature, energy=1e3
    )
    assert Required(*required).violation(text) is None


@SLOW
@given(st.sets(st.sampled_from(LETTERS.replace(" ", "")), min_size=1), st.integers(0, 99))
def test_what_is_banned_never_occurs(engine, letters, seed):
    banned = Banned(*letters, whole_words=False)
    text = engine.generate("Once", constraints=banned, max_tokens=24, seed=seed, temperature=1.5, energy=1e3)
    assert not letters & set(text.casefold())


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "size": {"enum": ["small", "large"]},
        "ok": {"type": "boolean"},
        "age": {"type": "integer"},
    },
    "required": ["name", "size"],
}


@SLOW
@given(st.integers(0, 99), st.sampled_from([0.0, 0.7, 1.5]), st.integers(48, 90))
def test_json_of_a_schema_is_whole_also_where_there_is_little_room(engine, seed, temperature, room):
    text = engine.generate(
        "Once", constraints=FollowsSchema(SCHEMA), max_tokens=room, seed=seed, temperature=temperature
    )
    jsonschema.validate(json.loads(text), SCHEMA)


@SLOW
@given(
    banned=st.lists(PHRASE, max_size=3),
    required=st.lists(PHRASE, max_size=1),
    seed=st.integers(0, 99),
    temperature=st.sampled_from([0.0, 1.0]),
    sampler=st.sampled_from([None, "low_confidence", "remdm"]),
)
def test_diffused_texts_are_as_told(diffusing, banned, required, seed, temperature, sampler):
    required = [one for one in required if all(Banned(other).violation(one) is None for other in banned)]
    constraints = [Banned(*banned)] if banned else []
    constraints += [Required(*required)] if required else []
    if not constraints:
        return

    def write():
        return diffusing.diffuse(
            "Once",
            constraints=constraints,
            max_tokens=12,
            seed=seed,
            temperature=temperature,
            sampler=sampler,
            attempts=3,
        )

    check(write, banned, required, None)


@SLOW
@given(st.sets(st.sampled_from("abcxyz"), min_size=1), st.integers(0, 99))
def test_gaps_are_filled_without_what_is_banned(diffusing, letters, seed):
    banned = Banned(*letters, whole_words=False)
    write = {"infill": "1 {} 2 {}.", "constraints": banned, "seed": seed, "energy": 1e3, "max_fill": 5}
    text, violations = outcome(lambda: diffusing.diffuse(**write))
    assert bool(letters & set(text.casefold())) == bool(violations)
    assert text.startswith("1 ")
