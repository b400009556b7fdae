"""The recipe of the diffusion card: what positions see, what is drawn for one batch, and that it learns."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

RECIPE = Path(__file__).parents[2] / "training" / "diffusion_card"


@pytest.fixture(autouse=True)
def _recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    # Matrices this small are slower on several threads, and far slower where others use the cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for name in (
        "examples",
        "notes",
        "open_data",
        "packing",
        "open_data",
        "decoder",
        "judging",
        "train",
        "questions",
        "blend",
    ):
        sys.modules.pop(name, None)


def tiny_weights(vocabulary=32, width=128, layers=2, hidden=256):
    draw = torch.Generator().manual_seed(0)

    def matrix(rows, columns):
        return torch.randn(rows, columns, generator=draw) / columns**0.5

    weights = {"model.embed_tokens.weight": matrix(vocabulary, width), "model.norm.weight": torch.ones(width)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        weights |= {f"{prefix}.self_attn.{name}_proj.weight": matrix(width, width) for name in "qo"}
        weights |= {f"{prefix}.self_attn.{name}_proj.weight": matrix(64, width) for name in "kv"}
        weights |= {f"{prefix}.mlp.{name}_proj.weight": matrix(hidden, width) for name in ("gate", "up")}
        weights |= {f"{prefix}.mlp.down_proj.weight": matrix(width, hidden)}
        weights |= {
            f"{prefix}.{name}.weight": torch.ones(width)
            for name in ("input_layernorm", "post_attention_layernorm")
        }
    return weights


def seen_by(positions):
    from packing import visible

    level, noisy = torch.tensor(positions.level), torch.tensor(positions.noisy)
    at = torch.arange(len(positions))
    return visible(torch.zeros_like(level), level, noisy, at[:, None], at[None])


def test_a_prompt_and_finished_blocks_see_nothing_of_what_follows():
    from packing import diffused

    positions = diffused([20, 21, 22], list(range(5, 15)), [True] * 10, 4, random.Random(0))
    seen = seen_by(positions)
    for query in range(len(positions)):
        for key in range(len(positions)):
            before = positions.noisy[key] == 0 and positions.level[key] < positions.level[query]
            own = (
                positions.level[key] == positions.level[query]
                and positions.noisy[key] == positions.noisy[query]
            )
            assert seen[query, key] == (before or own)


def test_copies_keep_the_positions_of_the_text_and_hide_only_what_is_written():
    from packing import IGNORED, MASK, diffused

    ids, written = list(range(5, 21)), [k % 3 != 0 for k in range(16)]
    positions = diffused([25] * 7, ids, written, 16, random.Random(3))
    for copy in range(1, max(positions.noisy) + 1):
        at = [k for k in range(len(positions)) if positions.noisy[k] == copy]
        assert [positions.positions[k] for k in at] == list(range(7, 23))
        for k, truth, is_written in zip(at, ids, written, strict=True):
            if positions.ids[k] == MASK and truth != MASK:
                assert is_written
                assert positions.labels[k] == truth
            else:
                assert (positions.ids[k], positions.labels[k]) == (truth, IGNORED)
        assert any(positions.labels[k] != IGNORED for k in at)


def test_the_next_token_objective_is_a_causal_mask():
    from packing import causal

    positions = causal([7, 8, 9], [10, 11, 12], [True] * 3)
    assert torch.equal(seen_by(positions), torch.ones(6, 6, dtype=torch.bool).tril())
    assert positions.labels == [-100, -100, 10, 11, 12, -100]


@pytest.mark.parametrize("objective", ["diffusion", "causal"])
def test_a_card_learns_an_answer_by_heart_and_leaves_the_base_alone(objective):
    from decoder import Decoder, dense_attention
    from packing import END, NULL, causal, diffused
    from train import loss_of

    torch.manual_seed(0)
    weights = tiny_weights()
    decoder = Decoder(weights, rank=8)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=2e-3)
    prompt, answer = [20, 21, 22], [9, 10, 11, 12, 13, END, NULL, NULL]
    rng = random.Random(0)
    for _ in range(120):
        if objective == "causal":
            one = causal(prompt, list(answer), [True] * 8)
        else:
            one = diffused(prompt, answer, [True] * 8, 8, rng)
        batch = {
            name: torch.tensor([getattr(one, name)]) for name in ("ids", "labels", "weights", "positions")
        }
        mask = seen_by(one)[None, None]
        loss = loss_of(decoder, decoder(batch["ids"], batch["positions"], dense_attention, mask), batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    assert torch.equal(
        decoder.layers[0].q_proj.weight, weights["model.layers.0.self_attn.q_proj.weight"].bfloat16()
    )


def test_a_card_is_named_as_its_file_has_it_and_survives_rounding():
    from decoder import Decoder, quantised

    decoder = Decoder(tiny_weights(), rank=8)
    card = decoder.card()
    assert {"model.embed_tokens.rows", "model.norm.weight", "model.layers.1.input_layernorm.weight"} <= set(
        card
    )
    assert card["model.layers.0.mlp.down_proj.lora_A.weight"].shape == (8, 256)
    assert len(card) == 2 + 2 * (2 + 7 * 2)
    rounded = quantised(card)
    name = "model.layers.0.self_attn.q_proj.lora_A"
    back = rounded[f"{name}.weight"].float() * rounded[f"{name}.scale"].float()[:, None]
    largest = card[f"{name}.weight"].abs().amax(1, keepdim=True)
    assert torch.all((back - card[f"{name}.weight"]).abs() <= 0.51 / 127 * largest + 1e-6)


def test_layers_merged_with_their_cards_write_and_learn_as_the_factors_do(changed_decoder):
    from decoder import projected

    block, x = changed_decoder.layers[0], torch.randn(5, 128).bfloat16()
    linears = block.gate_proj, block.up_proj
    for linear, ours in zip(linears, projected(x, *linears), strict=True):
        a, b = (factor.detach().clone().requires_grad_() for factor in (linear.a, linear.b))
        theirs = x.float() @ linear.weight.float().T + linear.scale * (x.float() @ a.T) @ b.T
        torch.testing.assert_close(ours.float(), theirs, atol=0.05 * theirs.std().item(), rtol=0.02)
        wanted = torch.randn_like(theirs)
        (theirs * wanted).sum().backward()
        (ours.float() * wanted).sum().backward(retain_graph=True)
        for factor, expected in ((linear.a, a.grad), (linear.b, b.grad)):
            apart = (factor.grad - expected).norm() / expected.norm()
            assert apart < 0.02


def test_written_questions_are_trained_on_and_never_judged_by(tmp_path):
    import gzip
    import json

    from open_data import OpenData

    (tmp_path / "reader").mkdir()
    for name, source in (("extractive", "people"), ("written", "written")):
        with gzip.open(tmp_path / "reader" / f"{name}.jsonl.gz", "wt") as out:
            for number in range(200):
                row = {
                    "question": "Where?",
                    "context": f"It is in {number} {source}.",
                    "answers": [{"text": str(number), "start": 9}],
                    "source": source,
                    "lang": "en",
                }
                out.write(json.dumps(row) + "\n")
    with gzip.open(tmp_path / "reader" / "nli.jsonl.gz", "wt"):
        pass
    assert set(OpenData(tmp_path, held_out=False).by_source) == {"people", "written"}
    assert set(OpenData(tmp_path, held_out=True).by_source) == {"people"}


def test_training_goes_on_from_a_card_and_refuses_one_of_another_rank():
    from decoder import Decoder, quantised

    torch.manual_seed(0)
    first = Decoder(tiny_weights(), rank=8)
    with torch.no_grad():
        for value in first.parameters():
            value.add_(0.1 * torch.randn_like(value))
    second = Decoder(tiny_weights(), rank=8)
    second.begin_from(first.card())
    assert all(torch.equal(value, second.card()[name]) for name, value in first.card().items())
    second.begin_from(quantised(first.card()))
    for name, value in first.card().items():
        torch.testing.assert_close(second.card()[name], value, atol=value.abs().max().item() / 120, rtol=0)
    with pytest.raises(ValueError, match="--rank"):
        Decoder(tiny_weights(), rank=4).begin_from(first.card())
    with pytest.raises(ValueError, match="differ"):
        second.begin_from({"model.norm.weight": torch.ones(128)})


@pytest.fixture
def changed_decoder():
    from decoder import Decoder

    torch.manual_seed(0)
    decoder = Decoder(tiny_weights(), rank=4)
    with torch.no_grad():
        for value in decoder.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return decoder


@torch.no_grad()
def test_a_block_behind_prompts_that_were_read_once_is_as_in_one_pass(changed_decoder):
    from decoder import dense_attention
    from judging import Reading

    prompts, block = [[20, 21, 22, 23], [24, 25]], torch.tensor([[4, 9, 4], [4, 4, 11]])
    reading = Reading(changed_decoder, prompts, "cpu")
    both = reading.block(block)
    assert torch.equal(both, reading.block(block)), "a block leaves nothing behind"
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt + block[row].tolist()])
        at = torch.arange(ids.shape[1])
        mask = (at[None] < len(prompt)) | (at[:, None] >= len(prompt))
        alone = changed_decoder(ids, at[None], dense_attention, mask[None, None])[0, len(prompt) :]
        torch.testing.assert_close(both[row].float(), alone.float(), atol=0.05, rtol=0.02)


@torch.no_grad()
def test_tokens_behind_prompts_are_those_of_whole_passes(changed_decoder):
    from decoder import dense_attention
    from judging import Reading, left_to_right
    from packing import END

    prompts = [[20, 21, 22, 23], [24, 25]]
    written, counts, _ = left_to_right(Reading(changed_decoder, prompts, "cpu", is_causal=True), 6)
    for row, prompt in enumerate(prompts):
        ids = list(prompt)
        for step in range(int(counts[row])):
            at = torch.arange(len(ids))
            mask = (at[None] <= at[:, None])[None, None]
            states = changed_decoder(torch.tensor([ids]), at[None], dense_attention, mask)
            logits = changed_decoder.logits(states[0, -1])
            # Sums in another order may tip a near tie.
            assert logits[written[row, step]] >= logits.max() - 0.1
            ids.append(int(written[row, step]))
        assert ids[-1] == END or len(ids) == len(prompt) + 6


def test_a_blend_is_the_mean_of_its_cards(tmp_path, monkeypatch):
    from blend import main
    from decoder import Decoder, quantised, restored
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    cards = []
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        decoder = Decoder(tiny_weights(), rank=4)
        with torch.no_grad():
            for value in decoder.parameters():
                value.add_(torch.randn_like(value))
        save_file(quantised(decoder.card()), tmp_path / name, {"made": name})
        cards.append(restored(load_file(tmp_path / name)))
    parts = [f"{tmp_path / name}={share}" for name, share in (("a", 0.25), ("b", 0.75))]
    monkeypatch.setattr(sys, "argv", ["blend.py", str(tmp_path / "out"), *parts])
    main()
    for name, value in restored(load_file(tmp_path / "out")).items():
        mean = 0.25 * cards[0][name] + 0.75 * cards[1][name]
        torch.testing.assert_close(value, mean, atol=mean.abs().max().item() / 120, rtol=0)
    with safe_open(tmp_path / "out", "pt") as out:
        assert out.metadata() == {"made": "b"}


def test_cards_that_do_not_fit_are_not_blended():
    from blend import blended
    from decoder import Decoder

    card, other = (Decoder(tiny_weights(), rank=rank).card() for rank in (4, 8))
    with pytest.raises(ValueError, match="expected 1"):
        blended([(card, 0.5), (card, 0.6)])
    with pytest.raises(ValueError, match="shapes"):
        blended([(card, 0.5), (other, 0.5)])


def test_samples_are_among_the_likeliest():
    from questions import sample

    logs = torch.tensor([[0.6, 0.3, 0.06, 0.04]]).log().repeat(200, 1)
    torch.manual_seed(0)
    assert set(sample(logs).tolist()) == {0, 1}
