"""The recipe of our own card: what is drawn, what the card says, what is made of cards."""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.training import Recipe
from ai_os_diffusion.utils.errors import TrainingError

RECIPE = Path(__file__).parents[2] / "training" / "diffusion_card"
PLACES = ("London", "Paris", "New York", "Old Harbour", "Green Valley", "Lake Town")


@pytest.fixture(autouse=True)
def _recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    yield
    for file in RECIPE.glob("*.py"):
        sys.modules.pop(file.stem, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """As much open data as each kind of example needs, written here."""
    folder = tmp_path_factory.mktemp("data")
    questions, claims, texts = [], [], []
    for number in range(120):
        place, other = PLACES[number % 6], PLACES[(number + 1) % 6]
        parts = [
            f"The bridge number {number} was built in {1800 + number} near {place}.",
            f"It was opened by Mary Miller, who came from {other} with a great many people.",
            "Nobody knows what became of the old ferry that had crossed the river before.",
            "The painters need a whole summer, and then they begin anew at the other end.",
        ]
        context = " ".join(parts)
        for question, answer in (
            ("When was it built?", str(1800 + number)),
            ("Who opened it?", "Mary Miller"),
        ):
            start = context.index(answer)
            row = {"question": question, "context": context, "answers": [{"text": answer, "start": start}]}
            questions.append({**row, "source": "SQuAD (own)", "lang": "en"})
        label = ("entail", "contradict", "neutral")[number % 3]
        claims.append({"premise": parts[0], "hypothesis": parts[1], "label": label, "source": "own"})
        texts += [{"prompt": "", "text": context}, {"prompt": f"Add {number}.", "text": "Done at once."}]
    for name, rows in (("reader/extractive", questions), ("reader/nli", claims), ("train/wikipedia", texts)):
        file = folder / f"{name}.jsonl.gz"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return folder


def test_the_card_says_what_is_said_of_it_beside_the_recipe():
    recipe = Recipe.read(RECIPE / "recipe.toml")
    about = json.loads((RECIPE / "about.json").read_text(encoding="utf-8"))
    card, config = recipe.card, about["config"]
    assert (recipe.name, recipe.data.licence) == (about["name"], about["licence"])
    assert [card.mask, card.null] == about["row_ids"] == [config["mask_id"], config["null_id"]]
    for ours, theirs in (
        (list(card.end), "end_ids"),
        (card.block_length, "block_length"),
        (card.threshold, "threshold"),
        (card.chat_template, "chat_template"),
        (card.question, "question"),
        (card.config["declines"], "declines"),
        (card.config["verdicts"], "verdicts"),
    ):
        assert ours == config[theirs]


def test_every_kind_is_drawn_the_same_for_the_same_state(data):
    from examples import MIXTURE, Examples

    examples = Examples(data)
    assert sum(MIXTURE.values()) == pytest.approx(1)
    for kind in (*MIXTURE, "question"):
        drawn = [examples.draw(kind, random.Random(seed)) for seed in (1, 1, 2, 3, 4)]
        assert drawn[0] == drawn[1]
        assert len(set(drawn)) > 1
        assert all(example.block in (8, 16, 32) for example in drawn)
        assert all(any(piece.written for piece in example.pieces) for example in drawn)
    assert examples.draw("template", random.Random(0)).has_gaps
    with pytest.raises(TrainingError, match="no kind 'poem'; there are grounded,"):
        examples.draw("poem", random.Random(0))


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    from examples import Examples

    monkeypatch.delenv("AIOS_DATA", raising=False)
    with pytest.raises(TrainingError, match=r"\$AIOS_DATA: the variable is not set"):
        Examples("$AIOS_DATA")


def test_kinds_ask_for_what_is_not_there_too(data):
    from examples import NOT_STATED, Examples

    examples = Examples(data)

    def drawn(kind):
        return [examples.draw(kind, random.Random(seed)) for seed in range(300)]

    halves = [one for one in drawn("two_parts") if one.pieces[0].text.endswith(f"; {NOT_STATED}")]
    assert halves
    for one in halves:
        context = one.prompt.rpartition("Question:")[0]
        assert one.pieces[0].text.partition(";")[0] in context
    values = {piece.text for one in drawn("template") for piece in one.pieces if piece.written}
    assert {"", "true", "false", "Mary Miller"} <= values
    questions = [one.prompt.rpartition("Question: ")[2] for one in drawn("yes_no")]
    for begin in ("Was It opened", "Is it true that", "True? It was"):
        assert any(question.startswith(begin) for question in questions), begin


def test_what_is_judged_by_is_never_trained_on(data):
    from examples import Examples

    apart = [Examples(data, held_out=held_out) for held_out in (False, True)]
    contexts = [
        {examples.draw("question", random.Random(seed)).prompt[:40] for seed in range(300)}
        for examples in apart
    ]
    assert contexts[1]
    assert not contexts[0] & contexts[1]


def a_card(path: Path, base: Path, norm: np.ndarray, **changes) -> Card:
    about = {
        "kind": "diffusion",
        "rank": 2,
        "scaling": 2.0,
        "config": {"mask_id": 258, "null_id": 257, "block_length": 16},
    }
    described = CardDescription(name=path.stem, base=Base.of_folder(base), **{**about, **changes})
    draw = np.random.default_rng(int(norm[0] * 10))
    layer = "model.layers.0.mlp.down_proj"
    factors = [(f"{layer}.lora_A.weight", (2, 64)), (f"{layer}.lora_B.weight", (32, 2))]
    tensors = [(name, draw.normal(size=shape).astype(np.float32)) for name, shape in factors]
    return Card.write(path, described, [*tensors, ("model.norm.weight", norm)])


def test_a_blend_is_the_mean_and_speaks_for_the_last(tiny_decoder_dir, tmp_path):
    from blend import blend

    one, two = (
        a_card(tmp_path / f"{name}.parquet", tiny_decoder_dir, np.full(32, value, np.float32))
        for name, value in (("one", 1.0), ("two", 3.0))
    )
    found = blend(tmp_path / "out.parquet", [(one, 0.25), (two, 0.75)], bits=None)
    assert found.name == "two"
    for name in found:
        np.testing.assert_allclose(found[name], 0.25 * one[name] + 0.75 * two[name], rtol=1e-6)
    other = a_card(tmp_path / "three.parquet", tiny_decoder_dir, np.ones(32, np.float32), scaling=1.0)
    with pytest.raises(ValueError, match="scale them otherwise"):
        blend(tmp_path / "out.parquet", [(one, 0.5), (other, 0.5)])
    with pytest.raises(ValueError, match="the shares add up"):
        blend(tmp_path / "out.parquet", [(one, 0.5), (two, 0.4)])


def test_every_kind_is_judged(tiny_decoder_dir, data, tmp_path):
    from examples import Examples

    from judging import judge, write

    with ArrowEngine(tiny_decoder_dir, device="cpu") as engine:
        engine.attach(a_card(tmp_path / "c.parquet", tiny_decoder_dir, np.ones(32, np.float32)))
        examples = Examples(data)
        form = examples.draw("template", random.Random(5))
        written = write(engine, form, 16)
        assert len(written) == sum(piece.written for piece in form.pieces)
        found = judge(engine, examples, 1)
    kinds = {
        "grounded",
        "grounded_f1",
        "unanswerable",
        "yes_no",
        "yes_no_f1",
        "verdict",
        "two_parts",
        "two_parts_f1",
    }
    assert found.keys() == kinds | {"template", "left_empty"}
    assert all(0 <= value <= 100 for value in found.values())


def test_questions_are_kept_where_the_other_card_answers_them_so(
    tiny_decoder_dir, data, tmp_path, monkeypatch
):
    import questions
    from open_data import OpenData

    found = questions.candidates(OpenData(data, held_out=False), random.Random(0))
    passage, answer = next(found)
    assert passage.count(answer) == 1
    norm = np.ones(32, np.float32)
    asking = a_card(tmp_path / "asking.parquet", tiny_decoder_dir, norm, kind="skill", config={})
    answering = a_card(tmp_path / "answering.parquet", tiny_decoder_dir, norm)
    writer = questions.Questions(tiny_decoder_dir, asking.path, answering.path, "cpu")
    # What a tiny network asks is no question.
    assert writer.row(passage, answer, 0) is None
    monkeypatch.setattr(writer._asking, "generate", lambda *_, **__: " Who was it? ")
    assert writer.row(passage, answer, 0) is None
    monkeypatch.setattr(writer._answering, "diffuse", lambda *_, **__: answer)
    row = writer.row(passage, answer, 0)
    assert (row["question"], row["answers"]) == (
        "Who was it?",
        [{"text": answer, "start": passage.index(answer)}],
    )
    writer._asking.close()
    writer._answering.close()


@pytest.mark.parametrize(
    ("question", "context", "answer", "asked_so"),
    [
        ("When was it opened?", "The hall was opened in 1931.", "1931", "Was it opened in 1931?"),
        ("Where did she live?", "She lived near Oslo for years.", "Oslo", "Did she live near Oslo?"),
        ("Who wrote it?", "Mary Miller wrote it.", "Mary Miller", "Did Mary Miller write it?"),
        ("Who is the mayor?", "The mayor is Tom Reed.", "Tom Reed", "Is the mayor Tom Reed?"),
        ("What did they sell?", "They sold maps.", "maps", "Did they sell maps?"),
        ("How many doors are there?", "It has nine doors.", "nine", "Are there nine doors?"),
        ("Why did he leave?", "He left since it rained.", "it rained", None),
        ("When was it sold?", "1931 was the year of its sale.", "1931", None),
    ],
)
def test_questions_for_values_are_asked_for_yes_or_no(data, question, context, answer, asked_so):
    from verdicts import Verbs, asked

    found = asked(question, context, context.index(answer), Verbs([]))
    assert (found and found.of(answer)) == asked_so


def test_years_and_counts_are_compared(data):
    from verdicts import Asked

    for seed in range(40):
        opened, said = Asked("Was it opened", preposition="in").compared("1931", random.Random(seed))
        word, other = re.fullmatch(r"Was it opened (after|before) (\d+)\?", opened).groups()
        assert said == (int(other) < 1931 if word == "after" else int(other) > 1931)
    assert Asked("Did they sell", " maps?").compared("nine", random.Random(0)) is None


@pytest.mark.parametrize(
    ("claim", "question"),
    [
        ("the man plays guitar", "Does the man play guitar?"),
        ("she stopped at the river", "Did she stop at the river?"),
        ("he carries water", "Does he carry water?"),
        ("it was sold", "Was it sold?"),
        ("the man who is tall", None),
        ("two dogs", None),
    ],
)
def test_claims_become_questions(data, claim, question):
    from verdicts import Verbs

    verbs = Verbs(2 * ["to play, to stop, to carry, it can play, it can stop, it can carry"])
    assert verbs.question(claim) == question


def test_a_reason_is_the_clause_that_says_it(data):
    from verdicts import reason

    text = "It rained. The hall, built by monks, was opened in 1931, and burned down later on. Nobody came."
    begin = text.index("1931")
    assert reason(text, begin, begin + 4, 100).startswith("The hall, built")
    assert reason(text, begin, begin + 4, 30) == "was opened in 1931"
    assert reason(text, begin, begin + 4, 5) == "1931"
