"""LimitedProcess: a parser in a process of its own, which can be limited and killed."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import math
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from ai_os_diffusion.utils.errors import IngestError

__all__ = ["LimitedProcess", "ProcessEnded"]

# The parent's module path, so that the parser is found wherever the package was; `-I` keeps modules of the
# current folder out until then.
_START = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv[1])
runpy.run_path(sys.argv[2], run_name="__main__")
"""
# No line takes this long unless the process sleeps or is locked: what it computes it limits by itself.
_HANG_SECONDS = 60.0
# Counted in waits, so that a machine that stood still, and this process with it, has waited once.
_WAITS = 20
_Answers: TypeAlias = "queue.SimpleQueue[dict[str, Any] | None]"


class ProcessEnded(Exception):  # noqa: N818 - the process may rightly end
    """The process ended before it answered, or was killed for its silence.

    Attributes:
        cpu_seconds: processor time it used in its life; infinite where it was killed or that is unknown.
    """

    def __init__(self, cpu_seconds: float) -> None:
        """Say what it used."""
        super().__init__(f"ended after {cpu_seconds} s of processor time")
        self.cpu_seconds = cpu_seconds


class LimitedProcess:
    """Runs a script that answers requests, started when first asked and used until it must be killed.

    It is a program of its own and not a fork or a spawned copy of this one: so it holds none of its
    memory, threads or locks, and a program without a `__main__` guard may use it. It stands in a session
    of its own: Ctrl-C reaches this process alone, which then kills it. A forked child of this
    process starts another. One request is answered at a time.
    """

    _all: list[LimitedProcess] = []  # noqa: RUF012

    def __init__(self, script: Path, *, hang_seconds: float = _HANG_SECONDS) -> None:
        """Name the script; nothing is started yet.

        Args:
            script: writes a line of JSON when it is ready; then reads requests (a line of JSON, then bytes)
                from its input and answers with lines of JSON. It limits its own memory and processor time.
            hang_seconds: longest wait for a line, by the clock.
        """
        self._script = script
        self._hang_seconds = hang_seconds
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

    def answer(self) -> dict[str, Any]:
        """The next line of the answer.

        Raises:
            ProcessEnded: there is none; the process is no more.
        """
        for _ in range(_WAITS):
            with contextlib.suppress(queue.Empty):
                found = self._answers.get(timeout=self._hang_seconds / _WAITS)
                if found is None:
                    raise ProcessEnded(self.kill())
                return found
        self.kill()
        raise ProcessEnded(math.inf)

    def kill(self) -> float:
        """End the process, whatever it does; returns the seconds of processor time that it used."""
        process, self._process = self._process, None
        if process is None:
            return 0.0
        process.kill()
        cpu_seconds = _waited(process)
        assert process.stdin is not None
        process.stdin.close()
        return cpu_seconds

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
        try:
            self.answer()
        except ProcessEnded as ended:
            started = " ".join(command[:3])
            raise IngestError(f"the process that reads this format does not start: {started}") from ended

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


def _waited(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process that ends; the seconds of processor time that it used."""
    if process.returncode is None:
        # Nobody knows it where the program has its children forgotten.
        with contextlib.suppress(ChildProcessError):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
    process.wait()
    return math.inf


def _listen(pipe: IO[bytes], answers: _Answers) -> None:
    """Pass on what a process says, until it ends; its pipe can be waited for with a clock nowhere else."""
    with contextlib.suppress(ValueError, OSError), io.BufferedReader(pipe) as lines:  # type: ignore[type-var]
        for line in lines:
            answers.put(json.loads(line))
    answers.put(None)


atexit.register(LimitedProcess._kill_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LimitedProcess._forget_all)
