"""A card in the weights of a model does what it did beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ai_os_diffusion.cli.program import app
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.utils.errors import CardError, ModelNotFoundError

IDS = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.int32)


def skill(folder: Path, path: Path, has_magnitudes: bool = False, **changes) -> Card:
    """Factors for every layer, a norm, and a row of the embedding; and magnitudes."""
    rng, rank, tensors = np.random.default_rng(3), 4, {}
    with ArrowEngine(folder, device="cpu") as engine:
        for name in engine.weights:
            layer, shape = name.removesuffix(".weight"), engine.weights[name].shape
            if len(shape) == 2 and "embed" not in name and "lm_head" not in name:
                tensors[f"{layer}.lora_A.weight"] = rng.normal(size=(rank, shape[1])).astype(np.float32) * 0.2
                tensors[f"{layer}.lora_B.weight"] = rng.normal(size=(shape[0], rank)).astype(np.float32) * 0.2
                if has_magnitudes:
                    lengths = np.linalg.norm(engine.weights[name], axis=1)
                    tensors[f"{layer}.lora_magnitude_vector"] = lengths * rng.uniform(0.7, 1.3, shape[0])
        weights = {name: np.array(engine.weights[name]) for name in engine.weights}
        width = engine.metadata.hidden_size
        if engine.metadata.is_decoder:
            tensors["model.norm.weight"] = rng.normal(1, 0.1, width).astype(np.float32)
            tensors["model.embed_tokens.rows"] = rng.normal(size=(1, width)).astype(np.float32)
    rows = (5,) if "model.embed_tokens.rows" in tensors else ()
    about = CardDescription("boats", "skill", Base.of_folder(folder), rank, 0.5, row_ids=rows)
    return Card.write(
        path,
        replace(about, **changes),
        ((name, tensor.astype(np.float32)) for name, tensor in tensors.items()),
        weight_of=lambda layer: weights[f"{layer}.weight"],
    )


@pytest.mark.parametrize("has_magnitudes", [False, True])
@pytest.mark.parametrize("model", ["tiny_decoder_dir", "tiny_encoder_dir"])
def test_a_fused_model_computes_what_the_model_with_its_card_does(model, has_magnitudes, request, tmp_path):
    folder = request.getfixturevalue(model)
    card = skill(folder, tmp_path / "boats.parquet", has_magnitudes)
    report = convert_model(folder, tmp_path / "fused", fuse=card)
    assert report.path == tmp_path / "fused"
    with ArrowEngine(folder, device="cpu") as engine, ArrowEngine(tmp_path / "fused", device="cpu") as fused:
        outputs = (lambda one: one.core.logits(IDS)) if engine.metadata.is_decoder else _embedded
        plain = outputs(engine)
        engine.attach(card)
        np.testing.assert_allclose(outputs(fused), outputs(engine), rtol=1e-4, atol=1e-4)
        assert np.abs(outputs(fused) - plain).max() > 1e-2


def _embedded(engine: ArrowEngine) -> np.ndarray:
    return engine.encode(["the quick brown fox", "a"])


def test_it_is_another_base_for_cards_and_says_what_is_in_it(tiny_decoder_dir, tmp_path):
    card = skill(tiny_decoder_dir, tmp_path / "boats.parquet")
    convert_model(tiny_decoder_dir, tmp_path / "fused", fuse=card.path, quantize="int8")
    told = json.loads((tmp_path / "fused" / "metadata.json").read_text())["source"]
    assert told["fused"] == ["boats"]
    assert Base.of_folder(tmp_path / "fused").weights_sha256 != card.description.base.weights_sha256
    with (
        ArrowEngine(tmp_path / "fused", device="cpu") as fused,
        pytest.raises(CardError, match="is of the base"),
    ):
        fused.attach(card)
    with pytest.raises(CardError, match="'boats' is of the base"):
        convert_model(tmp_path / "fused", tmp_path / "twice", fuse=card)
    assert not (tmp_path / "twice").exists()


def test_what_weights_cannot_hold_is_refused(tiny_decoder_dir, tmp_path):
    writes = skill(tiny_decoder_dir, tmp_path / "d.parquet", kind="diffusion", config={"mask_id": 4})
    with pytest.raises(CardError, match="another way to write, which weights cannot hold"):
        convert_model(tiny_decoder_dir, tmp_path / "fused", fuse=writes)
    about = CardDescription("head", "reader", Base.of_folder(tiny_decoder_dir), 0, 1.0, heads=("score",))
    width = 3, 32
    head = Card.write(tmp_path / "h.parquet", about, [("score.weight", np.ones(width, np.float32))])
    with pytest.raises(CardError, match="the heads score"):
        convert_model(tiny_decoder_dir, tmp_path / "fused", fuse=head)


def test_by_the_command(tiny_decoder_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("AIOS_SKILLS_DIR", str(tmp_path / "skills"))
    (tmp_path / "skills").mkdir()
    skill(tiny_decoder_dir, tmp_path / "skills" / "boats.parquet")

    def aios(*arguments: str):
        return CliRunner().invoke(app, ["convert", str(tiny_decoder_dir), *arguments])

    assert aios(str(tmp_path / "fused"), "--fuse", "boats", "--quiet").exit_code == 0
    assert (tmp_path / "fused" / "weights.parquet").is_file()
    unknown = aios(str(tmp_path / "other"), "--fuse", "cars")
    assert isinstance(unknown.exception, ModelNotFoundError) or unknown.exit_code
    assert "there is no skill 'cars'; learned are: boats" in f"{unknown.exception}{unknown.stderr}"
    assert not (tmp_path / "other").exists()
