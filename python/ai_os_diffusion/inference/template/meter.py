"""What one rendering may cost."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, KeysView, Mapping, ValuesView
from typing import Any

from ai_os_diffusion.inference.template.marked_text import trusted

__all__ = ["ITEM", "Meter", "TemplateLimitError", "weight"]

MAX_STEPS = 1 << 20
"""Parts of the template evaluated: a second or two."""

MAX_CHARACTERS = 1 << 25
"""Characters made, beside those of the conversation: at most 128 MiB."""

ITEM = 32
"""What an item of a list, or a mark on a text, costs: the memory of as many characters."""

TIMES_READ = 64
"""How often a template may copy the whole conversation."""

MAX_NUMBER = 1 << 64


class TemplateLimitError(Exception):
    """A rendering does more than any template of a model needs."""


def weight(text: str) -> int:
    """What a text costs to make."""
    return 1 + len(text) + ITEM * len(trusted(text))


class Meter:
    """Counts the work and the memory of a rendering, each before it is done.

    All values are made by the evaluator, and nothing it makes is larger than what it paid for. So time,
    output and memory are bounded whatever the template calls.

    Args:
        given: characters and items of the conversation.
    """

    def __init__(self, given: int) -> None:
        self._characters = MAX_CHARACTERS + TIMES_READ * given
        self._steps = MAX_STEPS

    def step(self, count: int = 1) -> None:
        """Evaluate parts of the template.

        Args:
            count: what takes longer counts as several.

        Raises:
            TemplateLimitError: there were too many.
        """
        self._steps -= count
        if self._steps < 0:
            raise TemplateLimitError(f"stopped after {MAX_STEPS} steps; does it loop without end?")

    def pay_items(self, count: int) -> None:
        """Make a list of `count` items.

        Raises:
            TemplateLimitError: as `pay` does.
        """
        self.pay(ITEM * count)

    def pay_texts(self, texts: Iterable[str], separator: str = "") -> None:
        """Join texts.

        Raises:
            TemplateLimitError: as `pay` does.
        """
        between = weight(separator)
        self.pay(sum(weight(text) + between for text in texts))

    def pay(self, size: int) -> None:
        """Make a text of `size` characters, or look through one.

        Raises:
            TemplateLimitError: with it there would be too many.
        """
        self._characters -= size
        if self._characters < 0:
            raise TemplateLimitError("stopped: it makes more text than a conversation needs")

    def pay_all(self, value: Any, times: int = 1) -> None:
        """Look through a value and everything in it, once for each place where it stands.

        Args:
            value: of any type.
            times: characters made of each.

        Raises:
            TemplateLimitError: as `pay` does.
        """
        open_ = [value]
        while open_:
            value = open_.pop()
            # Visiting a value takes the time of copying as many characters as an item costs.
            self.pay(ITEM)
            if isinstance(value, str):
                self.pay(times * len(value))
            elif isinstance(value, Mapping):
                self.pay_items(len(value))
                open_ += value.keys()
                open_ += value.values()
            elif isinstance(value, list | tuple | KeysView | ValuesView | ItemsView):
                self.pay_items(len(value))
                open_ += value
            elif isinstance(value, range):
                self.pay_items(len(value))

    @staticmethod
    def checked(number: Any) -> Any:
        """The number, if it is no larger than a template needs.

        Raises:
            TemplateLimitError: it is.
        """
        if isinstance(number, int) and abs(number) > MAX_NUMBER:
            raise TemplateLimitError("the number is too large")
        return number
