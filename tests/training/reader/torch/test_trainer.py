"""A run learns to read, goes on as if it had never been broken off, and says what it cannot do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from ai_os_diffusion.inference import ArrowEngine  # noqa: E402
from ai_os_diffusion.models.cards import Card  # noqa: E402
from ai_os_diffusion.models.cards.description import READER  # noqa: E402
from ai_os_diffusion.training.reader import pack_reader, train_reader  # noqa: E402
from ai_os_diffusion.training.reader.batches import ReaderBatches, open_questions  # noqa: E402
from ai_os_diffusion.training.reader.scores import score_bounds  # noqa: E402
from ai_os_diffusion.training.reader.torch.network import HEAD  # noqa: E402
from ai_os_diffusion.utils.errors import ConfigurationError, TrainingError  # noqa: E402


def passage(text: str, *answers: str, **more) -> dict:
    """A passage as a row has it."""
    return {"text": text, "answers": [{"start": text.index(one), "text": one} for one in answers], **more}


ROWS = [
    {"question": "who sat?", "passages": [passage("cat sat", "cat"), {"text": "dog ran"}]},
    {"question": "who ran?", "passages": [passage("dog ran", "dog"), {"text": "cat sat"}]},
]


def said(engine: ArrowEngine, question: str, text: str) -> tuple[str, float, float]:
    """The best span as the engine scores it, its margin over "none", and the relevance."""
    head = engine.tokenizer.encode(question, padding=False).ids[0]
    told = engine.tokenizer.encode(text, padding=False, add_special_tokens=False, return_offsets=True)
    ids = np.concatenate([head, told.ids[0], head[-1:]])
    types = np.ones(len(ids), np.uint8)
    types[: len(head)] = 0
    scores = engine.core.head_scores((ids, np.array([0, len(ids)])), HEAD, types, mode=READER)
    own = scores[len(head) : -1]
    sums = np.where(np.triu(np.ones((len(own), len(own)))), own[:, None, 0] + own[None, :, 1], -np.inf)
    first, last = divmod(int(sums.argmax()), len(own))
    places = told.offsets[0]
    return text[places[first, 0] : places[last, 1]], sums.max() - scores[0, :2].sum(), scores[0, 2]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_card_learns_to_read_and_the_engine_reads_with_it(tiny_encoder_dir, make_reader, tmp_path, average):
    recipe = make_reader(
        ROWS,
        name="tiny-reader",
        data={"licence": "CC0-1.0", "described": "two animals"},
        card={"rank": 16, "bits": 8, "average": average, "config": {"threshold": 0.5}},
        optimizer={"steps": 400},
        report={"log_every": 50, "save_every": 100},
    )
    result = train_reader(recipe, tmp_path / "run", device="cpu")
    assert result.is_done
    about = Card(result.card).description
    assert (about.name, about.kind, about.licence, about.heads) == (
        "tiny-reader",
        "reader",
        "CC0-1.0",
        (HEAD,),
    )
    assert (about.config["window_tokens"], about.config["threshold"], about.config["data"]) == (
        24,
        0.5,
        "two animals",
    )
    assert about.metrics["steps"] == 400
    with ArrowEngine(tiny_encoder_dir, device="cpu") as engine:
        engine.attach(result.card)
        for row in ROWS:
            good, bad = row["passages"]
            text, margin, relevance = said(engine, row["question"], good["text"])
            assert text == good["answers"][0]["text"]
            assert margin > 0
            assert said(engine, row["question"], bad["text"])[1] < 0
            assert said(engine, row["question"], bad["text"])[2] < relevance


def test_the_scores_in_training_are_those_of_the_engine(tiny_encoder_dir, make_reader, tmp_path):
    from ai_os_diffusion.training.reader.torch.trainer import ReaderTrainer
    from ai_os_diffusion.training.torch.attention import Attention

    recipe = make_reader(ROWS, optimizer={"steps": 20})
    packed = open_questions(recipe, tiny_encoder_dir)
    more = {"data_sha256": "0" * 64, "tell": lambda _line: None, "is_stopped": lambda: False}
    trainer = ReaderTrainer(recipe, tiny_encoder_dir, tmp_path, packed=packed, device="cpu", **more)
    card, _ = trainer.run()
    batch = ReaderBatches(tiny_encoder_dir, recipe, packed)[0]
    with torch.no_grad():
        on_device = {name: torch.from_numpy(value) for name, value in batch.items()}
        found = trainer.reader(on_device, Attention(is_blocked=False)).numpy()
    ids, types, document = (batch[name].ravel() for name in ("ids", "types", "document"))
    with ArrowEngine(tiny_encoder_dir, device="cpu") as engine:
        engine.attach(card)
        for window in range(document.max() + 1):
            own = np.flatnonzero(document == window)
            pair = ids[own].astype(np.int32), np.array([0, len(own)])
            scores = engine.core.head_scores(pair, HEAD, types[own].astype(np.uint8), mode=READER)
            np.testing.assert_allclose(found[own], scores, atol=2e-3)


RUN = """
import sys
from pathlib import Path
import torch
from ai_os_diffusion.training.reader import ReaderRecipe, train_reader
torch.set_num_threads(1)
def tell(line):
    print(line["step"], flush=True)
train_reader(ReaderRecipe.read(Path(sys.argv[1])), Path(sys.argv[2]), device="cpu", tell=tell)
"""


def test_a_run_that_is_killed_ends_with_the_weights_of_an_unbroken_one(
    tiny_encoder_dir, make_reader, tmp_path
):
    make_reader(ROWS)
    file = tmp_path / "r.toml"
    file.write_text(
        f'base = "{tiny_encoder_dir}"\nseed = 3\n[data]\nfiles = ["rows.jsonl"]\n'
        "[windows]\nquestion = 12\npassage = 24\noverlap = 8\n[questions]\ncount = 2\n[batch]\nrows = 2\n"
        "length = 96\naccumulate = 2\nworkers = 1\n[card]\nrank = 4\nbits = 0\naverage = 0.9\n"
        "[optimizer]\nrate = 0.01\nsteps = 24\n[report]\nlog_every = 1\nsave_every = 3\n"
    )

    def begin(out):
        command = [sys.executable, "-c", RUN, str(file), str(tmp_path / out)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    with begin("whole") as whole:
        assert len(whole.stdout.readlines()) == 24
    for step, delay_s in ((4, 0.0), (13, 0.05)):
        with begin("parts") as run:
            for line in run.stdout:
                if int(line) >= step:
                    time.sleep(delay_s)
                    os.killpg(run.pid, signal.SIGKILL)
                    break
    with begin("parts") as last:
        assert int(last.stdout.readlines()[-1]) == 24
    first, second = (Card(tmp_path / run / "card.parquet") for run in ("whole", "parts"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_packed_questions_and_teachers_are_learned_from(tiny_encoder_dir, make_reader, tmp_path):
    recipe, packed = make_reader(ROWS), tmp_path / "packed.npz"
    assert pack_reader(recipe, packed) == 2
    questions = open_questions(recipe, tiny_encoder_dir)
    scores = tmp_path / "scores.npy"
    np.save(scores, np.zeros(score_bounds(questions)[-1], np.float16))
    data = {"files": [str(packed)], "scores": [str(scores)]}
    taught = make_reader(ROWS, data=data, loss={"taught": 0.5})
    assert train_reader(taught, tmp_path / "run", device="cpu").is_done
    np.save(scores, np.zeros(7, np.float16))
    with pytest.raises(TrainingError, match="expected float16"):
        train_reader(taught, tmp_path / "other", device="cpu")
    with pytest.raises(ConfigurationError, match=r"loss\.taught"):
        make_reader(ROWS, loss={"taught": 0.5})


def test_a_state_of_another_recipe_is_refused_by_what_differs(make_reader, tmp_path):
    train_reader(make_reader(ROWS), tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match=r"its run began with loss\.shared = 0\.5, the recipe says 0\.25"):
        train_reader(make_reader(ROWS, loss={"shared": 0.25}), tmp_path / "run", device="cpu")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
