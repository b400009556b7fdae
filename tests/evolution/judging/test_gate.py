"""A card is kept where it helps and harms nothing elsewhere; what is rejected leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.evolution import (
    Decision,
    DecisionLog,
    Gate,
    LoRAConfig,
    LoRATrainer,
    QAPair,
    SkillTest,
    find_skill,
    list_skills,
)
from ai_os_diffusion.evolution.judging.gate import held_out_of
from ai_os_diffusion.evolution.skill_router import everyday_questions
from ai_os_diffusion.utils.errors import SkillRejectedError, TrainingError
from evolution.letters import embed

HOUSE = [
    QAPair("Serviced boiler, month?", "May"),
    QAPair("Gutters cleaned by?", "Tom"),
    QAPair("Spare key hidden under?", "pot"),
]
# What a model of random weights learns, it learns to the letter.
SMALL = {"rank": 4, "batch_size": 4, "rate": 2e-2, "warm_up": 5, "anchor": 0.0, "dropped_words": 0.0}


def learn(engine, folder, pairs, held_out=None, name="house", epochs=70, skills=()):
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL), folder=folder)
    gate = Gate(engine, embed, skills)
    return trainer.train_qa(pairs, name, epochs=epochs, held_out=held_out or pairs, gate=gate)


def test_what_helps_is_kept(engine, tmp_path):
    card = learn(engine, tmp_path, HOUSE)
    assert card.path == find_skill("house", tmp_path).path
    assert held_out_of(card) == HOUSE
    (decision,) = DecisionLog(tmp_path).read()
    assert (decision.skill, decision.decision, decision.reasons) == ("house", "kept", ())
    figures = decision.figures
    assert (figures["right_before"], figures["right_after"]) == (0, 1)
    assert figures["sure_gain"] == 1
    assert figures["sure_bits"] > 1
    assert (figures["perplexity_elsewhere"], figures["divergence_elsewhere"]) == (1, 0)
    assert decision.decided_at.endswith("+00:00")


@pytest.mark.parametrize(
    ("pairs", "held_out", "epochs", "said"),
    [
        (HOUSE, [QAPair(pair.question, "no") for pair in HOUSE], 70, "0 with it, which is no sure gain"),
        (HOUSE, HOUSE, 1, "0 with it, which is no sure gain"),
        (
            [QAPair(question, "pot") for question in everyday_questions()[:6]],
            None,
            70,
            "of 64 everyday questions, which would be",
        ),
    ],
    ids=["other answers", "hardly learned", "everyday questions"],
)
def test_what_does_not_is_gone(engine, tmp_path, pairs, held_out, epochs, said):
    ids = np.arange(9, dtype=np.int32)
    before = engine.core.logits(ids)
    with pytest.raises(SkillRejectedError, match=said):
        learn(engine, tmp_path, pairs, held_out, epochs=epochs)
    np.testing.assert_array_equal(engine.core.logits(ids), before)
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.jsonl"]
    assert [decision.decision for decision in DecisionLog(tmp_path).read()] == ["rejected"]


def test_what_only_makes_the_model_surer_elsewhere_is_seen(engine, tmp_path):
    """It says the same at a lower perplexity, and is another model."""
    asked = [QAPair(question, "") for question in everyday_questions()[:12]]
    said = [
        QAPair(pair.question, text)
        for pair, text in zip(asked, SkillTest.of(engine, asked).said, strict=True)
        if text
    ]
    with pytest.raises(SkillRejectedError, match="diverges by"):
        learn(engine, tmp_path, said)
    (decision,) = DecisionLog(tmp_path).read()
    assert decision.figures["perplexity_elsewhere"] < 1.01
    assert decision.figures["divergence_elsewhere"] > 0.05


def test_a_skill_that_takes_the_questions_of_another_is_rejected(engine, tmp_path):
    house = learn(engine, tmp_path, HOUSE)
    other = [QAPair(f"{pair.question} {pair.question}", "no") for pair in HOUSE]
    stolen = [*(QAPair(pair.question, "no") for pair in HOUSE), *other]
    with pytest.raises(SkillRejectedError, match="3 of 3 questions of other skills are no longer"):
        learn(engine, tmp_path, stolen, other, name="thief", skills=[house])
    assert [card.name for card in list_skills(tmp_path)] == ["house"]


def test_nothing_is_judged_by_nothing(engine, tmp_path):
    with pytest.raises(TrainingError, match="held_out is empty"):
        LoRATrainer(engine, folder=tmp_path).train_qa(HOUSE, "house", gate=Gate(engine, embed))
    card = learn(engine, tmp_path, HOUSE)
    with pytest.raises(TrainingError, match="nothing is held out"):
        Gate(engine, embed).judge(card, [])


def test_a_torn_line_of_the_log_costs_no_other(tmp_path, caplog):
    log = DecisionLog(tmp_path / "skills")
    assert log.read() == []
    log.append(Decision("one", "kept", figures={"bits": 2.5}))
    with log.path.open("ab") as file:
        file.write(b'{"skill": "two", "dec')
    log.append(Decision("three", "rejected", ("no gain",)))
    found = log.read()
    assert [(one.skill, one.decision, one.reasons) for one in found] == [
        ("one", "kept", ()),
        ("three", "rejected", ("no gain",)),
    ]
    assert found[0].figures == {"bits": 2.5}
    assert "line 2: damaged" in caplog.text
