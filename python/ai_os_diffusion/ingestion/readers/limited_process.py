"""LimitedProcess: a parser in a process of its own, which can be limited and killed."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from ai_os_diffusion.utils.errors import IngestError

__all__ = ["LimitedProcess"]

# The parent's module path, so that the parser is found wherever the package was; `-I` keeps modules of the
# current folder out until then.
_START = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv[1])
runpy.run_path(sys.argv[2], run_name="__main__")
"""
_START_SECONDS = 30.0
_Answers: TypeAlias = "queue.SimpleQueue[dict[str, Any] | None]"


class LimitedProcess:
    """Runs a script that answers requests, started when first asked and used until it must be killed.

    It is a program of its own and not a fork or a spawned copy of this one: so it holds none of its
    memory, threads or locks, and a program without a `__main__` guard may use it. It stands in a session
    of its own: Ctrl-C reaches this process alone, which then kills it. A forked child of this
    process starts another. One request is answered at a time.
    """

    _all: list[LimitedProcess] = []  # noqa: RUF012

    def __init__(self, script: Path) -> None:
        """Name the script; nothing is started yet.

        Args:
            script: writes a line of JSON when it is ready; then reads requests (a line of JSON, then bytes)
                from its input and answers with lines of JSON.
        """
        self._script = script
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: _Answers = queue.SimpleQueue()
        LimitedProcess._all.append(self)

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Have the process alone; whatever breaks off the work kills it."""
        with self._lock:
            try:
                yield
            except BaseException:
                self.kill()
                raise

    def ask(self, request: dict[str, Any], data: bytes) -> None:
        """Send a request.

        Raises:
            IngestError: the process cannot be started.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        # A process that died is noticed when its answer is waited for.
        with contextlib.suppress(BrokenPipeError):
            for part in (json.dumps(request).encode() + b"\n", data):
                self._write(self._process.stdin, part)

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next line of the answer; None, and the process is killed, if it died or took too long.

        Args:
            seconds: longest wait.
        """
        try:
            found = self._answers.get(timeout=seconds)
        except queue.Empty:
            found = None
        if found is None:
            self.kill()
        return found

    def kill(self) -> None:
        """End the process, whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()

    def _start(self) -> None:
        self.kill()
        command = [sys.executable, "-I", "-c", _START, json.dumps(sys.path), str(self._script)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise IngestError(
                f"the process that reads this format cannot be started ({sys.executable}): {error}"
            ) from error
        assert self._process.stdout is not None
        # A queue for each process: what a killed one still said is not taken for an answer.
        self._answers = queue.SimpleQueue()
        listener = threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True)
        listener.start()
        if self.answer(_START_SECONDS) is None:
            raise IngestError(f"the process that reads this format does not start: {' '.join(command[:3])}")

    @staticmethod
    def _write(pipe: IO[bytes], data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[pipe.write(view) :]

    @classmethod
    def _kill_all(cls) -> None:
        for process in cls._all:
            process.kill()

    @classmethod
    def _forget_all(cls) -> None:
        """In a forked child: the processes are those of the parent; threads of it may hold the locks."""
        for limited in cls._all:
            process, limited._process, limited._lock = limited._process, None, threading.Lock()
            if process is not None and process.stdin is not None:
                process.stdin.close()
                process.returncode = 0


def _listen(pipe: IO[bytes], answers: _Answers) -> None:
    """Pass on what a process says, until it ends; its pipe can be waited for with a clock nowhere else."""
    with contextlib.suppress(ValueError, OSError), io.BufferedReader(pipe) as lines:  # type: ignore[type-var]
        for line in lines:
            answers.put(json.loads(line))
    answers.put(None)


atexit.register(LimitedProcess._kill_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LimitedProcess._forget_all)
