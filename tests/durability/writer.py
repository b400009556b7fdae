"""A process that writes until it is killed: it prints what is acknowledged.

Arguments: folder, seed. A line of output is `+ id` or `- id` after the
call for it returned, `? id` before a deletion, and `~ id other` before
one memory takes the place of another.
"""

from __future__ import annotations

import random
import sys

import numpy as np

from ai_os_diffusion.storage import ArrowStorage


def content_of(name: str) -> str:
    """The text of a memory, which its id decides, so that half a memory would show."""
    return f"{name} " * (1 + sum(map(ord, name)) % 400)


def embedding_of(name: str) -> np.ndarray:
    """The vector of a memory, which its id decides."""
    return np.random.default_rng(list(name.encode())).standard_normal(8).astype(np.float32)


def record(name: str) -> dict:
    """A memory, which its id decides."""
    return {
        "memory_id": name,
        "content": content_of(name),
        "embedding": embedding_of(name),
        "metadata": {"name": name},
    }


def main(folder: str, seed: int) -> None:
    """Write for ever."""
    dice = random.Random(seed)
    store = ArrowStorage(folder, lock_timeout_s=10)
    print("open", flush=True)
    number = 0
    while True:
        number = write(store, dice, seed, number)


def compete(folder: str, seed: int) -> None:
    """Write for ever, leaving the store to others after every few calls."""
    dice = random.Random(seed)
    print("open", flush=True)
    number = 0
    while True:
        with ArrowStorage(folder, lock_timeout_s=60) as store:
            for _ in range(dice.randrange(4)):
                number = write(store, dice, seed, number)


def write(store: ArrowStorage, dice: random.Random, seed: int, number: int) -> int:
    """Save memories numbered from `number` and perhaps more; returns the next number."""
    names = [f"{seed}-{number + i}" for i in range(dice.choice([1, 1, 1, 5, 40]))]
    number += len(names)
    if len(names) == 1:
        item = record(names[0])
        store.save(item["memory_id"], item["content"], item["embedding"], item["metadata"])
    else:
        store.save_many([record(name) for name in names])
    print("\n".join(f"+ {name}" for name in names), flush=True)
    action = dice.random()
    if action < 0.2:
        print(f"? {names[0]}", flush=True)
        store.delete(names[0])
        print(f"- {names[0]}", flush=True)
    elif action < 0.4:
        print(f"? {names[0]}\n~ {names[0]} {names[0]}-b", flush=True)
        store.save_many([record(f"{names[0]}-b")], in_place_of=[names[0]])
        print(f"- {names[0]}\n+ {names[0]}-b", flush=True)
    elif action < 0.5:
        store.flush()
    elif action < 0.53:
        store.compact()
    return number


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
