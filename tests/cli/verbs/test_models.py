import json
import shutil

import numpy as np
import pytest

from ai_os_diffusion.models.convert.safetensors import write_safetensors
from support.diffusion_checkpoints import write_checkpoint


def test_models_lists_what_can_be_pulled(aios, aios_json, home):
    listed = aios_json("models")
    assert listed["models"] == []
    assert {"minilm", "smollm2"} <= set(listed["can_be_pulled"])
    assert "aios pull minilm" in aios("models").stderr


def test_pull_a_local_model_then_remove_it(aios, aios_json, home, tiny_encoder_dir):
    (pulled,) = aios_json("pull", tiny_encoder_dir)
    assert (pulled["name"], pulled["model_type"]) == ("tiny-encoder", "encoder")
    assert [model["name"] for model in aios_json("models")["models"]] == ["tiny-encoder"]
    assert aios("embed", "x", "--model", "tiny-encoder").exit_code == 0
    assert aios_json("rm", "tiny-encoder", "--dry-run")["size_bytes"] > 0
    assert aios("rm", "tiny-encoder", input="n\n").exit_code == 1
    assert aios("rm", "tiny-encoder", "--yes").exit_code == 0
    assert aios_json("models")["models"] == []


def test_rm_takes_the_name_that_pull_took(aios, aios_json, home, tiny_encoder_dir):
    folder = home.parent / "models" / "org--name"
    shutil.copytree(tiny_encoder_dir, folder)
    assert aios_json("rm", "hf:org/name", "--yes")["removed"] == ["org--name"]
    assert not folder.exists()
    assert "'org--name' is not pulled" in aios("rm", "hf:org/name", "--yes").stderr


@pytest.mark.parametrize(
    "args",
    [("pull", "nonsense"), ("pull", "./nowhere"), ("rm", "nobody", "--yes"), ("pull", "minilm", "--offline")],
)
def test_what_is_not_there_is_not_found(aios, home, args):
    assert aios(*args).exit_code == 3


def test_convert_and_quantize(aios, aios_json, home, tiny_encoder_dir, tmp_path):
    report = aios_json("quantize", tiny_encoder_dir, tmp_path / "small", "--to", "int8", "--group-size", "32")
    assert 0 < report["bits_per_weight"] < 32
    assert aios("quantize", tiny_encoder_dir, tmp_path / "small").exit_code != 0
    assert aios("quantize", tiny_encoder_dir, tmp_path / "small", "--to", "fp16", "--force").exit_code == 0
    assert aios("quantize", tiny_encoder_dir, tmp_path / "x", "--to", "int3").exit_code == 2
    assert aios("convert", tiny_encoder_dir, tmp_path / "copy").exit_code == 0
    assert aios("embed", "x", "--model", tmp_path / "copy").exit_code == 0


def test_convert_a_diffusion_model(aios, aios_json, home, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    write_checkpoint(source, "a2d", without=("mask_token_id",), mask="<|other|>")
    refused = aios("convert", source, out)
    assert refused.exit_code != 0
    assert "without a mask token" in refused.stderr
    given = ("--diffusion", "mask_id=260", "--diffusion", "attention=block")
    report = aios_json("convert", source, out, *given)
    assert any("bd3lm" in note for note in report["notes"])
    found = aios("diffuse", "What?", "--model", out, "--max-tokens", "8", "--quiet")
    assert found.exit_code == 0, found.output
    for wrong in ("mask_id", "=3"):
        result = aios("convert", source, tmp_path / "other", "--diffusion", wrong)
        assert "expected NAME=VALUE" in result.stderr
    result = aios("convert", source, tmp_path / "other", "--diffusion", "mask=3")
    assert "'mask' is no setting" in result.stderr


def test_convert_what_is_no_model(aios, home, tmp_path):
    (tmp_path / "void").mkdir()
    result = aios("convert", tmp_path / "void", tmp_path / "out")
    assert result.exit_code == 3
    assert not (tmp_path / "out").exists()
    (tmp_path / "fake.gguf").write_bytes(b"GGUF nonsense")
    assert aios("convert", tmp_path / "fake.gguf", tmp_path / "out").exit_code in (3, 5)


def test_inspect_verifies_the_files(aios, aios_json, home, tiny_encoder_dir, tmp_path):
    files = {"tokenizer.json", "tokenizer_config.json", "weights.parquet"}
    small = tmp_path / "small"
    aios("quantize", tiny_encoder_dir, small, "--to", "int8")
    for folder in (tiny_encoder_dir, small):
        assert set(aios_json("inspect", folder, "--verify")["verified"]) == files
        assert "verified: 3 files" in aios("inspect", folder, "--verify").stderr
    tokenizer = small / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("[CLS]", "[CLX]"))
    error = aios_json("inspect", small, "--verify", code=5, error=True)
    assert "tokenizer.json: sha256 is" in error["message"]
    tokenizer.unlink()
    assert "missing" in aios_json("inspect", small, "--verify", code=5, error=True)["message"]
    (small / "metadata.json").write_text("{}")
    assert aios("inspect", small, "--verify").exit_code == 1
    (small / "metadata.json").write_text("{")
    assert aios("inspect", small, "--verify").exit_code == 5
    (small / "metadata.json").unlink()
    assert aios("inspect", small, "--verify").exit_code == 3


def test_models_names_those_that_must_be_pulled_again(aios, aios_json, home, tiny_encoder_dir, monkeypatch):
    aios("pull", tiny_encoder_dir, "--quantize", "int4")
    assert aios_json("models")["models"][0]["outdated"] is False
    monkeypatch.setattr("ai_os_diffusion.models.metadata.CONVERTER_VERSION", 2)
    assert aios_json("models")["models"][0]["outdated"] is True
    assert f"run: aios pull {tiny_encoder_dir} --quantize int4" in aios("models").stderr
    assert "converter_version" in aios("embed", "x", "--model", "tiny-encoder-int4").stderr


def test_inspect(aios, aios_json, home, tiny_encoder_dir, tmp_path):
    found = aios_json("inspect", tiny_encoder_dir)
    assert len(found["tensors"]) == 37
    assert "encoder.layer.0.attention.self.query.weight" in aios("inspect", tiny_encoder_dir).stdout
    assert aios("inspect", "nobody").exit_code == 3
    shutil.copytree(tiny_encoder_dir, tmp_path / "broken")
    (tmp_path / "broken" / "weights.parquet").write_bytes(b"nonsense")
    assert aios("inspect", tmp_path / "broken").exit_code == 5


def test_convert_an_adapter_into_a_card(aios, aios_json, home, tiny_encoder_dir, tmp_path):
    layer, width = "encoder.layer.0.attention.self.query", 4
    hidden = json.loads((tiny_encoder_dir / "metadata.json").read_text())["hidden_size"]
    factors = {
        f"{layer}.lora_A.weight": np.ones((width, hidden), np.float32),
        f"{layer}.lora_B.weight": np.ones((hidden, width), np.float32),
    }
    adapter, card, about = tmp_path / "adapter", tmp_path / "skill.parquet", tmp_path / "about.json"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    write_safetensors(adapter / "adapter_model.safetensors", factors)
    about.write_text('{"kind": "skill", "licence": "MIT"}')
    made = aios_json("convert", adapter, card, "--base", tiny_encoder_dir, "--about", about)
    assert (made["name"], made["rank"], made["scaling"], made["licence"]) == ("skill", width, 2.0, "MIT")
    assert aios_json("inspect", card)["card"]["base"] == made["base"]
    assert "rank" in aios("inspect", card).stdout
    again = ("convert", adapter, card, "--base", tiny_encoder_dir)
    assert aios(*again).exit_code != 0
    assert aios(*again, "--force", "--quantize", "int4").exit_code == 0
    assert aios(*again, "--force", "--quantize", "int2").exit_code == 2
    assert aios("convert", adapter, tmp_path / "x", "--about", about).exit_code == 2
    assert aios("convert", adapter, tmp_path / "x", "--base", "nobody").exit_code == 3
