"""A runtime whose encoder is a service, or behind a cache."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ai_os_diffusion.config import Config, ModelConfig, PerformanceConfig, StorageConfig
from ai_os_diffusion.runtime import Runtime
from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import ConfigurationError, InferenceError
from support.embedding_service import serving

WORDS = ["train", "leave", "rose", "cut", "lawn", "mow"]


def vector_of(text: str) -> np.ndarray:
    """Which of a few words a text has; not of length 1."""
    return 3 * np.array([word in text.lower() for word in WORDS], np.float32) + np.float32(0.01)


@pytest.fixture
def service():
    with serving(vector_of) as server:
        yield server


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "trains.txt").write_text("The night train leaves at ten.")
    (folder / "garden.txt").write_text("Roses are cut in March.\n\nThe lawn is mown weekly.")
    return folder


@pytest.fixture
def open_runtime(tmp_path, tiny_decoder_dir):
    """A runtime with an encoder of this name; `open_runtime(name, encoder_cache=file)`."""

    def opened(encoder, **model):
        return Runtime(
            Config(
                model=ModelConfig(encoder=str(encoder), decoder=str(tiny_decoder_dir), **model),
                storage=StorageConfig(path=tmp_path / "store"),
            )
        )

    return opened


def texts_sent(service):
    return [text for _, _, body in service.requests for text in body["input"]]


def test_a_service_serves_add_recall_and_ask(service, notes, open_runtime, tmp_path):
    with open_runtime(f"{service.url}#bag-of-words") as runtime:
        report = runtime.add([notes])
        assert report.files["added"] == 2
        found = runtime.recall("When does the train leave?")
        assert found.hits[0].text == "The night train leaves at ten."
        answer = runtime.ask("When are the roses cut?", max_tokens=4, mode="ar")
        assert answer.text == "Roses are cut in March."
        assert all(0 <= hit.similarity <= 1.00001 for hit in answer.passages)
    assert {body["model"] for _, _, body in service.requests} == {"bag-of-words"}
    with ArrowStorage(tmp_path / "store", read_only=True) as store:
        assert (store.model, store.dimension) == ("bag-of-words", len(WORDS))


def test_only_what_is_new_is_sent(service, notes, open_runtime):
    for _ in range(2):
        with open_runtime(f"{service.url}#m") as runtime:
            runtime.add([notes])
    assert len(texts_sent(service)) == len(set(texts_sent(service)))


def test_vectors_of_another_model_are_refused(service, notes, open_runtime):
    with open_runtime(f"{service.url}#one") as runtime:
        runtime.add([notes])
    with open_runtime(f"{service.url}#another") as runtime:
        with pytest.raises(ConfigurationError, match="embedded by one, but the encoder is another"):
            runtime.recall("trains?")
        with pytest.raises(ConfigurationError, match="embedded by one"):
            runtime.add([notes])


def test_passages_are_cut_to_about_the_measure_of_the_settings(service, tmp_path, open_runtime):
    (tmp_path / "long.txt").write_text("The night train leaves at ten. " * 400)
    with open_runtime(f"{service.url}#m") as runtime:
        runtime.add([tmp_path / "long.txt"])
        most = 3 * runtime.config.retrieval.chunk_tokens
    assert len(texts_sent(service)) > 1
    assert max(len(text.encode()) for text in texts_sent(service)) <= most


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/v1", "https://host/v1#"])
def test_an_address_without_a_model_is_refused(open_runtime, address):
    with open_runtime(address) as runtime, pytest.raises(ConfigurationError, match="#MODEL"):
        runtime.encoder.encode_query("x")


def test_a_service_that_is_gone_is_asked_twice_and_not_for_each_text(
    service, notes, open_runtime, monkeypatch
):
    monkeypatch.setattr("ai_os_diffusion.utils.http_embedding.time.sleep", lambda _seconds: None)
    service.faults = [(401, {}, b"{}")] * 1000
    for number in range(50):
        (notes / f"{number}.txt").write_text(f"note {number}")
    with open_runtime(f"{service.url}#m") as runtime, pytest.raises(InferenceError, match="401"):
        runtime.add([notes])
    assert len(service.requests) == 2


def test_a_cache_keeps_vectors_for_the_next_run(service, notes, open_runtime, tmp_path):
    cache = tmp_path / "new folder" / "vectors.sqlite"
    with open_runtime(f"{service.url}#m", encoder_cache=cache) as runtime:
        runtime.add([notes])
        first = runtime.recall("When does the train leave?")
    sent = len(texts_sent(service))
    with open_runtime(f"{service.url}#m", encoder_cache=cache) as runtime:
        assert runtime.recall("When does the train leave?") == first
        runtime.storage.delete_where({}, everything=True)
    with open_runtime(f"{service.url}#m", encoder_cache=cache) as runtime:
        assert runtime.add([notes]).files["added"] == 2
    # What the length of a vector is, is asked anew.
    assert set(texts_sent(service)[sent:]) <= {"dimension"}


def test_a_cache_before_a_model_on_this_machine_changes_nothing(
    tiny_encoder_dir, notes, open_runtime, tmp_path
):
    found = []
    for cache in (None, tmp_path / "vectors.sqlite", tmp_path / "vectors.sqlite"):
        with open_runtime(tiny_encoder_dir, encoder_cache=cache) as runtime:
            runtime.add([notes])
            found.append(runtime.recall("When does the train leave?"))
            assert runtime.encoder.count(["train"])[0] > 0
    assert found[0] == found[1] == found[2]
    assert re.match(r".+@sha256:[0-9a-f]{16}$", runtime.encoder.identity)


def test_models_are_opened_within_the_part_of_a_gpu_that_is_configured(
    tmp_path, tiny_encoder_dir, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "ai_os_diffusion.inference.cuda_backend.limit_memory",
        lambda device, fraction: asked.append((device, fraction)),
    )
    config = Config(
        model=ModelConfig(encoder=str(tiny_encoder_dir), device="cpu"),
        storage=StorageConfig(path=tmp_path / "store"),
        performance=PerformanceConfig(gpu_memory_fraction=0.25),
    )
    with Runtime(config) as runtime:
        runtime.encoder.encode_query("a question")
    assert asked == [("cpu", 0.25)]
