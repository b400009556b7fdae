"""A service of embeddings on this machine, which answers as OpenAI does."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


class Service(ThreadingHTTPServer):
    """Answers like OpenAI; `faults` holds what to answer instead, first come first served."""

    def __init__(self, vector_of: Callable[[str], np.ndarray]) -> None:
        self.vector_of = vector_of
        self.faults: list[tuple[int, dict[str, str], bytes]] = []
        self.requests: list[tuple[str, dict, dict]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        if self.server.faults:
            code, headers, content = self.server.faults.pop(0)
        else:
            code, headers, content = 200, {}, self.answer(body)
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer(self, body):
        rows = []
        for index, text in enumerate(body["input"]):
            vector = self.server.vector_of(text)
            packed = base64.b64encode(vector.tobytes()).decode()
            rows.append(
                {
                    "index": index,
                    "embedding": packed if body["encoding_format"] == "base64" else vector.tolist(),
                }
            )
        return json.dumps({"data": rows[::-1], "model": body["model"]}).encode()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(vector_of: Callable[[str], np.ndarray]) -> Iterator[Service]:
    """Serve vectors of float32[dim] until the block ends."""
    with Service(vector_of) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
