import json

import pytest

from ai_os_diffusion.answers.recall import RecallHit, RecallResult, apply_threshold, measured_threshold


def memory(**metadata):
    return {
        "memory_id": "m",
        "content": "text",
        "embedding": None,
        "metadata": metadata,
        "created_at": 0.0,
        "updated_at": 0.0,
    }


def test_the_best_hit_decides_for_all():
    hits = [(memory(), 0.5), (memory(), 0.1)]
    assert len(apply_threshold("q", hits, 0.38).hits) == 2
    result = apply_threshold("q", hits, 0.6)
    assert (result.abstained, result.hits, result.nearest) == (True, (), 0.5)


def test_what_holds_all_names_of_the_question_fits_however_far_it_is():
    hits = [(memory(headings=["DEFAULT_BACKOFF_MAX", "Queue"]), 0.1)]
    assert not apply_threshold("what is DEFAULT_BACKOFF_MAX?", hits, 0.38).abstained
    assert not apply_threshold("is default_backoff_max of Queue?", hits, 0.38).abstained
    assert apply_threshold("what is DEFAULT_BACKOFF_MAX of Stack?", hits, 0.38).abstained
    assert apply_threshold("what is the backoff?", hits, 0.38).abstained


def test_the_nearest_counts_wherever_it_stands():
    result = apply_threshold("q", [(memory(), 0.2), (memory(), 0.5)], 0.38, "fresh")
    assert (result.abstained, result.nearest, result.index) == (False, 0.5, "fresh")


def test_without_a_threshold_every_hit_fits_and_no_hit_never_does():
    assert not apply_threshold("q", [(memory(), -0.9)], None).abstained
    assert apply_threshold("q", [], None).abstained


def test_thresholds_belong_to_encoders_that_were_measured(minilm_dir):
    metadata = json.loads((minilm_dir / "metadata.json").read_text(encoding="utf-8"))
    assert measured_threshold(metadata["source"]["weights_sha256"]) == 0.38
    assert measured_threshold("0" * 64) is None
    assert measured_threshold(None) is None


def test_a_hit_reads_what_ingestion_wrote():
    metadata = {
        "source": "/a.pdf",
        "line": 3,
        "end_line": 9,
        "page": 2,
        "headings": ["T", "S"],
        "also": [{"source": "/b.pdf", "line": 7, "unreadable_since": ""}],
    }
    hit = RecallHit.from_hit((memory(**metadata), 0.5))
    assert (hit.source, hit.line, hit.end_line, hit.page) == ("/a.pdf", 3, 9, 2)
    assert hit.headings == ("T", "S")
    assert hit.to_dict()["also"] == [{"source": "/b.pdf", "line": 7, "unreadable_since": ""}]


def test_a_hit_of_a_memory_that_was_saved_by_hand_has_no_place():
    hit = RecallHit.from_hit((memory(note=1), 0.5))
    assert (hit.source, hit.line, hit.also) == ("", None, ())


def test_a_place_in_a_hit_has_its_line_where_lines_are_those_of_the_source():
    aligned = RecallHit("m", "one\ntwo\nthree", 0.5, "a.md", 7, 9)
    assert [aligned.line_at(place) for place in (0, 3, 4, 9)] == [7, 7, 8, 9]
    joined = RecallHit("m", "one\ntwo", 0.5, "a.pdf", 7, 9)
    assert joined.line_at(5) == 7
    assert RecallHit("m", "one\ntwo", 0.5).line_at(5) is None


@pytest.mark.parametrize(
    ("similarities", "threshold", "shown"),
    [
        ((0.6, 0.31, 0.29, 0.03, -0.007), 0.38, (0.6, 0.31)),
        ((0.9, 0.4, 0.3), 0.38, (0.9, 0.4)),
        ((0.9, 0.4, 0.3), None, (0.9,)),
        ((0.8, 0.78, 0.75), None, (0.8, 0.78, 0.75)),
        ((-0.1, -0.2), None, (-0.1,)),
        ((), 0.38, ()),
    ],
)
def test_passages_far_below_the_best_are_not_worth_reading(similarities, threshold, shown):
    hits = tuple(RecallHit(str(number), "", value) for number, value in enumerate(similarities))
    found = RecallResult("?", hits, not hits, similarities[0] if hits else None, threshold)
    assert tuple(hit.similarity for hit in found.near_hits) == shown
