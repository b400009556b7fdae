"""What is learned is what the engine will compute: losses against the native core and plain NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

from ai_os_diffusion.inference import ArrowEngine  # noqa: E402
from ai_os_diffusion.models.cards import Card  # noqa: E402
from ai_os_diffusion.training import train_diffusion  # noqa: E402
from ai_os_diffusion.training.batches import Batches  # noqa: E402
from ai_os_diffusion.training.torch.attention import (  # noqa: E402
    block_mask,
    dense_attention,
    dense_mask,
)
from ai_os_diffusion.training.torch.loop import learning_rate  # noqa: E402
from ai_os_diffusion.training.torch.objective import DistillationLoss, _share  # noqa: E402
from ai_os_diffusion.training.torch.trainer import Trainer  # noqa: E402

ROWS = [
    {"prompt": "What is it?", "answer": "A small grey cat."},
    {"prompt": "Who?", "answer": "Ann"},
    {"text": "the quick brown fox jumps over the lazy dog"},
    {"pieces": [{"text": "the quick"}, {"text": " brown", "written": True}, {"text": " fox"}]},
]


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def reference(engine, batch, *, causal_prefix):
    """The weighted mean loss of a batch, each block by a session of the native core behind what it sees."""
    total = 0.0
    for row in range(len(batch["ids"])):
        one = {name: values[row] for name, values in batch.items()}
        for document in range(one["document"].max() + 1):
            own = one["document"] == document
            part = {name: values[own] for name, values in one.items()}
            clean = part["noisy"] == 0
            learned = clean & (part["labels"] >= 0)
            if learned.any():
                logs = log_softmax(engine.core.logits(part["ids"][clean]))
                at = part["positions"][learned]
                total -= (part["weights"][learned] * logs[at, part["labels"][learned]]).sum()
            for copy in range(1, part["noisy"].max() + 1):
                block = part["noisy"] == copy
                level = part["level"][block][0]
                session = engine.core.session(512)
                before = clean & (part["level"] < level)
                groups = (
                    [before]
                    if causal_prefix
                    else [
                        before & (part["level"] == one_level)
                        for one_level in np.unique(part["level"][before])
                    ]
                )
                for group in groups:
                    if group.any():
                        session.prefill(part["ids"][group], causal=causal_prefix)
                hidden = np.flatnonzero(part["labels"][block] >= 0)
                *_, logits = session.predict(part["ids"][block], hidden, logits=True)
                labels = part["labels"][block][hidden]
                logs = log_softmax(np.asarray(logits))
                total -= (part["weights"][block][hidden] * logs[np.arange(len(labels)), labels]).sum()
    return total / batch["weights"].sum()


@pytest.mark.parametrize("objective", ["diffusion", "causal", "both"])
def test_the_loss_of_a_batch_is_that_of_the_engine_with_the_card(
    family_dir, make_recipe, tmp_path, objective
):
    recipe = make_recipe(
        ROWS,
        base=family_dir,
        objective=objective,
        card={"bits": 0, "block_length": 8},
        optimizer={"rate": 0.05, "steps": 3},
    )
    trainer = trained(recipe, family_dir, tmp_path)
    trainer.run()
    assert all(value.abs().max() > 0 for name, value in trainer.decoder.trained().items() if "lora_B" in name)
    batch = Batches(family_dir, recipe)[9]
    with torch.no_grad():
        ours = trainer.token_loss({name: torch.from_numpy(value) for name, value in batch.items()}).item()
    with ArrowEngine(family_dir, device="cpu") as engine:
        engine.attach(as_skill(tmp_path))
        theirs = reference(engine, batch, causal_prefix=objective != "diffusion")
    assert ours == pytest.approx(theirs, rel=2e-4)


def as_skill(folder):
    """The card of a run as one that serves whatever the core is asked, not diffusion alone."""
    card = Card(folder / "card.parquet")
    config = {name: value for name, value in card.description.config.items() if name != "objective"}
    about = replace(card.description, kind="skill", config=config)
    return Card.write(folder / "skill.parquet", about, [(name, card[name]) for name in card])


def trained(recipe, base, out):
    return Trainer(
        recipe, base, out, device="cpu", data_sha256=None, tell=lambda _: None, is_stopped=lambda: False
    )


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_blocks_of_keys_hide_what_the_dense_mask_hides(tiny_decoder_dir, make_recipe):
    """Flex attention, as on a GPU: its mask and its results, uncompiled."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    batch = Batches(tiny_decoder_dir, make_recipe(ROWS, batch={"length": 256, "longest": 200}))[0]
    on_device = {name: torch.from_numpy(value) for name, value in batch.items()}
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 256, 16, generator=draw) for heads in (4, 2, 2))
    dense = dense_attention(q, k, v, dense_mask(on_device))
    blocked = flex_attention(q, k, v, block_mask=block_mask(on_device, create_block_mask), enable_gqa=True)
    real = (on_device["document"] >= 0)[:, None, :, None]
    torch.testing.assert_close(blocked.where(real, 0), dense.where(real, 0), atol=1e-5, rtol=1e-5)


def test_a_teacher_unmasks_its_surest_share_of_each_copy():
    copy = torch.tensor([7, 3, 7, 7, 3, 7, 9])
    confidence = torch.tensor([0.1, 0.9, 0.8, 0.3, 0.2, 0.5, 0.4])
    is_open = torch.tensor([True, True, False, True, True, True, True])
    taken = _share(copy, confidence, is_open, 0.5)
    # Of copy 7 three are open: the surest two; of copy 3 one of two; of copy 9 its only one.
    assert taken.tolist() == [False, True, False, True, False, True, True]
    assert torch.equal(_share(copy, confidence, is_open, 1.0), is_open)


def test_one_pass_of_a_teacher_like_the_student_leaves_nothing_to_learn(
    tiny_decoder_dir, make_recipe, tmp_path
):
    recipe = make_recipe(ROWS, distill={"steps": 2})
    trainer = trained(recipe, tiny_decoder_dir, tmp_path)
    teacher = trained(recipe, tiny_decoder_dir, tmp_path).decoder
    batch = {name: torch.from_numpy(value) for name, value in Batches(tiny_decoder_dir, recipe)[0].items()}
    attention = trainer.token_loss._attention
    losses = [DistillationLoss(trainer.decoder, teacher, attention, steps)(batch).item() for steps in (1, 2)]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses[1] > 1e-4


def test_targets_are_what_the_teacher_predicts_in_the_pass_that_unmasks_a_position(
    tiny_decoder_dir, make_recipe, tmp_path
):
    """Against the same passes written out, position by position."""
    recipe = make_recipe(ROWS, distill={"steps": 2})
    trainer = trained(recipe, tiny_decoder_dir, tmp_path)
    teacher, attention = trainer.decoder, trainer.token_loss._attention
    batch = {name: torch.from_numpy(value) for name, value in Batches(tiny_decoder_dir, recipe)[1].items()}
    loss = DistillationLoss(teacher, teacher, attention, 2)
    mask = dense_mask(batch)
    found = loss._targets(batch, mask)
    ids = batch["ids"].long().clone()
    chosen = [tuple(at) for at in (batch["labels"] >= 0).nonzero().tolist()]
    with torch.no_grad():
        first = teacher(ids, batch["positions"], attention, mask)
        copies = {}
        for at in chosen:
            copies.setdefault((at[0], int(batch["document"][at]), int(batch["noisy"][at])), []).append(at)
        early = set()
        for places in copies.values():
            logits = {at: teacher.logits(first[at][None])[0] for at in places}
            for value in logits.values():
                value[int(teacher.card_rows[0])] = -torch.inf
            sure = sorted(places, key=lambda at: -logits[at].softmax(-1).max().item())
            for at in sure[: -(-len(places) // 2)]:
                early.add(at)
                ids[at] = logits[at].argmax()
        second = teacher(ids, batch["positions"], attention, mask)
    expected = torch.stack([(first if at in early else second)[at] for at in chosen])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_rate_goes_up_along_a_line_and_down_along_a_cosine(make_recipe):
    settings = make_recipe(ROWS, optimizer={"rate": 1.0, "warm_up": 0.1, "least_rate": 0.2}).optimizer
    rates = [learning_rate(settings, at) for at in (0, 0.05, 0.5, 1)]
    assert rates[0] == 0
    assert rates[1:] == pytest.approx([0.5 * (0.2 + 0.8 * 0.5 * (1 + np.cos(np.pi * 0.05))), 0.6, 0.2])


def test_a_mean_of_nothing_masked_is_no_number_but_zero(tiny_decoder_dir, make_recipe, tmp_path):
    recipe = make_recipe(ROWS)
    trainer = trained(recipe, tiny_decoder_dir, tmp_path)
    batch = {name: torch.from_numpy(value) for name, value in Batches(tiny_decoder_dir, recipe)[0].items()}
    batch["labels"] = torch.full_like(batch["labels"], -100)
    assert trainer.token_loss(batch).item() == 0


def test_training_is_what_the_function_does_too(tiny_decoder_dir, make_recipe, tmp_path):
    told = []
    result = train_diffusion(make_recipe(ROWS), tmp_path / "run", device="cpu", tell=told.append)
    assert result.is_done
    assert result.step == 4
    assert [line["step"] for line in told] == [1, 2, 3, 4]
    assert told[-1]["progress"] == 1
    assert result.last["loss"] == told[-1]["loss"]
