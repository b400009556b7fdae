"""The token goes to the hub alone, and a redirection leads where it may."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading

import pytest

from ai_os_diffusion.models.local_models import pull
from ai_os_diffusion.utils import bounded_http
from ai_os_diffusion.utils.bounded_http import TransferError, request
from ai_os_diffusion.utils.errors import ModelLoadError
from support.loopback_hub import FILES, LoopbackHub, _Handler


@pytest.fixture
def storage():
    """Another host, which holds the large files."""

    class Recording(_Handler):
        def answer(self):
            self.server.tokens.append(self.headers.get("Authorization"))
            self.path = "/org/tiny/resolve/main/model.safetensors"
            super().answer()

    server = LoopbackHub(dict(FILES))
    server.tokens, server.RequestHandlerClass = [], Recording
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("described_by", ["the hub", "the storage"])
def test_the_token_does_not_go_to_the_storage_of_large_files(
    described_by, hub, storage, tmp_path, monkeypatch
):
    class Redirecting(_Handler):
        def file(self, name):
            if name != "model.safetensors":
                return super().file(name)
            headers = {
                "Location": f"{storage.url}/signed?x=1",
                "X-Repo-Commit": "0123456789abcdef" * 2 + "01234567",
            }
            if described_by == "the hub":
                import hashlib

                headers["X-Linked-Etag"] = f'"{hashlib.sha256(FILES[name]).hexdigest()}"'
                headers["X-Linked-Size"] = str(len(FILES[name]))
            return self.reply(302, b"", headers)

    hub.RequestHandlerClass = Redirecting
    hub.token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()
    assert storage.tokens
    assert set(storage.tokens) == {None}


@pytest.mark.parametrize("token", ["hf_a\r\nX-Evil: 1", "hf_a\x1b", "hf_\u00e9", " "])
def test_a_token_that_is_none_is_not_sent(hub, tmp_path, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b", "https://hub.example/b"),
        ("//cdn.example/b", "https://cdn.example/b"),
        ("https://cdn.example/b c", "https://cdn.example/b%20c"),
    ],
)
def test_a_redirection_is_followed(location, target):
    assert bounded_http._redirected("https://hub.example/a", location) == target


@pytest.mark.parametrize(
    "location", ["http://hub.example/a", "http://cdn.example/a", "file:///etc/passwd", "ftp://x/"]
)
def test_a_redirection_to_something_weaker_is_not(location):
    with pytest.raises(
        TransferError, match=r"redirected to .*(from https to http|expected an http or https)"
    ):
        bounded_http._redirected("https://hub.example/a", location)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "data:,x", "/etc/passwd", ""])
def test_only_http_is_opened(url):
    with pytest.raises(TransferError), request(url):
        pass


def test_the_proxy_of_the_environment_is_asked(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()


@pytest.fixture
def certificate(tmp_path):
    """A certificate of this machine that nobody but itself vouches for, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    file = tmp_path / "certificate.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split()
    command += ["-addext", names, "-keyout", str(tmp_path / "key.pem"), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.mark.parametrize("trusted", [True, False])
def test_a_hub_is_believed_to_be_itself_by_its_certificate(trusted, hub, certificate, tmp_path, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    hub.socket = context.wrap_socket(hub.socket, server_side=True)
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("http://", "https://"))
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    bounded_http._tls.cache_clear()
    try:
        if trusted:
            assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()
        else:
            with pytest.raises(ModelLoadError, match="certificate verify failed"):
                pull("hf:org/tiny", models_dir=tmp_path / "models")
    finally:
        bounded_http._tls.cache_clear()
