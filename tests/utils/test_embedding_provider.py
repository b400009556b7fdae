"""Embedding providers: a service over HTTP, a cache on disk."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from ai_os_diffusion.utils.cached_embedding import CachedEmbeddingProvider
from ai_os_diffusion.utils.embedding_provider import EmbeddingProvider
from ai_os_diffusion.utils.errors import ConfigurationError, InferenceError
from ai_os_diffusion.utils.http_embedding import HttpEmbeddingProvider
from support.embedding_service import serving


def vector_of(text: str) -> np.ndarray:
    return np.random.default_rng(sum(text.encode()) + len(text)).normal(size=6).astype(np.float32)


@pytest.fixture
def service():
    with serving(vector_of) as server:
        yield server


@pytest.fixture
def quick(monkeypatch):
    """Waits between attempts, noted and not waited."""
    waits = []
    monkeypatch.setattr("ai_os_diffusion.utils.http_embedding.time.sleep", waits.append)
    return waits


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_vectors_come_in_order_and_in_batches(service, encoding):
    provider = HttpEmbeddingProvider(service.url, "m", api_key="secret", batch_size=2, encoding=encoding)
    texts = ["a", "bb", "ccc", "dddd", "größer"]
    vectors = provider.encode(texts)
    np.testing.assert_allclose(vectors, np.stack([vector_of(text) for text in texts]), rtol=1e-6)
    assert vectors.dtype == np.float32
    assert [len(body["input"]) for _, _, body in service.requests] == [2, 2, 1]
    path, headers, body = service.requests[0]
    assert (path, headers["Authorization"], body["model"]) == ("/v1/embeddings", "Bearer secret", "m")
    assert provider.encode("a").shape == (6,)
    assert provider.encode([]).shape == (0, 6)


def test_prefixes_and_protocols(service, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    provider = HttpEmbeddingProvider(service.url, "m", query_prefix="q: ", document_prefix="d: ")
    assert isinstance(provider, EmbeddingProvider)
    np.testing.assert_array_equal(provider.encode_query("x"), provider.encode("q: x"))
    np.testing.assert_array_equal(provider.encode_document("x"), provider.encode("d: x"))
    assert service.requests[0][1]["Authorization"] == "Bearer from-environment"


def test_passing_failures_are_tried_again(service, quick):
    service.faults = [
        (503, {}, b"busy"),
        (429, {"Retry-After": "7"}, b"{}"),
        (500, {"Retry-After": "soon"}, b""),
    ]
    provider = HttpEmbeddingProvider(service.url, "m", retries=3)
    np.testing.assert_allclose(provider.encode("a"), vector_of("a"))
    assert quick[1] == 7
    assert 0 < quick[0] < quick[2]
    service.faults = [(503, {}, b"busy")] * 2
    with pytest.raises(InferenceError, match=r"503.*busy, after 2 attempts"):
        HttpEmbeddingProvider(service.url, "m", retries=1).encode("a")


def test_a_key_and_texts_are_not_sent_on_to_another_address(service, quick):
    with serving(vector_of) as other:
        service.faults = [(307, {"Location": f"{other.url}/embeddings"}, b"")] * 4
        with pytest.raises(InferenceError, match="redirected to"):
            HttpEmbeddingProvider(service.url, "m", api_key="secret", retries=1).encode("a")
        assert other.requests == []


def test_an_answer_far_larger_than_its_vectors_is_not_taken_in(service, quick):
    service.faults = [(200, {}, b" " * (3 << 20))]
    with pytest.raises(InferenceError, match=r"answered more than \d+ bytes"):
        HttpEmbeddingProvider(service.url, "m", batch_size=1, retries=0).encode("a")


def test_refusals_are_reported_at_once(service, quick):
    service.faults = [(401, {}, b'{"error": {"message": "bad key"}}')]
    with pytest.raises(InferenceError, match="401 Unauthorized: bad key"):
        HttpEmbeddingProvider(service.url, "m").encode("a")
    assert quick == []


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"{}",
        b'{"data": [{"index": 0, "embedding": "%%%"}]}',
        b'{"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2, 3, 4, 5, NaN]}]}',
        b'{"data": []}',
    ],
)
def test_other_answers_are_refused(service, content):
    service.faults = [(200, {}, content)]
    with pytest.raises(InferenceError, match="expected"):
        HttpEmbeddingProvider(service.url, "m", dimension=6).encode("a")


def test_an_absent_service_is_named(quick):
    with pytest.raises(InferenceError, match=r"127.0.0.1:9/embeddings: cannot be reached.*after 3 attempts"):
        HttpEmbeddingProvider("http://127.0.0.1:9", "m", retries=2).encode("a")
    assert len(quick) == 2


@pytest.mark.parametrize(
    "options",
    [{"base_url": "file:///etc"}, {"batch_size": 0}, {"retries": -1}, {"timeout_s": 0}, {"encoding": "hex"}],
)
def test_arguments_are_checked(options):
    with pytest.raises(ConfigurationError, match="expected"):
        HttpEmbeddingProvider(**{"base_url": "http://x", "model": "m", **options})


class Counting:
    dimension = 6

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, sentences):
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        self.asked += texts
        return np.stack([vector_of(text) for text in texts])

    def encode_query(self, sentences):
        return self.encode(sentences) + 1

    def encode_document(self, sentences):
        return self.encode(sentences) + 2


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_cache_asks_once(tmp_path, on_disk):
    provider = Counting()
    with CachedEmbeddingProvider(provider, tmp_path / "cache.sqlite" if on_disk else None) as cache:
        assert isinstance(cache, EmbeddingProvider)
        for _ in range(2):
            got = cache.encode(["a", "b", "a", ""])
            np.testing.assert_array_equal(got, np.stack([vector_of(text) for text in ["a", "b", "a", ""]]))
        assert provider.asked == ["a", "b", ""]
        np.testing.assert_array_equal(cache.encode("b"), vector_of("b"))
        np.testing.assert_array_equal(cache.encode_query("b"), vector_of("b") + 1)
        np.testing.assert_array_equal(cache.encode_document("b"), vector_of("b") + 2)
        assert provider.asked == ["a", "b", "", "b", "b"]
        assert len(cache) == 5
        assert cache.encode([]).shape == (0, 6)
        cache.clear()
        assert len(cache) == 0


def test_a_cache_outlives_its_process_and_knows_its_provider(tmp_path):
    path = tmp_path / "cache.sqlite"
    with CachedEmbeddingProvider(Counting(), path) as cache:
        cache.encode([str(number) for number in range(1200)])
    provider = Counting()
    with CachedEmbeddingProvider(provider, path) as cache:
        cache.encode([str(number) for number in range(1200)])
        assert (cache.hits, cache.misses) == (1200, 0)
    with CachedEmbeddingProvider(provider, path, fingerprint="another model") as cache:
        cache.encode("1")
        assert provider.asked == ["1"]
    (tmp_path / "other").write_bytes(b"no database, whatever its name says" * 100)
    with pytest.raises(InferenceError, match="cannot be used as an embedding cache"):
        CachedEmbeddingProvider(provider, tmp_path / "other")


WRITER = """
import sys
import numpy as np
from ai_os_diffusion.utils.cached_embedding import CachedEmbeddingProvider

class Fixed:
    dimension = 6

    def encode(self, texts):
        return np.array([[float(text)] * 6 for text in texts], np.float32)

    encode_query = encode_document = encode

offset = int(sys.argv[2])
with CachedEmbeddingProvider(Fixed(), sys.argv[1], fingerprint="shared") as cache:
    for number in range(60):
        got = cache.encode([str(number + offset), str(number)])
        assert got[:, 0].tolist() == [number + offset, number]
"""


def test_a_file_that_another_is_just_opening_is_waited_for(tmp_path, monkeypatch):
    refusals = iter(["database is locked"] * 3)

    class Busy(sqlite3.Connection):
        def execute(self, sql, *values):
            if "journal_mode" in sql and (why := next(refusals, None)):
                raise sqlite3.OperationalError(why)
            return super().execute(sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=Busy, **named))
    with CachedEmbeddingProvider(Counting(), tmp_path / "cache.sqlite") as cache:
        assert cache.encode(["1"]).shape == (1, 6)
    assert next(refusals, None) is None
    refusals = iter(["disk I/O error"])
    with pytest.raises(InferenceError, match="disk I/O error"):
        CachedEmbeddingProvider(Counting(), tmp_path / "other.sqlite")


def test_processes_share_a_cache(tmp_path):
    path = tmp_path / "cache.sqlite"
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(offset)]) for offset in (0, 30, 60)
    ]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    with CachedEmbeddingProvider(Counting(), path, fingerprint="shared") as cache:
        assert len(cache) == 120
        assert cache.encode([str(number) for number in range(120)])[:, 5].tolist() == list(range(120))
        assert cache.misses == 0
