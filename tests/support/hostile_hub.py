"""A hub that answers one of the three requests of a pull as no hub should, and the ways to do so."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from support.loopback_hub import FILES, REVISION, LoopbackHub, _Handler

WEIGHTS = "model.safetensors"
ENDLESS = 64 << 20
"""Bytes after which a body without end ends, lest a client that reads it all hangs."""

Act = Callable[["_HostileHandler"], None]


@dataclass(frozen=True)
class Attack:
    """One hostile answer.

    Attributes:
        name: for the test.
        to: "list", "head" or "get".
        act: answers in place of the hub.
        file: of which file, for "head" and "get".
        harmless: a pull may well succeed.
    """

    name: str
    to: str
    act: Act
    file: str = WEIGHTS
    harmless: bool = False


class HostileHub(LoopbackHub):
    """The loopback hub, with an attack."""

    def __init__(self) -> None:
        super().__init__(dict(FILES))
        self.RequestHandlerClass = _HostileHandler
        self.attack: Attack | None = None


class _HostileHandler(_Handler):
    server: HostileHub

    def answer(self):
        attack = self.server.attack
        path = unquote(urlsplit(self.path).path)
        kind = "list" if path.startswith("/api/") else {"HEAD": "head", "GET": "get"}[self.command]
        if attack is None or kind != attack.to or (kind != "list" and not path.endswith(f"/{attack.file}")):
            return super().answer()
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        self.close_connection = True
        with contextlib.suppress(OSError):
            attack.act(self)
        return None

    def send(self, *parts: bytes | str) -> None:
        for part in parts:
            self.wfile.write(part if isinstance(part, bytes) else part.encode("latin-1"))
        self.wfile.flush()

    def head(self, status: object = "200 OK", **headers: object) -> None:
        lines = [
            f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items() if value is not None
        ]
        self.send(f"HTTP/1.1 {status}\r\n", *lines, "\r\n")

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def wait(self) -> None:
        """Say nothing more, until the other side is gone."""
        self.connection.settimeout(20)
        with contextlib.suppress(OSError):
            self.rfile.read(1)

    def drip(self, content: bytes) -> None:
        for byte in content:
            self.send(bytes([byte]))
            time.sleep(0.05)

    def pour(self, piece: bytes) -> None:
        for _ in range(ENDLESS // len(piece)):
            self.send(piece)


def honest_head(name: str) -> dict[str, object]:
    from hashlib import sha256

    content = FILES[name]
    return {
        "ETag": f'"{sha256(content).hexdigest()}"',
        "X_Repo_Commit": REVISION,
        "Content_Length": len(content),
    }


def described(**changed: object) -> Act:
    """The description of the weights, with some headers changed."""
    return lambda hub: hub.head(**{**honest_head(WEIGHTS), **changed})


def body(content: bytes, **headers: object) -> Act:
    return lambda hub: (hub.head(**headers), hub.send(content))[0]


def listing(document: object) -> Act:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return body(content, Content_Length=len(content), Content_Type="application/json")


def files(*names: object) -> dict[str, object]:
    return {"sha": REVISION, "siblings": [{"rfilename": name} for name in (*FILES, *names)]}


HEX = "0123456789abcdef" * 4
PATHS = [
    *("../x", "../../../../x", "/tmp/aios-hostile", "..", ".", "a/b", "a\\..\\..\\b", "C:\\x", "C:x"),
    *("~/x", "x/../../y", "%2e%2e%2fx", "..%2f..%2fx", "....//x", "file:///x", "\\\\host\\share"),
    *("x.pth", ".pth", "con", "x\x7f", "x\x1b[2J"),
]
ETAGS = [
    *PATHS,
    *("", '"', '""', "W/", 'W/"../x"', "main", HEX[:39], HEX[:41], HEX[:63], HEX + "0", HEX.upper()),
    *(HEX[:40].upper(), f"{HEX}/../x", f"../{HEX}", f"{HEX} x", f"{HEX}\t", f"{HEX}-gzip"),
    *(f"{HEX},{HEX}", f'{HEX}"; "', "g" * 64, "a" * 60_000, "0" * 32, "sha256:" + HEX, "\xb2" * 40),
]
COMMITS = [
    *PATHS,
    "main",
    "HEAD",
    HEX[:39],
    HEX[:41],
    HEX[:40].upper(),
    f"{HEX[:40]}/..",
    "g" * 40,
    "a" * 60_000,
]
ODD_COMMITS = [
    None,
    5,
    1.5,
    True,
    [],
    {},
    [REVISION],
    f"{REVISION}\n",
    f"{REVISION}\0",
    "\ud800" * 40,
    "٠" * 40,
]
NAMES = [
    *("../../../../evil.json", "..\\..\\evil.json", "/tmp/aios-hostile/evil.json", "C:\\evil.json"),
    *("C:evil.json", ".json", "....json", ".evil.json", "a/../evil.json", "./evil.json", "a//evil.json"),
    *("evil.json/", "//host/evil.json", "NUL.json", "con.json", "COM1.json", "lpt¹.json", "evil\0.json"),
    *("evil\n.json", "evil\r\n.json", "\x1b[2J.json", "\u202e.json", "evil\ud800.json", "e\u0301.json"),
    *("\ufeff.json", "a" * 252 + ".json", "a" * 100_000 + ".json", "*.json", "?.json", '"evil.json'),
    *("<evil>.json", "evil|x.json", " evil.json", "evil.json ", "evil.json.", "evil:stream.json"),
    *("~/evil.json", "model.safetensors/../../evil.json", "1_Pooling/../../evil.json"),
    *("../1_Pooling/config.json", "%2e%2e/evil.json", None, 5, True, [], {}, ["evil.json"]),
    {"name": "evil.json"},
]
SIZES = [
    *("", "-1", "-0", "+5", "5.0", "1e9", "0x10", "5,5", "5 5", "NaN", "inf", "\xb2", "9" * 19, "9" * 30),
    *("9" * 5000, "0", "1", "100", str(1 << 41), str((1 << 40) + 1), str(1 << 40)),
]
LOCATIONS = [
    *("file:///etc/passwd", "FILE:/etc/passwd", "ftp://127.0.0.1/x", "data:,x", "javascript:x"),
    *("gopher://127.0.0.1/x", "//", "///", "http://", "http:///x", "http:x", "http://[::1"),
    *("http://[x]/", "http://127.0.0.1:99999/", "http://a:b@/", "http://127.0.0.1:x/"),
    *("http://" + "a" * 300 + ".invalid/", "https://127.0.0.1:1/", "http://127.0.0.1:1/", "unix:/x"),
    *("\x01", "\x7f", "http://127.0.0.1:1/\x1b[2J", "?", "#", "../../../../../../x"),
    *("http://user:pass@127.0.0.1:1/", "\xff"),
]
STATUSES = [
    201,
    204,
    206,
    300,
    301,
    304,
    400,
    401,
    403,
    404,
    405,
    408,
    410,
    416,
    418,
    429,
    451,
    500,
    502,
    503,
    504,
    599,
    999,
]
DOCUMENTS = [
    *(b"", b"<!doctype html><html>Log in</html>", b"null", b"[]", b"5", b'"x"', b"{", b"[" * 100_000),
    *(b'{"a":' * 100_000, b"\xff\xfe", b"\0" * 1000, b"NaN", b"9" * 10_000, b'{"sha": 1}'),
    *(b'{"siblings": []}', b'{"sha": "x", "siblings": 5}', b'{"sha": "x", "siblings": {"rfilename": 1}}'),
    *(b'{"sha": "x", "siblings": [5]}', b'{"sha": "x", "siblings": [null]}'),
    *(b'{"sha": "x", "siblings": [{}]}', b"[" + b"[]," * 1_390_000 + b"[]]", b'"' + b"a" * (4 << 20)),
    b"{}" * 10,
]
OK = "HTTP/1.1 200 OK\r\n"
CHUNKS = "Transfer-Encoding: chunked\r\n\r\n"


def chunk_size(size: str) -> Act:
    def act(hub: _HostileHandler) -> None:
        hub.send(f"{OK}{CHUNKS}{size}\r\n")
        hub.pour(bytes(1 << 16))

    return act


def endless(before: str, piece: bytes) -> Act:
    return lambda hub: (hub.send(before), hub.pour(piece))[0]


def cut(at: int, reset: bool) -> Act:
    """The true length, and only its beginning."""

    def act(hub: _HostileHandler) -> None:
        content = FILES[hub.path.rpartition("/")[2]]
        hub.head(Content_Length=len(content))
        hub.send(content[:at])
        if reset:
            hub.reset()

    return act


def stalled(at: int) -> Act:
    return lambda hub: (cut(at, False)(hub), hub.wait())[0]


def redirected(location: str) -> Act:
    return lambda hub: hub.head("302 Found", Location=location, Content_Length=0)


def looping(hub: _HostileHandler) -> None:
    hub.head("307 Temporary Redirect", Location=hub.path + "?", Content_Length=0)


def dripping(hub: _HostileHandler) -> None:
    hub.drip(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000)


ANSWERS: dict[str, Act] = {
    "nothing": lambda hub: None,
    "a reset": lambda hub: hub.reset(),
    "silence": lambda hub: hub.wait(),
    "a silence in the headers": lambda hub: (hub.send("HTTP/1.1 200 OK\r\nX"), hub.wait())[0],
    "dripping headers": dripping,
    "endless interim answers": endless("", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "endless headers": endless("HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000),
    "an endless header": endless("HTTP/1.1 200 OK\r\nX-A: ", b"b" * (1 << 16)),
    "an endless status line": endless("HTTP/1.1 200 ", b"O" * (1 << 16)),
    "no HTTP": endless("", b"SSH-2.0-x\r\n"),
    "zeros": endless("", bytes(1 << 16)),
    "another version": lambda hub: hub.send("HTTP/9.9 200 OK\r\n\r\n"),
    "no status": lambda hub: hub.send("HTTP/1.1 \r\n\r\n"),
    "a status of letters": lambda hub: hub.send("HTTP/1.1 abc OK\r\n\r\n"),
    "a negative status": lambda hub: hub.send("HTTP/1.1 -200 OK\r\n\r\n"),
    "redirections in a circle": looping,
    "a redirection to nowhere": lambda hub: hub.head("302 Found", Content_Length=0),
    "compression": body(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip"),
    "a chunk of a negative length": chunk_size("-1"),
    "a chunk of another negative length": chunk_size("-8000"),
    "a chunk of an immense length": chunk_size("f" * 1000),
    "a chunk of no length": chunk_size("xyz"),
    "a chunk without end": chunk_size("7fffffffffffffff"),
    "an endless chunk extension": endless(f"{OK}{CHUNKS}1;", b"x" * (1 << 16)),
    "an endless trailer": endless(f"{OK}{CHUNKS}0\r\n", b"X-A: b\r\n" * 1000),
    "an endless trailer after a body": endless(f"{OK}{CHUNKS}1\r\nx\r\n0\r\n", b"X-A: b\r\n" * 1000),
    "chunks without end": endless(f"{OK}{CHUNKS}", b"10000\r\n" + bytes(1 << 16) + b"\r\n"),
    "tiny chunks without end": endless(f"{OK}{CHUNKS}", b"1\r\nx\r\n" * 10_000),
    "a body without end": endless("HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 16)),
    "a negative length": endless(f"{OK}Content-Length: -1\r\n\r\n", bytes(1 << 16)),
    "a length of letters": endless(f"{OK}Content-Length: x\r\n\r\n", bytes(1 << 16)),
    "an immense length": endless(f"{OK}Content-Length: {1 << 62}\r\n\r\n", bytes(1 << 16)),
    "a length too long to read": endless(f"{OK}Content-Length: {'9' * 5000}\r\n\r\n", bytes(1 << 16)),
    "two lengths": endless(f"{OK}Content-Length: 5\r\nContent-Length: 6\r\n\r\n", bytes(1 << 16)),
    "HTML": body(b"<html>" * 100, Content_Length=600, Content_Type="text/html"),
}
# A description has no body: what belongs to one is nothing to it, and it lacks what it should have.
BODIES: dict[str, Act] = {
    "too short": cut(100, False),
    "empty": cut(0, False),
    "reset at its start": cut(0, True),
    "reset halfway": cut(1000, True),
    "stalled at its start": stalled(0),
    "stalled halfway": stalled(1000),
    "dripping": lambda hub: (hub.head(Content_Length=len(FILES[WEIGHTS])), hub.drip(FILES[WEIGHTS]))[0],
    "a byte too long": lambda hub: (hub.head(), hub.send(FILES[WEIGHTS] + b"x"))[0],
    "another content": lambda hub: body(bytes(len(FILES[WEIGHTS])), Content_Length=len(FILES[WEIGHTS]))(hub),
    "a part that was not asked for": body(b"x", Content_Length=1, Content_Range="bytes 5-5/6"),
    "a part of another file": lambda hub: (
        hub.head("206 Partial Content", Content_Range="bytes 0-9/10", Content_Length=10),
        hub.send(bytes(10)),
    )[0],
    "a part of letters": lambda hub: hub.head("206 Part", Content_Range="bytes a-b/c", Content_Length=0),
    "a part without a range": lambda hub: hub.head("206 Partial Content", Content_Length=0),
}


def attacks() -> Iterator[Attack]:
    """All of them."""
    for etag in ETAGS:
        yield Attack(f"ETag {etag[:80]!r}", "head", described(ETag=f'"{etag}"'))
    yield Attack("no ETag", "head", described(ETag=None))
    for etag in ("../x", "/tmp/aios-hostile", HEX[:50]):
        yield Attack(f"X-Linked-Etag {etag!r}", "head", described(X_Linked_Etag=etag, ETag=None))
    for commit in COMMITS:
        yield Attack(f"X-Repo-Commit {commit[:80]!r}", "head", described(X_Repo_Commit=commit))
        yield Attack(f"sha {commit[:80]!r}", "list", listing({**files(), "sha": commit}))
    for odd in ODD_COMMITS:
        yield Attack(f"sha {odd!r}", "list", listing({**files(), "sha": odd}))
    for name in NAMES:
        yield Attack(
            f"file {str(name)[:80]!r}, {len(str(name))} characters",
            "list",
            listing(files(name)),
            harmless=True,
        )
    yield Attack("more files than a model has", "list", listing(files(*(f"{n}.json" for n in range(5000)))))
    for size in SIZES:
        yield Attack(f"size {size[:40]!r}", "head", described(Content_Length=size, X_Linked_Size=size))
    for location in LOCATIONS:
        for to in ("list", "head", "get"):
            yield Attack(f"{to}: redirection to {location[:60]!r}", to, redirected(location))
    for status in STATUSES:
        for to in ("list", "head", "get"):
            yield Attack(
                f"{to}: status {status}",
                to,
                lambda hub, status=status: hub.head(f"{status} x", Content_Length=0),
            )
    for document in DOCUMENTS:
        yield Attack(f"list: {document[:30]!r}, {len(document)} bytes", "list", listing(document))
    for name, act in ANSWERS.items():
        for to in ("list", "head", "get"):
            yield Attack(f"{to}: {name}", to, act)
    for name, act in BODIES.items():
        yield Attack(f"get: {name}", "get", act)
    yield Attack("get: reset after each byte", "get", reset_after_a_byte)


def reset_after_a_byte(hub: _HostileHandler) -> None:
    content = FILES[WEIGHTS]
    start = int((hub.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
    if start:
        hub.head(
            "206 Partial Content",
            Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}",
            Content_Length=len(content) - start,
        )
    else:
        hub.head(Content_Length=len(content))
    hub.send(content[start : start + 1])


# What is put in place of a piece of an honest answer.
PIECES = [
    *(b"", b"\0", b"\r\n", b"\r\n\r\n", b"\n", b":", b'"', b"{", b"]", b",", b"\xff", b"../", b"/"),
    *(b"-1", b"0", b"\x1b[", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Location: /x\r\n", b"Content-Encoding: gzip\r\n"),
    *(b"HTTP/1.1 302 Found\r\n", b"9" * 30, b"[" * 2000, b"a" * 70_000),
]


def mutated(seed: int) -> Attack:
    """An honest answer with some pieces changed, as the seed says."""
    dice = random.Random(seed)
    to = dice.choice(["list", "head", "get"])

    def act(hub: _HostileHandler) -> None:
        content = FILES[WEIGHTS]
        if to == "list":
            content = json.dumps(files()).encode()
        headers = {**honest_head(WEIGHTS), "Content_Length": len(content)}
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        answer = "".join([OK, *lines, "\r\n"]).encode() + (b"" if to == "head" else content)
        for _ in range(dice.choice([1, 1, 2, 5])):
            # Most in the first kilobyte: headers and the beginning of the body.
            start = dice.randrange(min(len(answer), dice.choice([200, 1000, len(answer)])) or 1)
            stop = start + dice.choice([0, 1, 1, 8, 100])
            piece = dice.choice([*PIECES, bytes([dice.randrange(256)]), answer[start:stop] * 3])
            answer = answer[:start] + piece + answer[stop:]
        hub.send(answer)

    return Attack(f"mutation {seed} of {to}", to, act, harmless=True)
