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

def document(version, parts):
    part = "# Part {{0}}\\n\\nVersion {{1}} of part {{0}}.\\n\\n"
    return "".join(part.format(number, version) for number in range(parts))

add(ArrowStorage, document(1, int(sys.argv[2])))
add(KilledAfterACommit, document(2, int(sys.argv[2])))
"""


@pytest.mark.parametrize("parts", [3, 40])  # less than a batch of passages, and more
def test_a_kill_leaves_one_version_of_a_changed_document(parts, tmp_path):
    code = CHILD.format(path=[path for path in sys.path if path])
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s"), str(parts)], check=False)
    assert child.returncode == -signal.SIGKILL
    with ArrowStorage(tmp_path / "s") as store:
        texts = [memory["content"] for memory in store]
    assert sorted(texts) == sorted(f"Version 2 of part {part}." for part in range(parts))
