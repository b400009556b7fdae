"""A document that changed replaces its earlier version whole, whenever the process is killed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ai_os_diffusion.storage import ArrowStorage

CHILD = """
import os, signal, sys
import numpy as np
sys.path[:0] = {path!r}
from ai_os_diffusion.indexing import Indexer
from ai_os_diffusion.ingestion import Ingestor, Ledger
from ai_os_diffusion.storage import ArrowStorage

class Embedder:
    dimension = 4
    max_seq_length = 512

    def encode_document(self, texts):
        return np.ones((len(texts), 4), np.float32)

class KilledAfterACommit(ArrowStorage):
    def save_many(self, *args, **options):
        super().save_many(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    def delete_many(self, *args):
        super().delete_many(*args)
        os.kill(os.getpid(), signal.SIGKILL)

def add(kind, text):
    with kind(sys.argv[1]) as store:
        held = ((memory["memory_id"], memory["metadata"]) for memory in store)
        ingestor = Ingestor(lambda texts: np.array([len(text.split()) for text in texts]), max_tokens=8)
        Indexer(Embedder(), store, ingestor, Ledger(held), batch=16).add([("notes.md", text.encode())])

def document(sentences):
    return "".join(f"# Part\\n\\n{{sentence}}\\n\\n" for sentence in sentences)

add(ArrowStorage, document({before!r}))
add(KilledAfterACommit, document({after!r}))
"""


def sentences(version: int, parts: int) -> list[str]:
    return [f"Version {version} of part {part}." for part in range(parts)]


@pytest.mark.parametrize("parts", [3, 40])  # less than a batch of passages, and more
@pytest.mark.parametrize("kept", [False, True])  # every passage is another one, or there are more
def test_a_kill_leaves_one_version_of_a_changed_document(parts, kept, tmp_path):
    before, after = sentences(1, parts), sentences(2, parts)
    after = before + after if kept else after
    code = CHILD.format(path=[path for path in sys.path if path], before=before, after=after)
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=False)
    assert child.returncode == -signal.SIGKILL
    with ArrowStorage(tmp_path / "s") as store:
        memories = list(store)
    assert sorted(memory["content"] for memory in memories) == sorted(after)
    assert len({memory["metadata"]["source_hash"] for memory in memories}) == 1
