"""What a verb that does not exist was meant to be."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

__all__ = ["SYNONYMS", "suggestions"]

# What other tools of the field (search engines, vector stores, databases, model runners, shells) call ours.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("search", "find", "query", "lookup", "retrieve", "grep", "similar", "nearest"), ("recall",)
    ),
    **dict.fromkeys(("ingest", "index", "insert", "remember", "put", "save", "store", "upsert"), ("add",)),
    **dict.fromkeys(("answer", "question", "rag", "prompt"), ("ask",)),
    **dict.fromkeys(("talk", "converse", "repl", "run"), ("chat", "ask")),
    **dict.fromkeys(("write", "complete", "completion"), ("generate", "diffuse")),
    **dict.fromkeys(("download", "fetch", "install"), ("pull",)),
    **dict.fromkeys(("load",), ("memory import", "pull")),
    **dict.fromkeys(("ls", "dir"), ("memory list", "models")),
    **dict.fromkeys(("delete", "del", "remove", "erase", "drop"), ("memory forget", "rm", "skills rm")),
    **dict.fromkeys(
        ("teach", "train", "finetune", "fine-tune", "tune"), ("learn", "train-diffusion", "train-reader")
    ),
    **dict.fromkeys(("skill", "lora", "adapters", "cards"), ("skills",)),
    **dict.fromkeys(("uninstall", "rmi"), ("rm",)),
    **dict.fromkeys(("cat", "get", "view", "print"), ("memory show", "inspect")),
    **dict.fromkeys(("count", "status", "size", "du"), ("memory stats",)),
    **dict.fromkeys(("dump", "backup", "save-as"), ("memory export",)),
    **dict.fromkeys(("restore",), ("memory import",)),
    **dict.fromkeys(("vacuum", "gc", "clean", "optimize", "purge"), ("memory compact",)),
    **dict.fromkeys(("prune",), ("add", "memory forget")),
    **dict.fromkeys(("memories", "mem", "db", "collection"), ("memory",)),
    **dict.fromkeys(("encode", "vectorize", "embedding", "embeddings"), ("embed",)),
    **dict.fromkeys(("compare", "cosine", "distance", "score"), ("similarity",)),
    **dict.fromkeys(("import-model", "export-model", "transform"), ("convert",)),
    **dict.fromkeys(("quantise", "compress"), ("quantize",)),
    **dict.fromkeys(("describe", "info", "verify"), ("inspect", "doctor")),
    **dict.fromkeys(("model", "tags"), ("models",)),
    **dict.fromkeys(("check", "diagnose", "env", "health"), ("doctor",)),
    **dict.fromkeys(("benchmark", "perf", "speed"), ("bench",)),
    "help": ("--help",),
    "version": ("--version",),
}


def suggestions(
    word: str, verbs: Iterable[str], groups: Mapping[str, Iterable[str]], group: str = ""
) -> tuple[str, ...]:
    """Verbs that somebody may have meant, as they stand after `aios`.

    Args:
        word: what was typed.
        verbs: the program's.
        groups: those of verbs that have verbs of their own.
        group: the verb whose subcommand it was to be; its own are preferred.

    Returns:
        What other tools call so, or begins so, or is written nearly so; at most three.
    """
    word = word.lower()
    ours: dict[str, tuple[str, ...]] = {verb: (verb,) for verb in verbs}
    for owner, names in groups.items():
        for name in names:
            ours[name] = (*ours.get(name, ()), f"{owner} {name}")
    known = {**SYNONYMS, **ours}
    begun = [names for name, names in ours.items() if word and name.startswith(word)]
    # As rustc has it: one slip in three letters. Lengths that differ by more are no work.
    allowed = max(len(word), 3) // 3
    slips = {name: edit_distance(word, name) for name in known if abs(len(name) - len(word)) <= allowed}
    nearest = min(slips.values(), default=allowed + 1)
    near = [known[name] for name, slip in slips.items() if slip == nearest <= allowed]
    found = [known[word]] if word in known else begun + near
    flat = tuple(dict.fromkeys(itertools.chain.from_iterable(found)))
    within = tuple(name for name in flat if group and name.startswith(f"{group} "))
    return (within or flat)[:3]


def edit_distance(one: str, other: str) -> int:
    """Letters to insert, delete, replace, or exchange with a neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        before, above, row = row, before, [i + 1]
        for j, theirs in enumerate(other):
            row.append(min(before[j] + (letter != theirs), before[j + 1] + 1, row[j] + 1))
            if i and j and letter == other[j - 1] and theirs == one[i - 1]:
                row[-1] = min(row[-1], above[j - 1] + 1)
    return row[-1]
