"""A document that changed replaces its earlier version whole, whenever the process is killed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ai_os_diffusion.ingestion import passage_text
from ai_os_diffusion.storage import ArrowStorage

CHILD = """
import os, signal, sys
import numpy as np
sys.path[:0] = {path!r}
from ai_os_diffusion.runtime.indexing import Indexer
from ai_os_diffusion.ingestion import Ingestor, Ledger
from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.storage.staging import Staging

class Embedder:
    dimension = 4
    max_seq_length = 512

    def encode_document(self, texts):
        return np.ones((len(texts), 4), np.float32)

def killed(kind, name, call):
    # A method is the last thing that this process does, at its call of that number.
    method, calls = getattr(kind, name), []

    def last(*args, **options):
        result = method(*args, **options)
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(kind, name, last)

def add(text):
    with ArrowStorage(sys.argv[1]) as store:
        held = store.iter_metadata()
        ingestor = Ingestor(lambda texts: np.array([len(text.split()) for text in texts]), max_tokens=8)
        Indexer(Embedder(), store, ingestor, Ledger(held), batch=16).add([("notes.md", text.encode())])

def document(sentences):
    return "".join(f"# Part\\n\\n{{sentence}}\\n\\n" for sentence in sentences)

add(document({before!r}))
for kind, name, call in {killed!r}:
    killed({{"ArrowStorage": ArrowStorage, "Staging": Staging}}[kind], name, call)
add(document({after!r}))
"""

# Whatever ends the commit, and each step before it.
COMMITS = [("ArrowStorage", "save_many", 1), ("ArrowStorage", "delete_many", 1), ("Staging", "commit", 1)]


def sentences(version: int, parts: int) -> list[str]:
    return [f"Version {version} of part {part}." for part in range(parts)]


def held_after(before, after, killed, folder) -> list[str]:
    code = CHILD.format(path=[path for path in sys.path if path], before=before, after=after, killed=killed)
    child = subprocess.run([sys.executable, "-c", code, str(folder / "s")], check=False)
    assert child.returncode == -signal.SIGKILL
    with ArrowStorage(folder / "s") as store:
        memories = list(store)
    assert len({memory["metadata"]["source_hash"] for memory in memories}) == 1
    assert not (folder / "s" / "staging").exists()
    return sorted(passage_text(memory["content"], memory["metadata"]["headings"]) for memory in memories)


@pytest.mark.parametrize("parts", [3, 40])  # less than a batch of passages, and more
@pytest.mark.parametrize("kept", [False, True])  # every passage is another one, or there are more
def test_a_kill_after_the_commit_leaves_the_new_version(parts, kept, tmp_path):
    before, after = sentences(1, parts), sentences(2, parts)
    after = before + after if kept else after
    assert held_after(before, after, COMMITS, tmp_path) == sorted(after)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_before_the_commit_leaves_the_old_version(call, tmp_path):
    before, after = sentences(1, 40), sentences(2, 40)
    assert held_after(before, after, [("Staging", "save_many", call)], tmp_path) == sorted(before)
