"""Processes that learn the same thing together; here the one that learns alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Processes"]


class Processes:
    """One process.

    Attributes:
        number: of this process, from 0.
        size: how many there are.
    """

    number, size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.number == 0

    def agreed(self, value: bool) -> bool:
        """What the first says, in all of them."""
        return value

    def wait(self) -> None:
        """Until all are here."""

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """Let the first go through a block before the others do: they find what it wrote."""
        if not self.is_first:
            self.wait()
        try:
            yield
        finally:
            if self.is_first:
                self.wait()
