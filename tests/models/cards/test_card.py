"""Cards: what is written is what was given, and what contradicts itself or its base is refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion._native import WeightWriter
from ai_os_diffusion.models.cards import Card, convert_card, export_peft
from ai_os_diffusion.models.cards.peft import read_adapter_settings
from ai_os_diffusion.utils.errors import CardError, ModelLoadError, ModelNotFoundError, WeightError

RANK, WIDTH, INNER = 4, 64, 96
LAYERS = {"model.layers.0.self_attn.q_proj": (WIDTH, WIDTH), "model.layers.0.mlp.down_proj": (WIDTH, INNER)}
DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """As much of a model folder as a card looks at."""
    folder = tmp_path_factory.mktemp("base")
    writer = WeightWriter(folder / "weights.parquet", {}, 1)
    for layer, shape in LAYERS.items():
        writer.add_plain(f"{layer}.weight", np.zeros(shape, np.float32))
    writer.add_plain("model.embed_tokens.weight", np.zeros((32, WIDTH), np.float32))
    writer.add_plain("model.norm.weight", np.ones(WIDTH, np.float32))
    writer.finish()
    metadata = {
        "architecture": "llama",
        "hidden_size": WIDTH,
        "num_layers": 1,
        "num_heads": 1,
        "intermediate_size": INNER,
        "vocab_size": 32,
        "max_position_embeddings": 64,
        "norm_eps": 1e-5,
        "hidden_act": "silu",
        "source": {"name": "tiny", "weights_sha256": DIGEST},
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def tensors(seed: int = 0, prefix: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for layer, (rows, columns) in LAYERS.items():
        found[f"{prefix}{layer}.lora_A.weight"] = rng.standard_normal((RANK, columns)).astype(np.float32)
        found[f"{prefix}{layer}.lora_B.weight"] = rng.standard_normal((rows, RANK)).astype(np.float32)
    return found


def save(path: Path, values: dict[str, np.ndarray], said: dict[str, str] | None = None) -> Path:
    """As the safetensors library does."""
    names = {"float32": "F32", "float16": "F16", "int8": "I8", "uint16": "BF16"}
    header, data = ({"__metadata__": said} if said else {}), b""
    for name, value in values.items():
        end = len(data) + value.nbytes
        header[name] = {
            "dtype": names[value.dtype.name],
            "shape": value.shape,
            "data_offsets": [len(data), end],
        }
        data += value.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def adapter(folder: Path, values: dict[str, np.ndarray] | None = None, **settings) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "bias": "none", **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save(folder / "adapter_model.safetensors", values or tensors(prefix="base_model.model."))
    return folder


@pytest.fixture
def whole(tmp_path) -> Path:
    """Factors as int8, a norm, rows of the embedding and a head."""
    values, rng = {}, np.random.default_rng(1)
    for name, value in tensors().items():
        scale = (np.abs(value).max(1) / 127).astype(np.float16)
        values[name] = np.round(value / scale[:, None].astype(np.float32)).clip(-127, 127).astype(np.int8)
        values[name.removesuffix(".weight") + ".scale"] = scale
    values["model.norm.weight"] = rng.standard_normal(WIDTH).astype(np.float32)
    values["model.embed_tokens.rows"] = rng.standard_normal((2, WIDTH)).astype(np.float32)
    values["score.weight"] = rng.standard_normal((3, WIDTH)).astype(np.float16)
    values["score.bias"] = rng.standard_normal(3).astype(np.float16)
    said = {"rank": str(RANK), "alpha": "16", "use_rslora": "true", "row_ids": "[4, 16]", "mask_id": "4"}
    return save(tmp_path / "whole.safetensors", values, said)


def test_a_card_keeps_every_number_and_says_what_it_is(base, whole, tmp_path):
    about = {"kind": "diffusion", "licence": "Apache-2.0", "metrics": {"f1": 78.5}}
    card = convert_card(whole, tmp_path / "mode.parquet", base=base, about=about)
    found = Card(tmp_path / "mode.parquet").description
    assert found == card.description
    assert (found.name, found.kind, found.rank, found.scaling) == ("mode", "diffusion", RANK, 8.0)
    assert (found.row_ids, found.heads, found.config) == ((4, 16), ("score",), {"mask_id": 4})
    assert (found.base.name, found.base.weights_sha256) == ("tiny", DIGEST)
    assert card.layers == list(LAYERS)
    source = tensors()
    for name, value in source.items():
        np.testing.assert_allclose(card[name], value, atol=np.abs(value).max() / 250)
    assert card.native.info("model.norm.weight")["quant_type"] is None
    with pytest.raises(KeyError):
        card["model.norm.bias"]


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.2)])
def test_factors_are_rounded_when_asked_for(base, whole, tmp_path, bits, error):
    card = convert_card(whole, tmp_path / "c.parquet", base=base, bits=bits, group_size=32)
    for name, value in tensors().items():
        assert np.abs(card[name] - value).max() <= error * np.abs(value).max()
    kept = convert_card(whole, tmp_path / "d.parquet", base=base)
    for name in ("model.norm.weight", "score.weight", "model.embed_tokens.rows"):
        assert np.array_equal(card[name], kept[name])


def test_an_adapter_of_peft_there_and_back(base, tmp_path):
    folder = adapter(
        tmp_path / "a",
        use_rslora=True,
        alpha_pattern={"down_proj": 4},
        target_modules=["q_proj", "down_proj"],
    )
    card = convert_card(folder, tmp_path / "skill.parquet", base=base)
    source = tensors()
    assert card.description.scaling == 8.0

    def change(factors, layer, scaling):
        return scaling * factors[f"{layer}.lora_B.weight"] @ factors[f"{layer}.lora_A.weight"]

    for layer, scaling in zip(LAYERS, (8.0, 2.0), strict=True):
        np.testing.assert_allclose(change(card, layer, 8.0), change(source, layer, scaling), rtol=1e-5)
    export_peft(card, tmp_path / "b")
    again = read_adapter_settings(tmp_path / "b")
    assert again.scaling == 8.0
    back = convert_card(tmp_path / "b", tmp_path / "again.parquet", base=base)
    for name in card:
        assert np.array_equal(card[name], back[name])


def magnitudes(prefix: str = "") -> dict[str, np.ndarray]:
    rows = {layer: shape[0] for layer, shape in LAYERS.items()}
    return {
        f"{prefix}{layer}.lora_magnitude_vector": np.linspace(1, 2, count, dtype=np.float32)
        for layer, count in rows.items()
    }


@pytest.mark.parametrize(("bits", "group_size"), [(None, 32), (8, 32), (8, 0), (4, 32)])
def test_what_magnitudes_make_of_the_base_is_stored_with_factors_as_they_are(
    base, tmp_path, bits, group_size
):
    folder = adapter(
        tmp_path / "a",
        {name: value for part in (tensors, magnitudes) for name, value in part(prefix=PREFIX).items()},
        use_dora=True,
    )
    card = convert_card(folder, tmp_path / "c.parquet", base=base, bits=bits, group_size=group_size)
    for layer in LAYERS:
        a, b = card[f"{layer}.lora_A.weight"], card[f"{layer}.lora_B.weight"]
        # The base of these tests is zero.
        norms = np.linalg.norm((4.0 * b @ a).astype(np.float64), axis=1)
        magnitude = card[f"{layer}.lora_magnitude_vector"]
        np.testing.assert_array_equal(magnitude, magnitudes()[f"{layer}.lora_magnitude_vector"])
        np.testing.assert_allclose(card[f"{layer}.lora_row_scale"], magnitude / norms, rtol=1e-5)
    export_peft(card, tmp_path / "b")
    settings = read_adapter_settings(tmp_path / "b")
    assert settings.is_scaled
    back = convert_card(tmp_path / "b", tmp_path / "again.parquet", base=base)
    assert sorted(back) == sorted(card)
    for name in card:
        np.testing.assert_allclose(back[name], card[name], rtol=1e-5)


PREFIX = "base_model.model."
Q = "model.layers.0.self_attn.q_proj"
MAGNITUDES = {
    "no magnitude": "use_dora is set, and layer .* has no magnitude",
    "not told of": "no low-rank factor",
    "too short": r"is \[63\], expected \[64\]",
    "not finite": "holds NaN or infinities",
    "no length": "row 5 has the norm 0, expected one above 0 to divide by",
    "no factor": "has no lora_B.weight",
}


@pytest.mark.parametrize("fault", MAGNITUDES)
def test_magnitudes_that_cannot_be_are_refused_by_name(base, tmp_path, fault):
    values = {**tensors(prefix=PREFIX), **magnitudes(PREFIX)}
    name = f"{PREFIX}{Q}.lora_magnitude_vector"
    if fault == "no magnitude":
        del values[name]
    elif fault == "too short":
        values[name] = values[name][:-1]
    elif fault == "not finite":
        values[name][3] = np.nan
    elif fault == "no length":
        values[f"{PREFIX}{Q}.lora_B.weight"][5] = 0
    elif fault == "no factor":
        del values[f"{PREFIX}{Q}.lora_B.weight"]
    folder = adapter(tmp_path / "a", values, use_dora=fault != "not told of")
    with pytest.raises(CardError, match=MAGNITUDES[fault]):
        convert_card(folder, tmp_path / "c.parquet", base=base)
    assert not (tmp_path / "c.parquet").exists()


def test_a_card_with_a_magnitude_lacks_nothing_beside_it_and_an_adapter_has_all_or_none(base, tmp_path):
    values = {**tensors(), f"{Q}.lora_magnitude_vector": np.ones(WIDTH, np.float32)}
    about = {"rank": RANK, "scaling": 1.0}
    card = convert_card(
        save(tmp_path / "s.safetensors", values), tmp_path / "c.parquet", base=base, about=about
    )
    with pytest.raises(CardError, match="magnitudes of 1 of its 2 layers"):
        export_peft(card, tmp_path / "out")
    there = {name: card[name] for name in card}
    for missing in (f"{Q}.lora_row_scale", f"{Q}.lora_magnitude_vector"):
        rest = {name: value for name, value in there.items() if name != missing}
        with pytest.raises(CardError, match="expected both factors, the magnitude and the scales of rows"):
            Card.write(tmp_path / "d.parquet", card.description, rest.items())


@pytest.mark.parametrize("prefix", ["base_model.model.", "base_model.model.llama.", "base_model."])
def test_layers_are_found_under_the_names_that_wrappers_give_them(base, tmp_path, prefix):
    values = {
        (prefix + name) if prefix != "base_model." else f"base_model.{name}": value
        for name, value in tensors().items()
    }
    card = convert_card(adapter(tmp_path / "a", values), tmp_path / "c.parquet", base=base)
    assert card.layers == list(LAYERS)


SETTINGS = {
    "peft_type": "LOHA",
    "bias": "all",
    "lora_bias": True,
    "fan_in_fan_out": True,
    "init_lora_weights": "pissa",
    "trainable_token_indices": [1, 2],
    "layer_replication": [[0, 1]],
    "alora_invocation_tokens": [3],
    "use_qalora": True,
    "a_setting_of_tomorrow": 1,
    "r": 0,
    "lora_alpha": "many",
    "alpha_pattern": {"(.*)*q": 3},
}


def test_an_adapter_brings_norms_and_heads_of_its_own(base, tmp_path):
    more = {"base_model.model.model.norm.weight": np.full(WIDTH, 3, np.float32)}
    more["base_model.model.score.weight"] = np.ones((2, WIDTH), np.float32)
    # What `peft` adds of the base when its head has factors.
    more["base_model.model.lm_head.base_layer.weight"] = np.ones((32, WIDTH), np.float32)
    values = {**tensors(prefix="base_model.model."), **more}
    folder = adapter(tmp_path / "a", values, modules_to_save=["norm", "score"])
    card = convert_card(folder, tmp_path / "c.parquet", base=base)
    assert card.description.heads == ("score",)
    assert card["model.norm.weight"].tolist() == [3.0] * WIDTH
    assert "model.lm_head.weight" not in card.shapes
    unnamed = adapter(tmp_path / "b", values, modules_to_save=["score"])
    with pytest.raises(CardError, match=r"norm\.weight' is no low-rank factor"):
        convert_card(unnamed, tmp_path / "d.parquet", base=base)
    whole = "base_model.model.model.embed_tokens.weight"
    values[whole] = np.ones((32, WIDTH), np.float32)
    folder = adapter(tmp_path / "e", values, modules_to_save=["norm", "score", "embed_tokens"])
    with pytest.raises(CardError, match="would replace a whole matrix"):
        convert_card(folder, tmp_path / "d.parquet", base=base)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_change_results_are_refused_by_name(base, tmp_path, name):
    folder = adapter(tmp_path / "a", **{name: SETTINGS[name]})
    with pytest.raises((ModelLoadError, CardError), match=name):
        convert_card(folder, tmp_path / "c.parquet", base=base)
    assert not (tmp_path / "c.parquet").exists()


def without(name: str):
    return lambda values: values.pop(name)


def put(name: str, value: np.ndarray):
    return lambda values: values.update({name: value})


Q = "model.layers.0.self_attn.q_proj"
FAULTS = {
    "no lora_B": (without(f"{Q}.lora_B.weight"), "lora_B"),
    "another rank": (put(f"{Q}.lora_B.weight", np.zeros((WIDTH, 3), np.float32)), "rank"),
    "another width": (put(f"{Q}.lora_A.weight", np.zeros((RANK, 65), np.float32)), "q_proj"),
    "a vector": (put(f"{Q}.lora_A.weight", np.zeros(RANK, np.float32)), "q_proj"),
    "NaN": (put(f"{Q}.lora_A.weight", np.full((RANK, WIDTH), np.nan, np.float32)), "NaN"),
    "infinity": (put("model.norm.weight", np.full(WIDTH, np.inf, np.float32)), "norm"),
    "unknown layer": (put("model.layers.7.x.lora_A.weight", np.zeros((RANK, 8), np.float32)), "layers.7"),
    "another norm": (put("model.norm.weight", np.ones(3, np.float32)), "norm"),
    "rows nobody names": (put("model.embed_tokens.rows", np.ones((2, WIDTH), np.float32)), "rows"),
    "int8 without scale": (put(f"{Q}.lora_A.weight", np.ones((RANK, WIDTH), np.int8)), "scale"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_tensors_that_contradict_the_base_or_each_other_are_refused(base, tmp_path, fault):
    values = tensors()
    change, word = FAULTS[fault]
    change(values)
    source = save(tmp_path / "c.safetensors", values, {"scaling": "1.0"})
    with pytest.raises(CardError, match=word):
        convert_card(source, tmp_path / "c.parquet", base=base)
    assert not (tmp_path / "c.parquet").exists()


def test_what_is_no_card_is_told(base, whole, tmp_path):
    with pytest.raises(ModelNotFoundError):
        Card(tmp_path / "nothing.parquet")
    with pytest.raises(CardError, match="no description"):
        Card(base / "weights.parquet")
    with pytest.raises(CardError, match="scaling"):
        convert_card(save(tmp_path / "s.safetensors", tensors()), tmp_path / "s.parquet", base=base)
    (tmp_path / "damaged.safetensors").write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(WeightError):
        convert_card(tmp_path / "damaged.safetensors", tmp_path / "s.parquet", base=base)
    card = convert_card(whole, tmp_path / "s.parquet", base=base)
    with pytest.raises(ModelLoadError, match="exists already"):
        convert_card(whole, tmp_path / "s.parquet", base=base)
    convert_card(whole, tmp_path / "s.parquet", base=base, overwrite=True)
    with pytest.raises(CardError, match="beside its factors"):
        export_peft(card, tmp_path / "a")


def test_rows_beyond_the_vocabulary_are_refused(base, whole, tmp_path):
    with pytest.raises(CardError, match="row 99"):
        convert_card(whole, tmp_path / "c.parquet", base=base, about={"row_ids": [4, 99]})


@pytest.mark.parametrize(
    "about",
    [
        {"rank": -1},
        {"rank": 5},
        {"name": 7},
        {"heads": "x"},
        {"heads": ["none"]},
        {"row_ids": [1]},
        {"config": []},
        {"config": {"x": float("nan")}},
        {"config": {"x": "\ud800"}},
        {"metrics": {"x": {1, 2}}},
    ],
)
def test_a_description_is_read_as_foreign(base, whole, tmp_path, about):
    with pytest.raises(CardError):
        convert_card(whole, tmp_path / "c.parquet", base=base, about=about)


def test_what_a_file_says_may_be_nested_beyond_reading(base, tmp_path):
    said = {"scaling": "1.0", "note": "[" * 100_000}
    source = save(tmp_path / "c.safetensors", tensors(), said)
    card = convert_card(source, tmp_path / "c.parquet", base=base)
    assert card.description.config == {"note": said["note"]}
