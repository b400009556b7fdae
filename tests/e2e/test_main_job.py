"""The main job on the real models: remember, recall, answer, abstain."""

from __future__ import annotations

import pytest

from ai_os_diffusion.config import load_config
from ai_os_diffusion.runtime import open_runtime

pytestmark = pytest.mark.models

NOTES = """# Household

## Heating
The boiler is serviced every October by Mrs. Lindqvist. The pressure must stay between 1.2 and 1.8 bar.

# Shed
## Bicycle
The spare key for the bicycle lock hangs behind the pantry door.

# Outside
## Garden
Roses are cut in early March, the lawn is mown every Saturday.
"""


@pytest.fixture(scope="module")
def runtime(minilm_dir, smollm2_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("main_job")
    (folder / "notes.md").write_text(NOTES)
    overrides = {
        "storage.path": folder / "store",
        "model.encoder": minilm_dir,
        "model.decoder": smollm2_dir,
    }
    with open_runtime(load_config(environ={}, overrides=overrides)) as opened:
        opened.add([folder / "notes.md"])
        yield opened


@pytest.mark.parametrize(
    ("question", "line"),
    [
        ("who looks after the boiler?", 4),
        ("where is the key of my bike?", 8),
        ("when do I cut the grass?", 12),
    ],
)
def test_questions_in_other_words_find_the_line(runtime, question, line):
    assert runtime.recall(question).hits[0].line == line


@pytest.mark.parametrize(
    "question", ["who won the world cup in 1998?", "how do I declare a generic in Java?"]
)
def test_what_nothing_fits_is_not_answered(runtime, question):
    answer = runtime.ask(question)
    assert answer.abstained
    assert answer.text == ""


def test_an_answer_streams_and_cites_the_line(runtime):
    *pieces, answer = runtime.ask_stream("Where does the spare key for the bicycle lock hang?")
    assert "".join(pieces).strip() == answer.text
    assert "pantry" in answer.text
    assert answer.citations[0].line == 8
    assert answer.mode in ("reader", "nearest")
    assert answer.mode == "nearest" or 0 < answer.confidence <= 1
