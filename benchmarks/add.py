"""What `add` costs beside embedding: long documents, and a store in which nothing changed.

The vectors are made of digests, so that what is measured is reading, cutting, comparing and committing; the
tokenizer that counts is the real one. With --documents folders are added as users do, by the real encoder,
and the size of the store is told: such as `.cache/demo/python-reference` after `make demo`.

    python benchmarks/add.py [--megabytes 50 100 200] [--memories 100000] [--documents FOLDER ...]

Each case runs in a process of its own, whose peak of resident memory is taken; it counts mapped files too.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DIMENSION = 384


class Digests:
    """Vectors that say which text they are of."""

    dimension = DIMENSION

    def encode_document(self, texts):
        """Float32[n, dim]."""
        rows = [np.random.default_rng(abs(hash(text))).random(DIMENSION, np.float32) for text in texts]
        return np.stack(rows)


def text_of(size_bytes: int, seed: int):
    """Sentences of random words, in paragraphs."""
    rng = random.Random(seed)
    letters = "etaoinshrdlcumwfgypbvk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 8))) for _ in range(20_000)]
    written = 0
    while written < size_bytes:
        sentences = (" ".join(rng.choices(words, k=12)).capitalize() for _ in range(5))
        paragraph = ". ".join(sentences) + ".\n\n"
        written += len(paragraph)
        yield paragraph


def indexer(store):
    from ai_os_diffusion.config import load_config
    from ai_os_diffusion.inference import FastTokenizer
    from ai_os_diffusion.ingestion import Ingestor, Ledger
    from ai_os_diffusion.runtime.indexing import Indexer

    tokenizer = FastTokenizer(load_config().models_dir / "minilm")
    return Indexer(Digests(), store, Ingestor(tokenizer.count), Ledger(store.iter_metadata()))


def add(folder: Path, *paths: str) -> dict[str, object]:
    """Add files and report what it cost."""
    from ai_os_diffusion.ingestion import walk
    from ai_os_diffusion.storage import ArrowStorage

    begun, cpu = time.perf_counter(), time.process_time()
    with ArrowStorage(folder / "store") as store:
        report = indexer(store).add(walk(paths))
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "files": {name: count for name, count in report.files.items() if count},
        "passages": report.passages,
    }


def embed(folder: Path, *paths: str) -> dict[str, object]:
    """Add files as users do, and report what it cost and what is stored."""
    from ai_os_diffusion.config import load_config
    from ai_os_diffusion.runtime import open_runtime

    store = folder / "store"
    with open_runtime(load_config(overrides={"storage.path": store})) as runtime:
        runtime.encoder.encode_document(["warm"])
        begun, cpu = time.perf_counter(), time.process_time()
        runtime.add(list(paths))
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        texts = [memory["content"] for memory in runtime.memories.iter()]
        tokens = int(sum(runtime.encoder.count(texts)))
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "passages": len(texts),
        "tokens": tokens,
        "store_mb": round(sum(file.stat().st_size for file in store.iterdir()) / 1e6, 1),
    }


def measured(folder: Path, *paths: Path, way: str = "--inside") -> dict[str, object]:
    command = [sys.executable, __file__, way, str(folder), *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[50, 100, 200])
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--documents", type=Path, nargs="*", default=[])
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--inside-embedding", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(add(Path(options.inside[0]), *options.inside[1:])))
        return
    if options.inside_embedding:
        print(json.dumps(embed(Path(options.inside_embedding[0]), *options.inside_embedding[1:])))
        return
    results: dict[str, object] = {}
    for documents in options.documents:
        with tempfile.TemporaryDirectory() as folder:
            results[documents.name] = measured(Path(folder), documents, way="--inside-embedding")
    for size in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "long.txt")
            path.write_text("".join(text_of(size * 1_000_000, 0)))
            results[f"{size} MB, new"] = measured(Path(folder), path)
            path.write_text("A line above all others.\n\n" + "".join(text_of(size * 1_000_000, 0)))
            results[f"{size} MB, every line moved"] = measured(Path(folder), path)
            print(json.dumps(results, indent=1), flush=True)
    if options.memories:
        with tempfile.TemporaryDirectory() as folder:
            documents = Path(folder, "documents")
            documents.mkdir()
            for number in range(options.memories // 100):
                lines = (f'{{"text": "Record {number} {line} of a long list."}}\n' for line in range(100))
                Path(documents, f"{number}.jsonl").write_text("".join(lines))
            results[f"{options.memories} memories, new"] = measured(Path(folder), documents)
            results[f"{options.memories} memories, unchanged"] = measured(Path(folder), documents)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
