"""HTTP requests that end: in bytes, in time, and in hosts.

Whoever answers may send without end, a byte a minute, or somebody else's address. An answer comes in
pieces of a bounded size, no further than the caller asks; waiting for it, its headers included, has a
deadline; and a redirection leads to http or https, never from the second to the first, without the token on
another host.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

__all__ = ["Answer", "Limits", "TransferError", "request"]

_PIECE_BYTES = 1 << 18
_ROOM_BYTES = 1 << 20
"""For all headers, and for what chunks need beside their content."""

_REDIRECTIONS = {301, 302, 303, 307, 308}
_URL_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True)
class Limits:
    """How long to wait for what.

    Attributes:
        stall_s: for a connection, and between two pieces of an answer.
        answer_s: from the first connection to the end of the headers, redirections included; a short answer
            is all there by then.
        window_s: a long answer brings in each such time at least
        window_bytes: so much.
        redirections: followed at most.
    """

    stall_s: float = 10.0
    answer_s: float = 20.0
    window_s: float = 15.0
    window_bytes: int = 16 << 10
    redirections: int = 5


class TransferError(Exception):
    """A request brought no answer that can be used.

    Attributes:
        final: a limit was reached, so that asking again would bring no more.
    """

    def __init__(self, problem: str, *, final: bool = False) -> None:
        super().__init__(problem)
        self.final = final


class Answer:
    """What a server said: `status`, `headers`, the final `url`, and a body that is read as far as asked."""

    def __init__(self, response: http.client.HTTPResponse, url: str, clock: _Clock) -> None:
        self.status = response.status
        self.headers = response.headers
        self.url = url
        self._response, self._clock = response, clock

    def pieces(self, size_bytes: int) -> Iterator[bytes]:
        """The body as it comes, in pieces of at most a quarter of a megabyte.

        Args:
            size_bytes: what it should be; the connection brings no more than that takes.

        Raises:
            TransferError: it comes too slowly, or is not what HTTP prescribes. A connection that breaks ends
                the body; only its length tells.
        """
        self._clock.begin_body(size_bytes)
        while piece := self._piece():
            yield piece

    def read(self, max_bytes: int) -> bytes:
        """The body of a short answer.

        Raises:
            TransferError: it is longer, comes too slowly, or the connection breaks.
        """
        self._clock.begin_answer(max_bytes)
        content = bytearray()
        while piece := self._piece():
            content += piece
            if len(content) > max_bytes:
                raise TransferError(f"{self.url}: answered more than {max_bytes} bytes")
        if self._response.length:
            raise TransferError(f"{self.url}: the connection broke in the middle of the answer")
        return bytes(content)

    def _piece(self) -> bytes:
        with _told(self.url):
            # One read of the connection, whatever length a chunk claims: `read` would trust a length of -1.
            return self._response.read1(_PIECE_BYTES)


@contextmanager
def request(
    url: str,
    *,
    method: str = "GET",
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    token: str | None = None,
    limits: Limits | None = None,
    is_final: Callable[[http.client.HTTPMessage], bool] = lambda _headers: False,
) -> Iterator[Answer]:
    """Ask, follow redirections, and give the answer, whatever its status.

    The proxies of the environment are used, `SSL_CERT_FILE` and `SSL_CERT_DIR` hold.

    Args:
        url: http or https.
        method: GET, HEAD or POST.
        content: to send; what is sent is not sent on to where a redirection leads.
        headers: to send.
        token: sent as a bearer token, to the host of `url` alone.
        limits: of time.
        is_final: tells from its headers whether a redirection is itself the answer.

    Raises:
        TransferError: nobody answers in time, what answers is not HTTP, or it leads where it may not.
    """
    limits = limits or Limits()
    clock = _Clock(limits)
    origin = url
    for _ in range(limits.redirections + 1):
        sent = {"Accept-Encoding": "identity", "User-Agent": "ai-os-diffusion", **(headers or {})}
        with _told(url):
            if token and _host(url) == _host(origin):
                sent["Authorization"] = f"Bearer {token}"
            asked = urllib.request.Request(url, content, sent, method=method)  # noqa: S310  # see `_opener`
            response = _opener(clock).open(asked, timeout=limits.stall_s)
        with response:
            location = response.headers.get("Location")
            if response.status not in _REDIRECTIONS or not location or is_final(response.headers):
                encoding = response.headers.get("Content-Encoding", "identity")
                if encoding != "identity":
                    raise TransferError(f"{url}: answered in the encoding {encoding!r}, expected none")
                yield Answer(response, url, clock)
                return
        if content is not None:
            raise TransferError(f"{url}: redirected to {location[:200]!r}, expected an answer", final=True)
        url = _redirected(url, location)
    raise TransferError(f"{origin}: redirected more than {limits.redirections} times")


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, quote(location, _URL_CHARACTERS))
        scheme, hostname = urlsplit(target).scheme, urlsplit(target).hostname
    except ValueError:
        scheme, hostname, target = "", None, location
    if scheme not in ("http", "https") or not hostname:
        raise TransferError(f"{url}: redirected to {location[:200]!r}, expected an http or https address")
    if urlsplit(url).scheme == "https" and scheme == "http":
        raise TransferError(f"{url}: redirected to {location[:200]!r}, from https to http")
    return target


def _host(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """One class for all that the layers below raise for what comes over a connection."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        final = isinstance(reason, (TimeoutError, _TooMuchError))
        # Some name the line that was not understood, however long.
        said = "".join(letter if letter.isprintable() else " " for letter in str(reason)[:200]).strip()
        raise TransferError(f"{url}: {said or type(error).__name__}", final=final) from error


class _TooMuchError(OSError):
    """More bytes came than a limit allows."""


class _Clock:
    """Says how long the next wait may be, and whether there may be one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._deadline: float | None = time.monotonic() + limits.answer_s
        self._window_begun, self._window_bytes = 0.0, 0
        self._bytes_left = _ROOM_BYTES

    def begin_answer(self, max_bytes: int) -> None:
        """From here on so much may come, until the same deadline."""
        self._bytes_left = 2 * max_bytes + _ROOM_BYTES

    def begin_body(self, size_bytes: int) -> None:
        """From here on what counts is how much comes: enough in each while, and not too much in all."""
        self._deadline, self._window_begun, self._window_bytes = None, time.monotonic(), 0
        # Chunks come with their sizes, extensions and trailers.
        self._bytes_left = 2 * size_bytes + _ROOM_BYTES

    def wait_s(self) -> float:
        """Seconds to wait for the next bytes.

        Raises:
            TimeoutError: none.
        """
        now, limits = time.monotonic(), self._limits
        if self._bytes_left <= 0:
            raise _TooMuchError("far more came than an answer takes")
        if self._deadline is not None:
            left = self._deadline - now
            if left <= 0:
                raise TimeoutError(f"no whole answer within {limits.answer_s:g} s")
            return min(left, limits.stall_s)
        left = self._window_begun + limits.window_s - now
        if left <= 0:
            if self._window_bytes < limits.window_bytes:
                raise TimeoutError(f"{self._window_bytes} bytes in {limits.window_s:g} s, given up")
            self._window_begun, self._window_bytes, left = now, 0, limits.window_s
        return min(left, limits.stall_s)

    def count(self, size: int) -> None:
        self._window_bytes += size
        self._bytes_left -= size


class _TimedStream(io.RawIOBase):
    """Reads from a socket, each time with the wait that the clock allows."""

    def __init__(self, connection: socket.socket, clock: _Clock) -> None:
        self._connection, self._clock = connection, clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wait_s = self._clock.wait_s()
        self._connection.settimeout(wait_s)
        try:
            count = self._connection.recv_into(buffer)
        except TimeoutError:
            self._clock.wait_s()  # says so, if a limit longer than one wait is reached
            raise TimeoutError(f"nothing came for {wait_s:.3g} s") from None
        self._clock.count(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._connection.close()
        super().close()


class _TimedSocket:
    """What `http.client` needs of a socket."""

    def __init__(self, connection: socket.socket, clock: _Clock) -> None:
        self._connection, self._clock, self._is_read = connection, clock, False

    def sendall(self, data: Any) -> None:
        self._connection.settimeout(self._clock.wait_s())
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._is_read = True
        return io.BufferedReader(_TimedStream(self._connection, self._clock), 1 << 16)

    def close(self) -> None:
        # The stream closes the connection once the answer is read.
        if not self._is_read:
            self._connection.close()


class _Http(http.client.HTTPConnection):
    def __init__(self, host: str, *, clock: _Clock, **options: Any) -> None:
        super().__init__(host, **options)
        self._clock = clock

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _TimedSocket(self.sock, self._clock)


class _Https(http.client.HTTPSConnection):
    def __init__(self, host: str, *, clock: _Clock, **options: Any) -> None:
        super().__init__(host, context=_tls(), **options)
        self._clock = clock

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _TimedSocket(self.sock, self._clock)


class _Handler(urllib.request.AbstractHTTPHandler):
    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def http_open(self, asked: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Http, clock=self._clock), asked)

    def https_open(self, asked: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Https, clock=self._clock), asked)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


def _opener(clock: _Clock) -> urllib.request.OpenerDirector:
    """Opens http and https and nothing else: no file, no ftp, no redirection of its own."""
    proxies = urllib.request.getproxies()
    if "all" in proxies:
        proxies = {"http": proxies["all"], "https": proxies["all"], **proxies}
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(proxies), urllib.request.UnknownHandler(), _Handler(clock)):
        opener.add_handler(handler)
    return opener


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not any(path and Path(path).exists() for path in (paths.cafile, paths.capath)):
        # A Python that brings no certificates of its own, as python.org's for macOS.
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context
