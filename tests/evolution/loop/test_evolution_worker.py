"""What is corrected is learned, judged, kept or not, and answered right when it is asked again."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.evolution import (
    Budget,
    DecisionLog,
    EvolutionRouter,
    EvolutionWorker,
    Feedback,
    FeedbackQueue,
    Gate,
    LoRAConfig,
    LoRATrainer,
    QAPair,
    SkillRouter,
    SkillTest,
    SkillVersions,
    find_skill,
    list_skills,
)
from ai_os_diffusion.evolution.judging.gate import held_out_of, learned_of
from ai_os_diffusion.evolution.skill_router import everyday_questions
from ai_os_diffusion.utils.errors import SkillsLockedError
from evolution.judging.test_gate import HOUSE, SMALL
from evolution.letters import embed

ANSWERS = {pair.question: pair.answer for pair in HOUSE}


def worker_of(engine, folder, epochs=150, budget=None, **settings):
    # Slower than elsewhere, for what is learned anew is to stand on what was.
    config = LoRAConfig(**SMALL | {"rate": 1e-2} | settings)
    router = EvolutionRouter(budget=budget)
    return EvolutionWorker(engine, embed, folder, config=config, epochs=epochs, router=router)


def correct(folder, pairs=HOUSE, skill=None, wordings=True, **values):
    """Right answers that come back; a model of random weights knows no other words, so case is a wording."""
    queue = FeedbackQueue(folder)
    for pair in pairs:
        words = (f"{pair.question} please", f"{pair.question}!") if wordings else ()
        queue.append(Feedback(pair.question, pair.answer, wordings=words, skill=skill, **values))


def ask(engine, folder, question):
    with SkillRouter(embed, list_skills(folder)).using(engine, question):
        return SkillTest.of(engine, [QAPair(question, "")]).said[0]


def kinds(folder):
    return [decision.decision for decision in DecisionLog(folder).read()]


def test_what_was_wrong_is_right_when_it_is_asked_again(engine, tmp_path):
    question = HOUSE[0].question
    before = ask(engine, tmp_path, question)
    assert before != ANSWERS[question]
    correct(tmp_path, said=before)
    done = worker_of(engine, tmp_path).run()
    assert [(one.skill, one.decision) for one in done.decisions] == [("serviced-cleaned", "kept")]
    for asked, answer in ANSWERS.items():
        assert ask(engine, tmp_path, asked) == answer
    assert kinds(tmp_path) == ["L2", "kept"]
    figures = done.decisions[0].figures
    assert (figures["version"], figures["facts"], figures["held_out_given"]) == (1, 3, 3)
    held_out = held_out_of(find_skill("serviced-cleaned", tmp_path))
    assert [pair.question for pair in held_out] == [f"{pair.question} please" for pair in HOUSE]
    assert not worker_of(engine, tmp_path).run().decisions, "nothing waits any more"


def test_a_correction_makes_a_new_version_that_keeps_the_rest(engine, tmp_path):
    correct(tmp_path, skill="house")
    worker_of(engine, tmp_path).run()
    first = find_skill("house", tmp_path)
    correct(tmp_path, [QAPair(HOUSE[1].question, "Ann")], said="Tom")
    (kept,) = worker_of(engine, tmp_path).run().decisions
    assert (kept.skill, kept.decision, kept.figures["version"]) == ("house", "kept", 2), kept
    assert kept.figures["pairs"] == 6
    assert ask(engine, tmp_path, HOUSE[1].question) == "Ann"
    assert ask(engine, tmp_path, HOUSE[0].question) == "May"
    second = find_skill("house", tmp_path)
    assert {pair.answer for pair in learned_of(second)} == {"May", "Ann", "pot"}
    assert {pair.answer for pair in held_out_of(second)} == {"May", "Ann", "pot"}
    versions = SkillVersions(tmp_path)
    assert (versions.current("house"), versions.earlier("house")) == (2, [1])
    with versions.locked():
        versions.rollback("house")
    assert find_skill("house", tmp_path).description == first.description
    assert ask(engine, tmp_path, HOUSE[1].question) == "Tom"
    assert [one.decision for one in DecisionLog(tmp_path).read()][-1] == "rolled back"


def test_what_is_said_overrules_what_was_taught_in_other_words(engine, tmp_path):
    correct(tmp_path, skill="house")
    worker_of(engine, tmp_path).run()
    other = [QAPair("Gutters cleaned by whom?", "Ann")]
    correct(tmp_path, other, skill="house", said="tom.", wordings=False)
    worker_of(engine, tmp_path, epochs=1).run()
    kept = DecisionLog(tmp_path).read()[-1]
    assert (kept.decision, kept.figures["pairs"]) == ("rejected", 5), "the pairs with Tom are gone"
    assert kept.figures["held_out_made"] == 1


def test_what_was_rejected_together_is_tried_alone_and_then_left(engine, tmp_path):
    good, junk = HOUSE[:2], [QAPair(question, "pot") for question in everyday_questions()[:6]]
    correct(tmp_path, [*good, *junk], skill="mixed", wordings=False)
    worker = worker_of(engine, tmp_path, budget=Budget(tries=2))
    assert [one.decision for one in worker.run().decisions] == ["rejected"]
    ids = np.arange(9, dtype=np.int32)
    before = engine.core.logits(ids)
    second = worker.run().decisions
    assert len(second) == 8
    np.testing.assert_array_equal(engine.core.logits(ids), before)
    assert not worker.run().decisions, "what was rejected twice is left until something new comes"
    router = [one for one in DecisionLog(tmp_path).read() if "situation" in one.inputs]
    logged = len(router)
    assert router[-1].decision == "nothing"
    assert any("rejected 2 times" in reason for reason in router[-1].reasons)
    assert not worker.run().decisions
    again = [one for one in DecisionLog(tmp_path).read() if "situation" in one.inputs]
    assert len(again) == logged, "the same decision is logged once"
    assert EvolutionRouter.replay(again) == []
    correct(tmp_path, [junk[0]], skill="mixed", wordings=False)
    assert len(worker.run().decisions) == 1, "something new came"


def test_what_does_not_fit_is_refused_and_holds_up_nothing(engine, tmp_path):
    correct(tmp_path, [QAPair("word " * 900, "yes"), *HOUSE], skill="house")
    decisions = worker_of(engine, tmp_path).run().decisions
    assert [one.decision for one in decisions] == ["refused", "kept"]
    assert "expected at most" in decisions[0].reasons[0]
    assert not worker_of(engine, tmp_path).run().decisions


def test_a_round_that_is_broken_off_goes_on_to_the_same_card(engine, tmp_path):
    for folder in (tmp_path / "whole", tmp_path / "broken"):
        correct(folder, skill="house")
    worker_of(engine, tmp_path / "whole").run()
    steps = []

    def tell(line):
        steps.append(line["step"])

    worker = worker_of(engine, tmp_path / "broken")
    done = worker.run(tell, lambda: len(steps) == 20)
    assert (done.decisions, done.is_broken_off) == ((), True)
    assert list_skills(tmp_path / "broken") == []
    # What comes in meanwhile waits its turn.
    correct(tmp_path / "broken", [QAPair("How many masts?", "two")], skill="ship")
    decisions = worker.run(tell).decisions
    assert steps[:21] == list(range(1, 22))
    assert [one.skill for one in decisions] == ["house", "ship"]
    whole, resumed = (find_skill("house", tmp_path / one) for one in ("whole", "broken"))
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name])
    assert sorted(path.name for path in (tmp_path / "broken" / ".evolution").iterdir()) == ["LOCK"]


def test_a_budget_of_seconds_is_spread_over_rounds(engine, tmp_path):
    correct(tmp_path, skill="house")
    rounds, decisions = 0, ()
    while not decisions:
        worker = worker_of(engine, tmp_path, epochs=2, budget=Budget(seconds=1e-9))
        decisions = worker.run().decisions
        rounds += 1
    assert rounds == 4 + 1, "a step each, and one that judges"
    assert [one.decision for one in decisions] == ["rejected"]


def test_two_workers_do_not_learn_at_a_time(engine, tmp_path):
    correct(tmp_path, skill="house")
    worker = worker_of(engine, tmp_path)

    def second(line):
        with pytest.raises(SkillsLockedError, match="another process is learning"):
            worker_of(engine, tmp_path).run()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.run(second)
    assert [one.decision for one in worker.run().decisions] == ["kept"]


def test_a_skill_whose_questions_another_took_is_retired_and_comes_back(engine, tmp_path):
    correct(tmp_path, skill="house")
    worker = worker_of(engine, tmp_path)
    worker.run()
    assert [one.decision for one in worker.run().decisions] == []
    assert kinds(tmp_path)[-1] == "proven"
    wrong = [
        QAPair(question, "no") for pair in HOUSE for question in (pair.question, f"{pair.question} please")
    ]
    LoRATrainer(engine, config=LoRAConfig(**SMALL), folder=tmp_path).train_qa(wrong, "thief", epochs=70)
    (retired,) = worker.run().decisions
    assert (retired.skill, retired.decision) == ("house", "retired")
    assert "of 3 questions of its own 0 are right with it and 0 without" in retired.reasons[0]
    assert [card.name for card in list_skills(tmp_path)] == ["thief"]
    versions = SkillVersions(tmp_path)
    with versions.locked():
        versions.rollback("house")
    assert [card.name for card in list_skills(tmp_path)] == ["house", "thief"]


def test_a_skill_of_a_base_that_is_gone_is_learned_anew(engine, tmp_path):
    from dataclasses import replace

    from ai_os_diffusion.models.cards import Card

    correct(tmp_path, skill="house")
    worker_of(engine, tmp_path).run()
    card = find_skill("house", tmp_path)
    gone = replace(card.description.base, weights_sha256="0" * 64)
    values = {name: card[name] for name in card}
    for name in ("house", "lost"):
        config = dict(card.description.config) if name == "house" else {}
        about = replace(card.description, name=name, base=gone, config=config)
        Card.write(tmp_path / f"{name}.parquet", about, values.items())
    decisions = worker_of(engine, tmp_path).run().decisions
    assert [(one.skill, one.decision) for one in decisions] == [("lost", "retired"), ("house", "kept")]
    assert ask(engine, tmp_path, HOUSE[0].question) == "May"
    assert SkillVersions(tmp_path).earlier("house") == [1]


def test_a_damaged_state_or_candidate_is_made_anew(engine, tmp_path):
    correct(tmp_path, skill="house")
    steps = []
    worker = worker_of(engine, tmp_path)
    worker.run(steps.append, lambda: len(steps) == 5)
    work = tmp_path / ".evolution"
    (state,) = work.glob(".*.learning")
    state.write_bytes(state.read_bytes()[:-200])
    (work / "house.parquet").write_bytes(b"PAR1 no card")
    assert [one.decision for one in worker.run().decisions] == ["kept"]
    (work / "lesson.json").write_text("{")
    assert worker.run().decisions == ()


def test_a_skill_removed_while_it_is_learned_stays_removed(engine, tmp_path):
    from ai_os_diffusion.evolution import remove_skill

    correct(tmp_path, skill="house")
    worker_of(engine, tmp_path).run()
    correct(tmp_path, [QAPair(HOUSE[1].question, "Ann")], said="Tom")

    def tell(line):
        if line["step"] == 1:
            remove_skill("house", tmp_path)

    decisions = worker_of(engine, tmp_path).run(tell).decisions
    assert [one.decision for one in decisions] in (["dropped"], ["rejected"])
    assert list_skills(tmp_path) == []


def test_the_gate_judges_a_new_version_by_what_is_new(engine, tmp_path):
    correct(tmp_path, skill="house")
    worker_of(engine, tmp_path).run()
    card = find_skill("house", tmp_path)
    verdict = Gate(engine, embed, [card]).judge(card, held_out_of(card))
    assert not verdict.is_kept, "the same again adds nothing"
    assert len(verdict.before.pairs) == 3
