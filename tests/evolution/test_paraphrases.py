"""Other wordings that the base writes are checked, written once, and learned."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer, QAPair, QAPairs, SkillTest
from ai_os_diffusion.evolution import paraphrases as rules
from ai_os_diffusion.evolution.paraphrases import Paraphraser, nearest_to_their_own, paraphrases_of
from ai_os_diffusion.evolution.question_batches import asked_in
from ai_os_diffusion.inference.denoising.turn import text_ids
from ai_os_diffusion.models.cards import Base
from ai_os_diffusion.utils.errors import TrainingError
from evolution.letters import embed

PAIRS = [
    QAPair("Who wrote the first program?", "Ada"),
    QAPair("When was it printed?", "1843"),
    QAPair("Where is the model kept today?", "London"),
]
REWORDED = [
    "By whom was the first program written?",
    "In what year was it printed?",
    "Where is today the model?",
]
SMALL = {"rank": 4, "batch_size": 3, "rate": 1e-2, "warm_up": 5, "anchor": 0.0, "dropped_words": 0.0}


@pytest.fixture
def permissive(monkeypatch):
    """Random weights write nothing that a check would keep."""
    for name in ("_LESS_LIKELY", "_LOST", "_ADDED"):
        monkeypatch.setattr(rules, name, np.inf)


def written_before(folder, engine, wordings):
    """Have a base written these."""
    folder.mkdir(parents=True)
    rows = [
        {"question": pair.question, "answer": pair.answer, "passage": "", "texts": texts}
        for pair, texts in wordings.items()
    ]
    path = folder / f"{Base.of_folder(engine.folder).weights_sha256[:16]}.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def learn(engine, folder, tell=lambda line: None, epochs=60, **settings):
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL | settings), folder=folder)
    return trainer.train_qa(PAIRS, "facts", epochs=epochs, embed=embed, tell=tell)


def nats(engine, prompt, text):
    read, ids = (text_ids(engine.tokenizer, part) for part in (prompt, text))
    return engine.core.token_nll(np.concatenate([read, ids]), len(read))


def between(values):
    """A limit in the midst of them."""
    ordered = sorted(values)
    return (ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2


@pytest.mark.parametrize("passage", ["", "In 1843 it was printed, in London."])
def test_a_text_is_kept_if_the_answer_and_the_way_back_are_likely(engine, monkeypatch, permissive, passage):
    writer, pair = Paraphraser(engine), QAPair("When was it printed?", "1843", passage)
    examples = writer._examples
    answered = "".join(f"Question: {one.question}\nAnswer: {one.answer}\n\n" for one in examples[::2])
    answered += f"{passage}\n\n" if passage else ""
    reworded = "".join(
        f"Question: {one.paraphrase}\nThe same question in other words: {one.question}\n\n"
        for one in (examples[len(examples) * at // 5] for at in range(5))
    )

    def of_answer(question):
        return nats(engine, f"{answered}Question: {question}\nAnswer:", " 1843")

    def of_way_back(text):
        prompt = f"{reworded}Question: {text}\nThe same question in other words:"
        return float(nats(engine, prompt, f" {pair.question}").mean())

    texts = list(writer._distinct(pair))
    less = [of_answer(text) - of_answer(pair.question) for text in texts]
    less = [max(each.sum(), each[0]) for each in less]
    lost = [of_way_back(text) - of_way_back(pair.question) for text in texts]
    np.testing.assert_allclose(writer.less_likely(pair, texts), less, atol=1e-4)
    np.testing.assert_allclose(writer.lost(pair, texts), lost, atol=1e-4)
    # Each check alone keeps about half of what random weights write.
    for name, values in (("_LESS_LIKELY", less), ("_LOST", lost)):
        limit = between(values)
        expected = sorted(
            (back, text) for back, text, value in zip(lost, texts, values, strict=True) if value < limit
        )
        with monkeypatch.context() as patched:
            patched.setattr(rules, name, limit)
            assert writer.write(pair) == [text for _, text in expected]
        assert 0 < len(expected) < len(texts)


def test_unlikely_texts_and_those_that_tell_the_answer_are_left_out(engine, monkeypatch, permissive):
    writer = Paraphraser(engine)
    texts = list(writer._distinct(PAIRS[0]))
    assert len(texts) > 2
    assert len({rules._words(text) for text in texts}) == len(texts)
    said = texts[0].rstrip("?")
    assert texts[0] not in list(writer._distinct(QAPair(PAIRS[0].question, said.upper())))
    monkeypatch.setattr(rules, "_ADDED", 1.0)
    assert not list(writer._distinct(PAIRS[0]))


def test_a_question_as_long_as_the_window_has_none(engine):
    for pair in (
        QAPair("word " * 3000, "yes"),
        QAPair("Who?", "word " * 3000),
        QAPair("Who?", "I", "word " * 3000),
    ):
        assert Paraphraser(engine).write(pair) == []


def test_each_is_written_once_and_always_the_same(engine, tmp_path, permissive):
    told = []
    found = paraphrases_of(engine.folder, tmp_path, PAIRS, lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert any(found.values())
    (log,) = tmp_path.iterdir()
    written = log.read_bytes()
    assert paraphrases_of(engine.folder, tmp_path, PAIRS, lambda *_: pytest.fail("again")) == found
    assert log.read_bytes() == written
    assert paraphrases_of(engine.folder, tmp_path / "other", PAIRS) == found


def test_broken_off_or_torn_it_goes_on(engine, tmp_path, permissive):
    whole = paraphrases_of(engine.folder, tmp_path / "whole", PAIRS)
    folder, told = tmp_path / "broken", []
    with pytest.raises(TrainingError, match="broken off; the same call goes on"):
        paraphrases_of(engine.folder, folder, PAIRS, is_stopped=lambda: True)
    (log,) = folder.iterdir()
    assert log.read_bytes().count(b"\n") == 1
    with log.open("ab") as file:
        file.write(b'{"question": "When was it')
    found = paraphrases_of(engine.folder, folder, PAIRS, lambda done, of: told.append((done, of)))
    assert (found, told) == (whole, [(1, 2), (2, 2)])


def test_what_is_nearer_to_another_question_is_left_out():
    found = nearest_to_their_own(
        {
            PAIRS[0]: ["Who wrote the first programs?", "When was it printed, who wrote it?"],
            PAIRS[1]: ["When was it printed at first?", "What time does the pharmacy close then?"],
            PAIRS[2]: [],
        },
        embed,
    )
    assert found == {
        PAIRS[0]: ["Who wrote the first programs?"],
        PAIRS[1]: ["When was it printed at first?"],
        PAIRS[2]: [],
    }
    assert nearest_to_their_own({PAIRS[0]: []}, embed) == {PAIRS[0]: []}


def test_every_wording_is_asked_and_the_words_that_are_left_out_stay_the_same():
    wordings = {PAIRS[0]: ("One?", "Two?")}
    config, asked = LoRAConfig(batch_size=3), Counter()
    for step in range(300):
        plain, rng = asked_in(step, QAPairs(tuple(PAIRS)), config)
        chosen, same = asked_in(step, QAPairs(tuple(PAIRS), wordings=wordings), config)
        assert [pair.answer for pair in chosen] == [pair.answer for pair in plain]
        assert rng.random() == same.random()
        asked.update(pair.question for pair in chosen)
    assert asked.keys() == {"One?", "Two?", *(pair.question for pair in PAIRS)}
    assert asked[PAIRS[1].question] == 300
    assert all(70 < asked[text] < 130 for text in ("One?", "Two?", PAIRS[0].question))


def test_a_digest_is_of_the_wordings_too():
    plain = QAPairs(tuple(PAIRS)).digest
    digests = {
        QAPairs(tuple(PAIRS), wordings={PAIRS[at]: texts}).digest
        for at, texts in ((0, ("One?",)), (1, ("One?",)), (0, ("One?", "Two?")))
    }
    assert len({plain, *digests}) == 4


def test_what_the_base_wrote_is_learned(engine, tmp_path):
    wordings = {pair: [text] for pair, text in zip(PAIRS, REWORDED, strict=True)}
    asked = [QAPair(text, pair.answer) for pair, (text,) in wordings.items()]
    alone = learn(engine, tmp_path / "alone")
    with engine.using(alone):
        before = SkillTest.of(engine, asked).exact_match
    written_before(tmp_path / ".paraphrases", engine, wordings)
    told = []
    card = learn(engine, tmp_path, told.append, paraphrases=2, epochs=100)
    assert all("step" in line for line in told), "nothing was left to write"
    with engine.using(card):
        assert SkillTest.of(engine, [*PAIRS, *asked]).exact_match == 1.0
    assert before < 1.0
    about = card.description
    assert about.config["paraphrases"] == 2
    assert about.data_sha256 == alone.description.data_sha256, "it is of the pairs as they were given"
    assert about.config["learned"] == [[pair.question, pair.answer] for pair in PAIRS]


def test_no_more_than_asked_for_and_none_that_fits_no_pass(engine, tmp_path):
    texts = [
        "Who wrote the first program, then?",
        "word " * 900 + PAIRS[0].question,
        "Who wrote a first program?",
    ]
    written_before(
        tmp_path / ".paraphrases", engine, {pair: texts if pair is PAIRS[0] else [] for pair in PAIRS}
    )
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL | {"paraphrases": 1}), folder=tmp_path)
    for most, expected in ((1, texts[:1]), (3, texts[::2])):
        trainer.config = LoRAConfig(**SMALL | {"paraphrases": most})
        asked = trainer._paraphrased(QAPairs(tuple(PAIRS)), embed, lambda line: None, lambda: False)
        assert asked.wordings == {PAIRS[0]: tuple(expected)}


def test_writing_is_told_and_broken_off_as_learning_is(engine, tmp_path):
    told = []
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL | {"paraphrases": 2}), folder=tmp_path)

    def begin(is_stopped):
        return trainer.train_qa(
            PAIRS, "facts", epochs=1, embed=embed, tell=told.append, is_stopped=is_stopped
        )

    with pytest.raises(TrainingError, match="broken off"):
        begin(lambda: len(told) == 2)
    begin(lambda: False)
    assert told[:3] == [{"paraphrased": done, "of": of} for done, of in ((1, 3), (2, 3), (1, 1))]
    assert [line["step"] for line in told[3:]] == [1]


def test_what_is_lacking_is_told_before_anything_is_written(engine, tmp_path):
    trainer = LoRATrainer(engine, config=LoRAConfig(paraphrases=2), folder=tmp_path)
    with pytest.raises(TrainingError, match=r"paraphrases is 2 and there is no embed, .* ArrowEngine"):
        trainer.train_qa(PAIRS, "facts")
    with pytest.raises(TrainingError, match="shorten it"):
        trainer.train_qa([{"q": "word " * 900, "a": "yes"}], "facts", embed=embed)
    assert not list(tmp_path.iterdir())
