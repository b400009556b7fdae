"""The native trainer's gradients of encoders are those of torch."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from ai_os_diffusion import _native  # noqa: E402
from ai_os_diffusion.evolution import LoRAConfig  # noqa: E402
from ai_os_diffusion.models.convert import convert_model  # noqa: E402
from support.loopback_hub import FILES  # noqa: E402

RANK, SCALING, VOCAB = 3, 1.4, 40
LENGTHS = (9, 14, 4)


def saved(folder, kind, activation):
    """An encoder of random weights by transformers, and the folder that it converts to."""
    torch.manual_seed(11)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        vocab_size=VOCAB,
        max_position_embeddings=64,
        initializer_range=0.3,
        hidden_act=activation,
        pad_token_id=0,
    )
    model = getattr(transformers, f"{kind}Model")(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.2)
    model.save_pretrained(folder / "theirs")
    (folder / "theirs" / "tokenizer.json").write_bytes(FILES["tokenizer.json"])
    convert_model(folder / "theirs", folder / "ours", quantize="fp32")
    return model, folder / "ours"


@pytest.mark.parametrize(
    ("kind", "activation"), [("Bert", "gelu"), ("Bert", "gelu_new"), ("Roberta", "relu")]
)
def test_gradients(tmp_path, kind, activation):
    model, folder = saved(tmp_path, kind, activation)
    metadata = (folder / "metadata.json").read_text(encoding="utf-8")
    rng = np.random.default_rng(2)
    factors = {}
    for layer in LoRAConfig().targets(json.loads(_native.layout_json(metadata))):
        for part, shape in (("A", (RANK, layer["inputs"])), ("B", (layer["outputs"], RANK))):
            factors[f"{layer['name']}.lora_{part}.weight"] = rng.normal(0, 0.2, shape).astype(np.float32)
    trainer = _native.Trainer(
        _native.WeightFile(folder / "weights.parquet"), metadata, factors, scaling=SCALING
    )
    ids = rng.integers(3, VOCAB, sum(LENGTHS)).astype(np.int32)
    places = np.concatenate([np.arange(length, dtype=np.int32) for length in LENGTHS])
    document = np.repeat(np.arange(len(LENGTHS), dtype=np.int32), LENGTHS)
    nothing = np.zeros_like(ids)
    batch = (ids, places, nothing, nothing, document)
    gradient = rng.normal(size=(len(ids), 32)).astype(np.float32)
    loss = trainer.accumulate_states(batch, gradient)

    trained = {name: torch.tensor(values, requires_grad=True) for name, values in factors.items()}
    changed = dict(model.named_parameters())
    for name in trained:
        layer, _, part = name.rpartition(".lora_")
        if part == "A.weight":
            product = trained[f"{layer}.lora_B.weight"] @ trained[name]
            changed[f"{layer}.weight"] = changed[f"{layer}.weight"].detach() + SCALING * product
    texts = np.split(ids, np.cumsum(LENGTHS)[:-1])
    states = [
        torch.func.functional_call(
            model, changed, (torch.tensor(text[None].astype(np.int64)),), {"attention_mask": None}
        ).last_hidden_state[0]
        for text in texts
    ]
    joined = torch.cat(states)
    expected = (joined * torch.from_numpy(gradient)).sum()
    expected.backward()
    np.testing.assert_allclose(trainer.states(batch), joined.detach().numpy(), atol=1e-4)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-3)
    found = trainer.gradients()
    for name, value in trained.items():
        length = float(value.grad.norm())
        assert length > 0, name
        assert np.linalg.norm(found[name] - value.grad.numpy()) <= 1e-4 * length, name
