"""Objects by JSON schema: `json_templates.py [MODEL] [--prompts 500]`, by default with smollm2-diffusion.

Notes about made-up people, and for each a schema that asks for some of what they say: texts, numbers with
bounds, truth values, choices, lists, nested objects, names that may be missing. Counted is what parses and
what the `jsonschema` package finds valid, and how many of the values that the notes state were found. The
same canvas is written a second time with every value free, right behind the first: what holding to types
costs is the ratio of the two times.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from typing import Any

from measure import report

FIRST = (
    "Ann Ben Carla David Elena Felix Greta Hugo Irene Jonas Karin Leo Maria Nils Olga Paul Rita Tina".split()
)
LAST = "Miller Rossi Tanaka Novak Silva Haas Moreau Lindqvist Okafor Petrov Garcia Weber Jensen".split()
CITIES = "Rome Oslo Lyon Kyoto Porto Graz Lagos Gdansk Bergen Turin Ghent Malaga".split()
JOBS = "baker nurse pilot teacher plumber lawyer painter farmer".split()
LIKES = "chess tea sailing opera hiking cooking jazz gardening swimming poetry".split()
SIZES = ("small", "medium", "large")


def person(draw: random.Random) -> dict[str, Any]:
    return {
        "name": f"{draw.choice(FIRST)} {draw.choice(LAST)}",
        "age": draw.randint(19, 88),
        "height": draw.randint(150, 199) / 100,
        "married": draw.random() < 0.5,
        "job": draw.choice(JOBS),
        "likes": draw.sample(LIKES, 2),
        "home": {"city": draw.choice(CITIES), "size": draw.choice(SIZES), "rooms": draw.randint(1, 9)},
        "phone": f"{draw.randint(100, 999)} {draw.randint(1000, 9999)}" if draw.random() < 0.5 else None,
    }


def notes(of: dict[str, Any]) -> str:
    home, phone = of["home"], of["phone"]
    first, likes = of["name"].split()[0], " and ".join(of["likes"])
    married = "married" if of["married"] else "not married"
    return (
        f"{of['name']} is {of['age']} years old and {of['height']} m tall, works as a {of['job']} and is "
        f"{married}. {first} likes {likes}, and lives in a {home['size']} house with {home['rooms']} rooms "
        f"in {home['city']}. " + (f"The telephone number is {phone}." if phone else "There is no telephone.")
    )


PROPERTIES: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "maxLength": 60},
    "age": {"type": "integer", "minimum": 0, "maximum": 130},
    "height": {"type": "number", "exclusiveMinimum": 0, "maximum": 3},
    "married": {"type": "boolean"},
    "job": {"enum": JOBS},
    "likes": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
    "home": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "size": {"enum": list(SIZES)},
            "rooms": {"type": "integer", "minimum": 1},
        },
        "required": ["city", "size", "rooms"],
    },
    "phone": {"anyOf": [{"type": "string"}, {"type": "null"}]},
}


def schema(draw: random.Random) -> dict[str, Any]:
    names = draw.sample(list(PROPERTIES), draw.randint(2, 5))
    needed = [name for name in names if draw.random() < 0.8]
    properties = {name: PROPERTIES[name] for name in names}
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def freed(own: dict[str, Any]) -> dict[str, Any]:
    """The schema of the same canvas in which every value is any text."""
    if own.get("type") == "object":
        members = {name: freed(one) for name, one in own["properties"].items()}
        return {"type": "object", "properties": members, "required": list(members)}
    text = {"type": "string"}
    return {"type": "array", "items": text} if own.get("type") == "array" else text


def main() -> None:
    import jsonschema

    from ai_os_diffusion.inference import ArrowEngine
    from ai_os_diffusion.utils.errors import ModelLoadError

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-diffusion")
    parser.add_argument("--prompts", type=int, default=500)
    options = parser.parse_args()
    try:
        engine = ArrowEngine(options.model, device="cpu")
    except ModelLoadError as error:
        print(f"skipped: {error}")
        print(json.dumps({"benchmark": "json_templates", "skipped": "no model"}))
        return
    draw = random.Random(0)
    asked = [(person(draw), schema(draw)) for _ in range(options.prompts)]
    parsed = valid = right = stated = 0
    seconds, passes = [0.0, 0.0], [0, 0]
    with engine:
        engine.diffuse(template=PROPERTIES["home"], context="A small house in Rome.")
        for seed, (who, wanted) in enumerate(asked):
            found = None
            for side, form in enumerate((wanted, freed(wanted))):
                begun = time.perf_counter()
                written = engine.diffuse(template=form, context=notes(who), seed=seed)
                seconds[side] += time.perf_counter() - begun
                passes[side] += written.steps
                found = written if side == 0 else found
            value = json.loads(str(found))
            parsed += 1
            valid += jsonschema.Draft202012Validator(wanted).is_valid(value)
            for name in wanted["properties"]:
                stated += 1
                right += value.get(name) == who[name]
    report(
        prompts=len(asked),
        parsed=parsed,
        valid=valid,
        right_values=round(right / stated, 3),
        held_ms=round(1e3 * seconds[0] / len(asked), 1),
        free_ms=round(1e3 * seconds[1] / len(asked), 1),
        held_to_free=round(seconds[0] / seconds[1], 3),
        held_passes=round(passes[0] / len(asked), 2),
        free_passes=round(passes[1] / len(asked), 2),
    )


if __name__ == "__main__":
    main()
