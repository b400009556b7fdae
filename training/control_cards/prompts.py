"""Questions of all kinds, made of topics and ways to ask; some of both are kept for judging."""

from __future__ import annotations

import itertools
import random

THINGS = (
    "the moon, rivers, bread, honey, the heart, volcanoes, bicycles, money, rain, gravity, bees, libraries, "
    "paper, sleep, salt, trains, coffee, clouds, magnets, the sun, whales, forests, glass, batteries, teeth, "
    "maps, earthquakes, cheese, bridges, wool, mirrors, deserts, rockets, cats, tea, islands, clocks, soap"
).split(", ")
ACTIVITIES = (
    "gardening, chess, swimming, cooking, running, painting, sewing, hiking, photography, fishing, dancing, "
    "learning a language, playing the piano, saving money, writing a letter, keeping a diary, baking bread, "
    "riding a horse, growing tomatoes, camping, singing, reading aloud, packing a suitcase, repairing a bike"
).split(", ")
OF_THINGS = (
    "What is {}?",
    "Tell me about {}.",
    "Why does {} matter?",
    "Explain {} to a child.",
    "What should everybody know about {}?",
    "Describe {} in a few sentences.",
)
OF_ACTIVITIES = (
    "How do I get better at {}?",
    "Why do people like {}?",
    "What do I need for {}?",
    "Give me some advice about {}.",
    "What is hard about {}?",
    "How would you begin with {}?",
)
_EVERY = 5
"""One topic in so many is kept for judging, and of each kind the last way to ask."""


def prompts(*, held_out: bool, seed: int = 0) -> list[str]:
    """Questions, mixed.

    Args:
        held_out: those for judging: topics and ways to ask that no other question has.
        seed: of their order.
    """
    found = []
    for topics, ways in ((THINGS, OF_THINGS), (ACTIVITIES, OF_ACTIVITIES)):
        kept = topics[::_EVERY]
        if held_out:
            asked = itertools.product(kept, ways)
        else:
            asked = itertools.product([topic for topic in topics if topic not in kept], ways[:-1])
        found += [way.format(topic) for topic, way in asked]
    random.Random(seed).shuffle(found)
    return found
