"""A question goes to the skill whose questions are like it, and an unlike one to none."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.evolution import SkillRouter
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from evolution.letters import embed

HOUSE = ["When was the boiler serviced?", "Who cleaned the gutters?", "Where is the spare key kept?"]
SHIP = ["Which captain sailed the brig?", "How many masts had the brig?"]


@pytest.fixture
def skill(tiny_decoder_dir, tmp_path):
    def make(name: str, examples: object) -> Card:
        about = CardDescription(
            name, "skill", Base.of_folder(tiny_decoder_dir), 0, 1.0, config={"examples": examples}
        )
        norm = np.random.default_rng(len(name)).normal(size=32).astype(np.float32)
        return Card.write(tmp_path / f"{name}.parquet", about, [("model.norm.weight", norm)])

    return make


def test_a_question_goes_to_the_skill_it_is_like(skill):
    house, ship = skill("house", HOUSE), skill("ship", SHIP)
    router = SkillRouter(embed, [house, ship])
    for question, expected, example in (
        ("When was the boiler last serviced?", house, HOUSE[0]),
        ("Which captain had the brig?", ship, SHIP[0]),
        ("What is the capital of France?", None, None),
        ("", None, None),
    ):
        route = router.route(question)
        assert route.skill is expected, question
        assert (route.similarity >= route.threshold) == (expected is not None)
        assert example in (None, route.example)


@pytest.mark.parametrize("examples", [[], None, "text", [3], {}])
def test_a_skill_that_tells_no_examples_is_never_chosen(skill, examples):
    route = SkillRouter(embed, [skill("house", examples)]).route(HOUSE[0])
    assert (route.skill, route.example) == (None, "")


def test_the_skill_is_used_in_the_block_alone(skill, tiny_decoder_dir):
    router = SkillRouter(embed, [skill("house", HOUSE)])
    with ArrowEngine(tiny_decoder_dir) as engine:
        ids = np.arange(5, dtype=np.int32)
        before = engine.core.logits(ids)
        with router.using(engine, HOUSE[1]) as route:
            assert route.skill.name == "house"
            assert not np.allclose(engine.core.logits(ids), before)
        np.testing.assert_array_equal(engine.core.logits(ids), before)
        with router.using(engine, "What is the capital of France?") as route:
            assert route.skill is None
            np.testing.assert_array_equal(engine.core.logits(ids), before)
