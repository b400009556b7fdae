"""A reader points at spans as its scores say, in any company, and the encoder embeds as without it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.reading.reader import Reader
from ai_os_diffusion.inference.reading.reader_settings import ReaderSettings
from ai_os_diffusion.inference.reading.windows import windows
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.utils.errors import CardError, InferenceError, ShapeError
from support.reader_cards import reader_card

QUESTION = "when?"
MERGED = 16
"""A rank of which factors have half as many numbers as their layers, or more."""
PASSAGES = ["the night train leaves at ten", "a", "Öl 夜 ten\n\n- two  words", "x" * 300, ""]


@pytest.fixture(params=[4, MERGED], ids=["beside", "merged"])
def engine(request, tiny_encoder_dir, tmp_path, backend):
    with ArrowEngine(tiny_encoder_dir, device="cpu", backend=backend) as opened:
        opened.attach(reader_card(tiny_encoder_dir, tmp_path / "reader.parquet", rank=request.param))
        yield opened


def test_the_best_span_is_the_best_of_all_pairs_of_tokens(engine):
    (reading,) = engine.read(QUESTION, PASSAGES[:1])
    (window,) = windows(engine.tokenizer, QUESTION, PASSAGES[:1], [""], ReaderSettings(), 128)
    types = np.ones(len(window.ids), np.uint8)
    types[: window.question_length] = 0
    bounds = np.array([0, len(window.ids)])
    scores = engine.core.head_scores((window.ids, bounds), "qa_outputs", types, mode="reader")
    own = scores[window.first : -1]
    pairs = {
        (first, last): own[first, 0] + own[last, 1]
        for first in range(len(own))
        for last in range(first, min(len(own), first + ReaderSettings().span_tokens))
    }
    (first, last), score = max(pairs.items(), key=lambda pair: pair[1])
    best = reading.spans[0]
    assert (best.start, best.end) == (window.places[first, 0], window.places[last, 1])
    assert best.margin == pytest.approx(float(score - scores[0, 0] - scores[0, 1]), abs=1e-4)
    assert reading.relevance == pytest.approx(float(scores[0, 2]), abs=1e-5)
    assert reading.margin == best.margin


def test_spans_are_places_of_the_passage_and_apart(engine):
    for passage, reading in zip(PASSAGES, engine.read(QUESTION, PASSAGES), strict=True):
        taken: set[int] = set()
        for span in reading.spans:
            assert 0 <= span.start < span.end <= len(passage)
            assert passage[span.start : span.end].strip()
            places = range(span.start, span.end)
            assert taken.isdisjoint(places)
            taken.update(places)
        margins = [span.margin for span in reading.spans]
        assert margins == sorted(margins, reverse=True)
        assert bool(reading.spans) == bool(passage)
    assert engine.read(QUESTION, [""])[0].margin == float("-inf")
    assert engine.read(QUESTION, []) == []


def test_a_passage_is_read_the_same_in_any_company(engine):
    together = engine.read(QUESTION, PASSAGES)
    for passage, reading in zip(PASSAGES, together, strict=True):
        (alone,) = engine.read(QUESTION, [passage])
        assert [span.start for span in alone.spans] == [span.start for span in reading.spans]
        assert alone.margin == pytest.approx(reading.margin, abs=1e-4)


def test_windows_cover_a_long_passage_and_overlap(engine):
    settings = ReaderSettings(window_tokens=40, overlap_tokens=10)
    passage = "".join(chr(97 + index % 26) for index in range(333))
    laid = windows(engine.tokenizer, QUESTION, [passage], ["Title"], settings, 128)
    covered = [set(range(window.places[0, 0], window.places[-1, 1])) for window in laid]
    assert set.union(*covered) == set(range(len(passage)))
    assert all(len(own & after) == 10 for own, after in pairwise(covered))
    assert all(len(window.ids) <= 128 for window in laid)
    # What can be an answer begins behind the title.
    assert {window.first - window.question_length for window in laid} == {len("Title")}


def test_the_window_of_the_encoder_bounds_what_is_read_together(engine):
    question, passage, title = "q " * 99, "a " * 500, "t " * 500
    for window in windows(engine.tokenizer, question, [passage], [title], ReaderSettings(), 128):
        assert len(window.ids) <= 128
        assert len(window.places) >= 20
    with pytest.raises(InferenceError, match="leaves no room"):
        windows(engine.tokenizer, question, ["a"], [""], ReaderSettings(question_tokens=125), 128)


def test_the_encoder_embeds_as_without_its_reader(engine):
    with_reader = engine.encode(PASSAGES[:2])
    engine.detach("reader")
    np.testing.assert_array_equal(engine.encode(PASSAGES[:2]), with_reader)
    with pytest.raises(CardError, match="kind 'reader'"):
        engine.read(QUESTION, PASSAGES)


def test_a_card_without_relevance_tells_none(tiny_encoder_dir, tmp_path, backend):
    with ArrowEngine(tiny_encoder_dir, device="cpu", backend=backend) as engine:
        engine.attach(reader_card(tiny_encoder_dir, tmp_path / "reader.parquet", outputs=2))
        (reading,) = engine.read(QUESTION, PASSAGES[:1])
        assert (reading.relevance, len(reading.spans)) == (None, 3)
        engine.detach("reader")
        engine.attach(reader_card(tiny_encoder_dir, tmp_path / "one.parquet", outputs=1))
        with pytest.raises(InferenceError, match="expected a start and an end"):
            engine.read(QUESTION, PASSAGES[:1])


def test_titles_belong_to_passages(engine):
    with pytest.raises(ShapeError, match="2 titles for 1"):
        engine.read(QUESTION, PASSAGES[:1], ["a", "b"])
    plain, titled = engine.read(QUESTION, PASSAGES[:1] * 2, ["", "Trains"])
    assert plain.margin != titled.margin


@pytest.mark.parametrize(
    "reading",
    [{"window_tokens": 1}, {"overlap_tokens": 300}, {"head": 7}, {"span_tokens": True}, []],
)
def test_settings_of_a_card_are_checked(tiny_encoder_dir, tmp_path, reading):
    with ArrowEngine(tiny_encoder_dir, device="cpu") as engine:
        engine.attach(reader_card(tiny_encoder_dir, tmp_path / "r.parquet", config={"reading": reading}))
        with pytest.raises(CardError, match="card 'r': config"):
            engine.read(QUESTION, PASSAGES)


def test_settings_are_those_of_the_card(tiny_encoder_dir, tmp_path):
    said = ReaderSettings(question_tokens=9, window_tokens=50, overlap_tokens=20, span_tokens=4).to_dict()
    with ArrowEngine(tiny_encoder_dir, device="cpu") as engine:
        engine.attach(reader_card(tiny_encoder_dir, tmp_path / "r.parquet", config={"reading": said}))
        assert Reader(engine.core, engine.tokenizer).settings.to_dict() == said
        spans = engine.read(QUESTION, PASSAGES[:1])[0].spans
        assert all(span.end - span.start <= 8 for span in spans)


def test_a_card_reads_the_same_alone_and_beside_others(tiny_encoder_dir, tmp_path, backend):
    """Alone it is merged into copies of the layers; in a mix its factors stand beside them."""
    cards = [
        reader_card(tiny_encoder_dir, tmp_path / f"{name}.parquet", rank=rank, seed=seed)
        for name, rank, seed in (("one", MERGED, 1), ("other", MERGED, 2))
    ]
    about = replace(cards[0].description, name="head", kind="skill", rank=0, heads=("score",))
    scores = np.ones((1, cards[0].shapes["qa_outputs.weight"][1]), np.float32)
    head = Card.write(tmp_path / "head.parquet", about, [("score.weight", scores)])
    with ArrowEngine(tiny_encoder_dir, device="cpu", backend=backend) as engine:
        vectors = engine.encode(PASSAGES)
        read = []
        for card in (*cards, cards[0]):
            engine.attach(card)
            alone = engine.read(QUESTION, PASSAGES)
            with engine.using(head):
                beside = engine.read(QUESTION, PASSAGES)
            for one, other in zip(alone, beside, strict=True):
                assert [(s.start, s.end) for s in one.spans] == [(s.start, s.end) for s in other.spans]
                assert one.margin == pytest.approx(other.margin, abs=1e-4)
            assert engine.read(QUESTION, PASSAGES) == alone
            np.testing.assert_array_equal(engine.encode(PASSAGES), vectors)
            engine.detach(card.name)
            read.append(alone)
        assert read[0] == read[2] != read[1]
