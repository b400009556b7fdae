"""What is made when first asked for is made once, also when several threads ask at the same time."""

from __future__ import annotations

import ast
import importlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

import ai_os_diffusion
from ai_os_diffusion.config import Config, ModelConfig, StorageConfig
from ai_os_diffusion.inference import FastTokenizer
from ai_os_diffusion.models.registry import known_models
from ai_os_diffusion.runtime import Runtime
from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.shared_cache import shared_cache

PACKAGE = Path(ai_os_diffusion.__file__).parent
THREADS = 16
# They run what they cache in every thread that comes before the first has ended.
UNSHARED = {"cached_property", "cache"}


def touched_by_all(touch):
    """What each of many threads gets that ask in the same moment."""
    start = threading.Barrier(THREADS)

    def first_touch(_):
        start.wait()
        return touch()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(first_touch, range(THREADS)))


def is_one(found):
    return all(value is found[0] for value in found)


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_nothing_is_cached_for_one_thread_only(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "functools":
            assert not UNSHARED & {alias.name for alias in node.names}


def test_a_shared_result_is_made_once():
    made = []

    @shared_cache
    def make(name):
        time.sleep(0.02)
        made.append(name)
        return object()

    assert is_one(touched_by_all(lambda: make("a")))
    assert make("b") is not make("a")
    assert made == ["a", "b"]


def test_a_failure_is_nobodys_result():
    calls = []

    @shared_cache
    def make():
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not now")
        return object()

    with pytest.raises(OSError, match="not now"):
        make()
    assert make() is make()


@pytest.fixture
def runtime(tmp_path):
    """A runtime of models that do not exist: what loads them is counted."""
    path = tmp_path / "store"
    ArrowStorage(path).close()
    with Runtime(Config(model=ModelConfig(), storage=StorageConfig(path=path))) as runtime:
        yield runtime


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_runtime_loads_each_model_once(runtime, monkeypatch, name):
    made = []

    def load(self, model):
        time.sleep(0.02)
        made.append(model)
        info = {"name": model, "source": {}, "quantization": {}, "device": "cpu"}
        return SimpleNamespace(model_info=info, tokenizer=SimpleNamespace(count=len), max_seq_length=8)

    monkeypatch.setattr(Runtime, "_engine", load)
    assert is_one(touched_by_all(lambda: getattr(runtime, name)))
    assert len(made) == 1


@pytest.mark.parametrize("name", ["storage", "memories"])
def test_a_runtime_opens_its_store_once(runtime, name):
    assert is_one(touched_by_all(lambda: getattr(runtime, name)))


def test_a_tokenizer_reads_its_files_once(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        '{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "</s>": 1}, "unk_token": "a"}}'
    )
    for _ in range(20):
        tokenizer = FastTokenizer(tmp_path)
        assert is_one(touched_by_all(lambda tokenizer=tokenizer: tokenizer.special_tokens))
        assert is_one(touched_by_all(lambda tokenizer=tokenizer: tokenizer.special_ids))


def test_the_registry_is_read_once(tmp_path):
    source = (PACKAGE / "models" / "registry.json").read_text(encoding="utf-8")
    for number in range(20):
        registry = tmp_path / f"{number}.json"
        registry.write_text(source, encoding="utf-8")
        assert is_one(touched_by_all(lambda registry=registry: known_models(registry)))


def test_public_names_are_the_same_for_all():
    for module in ("ai_os_diffusion", "ai_os_diffusion.inference"):
        loaded = importlib.import_module(module)
        for name in loaded.__all__:
            assert is_one(touched_by_all(lambda name=name, loaded=loaded: getattr(loaded, name)))
