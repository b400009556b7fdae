"""A lazily made attribute is made once, however many threads ask first."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ai_os_diffusion.utils.lazy_property import lazy_property

THREADS = 8


class Shared:
    def __init__(self, failures: int = 0) -> None:
        self.made: list[object] = []
        self.failures = failures

    @lazy_property
    def value(self) -> object:
        """What is made."""
        # Everybody else gets here now, if nothing holds them back.
        threading.Event().wait(0.02)
        if self.failures:
            self.failures -= 1
            raise OSError("not now")
        self.made.append(object())
        return self.made[-1]

    @lazy_property
    def pair(self) -> tuple[object, object]:
        return self.value, self.value


def ask(shared: Shared, name: str) -> list[object]:
    start = threading.Barrier(THREADS)

    def first_touch(_: int) -> object:
        start.wait()
        try:
            return getattr(shared, name)
        except OSError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(first_touch, range(THREADS)))


@pytest.mark.parametrize("name", ["value", "pair"])
def test_threads_that_come_first_get_one_value(name):
    shared = Shared()
    assert len({id(found) for found in ask(shared, name)}) == 1
    assert len(shared.made) == 1


def test_an_error_reaches_one_thread_and_the_next_tries_again():
    shared = Shared(failures=2)
    found = ask(shared, "value")
    assert sum(isinstance(value, OSError) for value in found) == 2
    assert len(shared.made) == 1


def test_it_reads_like_a_property_and_leaves_a_plain_object():
    shared = Shared()
    assert Shared.value.__doc__ == "What is made."
    assert copy.deepcopy(shared).value is not shared.value
    assert vars(shared).keys() == {"made", "failures", "value"}
    assert vars(copy.copy(shared))["value"] is shared.value
