"""ArrowEngine turns texts into vectors."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.inference_core import Backend
from ai_os_diffusion.utils.embedding_provider import EmbeddingProvider
from ai_os_diffusion.utils.errors import InferenceError, ModelLoadError, TokenizerError, WeightError

TEXTS = ["one", "a longer text", "", "größer", "日本", "one", "x" * 20]


@pytest.fixture(scope="module")
def engine(tiny_encoder_dir, backend):
    with ArrowEngine(tiny_encoder_dir, num_threads=2, backend=backend, device="cpu") as engine:
        yield engine


def test_shapes_order_and_length(engine, alike):
    vectors = engine.encode(TEXTS)
    assert vectors.shape == (7, engine.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[5])
    for text, vector in zip(TEXTS, vectors, strict=True):
        single = engine.encode(text)
        assert single.shape == (engine.dimension,)
        alike(single, vector)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, "embed"),
        ({"prompt_name": "query"}, "embed"),
        ({"long_text": "average"}, "embed"),
        ({"output_value": "token_embeddings"}, "hidden_states"),
    ],
)
def test_vectors_come_from_the_backend_by_way_of_the_core(engine, monkeypatch, options, asked):
    """A backend is asked for what `Backend` says, with ids; it sees no text."""
    expected = engine.encode(["one", "two"], **options)
    calls = []

    class Told:
        def __getattr__(self, name):
            def call(batch, *arguments):
                calls.append(name)
                ids, offsets = batch
                assert (ids.dtype, offsets.dtype) == (np.int32, np.int64)
                return getattr(backend, name)(batch, *arguments)

            return call

    backend = engine.core.backend
    monkeypatch.setattr(engine.core, "backend", Told())
    for ours, theirs in zip(engine.encode(["one", "two"], **options), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert calls == [asked]
    offered, described = (
        {name for name in vars(cls) if not name.startswith("_")} for cls in (type(backend), Backend)
    )
    assert offered == described


def test_no_texts_give_no_rows(engine):
    assert engine.encode([]).shape == (0, engine.dimension)
    assert engine.encode([], precision="binary").shape == (0, engine.dimension // 8)
    assert engine.encode([], long_text="average").shape == (0, engine.dimension)


def test_it_is_an_embedder_by_more_than_one_name(engine):
    assert isinstance(engine, EmbeddingProvider)
    np.testing.assert_array_equal(engine.embed("one"), engine.encode("one"))
    np.testing.assert_array_equal(engine.encode_query("one"), engine.encode("q: one"))
    np.testing.assert_array_equal(engine.encode_document(["one"]), engine.encode(["one"]))
    np.testing.assert_array_equal(engine.encode("one", prompt="z"), engine.encode("zone"))
    np.testing.assert_array_equal(engine.encode("one", prompt_name="query"), engine.encode("q: one"))
    with pytest.raises(InferenceError, match=r"prompt_name is 'other'.*query, document"):
        engine.encode("one", prompt_name="other")


def test_normalize_and_its_alias(engine):
    raw = engine.encode("one", normalize=False)
    assert abs(np.linalg.norm(raw) - 1) > 1e-3
    np.testing.assert_array_equal(raw, engine.encode("one", normalize_embeddings=False))
    np.testing.assert_allclose(raw / np.linalg.norm(raw), engine.encode("one"), atol=1e-6)
    with pytest.raises(InferenceError, match="contradict"):
        engine.encode("one", normalize=True, normalize_embeddings=False)


def test_truncated_dimensions_are_unit_vectors_again(engine):
    whole, cut = engine.encode(TEXTS), engine.encode(TEXTS, truncate_dim=10)
    assert cut.shape == (7, 10)
    np.testing.assert_allclose(cut, whole[:, :10] / np.linalg.norm(whole[:, :10], axis=1)[:, None], atol=1e-6)
    for wrong in (0, engine.dimension + 1):
        with pytest.raises(InferenceError, match="truncate_dim"):
            engine.encode("one", truncate_dim=wrong)


def test_precisions(engine):
    whole = engine.encode(TEXTS)
    codes = engine.encode(TEXTS, precision="int8")
    assert codes.dtype == np.int8
    np.testing.assert_allclose(codes / 127, whole, atol=0.5 / 127 + 1e-6)
    np.testing.assert_array_equal(engine.encode(TEXTS, precision="uint8"), codes.astype(int) + 128)
    packed = engine.encode(TEXTS, precision="ubinary")
    np.testing.assert_array_equal(np.unpackbits(packed, axis=1), whole > 0)
    np.testing.assert_array_equal(engine.encode(TEXTS, precision="binary").astype(int) + 128, packed)
    assert engine.encode("one", precision="float16").dtype == np.float16
    with pytest.raises(InferenceError, match="precision is 'int3'"):
        engine.encode("one", precision="int3")


def test_lists_and_progress(engine, capsys, alike):
    rows = engine.encode(TEXTS, batch_size=2, show_progress_bar=True, convert_to_numpy=False)
    assert isinstance(rows, list)
    alike(np.stack(rows), engine.encode(TEXTS))
    assert capsys.readouterr().out == ""


def test_long_texts_are_cut_with_one_warning(tiny_encoder_dir, caplog):
    engine = ArrowEngine(tiny_encoder_dir)
    fits, long = "y" * 22, "y" * 23
    with caplog.at_level(logging.WARNING):
        engine.encode([fits])
        assert not caplog.records
        cut = engine.encode(["short", long, long + "z"])
        engine.encode(long)
    assert len(caplog.records) == 1
    assert "2 of 3 texts exceed 24 tokens" in caplog.text
    np.testing.assert_array_equal(cut[1], engine.encode(fits))
    np.testing.assert_array_equal(cut[1], cut[2])


def test_long_texts_are_averaged_on_request(engine):
    first, second = "a" * 22, "b" * 10
    parts = engine.encode([first, second], normalize=False)
    got = engine.encode([first + second, "c"], long_text="average", normalize=False)
    np.testing.assert_allclose(got[0], (parts[0] * 24 + parts[1] * 12) / 36, atol=1e-5)
    np.testing.assert_allclose(got[1], engine.encode("c", normalize=False), atol=1e-6)
    with pytest.raises(InferenceError, match="long_text"):
        engine.encode("c", long_text="drop")


def test_what_is_no_text_is_refused_by_position(engine):
    for wrong in ([1], ["a", None], ["a", b"b"], ["a", {"text": "b"}], [["a"]]):
        with pytest.raises(TokenizerError, match="expected str at position"):
            engine.encode(wrong)


@pytest.mark.parametrize("wrong", [3, None, b"text", bytearray(b"text"), {"text": "a"}, {"a", "b"}, {}])
def test_what_holds_no_texts_in_an_order_is_refused(engine, wrong):
    kind = type(wrong).__name__
    for call in (engine.encode, engine.encode_query, engine.tokenizer.encode, engine.tokenizer.count):
        with pytest.raises(TokenizerError, match=f"expected a str or a sequence of str, got {kind}"):
            call(wrong)


def test_other_orders_of_texts_are_taken(engine):
    expected = engine.encode(["one", "two"])
    for texts in (("one", "two"), np.array(["one", "two"]), iter(["one", "two"])):
        np.testing.assert_array_equal(engine.encode(texts), expected)


def test_a_lone_surrogate_is_named(engine):
    with pytest.raises(TokenizerError, match="text 1 holds a lone surrogate"):
        engine.encode(["a", "b\ud800"])


def test_tokens_have_vectors_too(engine, alike):
    rows = engine.encode(["one", "größer", "y" * 40], output_value="token_embeddings")
    assert [row.shape for row in rows] == [(5, 32), (10, 32), (24, 32)]
    pooled = np.stack([row.mean(axis=0) for row in rows])
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, engine.encode(["one", "größer", "y" * 40]), atol=1e-5)
    alike(engine.encode("one", output_value="token_embeddings"), rows[0])
    assert engine.encode([], output_value="token_embeddings") == []
    for name, value in (("truncate_dim", 8), ("precision", "int8"), ("long_text", "average")):
        with pytest.raises(InferenceError, match=f"{name}=.*no meaning for token_embeddings"):
            engine.encode("one", output_value="token_embeddings", **{name: value})


def test_the_place_of_the_engine_is_accepted_and_no_other(engine):
    for device in ("cpu", "cpu:0"):
        np.testing.assert_array_equal(engine.encode("one", device=device), engine.encode("one"))
    np.testing.assert_array_equal(engine.encode("one", pool=None, chunk_size=None), engine.encode("one"))
    for options, message in [
        (
            {"device": "cuda"},
            "device is 'cuda', but the engine is on 'cpu'.*make another",
        ),
        ({"device": ["cpu", "cpu"]}, "device is"),
        ({"pool": {}}, "pool is not supported"),
        ({"chunk_size": 8}, "chunk_size is not supported"),
        ({"output_value": None}, "output_value is None, expected 'sentence_embedding' or 'token_embeddings'"),
    ]:
        with pytest.raises(InferenceError, match=message):
            engine.encode("one", **options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'processing_kwargs'"):
        engine.encode("one", processing_kwargs={})


def test_a_tensor_without_torch_names_what_to_install(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InferenceError, match=r"convert_to_tensor needs torch.*pip install"):
        engine.encode("one", convert_to_tensor=True)


@pytest.mark.torch
def test_tensors(engine):
    torch = pytest.importorskip("torch")
    tensor = engine.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), engine.encode(TEXTS))
    assert engine.encode("one", convert_to_tensor=True).shape == (engine.dimension,)


def test_similarity_takes_texts_and_vectors(engine):
    a, b = ["one", "two"], ["two", "three", "four"]
    cosines = engine.similarity(a, b)
    np.testing.assert_allclose(cosines, engine.encode(a) @ engine.encode(b).T, atol=1e-5)
    np.testing.assert_allclose(engine.similarity(engine.encode(a) * 3, b), cosines, atol=1e-5)
    assert engine.similarity("one", "one")[0, 0] == pytest.approx(1, abs=1e-5)
    with pytest.raises(InferenceError, match="expected the same"):
        engine.similarity(a, np.ones((2, 3)))


def test_threads_share_an_engine(engine):
    expected = engine.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: engine.encode(TEXTS), range(40)):
            np.testing.assert_array_equal(got, expected)


def test_an_encoder_writes_no_text(engine):
    for call in (lambda: engine.generate("a"), lambda: engine.perplexity("some text")):
        with pytest.raises(InferenceError, match=r"encoder|needs a decoder"):
            call()


def test_a_closed_engine_says_so(tiny_encoder_dir):
    with ArrowEngine(tiny_encoder_dir) as engine:
        pass
    with pytest.raises(InferenceError, match="closed"):
        engine.encode("a")


def test_model_info_names_what_was_loaded(engine, tiny_encoder_dir):
    info = engine.model_info
    assert (info["name"], info["model_type"], info["dimension"]) == ("tiny-encoder", "encoder", 32)
    assert info["size_bytes"] == (tiny_encoder_dir / "weights.parquet").stat().st_size
    assert engine.max_seq_length == 24


def test_a_decoder_embeds_if_it_has_a_pooling(make_model, tiny_decoder_dir):
    engine = ArrowEngine(make_model(decoder=True, pooling="last", normalize=True))
    vectors = engine.encode(["abc", "abcd"])
    np.testing.assert_array_equal(vectors[0], engine.core([97, 98, 99])[0])
    with pytest.raises(InferenceError, match="without a pooling does not embed"):
        ArrowEngine(tiny_decoder_dir).encode("abc")


@pytest.mark.parametrize("name", ["metadata.json", "weights.parquet", "tokenizer.json"])
def test_a_missing_file_is_named(make_model, name):
    folder = make_model(decoder=False)
    (folder / name).unlink()
    with pytest.raises((ModelLoadError, TokenizerError), match=name):
        ArrowEngine(folder)


def test_unfit_folders_are_refused(make_model, tmp_path):
    for text, message in [
        ("not json", "metadata.json"),
        ("[]", "expected a JSON object"),
        ("{}", "architecture"),
        ('{"format_version": 9}', "format_version 9"),
    ]:
        folder = make_model(decoder=False)
        (folder / "metadata.json").write_text(text)
        with pytest.raises(ModelLoadError, match=message):
            ArrowEngine(folder)
    with pytest.raises(ModelLoadError, match=r"gpt2.*supported: bert, .*qwen3"):
        ArrowEngine(make_model(decoder=True, architecture="gpt2"))
    with pytest.raises(ModelLoadError, match=r"hidden_act.*mish"):
        ArrowEngine(make_model(decoder=False, hidden_act="mish"))
    with pytest.raises(WeightError, match=r"encoder.layer.2.*\[32, 32\]"):
        ArrowEngine(make_model(decoder=False, num_layers=3))
    with pytest.raises(WeightError, match=r"word_embeddings.*expected shape \[300, 32\], got \[261, 32\]"):
        ArrowEngine(make_model(decoder=False, vocab_size=300))
    with pytest.raises(ModelLoadError):
        ArrowEngine(tmp_path / "nowhere")


def test_a_closed_engine_lets_go_of_its_weights_at_once(tiny_decoder_dir, backend):
    gc.collect()
    gc.disable()
    try:
        with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine:
            engine.generate("a", max_tokens=2)
            network, weights = weakref.ref(engine.core.backend), weakref.ref(engine.weights)
        assert network() is None
        assert weights() is None
        with pytest.raises(InferenceError, match="closed"):
            engine.weights  # noqa: B018  # it is a property
    finally:
        gc.enable()
