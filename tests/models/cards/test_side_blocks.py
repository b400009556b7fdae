"""Side blocks in the file of a card: what is written is read, and what does not fit is refused by name."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription, convert_card, export_peft
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.utils.errors import CardError
from support.side_blocks import WIDTH, side_blocks, write_control

DOWN, UP = "model.layers.1.side_down.weight", "model.layers.1.side_up.weight"


@pytest.fixture
def engine(tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, device="cpu", num_threads=1) as engine:
        yield engine


def write(path: Path, values: dict[str, np.ndarray], **changes) -> Card:
    about = CardDescription("control", "control", Base("tiny", "llama", "ab" * 32), 0, 1.0, side_width=WIDTH)
    return Card.write(path, replace(about, **changes), values.items())


def test_a_card_keeps_every_number_and_says_how_wide_it_is(tmp_path):
    values = side_blocks(32, (0, 1), 1)
    card = write(tmp_path / "control.parquet", values)
    again = Card(tmp_path / "control.parquet")
    assert again.description == card.description
    assert (again.description.side_width, again.description.rank) == (WIDTH, 0)
    assert again.sides == ["model.layers.0", "model.layers.1"]
    assert again.layers == []
    for name, value in values.items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.2)])
def test_it_is_rounded_as_factors_are(tmp_path, bits, error):
    values = side_blocks(64, (0,), 1)
    whole = write(tmp_path / "whole.parquet", values)
    about = whole.description
    card = Card.write(tmp_path / "rounded.parquet", about, values.items(), bits=bits)
    for name, value in values.items():
        assert np.abs(card[name] - value).max() <= error * np.abs(value).max()
        assert card.native.info(name)["quant_type"] is not None


def test_a_description_of_before_side_blocks_has_none(tmp_path):
    about = json.loads(write(tmp_path / "c.parquet", side_blocks(32, (0,), 1)).description.to_json())
    del about["side_width"]
    assert CardDescription.from_json(json.dumps(about), "here").side_width == 0
    about["side_width"] = -1
    with pytest.raises(CardError, match="side_width"):
        CardDescription.from_json(json.dumps(about), "here")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({DOWN: None}, r"'model.layers.1' has no side_down.weight, expected both side blocks"),
        ({UP: None}, r"'model.layers.1' has no side_up.weight, expected both side blocks"),
        ({UP: np.ones((32, 2), np.float32)}, r"\[3, 32\] and \[32, 2\], expected \[side_width, in\]"),
        ({DOWN: np.ones(32, np.float32)}, r"\[32\] and \[32, 3\]"),
        ({DOWN: np.full((3, 32), np.nan, np.float32)}, "holds NaN or infinities"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, change, said):
    values = side_blocks(32, (1,), 1) | change
    with pytest.raises(CardError, match=said):
        write(tmp_path / "c.parquet", {name: value for name, value in values.items() if value is not None})
    assert not list(tmp_path.iterdir())


def test_a_width_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CardError, match="says side_width 4, its side blocks have 3"):
        write(tmp_path / "c.parquet", side_blocks(32, (1,), 1), side_width=4)


def save(path: Path, values: dict[str, np.ndarray]) -> Path:
    """As the safetensors library does."""
    header, data = {}, b""
    for name, value in values.items():
        end = len(data) + value.nbytes
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [len(data), end]}
        data += value.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_from_safetensors(tiny_decoder_dir, tmp_path):
    values = side_blocks(32, (0, 1), 4)
    source = save(tmp_path / "control.safetensors", values)
    about = {"scaling": 1.0, "kind": "control"}
    card = convert_card(source, tmp_path / "c.parquet", base=tiny_decoder_dir, about=about)
    assert (card.description.side_width, card.description.heads) == (WIDTH, ())
    np.testing.assert_array_equal(card[UP], values[UP])
    for changed, said in (
        (side_blocks(32, (0, 2), 4), "takes no side block behind 'model.layers.2'"),
        (side_blocks(31, (0,), 4), "and the stream of the base 32 wide"),
        (side_blocks(32, (0, 1), 4, width=200), "one in 10 of the base's"),
    ):
        source = save(tmp_path / "other.safetensors", changed)
        with pytest.raises(CardError, match=said):
            convert_card(source, tmp_path / "d.parquet", base=tiny_decoder_dir, about=about)


def test_neither_weights_nor_adapters_hold_it(engine, tmp_path):
    card = write_control(engine, tmp_path)
    with pytest.raises(CardError, match=r"side blocks behind model\.layers\.0, model\.layers\.1, which"):
        convert_model(engine.folder, tmp_path / "fused", fuse=card)
    with pytest.raises(CardError, match=r"4 tensors beside its factors, such as 'model"):
        export_peft(card, tmp_path / "peft")
    assert {path.name for path in tmp_path.iterdir()} == {"control.parquet"}
