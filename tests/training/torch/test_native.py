"""The native trainer's gradients and steps are those of torch, of every family and objective."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

from ai_os_diffusion import _native  # noqa: E402
from ai_os_diffusion.inference.torch.network import DeviceWeights  # noqa: E402
from ai_os_diffusion.models.cards import Base, Card, CardDescription  # noqa: E402
from ai_os_diffusion.models.metadata import ModelMetadata  # noqa: E402
from ai_os_diffusion.training.torch.attention import Attention  # noqa: E402
from ai_os_diffusion.training.torch.network import TrainedDecoder  # noqa: E402
from ai_os_diffusion.training.torch.objective import TokenLoss  # noqa: E402

RANK, ALPHA, ROWS = 4, 6.0, (258, 257)


@pytest.fixture
def decoder(family_dir):
    torch.manual_seed(3)
    metadata = ModelMetadata.from_folder(family_dir)
    weights = DeviceWeights(_native.WeightFile(family_dir / "weights.parquet"), "cpu", torch.float32)
    decoder = TrainedDecoder.begun(weights, metadata, ROWS, rank=RANK, alpha=ALPHA)
    with torch.no_grad():
        for name, value in decoder.trained().items():
            # Factors of a head of its own are the torch trainer's alone.
            if name.endswith("lora_B.weight") and not name.startswith("lm_head"):
                value.normal_(0, 0.2)
    return decoder


@pytest.fixture
def trainer(decoder, family_dir):
    trained = {
        name: value.detach().numpy().copy()
        for name, value in decoder.trained().items()
        if not name.startswith("lm_head")
    }
    file = _native.WeightFile(family_dir / "weights.parquet")
    metadata = (family_dir / "metadata.json").read_text(encoding="utf-8")
    return _native.Trainer(file, metadata, trained, scaling=decoder.scaling, row_ids=ROWS)


def causal(rng):
    """Two texts, and learned are the second halves."""
    lengths = (9, 14)
    places = np.concatenate([np.arange(length) for length in lengths])
    document = np.repeat(np.arange(2), lengths)
    weights = np.where(places > 4, rng.random(len(places)) + 0.1, 0)
    return places, places, np.zeros_like(places), document, weights


def masked(rng):
    """A prompt that sees itself, and two masked copies of a block."""
    places = np.concatenate([np.arange(6), np.arange(6, 11), np.arange(6, 11)])
    level = (places >= 6).astype(int)
    noisy = np.repeat([0, 1, 2], [6, 5, 5])
    weights = np.where((places + noisy) % 2 * (noisy > 0), rng.random(len(places)) + 0.1, 0)
    return places, level, noisy, np.zeros_like(places), weights


@pytest.mark.parametrize("laid_out", [causal, masked])
def test_gradients(decoder, trainer, laid_out):
    rng = np.random.default_rng(5)
    places, level, noisy, document, weights = laid_out(rng)
    ids = rng.integers(3, 250, len(places))
    ids[:2] = ROWS
    labels = rng.integers(3, 259, len(places))
    order = (ids, places, level, noisy, document)
    batch = tuple(np.ascontiguousarray(one, np.int32) for one in order)
    weights = (weights / weights.sum()).astype(np.float32)
    loss = trainer.accumulate(batch, weights, labels=labels.astype(np.int32))
    names = ("ids", "positions", "level", "noisy", "document")
    asked = {name: torch.from_numpy(one)[None] for name, one in zip(names, batch, strict=True)}
    asked["labels"] = torch.from_numpy(np.where(weights > 0, labels, -100).astype(np.int32))[None]
    asked["weights"] = torch.from_numpy(weights)[None]
    expected = TokenLoss(decoder, Attention(is_blocked=False))(asked)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    found = trainer.gradients()
    for name, value in decoder.trained().items():
        if name.startswith("lm_head"):
            continue
        gradient = value.grad.numpy()
        length = np.linalg.norm(gradient)
        assert length > 0, name
        assert np.linalg.norm(found[name] - gradient) <= 3e-4 * length, name


def test_steps(decoder, trainer):
    rng = np.random.default_rng(6)
    places, level, noisy, document, weights = causal(rng)
    optimizer = torch.optim.AdamW(
        [
            {"params": [v for v in decoder.trained().values() if v.ndim > 1], "weight_decay": 0.1},
            {"params": [v for v in decoder.trained().values() if v.ndim == 1], "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=(0.9, 0.98),
    )
    weights = (weights / weights.sum()).astype(np.float32)
    before = trainer.parameters()
    for _ in range(3):
        ids, labels = rng.integers(3, 250, (2, len(places))).astype(np.int32)
        batch = tuple(np.ascontiguousarray(one, np.int32) for one in (ids, places, level, noisy, document))
        trainer.accumulate(batch, weights, labels=labels)
        gradients = trainer.gradients()
        length = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values()))
        optimizer.zero_grad()
        for name, value in decoder.trained().items():
            value.grad = torch.from_numpy(gradients.get(name, np.zeros(value.shape, np.float32))).clone()
        torch.nn.utils.clip_grad_norm_(
            [v for n, v in decoder.trained().items() if n in gradients], 0.5 * length
        )
        optimizer.step()
        assert trainer.step(1e-2, weight_decay=0.1, clip=0.5 * length) == pytest.approx(length, rel=1e-5)
    assert trainer.steps == 3
    for name, array in trainer.parameters().items():
        expected = decoder.trained()[name].detach().numpy()
        np.testing.assert_allclose(array, expected, atol=2e-5, rtol=1e-4, err_msg=name)
        assert not np.array_equal(array, before[name])


@pytest.fixture
def mode_card(family_dir, tmp_path):
    """A card of random numbers for all that the native trainer takes from one beneath."""
    rng = np.random.default_rng(9)
    metadata = (family_dir / "metadata.json").read_text(encoding="utf-8")
    layout = json.loads(_native.layout_json(metadata))
    width = layout["words"]["cols"]
    tensors = {layout["words"]["name"] + ".rows": rng.normal(0, 0.3, (2, width))}
    for block in layout["blocks"]:
        tensors[block["feed_forward_norm"]["name"] + ".weight"] = 1 + rng.normal(0, 0.1, width)
        for layer in (*block["qkv"], block["output"], *block["wide"], block["down"]):
            tensors[layer["name"] + ".lora_A.weight"] = rng.normal(0, 0.2, (5, layer["inputs"]))
            tensors[layer["name"] + ".lora_B.weight"] = rng.normal(0, 0.2, (layer["outputs"], 5))
    base = Base("tiny", json.loads(metadata)["architecture"], "0" * 64)
    about = CardDescription("mode", "diffusion", base, 5, 0.7, row_ids=(ROWS[0], 40))
    written = ((name, values.astype(np.float32)) for name, values in tensors.items())
    return Card.write(tmp_path / "mode.parquet", about, written)


def with_card(file, card):
    """The tensors of a base with a card added to them."""
    about = card.description
    tensors = {name: file.dequantize(name) for name in file.names}
    for name in card:
        owner, _, part = name.rpartition(".lora_")
        if part == "A.weight":
            change = card[f"{owner}.lora_B.weight"] @ card[name]
            tensors[f"{owner}.weight"] = tensors[f"{owner}.weight"] + about.scaling * change
        elif name.endswith(".rows"):
            tensors[name.replace(".rows", ".weight")][list(about.row_ids)] = card[name]
        elif ".lora_" not in name:
            tensors[name] = card[name]
    return tensors


def test_gradients_on_a_card_beneath(family_dir, tmp_path, mode_card):
    torch.manual_seed(4)
    metadata = ModelMetadata.from_folder(family_dir)
    file = _native.WeightFile(family_dir / "weights.parquet")
    writer = _native.WeightWriter(tmp_path / "merged.parquet", {})
    for name, values in with_card(file, mode_card).items():
        writer.add_plain(name, np.ascontiguousarray(values))
    writer.finish()
    merged = DeviceWeights(_native.WeightFile(tmp_path / "merged.parquet"), "cpu", torch.float32)
    decoder = TrainedDecoder.begun(merged, metadata, (), rank=RANK, alpha=ALPHA)
    with torch.no_grad():
        for name, value in decoder.trained().items():
            if name.endswith("lora_B.weight") and not name.startswith("lm_head"):
                value.normal_(0, 0.2)
    trained = {
        name: value.detach().numpy().copy()
        for name, value in decoder.trained().items()
        if "lora_" in name and not name.startswith("lm_head")
    }
    about = mode_card.description
    trainer = _native.Trainer(
        file,
        (family_dir / "metadata.json").read_text(encoding="utf-8"),
        trained,
        scaling=decoder.scaling,
        beneath=(mode_card.native, about.scaling, about.row_ids),
    )
    rng = np.random.default_rng(5)
    places, level, noisy, document, weights = masked(rng)
    ids, labels = rng.integers(3, 250, (2, len(places)))
    ids[weights > 0] = ROWS[0]
    batch = tuple(np.ascontiguousarray(one, np.int32) for one in (ids, places, level, noisy, document))
    weights = (weights / weights.sum()).astype(np.float32)
    loss = trainer.accumulate(batch, weights, labels=labels.astype(np.int32))
    names = ("ids", "positions", "level", "noisy", "document")
    asked = {name: torch.from_numpy(one)[None] for name, one in zip(names, batch, strict=True)}
    asked["labels"] = torch.from_numpy(np.where(weights > 0, labels, -100).astype(np.int32))[None]
    asked["weights"] = torch.from_numpy(weights)[None]
    expected = TokenLoss(decoder, Attention(is_blocked=False))(asked)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-4)
    found = trainer.gradients()
    for name in trained:
        gradient = decoder.trained()[name].grad.numpy()
        length = np.linalg.norm(gradient)
        assert np.linalg.norm(found[name] - gradient) <= 3e-4 * length, name
