"""InferenceCore: ids in any form, faults by name, interrupts, the same numbers on every instruction set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from ai_os_diffusion import _native
from ai_os_diffusion.inference import ArrowEngine, InferenceCore, WeightLoader
from ai_os_diffusion.utils.errors import (
    ConfigurationError,
    DeviceError,
    InferenceError,
    ModelLoadError,
    ShapeError,
    WeightError,
)


def core_in(folder, **options) -> InferenceCore:
    metadata = json.loads((folder / "metadata.json").read_text())
    return InferenceCore(WeightLoader(folder / "weights.parquet").load_weights(), metadata, **options)


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir, backend):
    return core_in(tiny_encoder_dir, backend=backend)


@pytest.fixture(scope="module")
def decoder(tiny_decoder_dir, backend):
    return core_in(tiny_decoder_dir, num_threads=2, backend=backend)


def test_ids_may_come_padded_ragged_or_alone(encoder, alike):
    rows = [[5, 6, 7, 8], [9, 10]]
    expected = encoder(rows)
    right = np.array([[5, 6, 7, 8], [9, 10, 0, 0]])
    left = np.array([[5, 6, 7, 8], [0, 0, 9, 10]])
    np.testing.assert_array_equal(encoder(right, [[1, 1, 1, 1], [1, 1, 0, 0]]), expected)
    np.testing.assert_array_equal(encoder(left, left > 0), expected)
    alike(encoder(rows[1]), expected[1:])
    alike(encoder(np.array(rows[1], np.uint8)), expected[1:])
    states = encoder.hidden_states(rows)
    assert [state.shape for state in states] == [(4, 32), (2, 32)]
    assert encoder([]).shape == (0, 32)


def test_padding_is_not_attended_but_computed_nowhere(encoder):
    ids = np.zeros((3, 50), np.int64)
    ids[:, :3] = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    np.testing.assert_array_equal(encoder(ids, ids > 0), encoder(ids[:, :3]))


@pytest.mark.parametrize(
    ("ids", "mask", "error", "message"),
    [
        ([[1, 2]], [[1]], ShapeError, "expected the same"),
        ([[1, 2, 3]], [[1, 0, 1]], ShapeError, "between ones"),
        ([[1, 2]], [[0, 0]], ShapeError, "all zeros"),
        ([[1], []], None, ShapeError, "at least one token"),
        (np.zeros((1, 1, 1), int), None, ShapeError, r"expected ids \[length\]"),
        ([[1.5, 2.0]], None, InferenceError, "integer ids"),
        ([[1, 261]], None, InferenceError, "id 261 at position 1 is outside the vocabulary of 261"),
        ([[-1]], None, InferenceError, "id -1"),
        ([[2**40]], None, InferenceError, "32 bits"),
        ([[1] * 97], None, InferenceError, "97 tokens do not fit the model's window of 96"),
    ],
)
def test_unfit_ids_are_refused(encoder, ids, mask, error, message):
    with pytest.raises(error, match=message):
        encoder(ids, mask)


def test_a_model_without_a_head_embeds_and_does_not_write(make_model):
    folder = make_model(decoder=True, has_head=False, pooling="last")
    with ArrowEngine(folder) as engine:
        assert engine.encode("text").shape == (32,)
        core = engine.core
        for call in (
            lambda: engine.generate("text"),
            lambda: core.token_nll([1, 2]),
            lambda: core.logits([1]),
        ):
            with pytest.raises(InferenceError, match="saved without one: it embeds"):
                call()


def test_settings_are_refused_by_name(encoder, decoder, tiny_encoder_dir):
    with pytest.raises(
        ModelLoadError, match='pooling "attention" is not supported; supported: mean, cls, last, max'
    ):
        encoder([1], pooling="attention")
    with pytest.raises(InferenceError, match="without a pooling"):
        decoder([1])
    for call in (lambda: encoder.logits([1]), lambda: encoder.session(4), lambda: encoder.token_nll([1, 2])):
        with pytest.raises(InferenceError, match="needs a decoder"):
            call()
    with pytest.raises(InferenceError, match="window of 96"):
        decoder.session(97)
    with pytest.raises(InferenceError, match="expected 'native' or 'torch'"):
        core_in(tiny_encoder_dir, backend="onnx")
    with pytest.raises(DeviceError, match="runs on 'cpu'"):
        core_in(tiny_encoder_dir, backend="native", device="cuda")


def test_the_torch_backend_without_torch_names_what_to_install(tiny_encoder_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "ai_os_diffusion.inference.torch.torch_core", raising=False)
    with pytest.raises(DeviceError, match=r"package torch, .*pip install 'ai-os-diffusion\[gpu\]'"):
        core_in(tiny_encoder_dir, backend="torch")


def test_plain_arrays_serve_as_weights(encoder, tiny_encoder_dir, backend):
    file = _native.WeightFile(tiny_encoder_dir / "weights.parquet")
    arrays = {name: file.plain(name) for name in file.names}
    core = InferenceCore(arrays, encoder.config, backend=backend)
    np.testing.assert_array_equal(core([[3, 4, 5]]), encoder([[3, 4, 5]]))
    bias = arrays.pop("encoder.layer.1.output.dense.bias")
    with pytest.raises(
        WeightError, match=r"lack tensor \"encoder.layer.1.output.dense.bias\" of shape \[32\]"
    ):
        InferenceCore(arrays, encoder.config, backend=backend)
    arrays["encoder.layer.1.output.dense.bias"] = bias[1:]
    with pytest.raises(WeightError, match=r"dense.bias\": expected shape \[32\], got \[31\]"):
        InferenceCore(arrays, encoder.config, backend=backend)
    with pytest.raises(WeightError, match="expected a mapping"):
        InferenceCore(3, encoder.config, backend=backend)


@pytest.mark.parametrize(("bits", "worst"), [(8, 0.9995), (4, 0.97), (2, 0.5)])
def test_quantised_weights_are_used_as_stored(encoder, tiny_encoder_dir, tmp_path, bits, worst):
    source = _native.WeightFile(tiny_encoder_dir / "weights.parquet")
    writer = _native.WeightWriter(tmp_path / "weights.parquet", {})
    for name in source.names:
        array = source.plain(name)
        if array.ndim == 2 and "embeddings" not in name:
            writer.add_quantized(name, array, bits, 16, "asymmetric")
        else:
            writer.add_plain(name, array)
    writer.finish()
    file = _native.WeightFile(tmp_path / "weights.parquet")
    ids = [[3, 4, 5, 9, 200], [7, 8]]
    got = InferenceCore(file, encoder.config)(ids)
    assert (got * encoder(ids)).sum(-1).min() > worst
    # The same codes as floats differ only by the rounding of activations.
    plain = InferenceCore({name: file.dequantize(name) for name in file.names}, encoder.config)(ids)
    assert (got * plain).sum(-1).min() > 0.999


def test_half_precision_weights(encoder, tiny_encoder_dir, tmp_path):
    source = _native.WeightFile(tiny_encoder_dir / "weights.parquet")
    writer = _native.WeightWriter(tmp_path / "weights.parquet", {})
    for name in source.names:
        writer.add_plain(name, source.plain(name).astype(np.float16))
    writer.finish()
    got = InferenceCore(_native.WeightFile(tmp_path / "weights.parquet"), encoder.config)([[3, 4, 5]])
    assert (got * encoder([[3, 4, 5]])).sum() > 0.99999


def test_damaged_weights_are_reported(encoder, decoder, tiny_encoder_dir, tiny_decoder_dir):
    for core, folder, name in [
        (encoder, tiny_encoder_dir, "encoder.layer.0.output.dense.weight"),
        (decoder, tiny_decoder_dir, "model.layers.1.mlp.up_proj.weight"),
    ]:
        file = _native.WeightFile(folder / "weights.parquet")
        arrays = {other: file.plain(other) for other in file.names}
        arrays[name] = np.full_like(arrays[name], np.nan)
        broken = InferenceCore(arrays, core.config)
        with pytest.raises(InferenceError, match="not finite"):
            broken(np.array([[3, 4]]), pooling="mean")
    session = broken.session(8)
    session.prefill(np.array([3, 4], np.int32))
    with pytest.raises(InferenceError, match="logits are not finite"):
        session.sample(_native.Sampler())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.parametrize("kind", ["embed", "generate"])
def test_long_work_hears_signals(encoder, decoder, kind):
    class HeardError(Exception):
        pass

    def ring(*_: object) -> None:
        raise HeardError

    def work() -> None:
        if kind == "embed":
            encoder([[7] * 96] * 200)
        else:
            session = decoder.session(96)
            session.prefill(np.array([5], np.int32))
            session.generate(90)
            session.truncate(1)

    def repeat() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        for _ in range(100_000):
            work()

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(HeardError):
            repeat()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


SCRIPT = """
import hashlib, json, sys
import numpy as np
from ai_os_diffusion import _native
from ai_os_diffusion.inference import ArrowEngine
encoder, decoder = (ArrowEngine(folder, num_threads=2) for folder in sys.argv[1:])
vectors = encoder.encode(["one", "a longer text", "y" * 22])
text = decoder.generate("Once", max_tokens=60, temperature=0.8, seed=4)
digest = hashlib.sha256(vectors.tobytes() + decoder.core.logits(np.arange(80)).tobytes()).hexdigest()
print(json.dumps([_native.active_isa(), text.tokens, digest]))
"""


def test_every_instruction_set_gives_the_same_bits(tiny_encoder_dir, tiny_decoder_dir):
    results = {}
    for isa in ("scalar", "avx2", "avx512"):
        command = [sys.executable, "-c", SCRIPT, str(tiny_encoder_dir), str(tiny_decoder_dir)]
        run = subprocess.run(command, env={**os.environ, "AIOS_ISA": isa}, capture_output=True, text=True)
        if run.returncode == 0:
            active, *numbers = json.loads(run.stdout)
            results[active] = numbers
    assert "scalar" in results
    assert all(numbers == results["scalar"] for numbers in results.values()), results


def test_an_unknown_instruction_set_is_refused_by_models_and_stores(tiny_encoder_dir, tmp_path):
    script = """
import sys
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.storage import ArrowStorage
for open_it, path in ((ArrowEngine, sys.argv[1]), (ArrowStorage, sys.argv[2])):
    try:
        open_it(path)
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("opened")
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tiny_encoder_dir), str(tmp_path / "store")],
        env={**os.environ, "AIOS_ISA": "sse9"},
        capture_output=True,
        text=True,
        check=True,
    )
    model, store = run.stdout.splitlines()
    for line, name in ((model, "InferenceError"), (store, "StorageError")):
        assert line.startswith(f"{name} ")
        assert 'AIOS_ISA: expected scalar, avx2 or avx512, got "sse9"; unset it' in line


def test_searches_give_the_same_bits_on_every_instruction_set(tmp_path):
    script = """
import sys
import numpy as np
from ai_os_diffusion import _native
from ai_os_diffusion.storage import ArrowStorage
vectors = np.random.default_rng(0).standard_normal((300, 37), dtype=np.float32)
with ArrowStorage(sys.argv[1]) as store:
    if not store.count():
        items = [{"memory_id": f"m{i}", "content": "", "embedding": v} for i, v in enumerate(vectors)]
        store.save_many(items)
    for metric in ("cosine", "dot", "euclidean"):
        for memory, score in store.query(vectors[7] + 0.5, top_k=20, metric=metric):
            print(memory["memory_id"], np.float32(score).tobytes().hex())
print(_native.active_isa())
"""
    results = {}
    for isa in ("scalar", "avx2", "avx512"):
        command = [sys.executable, "-c", script, str(tmp_path / "store")]
        run = subprocess.run(command, env={**os.environ, "AIOS_ISA": isa}, capture_output=True, text=True)
        if run.returncode == 0:
            *found, active = run.stdout.splitlines()
            results[active] = found
    assert len(results["scalar"]) == 60
    assert all(found == results["scalar"] for found in results.values())


def test_a_negative_number_of_threads_is_refused(tiny_encoder_dir) -> None:
    with pytest.raises(ConfigurationError, match="num_threads is -1, expected 0"):
        core_in(tiny_encoder_dir, num_threads=-1)
