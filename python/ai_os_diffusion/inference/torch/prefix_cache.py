"""The beginnings of earlier texts, for those that begin alike."""

from __future__ import annotations

from dataclasses import dataclass

from ai_os_diffusion.inference.torch.kv_cache import PAGE_TOKENS, KvCache

__all__ = ["Place", "PrefixCache", "beginning"]

Place = tuple[str, int]
"""Where in the tree a text stands: at a beginning of an adapter's number, or behind a node's number."""

_Key = tuple[Place, tuple[int, ...]]


@dataclass
class _Node:
    number: int
    page: int
    used: int
    children: int = 0


class PrefixCache:
    """A tree of pages: a page stands behind the page of the tokens before its own.

    What was used longest ago is dropped first, and nothing before what stands behind it.

    Args:
        cache: whose pages it holds.
        limit_bytes: what it holds at most.
    """

    def __init__(self, cache: KvCache, limit_bytes: int) -> None:
        self._cache, self.limit_bytes = cache, limit_bytes
        self._nodes: dict[_Key, _Node] = {}
        self._keys: dict[int, _Key] = {}
        self._clock = self._reused = self._dropped = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def stats(self) -> dict[str, int]:
        """What is kept, and how it served; see `InferenceCore.prefix_stats`."""
        return {
            "size_bytes": len(self) * self._cache.page_bytes,
            "limit_bytes": self.limit_bytes,
            "pages": len(self),
            "reused_tokens": self._reused,
            "dropped_pages": self._dropped,
        }

    def find(self, place: Place, tokens: list[int]) -> tuple[Place, list[int]]:
        """The pages of `tokens`, whole pages of them, as far as they are kept, and the place behind the last.

        Whoever gets them holds them.
        """
        self._clock += 1
        pages = []
        for begin in range(0, len(tokens) - PAGE_TOKENS + 1, PAGE_TOKENS):
            node = self._nodes.get((place, tuple(tokens[begin : begin + PAGE_TOKENS])))
            if node is None:
                break
            node.used, place = self._clock, ("behind", node.number)
            self._cache.hold(node.page)
            pages.append(node.page)
        self._reused += PAGE_TOKENS * len(pages)
        return place, pages

    def keep(self, place: Place, tokens: list[int], page: int) -> Place | None:
        """Keep a page of 64 tokens behind `place`.

        Returns:
            The place behind it; None if there is no room, or what it would stand behind was dropped.
        """
        key = (place, tuple(tokens))
        self._clock += 1
        node = self._nodes.get(key)
        if node is None:
            size = self._cache.page_bytes
            if size > self.limit_bytes:
                return None
            while (len(self) + 1) * size > self.limit_bytes and self.drop_oldest():
                pass
            parent = self._parent(place)
            if place[0] == "behind" and parent is None:
                return None
            if parent is not None:
                parent.children += 1
            node = self._nodes[key] = _Node(self._clock, page, self._clock)
            self._keys[node.number] = key
            self._cache.hold(page)
        node.used = self._clock
        return "behind", node.number

    def drop_oldest(self) -> bool:
        """Drop the page used longest ago of those that no other stands behind; False if there is none."""
        ends = [node for node in self._nodes.values() if not node.children]
        if not ends:
            return False
        oldest = min(ends, key=lambda node: node.used)
        key = self._keys.pop(oldest.number)
        del self._nodes[key]
        parent = self._parent(key[0])
        if parent is not None:
            parent.children -= 1
        self._cache.release(oldest.page)
        self._dropped += 1
        return True

    def _parent(self, place: Place) -> _Node | None:
        key = self._keys.get(place[1]) if place[0] == "behind" else None
        return None if key is None else self._nodes[key]


def beginning(adapter: int | None) -> Place:
    """Where texts begin that are read with an adapter of that number, or none."""
    return "beginning", -1 if adapter is None else adapter
