"""A run learns, goes on as if it had never been broken off, and says what it cannot do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from ai_os_diffusion.inference import ArrowEngine  # noqa: E402
from ai_os_diffusion.models.cards import Card  # noqa: E402
from ai_os_diffusion.training import train_diffusion  # noqa: E402
from ai_os_diffusion.utils.errors import (  # noqa: E402
    ConfigurationError,
    DeviceError,
    ModelLoadError,
    ModelNotFoundError,
    TrainingError,
)

TEXT = "the cat sat on the mat"
GAPS = [{"pieces": [{"text": "the cat"}, {"text": " sat on", "written": True}, {"text": " the mat"}]}]
ROWS = [{"text": TEXT}, {"prompt": "who sat?", "answer": "the cat"}, *GAPS]


def tensors(path: Path) -> dict[str, np.ndarray]:
    card = Card(path)
    return {name: card[name] for name in card}


def assert_same(one: Path, other: Path) -> None:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_card_learns_a_text_by_heart_and_the_engine_infills_it(
    tiny_decoder_dir, make_recipe, tmp_path, bits
):
    recipe = make_recipe(
        [*GAPS, {"prompt": "who sat?", "answer": "the cat"}],
        name="heart",
        card={"rank": 16, "bits": bits},
        optimizer={"rate": 1e-2, "steps": 150},
        report={"log_every": 50, "save_every": 100, "prompts": ["who sat?"], "infill": ["the cat{} the mat"]},
        data={"licence": "CC0-1.0", "described": "one text"},
    )
    out = tmp_path / "run"
    result = train_diffusion(recipe, out, device="cpu")
    assert result.is_done
    assert result.last["loss"] < 0.3
    about = Card(result.card).description
    assert (about.name, about.kind, about.licence, about.rank) == ("heart", "diffusion", "CC0-1.0", 16)
    assert about.config["data"] == "one text"
    assert about.metrics["steps"] == 150
    assert len(about.data_sha256) == 64
    with ArrowEngine(tiny_decoder_dir, device="cpu") as engine:
        engine.attach(result.card)
        assert engine.diffuse(infill="the cat{} the mat") == TEXT
        assert engine.diffuse("who sat?") == "the cat"
    # At 100 steps and at the end.
    samples = (out / "samples.txt").read_text(encoding="utf-8")
    assert samples.count("== step") == 2
    assert samples.endswith(f"> who sat?\nthe cat\n> the cat{{}} the mat\n{TEXT}\n")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100, 150]
    assert lines[0]["loss"] > lines[-1]["loss"]
    assert (out / "loss.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_next_token_is_learned_too_and_a_card_for_both_writes_both_ways(
    tiny_decoder_dir, make_recipe, tmp_path
):
    rows = [{"prompt": "who sat?", "answer": "the cat"}]
    long = {"rank": 16}, {"rate": 1e-2, "steps": 150}
    for objective, kind in (("causal", "skill"), ("both", "diffusion")):
        recipe = make_recipe(rows, objective=objective, name=objective, card=long[0], optimizer=long[1])
        result = train_diffusion(recipe, tmp_path / objective, device="cpu")
        assert Card(result.card).description.kind == kind
        with ArrowEngine(tiny_decoder_dir, device="cpu") as engine:
            engine.attach(result.card)
            if objective == "both":
                assert engine.diffuse("who sat?") == "the cat"
                # A card of diffusion serves diffusion alone; its weights predict the next token all the same.
                continue
            messages = [{"role": "user", "content": "who sat?"}]
            assert str(engine.generate(messages, max_tokens=16, temperature=0)) == "the cat"


def test_all_weights_become_a_model_with_a_card_of_its_settings(tiny_decoder_dir, make_recipe, tmp_path):
    recipe = make_recipe(GAPS, method="full", optimizer={"rate": 1e-2, "steps": 80})
    result = train_diffusion(recipe, tmp_path / "run", device="cpu")
    about = Card(result.card)
    assert (about.description.rank, list(about)) == (0, ["model.embed_tokens.rows"])
    with ArrowEngine(tmp_path / "run" / "model", device="cpu") as engine:
        engine.attach(result.card)
        assert engine.diffuse(infill="the cat{} the mat") == TEXT


def test_a_student_learns_from_its_teacher_and_goes_on_from_no_card_of_another_rank(
    tiny_decoder_dir, make_recipe, tmp_path
):
    from ai_os_diffusion.training.batches import Batches
    from ai_os_diffusion.training.torch.objective import DistillationLoss
    from ai_os_diffusion.training.torch.trainer import Trainer

    first = make_recipe(ROWS, optimizer={"rate": 5e-3, "steps": 60})
    start = str(train_diffusion(first, tmp_path / "teacher", device="cpu").card)
    recipe = make_recipe(ROWS, start=start, distill={"steps": 4}, optimizer={"rate": 3e-3, "steps": 100})
    trainer = Trainer(
        recipe,
        tiny_decoder_dir,
        tmp_path,
        device="cpu",
        data_sha256=None,
        tell=lambda _: None,
        is_stopped=lambda: False,
    )
    batches = [
        {name: torch.from_numpy(value) for name, value in Batches(tiny_decoder_dir, recipe)[index].items()}
        for index in range(1000, 1008)
    ]

    def lacking(teacher):
        loss = DistillationLoss(trainer.decoder, teacher, trainer.token_loss._attention, 4)
        with torch.no_grad():
            return sum(loss(batch).item() for batch in batches)

    before = lacking(trainer.decoder)
    trainer.run()
    assert lacking(trainer._teacher) < 0.8 * before
    with pytest.raises(TrainingError, match="is card"):
        train_diffusion(make_recipe(ROWS, start=start, card={"rank": 4}), tmp_path / "refused", device="cpu")


def test_an_order_to_stop_is_followed_after_the_step_and_the_run_goes_on(
    tiny_decoder_dir, make_recipe, tmp_path
):
    recipe = make_recipe(ROWS, optimizer={"steps": 9})
    train_diffusion(recipe, tmp_path / "whole", device="cpu")
    told = []
    parts = tmp_path / "parts"
    result = train_diffusion(recipe, parts, device="cpu", tell=told.append, is_stopped=lambda: len(told) >= 3)
    assert (result.is_done, result.step) == (False, 3)
    result = train_diffusion(recipe, parts, device="cpu")
    assert (result.is_done, result.step) == (True, 9)
    assert_same(tmp_path / "whole" / "card.parquet", parts / "card.parquet")
    # One that is done stays as it is.
    before = (parts / "card.parquet").stat()
    assert train_diffusion(recipe, parts, device="cpu").step == 9
    assert (parts / "card.parquet").stat().st_mtime_ns == before.st_mtime_ns
    assert_same(tmp_path / "whole" / "card.parquet", parts / "card.parquet")


RUN = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from ai_os_diffusion.training import Recipe, train_diffusion
recipe = Recipe.read(Path(sys.argv[1]), sys.argv[3:])
tell = lambda line: print(line["step"], flush=True)
train_diffusion(recipe, Path(sys.argv[2]), device="cpu", tell=tell)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_with_the_weights_of_an_unbroken_one(
    tiny_decoder_dir, make_recipe, tmp_path
):
    make_recipe(ROWS)
    file = tmp_path / "r.toml"
    file.write_text(
        f'base = "{tiny_decoder_dir}"\nseed = 3\n[data]\nfiles = ["examples.jsonl"]\n'
        "[batch]\nrows = 2\nlength = 160\nlongest = 120\naccumulate = 2\nworkers = 1\n"
        "[card]\nrank = 4\nmask = 258\nnull = 257\nbits = 0\n"
        "[optimizer]\nrate = 0.01\nsteps = 24\n[report]\nlog_every = 1\nsave_every = 3\n"
        "[distill]\nsteps = 2\nrounds = 3\n"
    )

    def begin(out, *more):
        command = [sys.executable, "-c", RUN, str(file), str(tmp_path / out), *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    with begin("whole") as whole:
        assert len(whole.stdout.readlines()) == 24
    # Behind a step, and some moments later: while it computes, saves or writes the card.
    for step, delay_s in ((4, 0.0), (7, 0.05), (13, 0.3), (18, 0.02)):
        with begin("parts") as run:
            for line in run.stdout:
                if int(line) >= step:
                    time.sleep(delay_s)
                    os.killpg(run.pid, signal.SIGKILL)
                    break
    with begin("parts") as last:
        steps = [int(line) for line in last.stdout]
    assert steps[-1] == 24
    assert steps[0] > 12
    assert_same(tmp_path / "whole" / "card.parquet", tmp_path / "parts" / "card.parquet")
    logs = [
        [
            {key: value for key, value in json.loads(line).items() if key != "seconds"}
            for line in (tmp_path / run / "log.jsonl").read_text().splitlines()
        ]
        for run in ("whole", "parts")
    ]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_two_processes_learn_what_one_does_that_takes_their_batches_in_turn(
    tiny_decoder_dir, make_recipe, tmp_path
):
    make_recipe(ROWS)
    file = tmp_path / "r.toml"
    file.write_text(
        f'base = "{tiny_decoder_dir}"\n[data]\nfiles = ["examples.jsonl"]\n'
        "[batch]\nrows = 2\nlength = 160\nlongest = 120\n"
        "[card]\nrank = 4\nmask = 258\nnull = 257\nbits = 0\n[optimizer]\nsteps = 6\n"
    )
    (tmp_path / "run.py").write_text(RUN)
    one = [sys.executable, str(tmp_path / "run.py"), str(file), str(tmp_path / "one"), "batch.accumulate = 2"]
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    two = [sys.executable, *launched, str(tmp_path / "run.py"), str(file), str(tmp_path / "two")]
    for command in (one, two):
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    first, second = (tensors(tmp_path / run / "card.parquet") for run in ("one", "two"))
    for name in first:
        np.testing.assert_allclose(second[name], first[name], atol=1e-5)
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("one", "two")]
    assert len(logs[0]) == len(logs[1])
    assert json.loads(logs[0][-1])["tokens"] == json.loads(logs[1][-1])["tokens"]


def test_a_state_of_another_recipe_is_refused_by_what_differs(tiny_decoder_dir, make_recipe, tmp_path):
    train_diffusion(make_recipe(ROWS), tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match=r"began with card\.rank = 8, the recipe says 4"):
        train_diffusion(make_recipe(ROWS, card={"rank": 4}), tmp_path / "run", device="cpu")
    (tmp_path / "run" / "state.pt").write_bytes(b"no state")
    with pytest.raises(TrainingError, match="no state of a run"):
        train_diffusion(make_recipe(ROWS), tmp_path / "run", device="cpu")


def test_validation_is_measured_and_is_in_the_card(tiny_decoder_dir, make_recipe, tmp_path):
    held = tmp_path / "held.jsonl"
    held.write_text('{"prompt": "who?", "answer": "ann"}\n' * 3)
    told = []
    recipe = make_recipe(ROWS, data={"validation": [str(held)]})
    result = train_diffusion(recipe, tmp_path / "run", device="cpu", tell=told.append)
    measured = [line["validation_loss"] for line in told if "validation_loss" in line]
    assert len(measured) == 2
    assert Card(result.card).description.metrics["validation_loss"] == measured[-1]


def test_a_run_that_diverges_says_so_and_keeps_what_was_saved(tiny_decoder_dir, make_recipe, tmp_path):
    wild = {"rate": 10.0, "warm_up": 0.5, "steps": 400, "clip": 1e9}
    recipe = make_recipe(ROWS, optimizer=wild, card={"alpha": 1e6}, report={"save_every": 1})
    with pytest.raises(TrainingError, match="the loss has diverged"):
        train_diffusion(recipe, tmp_path / "run", device="cpu")
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["trained"].values())


def test_what_a_worker_cannot_draw_is_said_as_if_there_were_none(tiny_decoder_dir, make_recipe, tmp_path):
    recipe = make_recipe(ROWS, batch={"longest": 4, "workers": 1})
    with pytest.raises(TrainingError) as error:
        train_diffusion(recipe, tmp_path / "run", device="cpu")
    assert str(error.value).startswith("no example of 4 drawn fits into batch.longest = 4")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"base": "no-such-model"}, ModelNotFoundError, "no-such-model"),
        ({"card": {"mask": None}}, ConfigurationError, "card.mask is missing: name a token"),
        ({"card": {"mask": 100000}}, ConfigurationError, "card.mask is 100000, expected a token"),
        ({"card": {"mask": "<|none|>"}}, ConfigurationError, "card.mask is '<|none|>'"),
        ({"card": {"mask": 2}}, ConfigurationError, "expected three kinds of tokens"),
        ({"data": {"kinds": {"form": 1}}}, TrainingError, "no kind 'form'"),
        ({"batch": {"longest": 4}}, TrainingError, "fits into batch.longest = 4"),
        ({"card": {"config": {"verdicts": "Yes"}}}, ModelLoadError, "verdicts is 'Yes'"),
        ({"start": "none.parquet"}, ModelNotFoundError, "none.parquet: not found"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(
    tiny_decoder_dir, make_recipe, tmp_path, changes, kind, message
):
    with pytest.raises(kind, match=message.replace("|", r"\|")):
        train_diffusion(make_recipe(ROWS, **changes), tmp_path / "run", device="cpu", models_dir=tmp_path)


def test_an_encoder_and_a_gpu_that_is_not_there_are_refused(tiny_encoder_dir, make_recipe, tmp_path):
    with pytest.raises(ConfigurationError, match=r"card\.end is missing"):
        train_diffusion(make_recipe(ROWS, base=tiny_encoder_dir), tmp_path / "one", device="cpu")
    recipe = make_recipe(ROWS, base=tiny_encoder_dir, card={"mask": 4, "null": 3, "end": [2]})
    with pytest.raises(Exception, match="scores no tokens; expected a decoder"):
        train_diffusion(recipe, tmp_path / "two", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="torch sees no GPU"):
            train_diffusion(make_recipe(ROWS), tmp_path / "three", device="cuda")
