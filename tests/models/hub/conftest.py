"""The loopback hub, the package index and the tiny model that both hold."""

from __future__ import annotations

import socket
import threading

import pytest

from ai_os_diffusion.models import registry
from ai_os_diffusion.models.registry import known_models
from support.loopback_hub import FILES, LoopbackHub, tiny_model, wheel


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


@pytest.fixture
def tiny(monkeypatch):
    """The registry holds one more model."""
    known = {**known_models(), "tiny": tiny_model()}
    monkeypatch.setattr(registry, "_load", lambda _registry: known)


@pytest.fixture
def source(tmp_path):
    """A local folder as a hub would hold it."""
    folder = tmp_path / "original"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder
