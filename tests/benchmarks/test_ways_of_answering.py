"""What `answers.py --ways` counts, on a store of a tiny encoder."""

import pytest

from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.config import load_config
from ai_os_diffusion.runtime import open_runtime
from support.reader_cards import reader_card

TEXTS = {
    "p0.txt": "The night train leaves at ten.",
    "p1.txt": "Roses are cut in March.",
    "p2.txt": "It rains.",
}
QUESTIONS = [
    {"question": "When does the night train leave?", "answers": ["ten"], "paragraph_id": "p0"},
    {"question": "Who waters the lawn?", "answers": []},
]


def test_a_passage_is_right_where_its_source_is_and_it_holds_the_answer(benchmark):
    answers = benchmark("answers")
    hits = [RecallHit(name, text, 0.5, source=name) for name, text in TEXTS.items()]
    row = {"answers": ["in march"], "paragraph_id": "p1"}
    assert answers.passage_place(row, hits) == 2
    assert answers.passage_place({**row, "answers": ["in May"]}, hits) is None
    assert answers.passage_place({"answers": ["rain"], "source": "p1.txt"}, hits) is None


def test_articles_are_all_paragraphs_of_one_title(benchmark):
    corpus = [{"id": "p0", "title": "A"}, {"id": "p1", "title": "B"}, {"id": "p2", "title": "A"}]
    (row,) = benchmark("answers").with_articles([{"paragraph_id": "p2"}], corpus)
    assert row["article"] == {"p0.txt", "p2.txt"}


@pytest.fixture
def runtime(tiny_encoder_dir, tmp_path):
    settings = {
        "storage.path": tmp_path / "store",
        "model.encoder": str(tiny_encoder_dir),
        "model.reader": str(reader_card(tiny_encoder_dir, tmp_path / "reader.parquet").path),
    }
    with open_runtime(load_config(overrides=settings)) as runtime:
        runtime.add(texts=[(name, text.encode()) for name, text in TEXTS.items()])
        yield runtime


def test_every_way_answers_every_question(benchmark, runtime):
    answers = benchmark("answers")
    figures = answers.compare(runtime, [{**QUESTIONS[0], "article": set(TEXTS)}, QUESTIONS[1]])
    assert list(figures) == list(answers.WAYS)
    for told in figures.values():
        assert (told["questions"], told["none"]) == (1, 2)
        assert told["first five"] == 1.0
        assert 0 <= told["right"] <= told["shown"] <= 1
    # Without its article nothing is left that could answer; the other question is read all the same.
    assert figures["vectors, nearest part quoted"]["none answered"] == 0.5


def test_a_way_searches_as_it_says(benchmark, runtime):
    ways = benchmark("ways")
    question = "When does the night train leave?"
    found = {title: ways.found_by(runtime, question, way).hits for title, way in ways.WAYS.items()}
    words = found["words, read"]
    assert [hit.source for hit in words] == ["p0.txt"]
    assert len(found["vectors, read"]) == len(TEXTS)
    near = {hit.source: hit.similarity for hit in found["vectors, read"]}
    assert words[0].similarity == pytest.approx(near["p0.txt"])
