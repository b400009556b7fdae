"""Encoder throughput: MiniLM int8 and fp32, native, beside onnxruntime and sentence-transformers.

2,000 sentences of STS-B dev, sorted by length, batches of 32, two threads.
"""

from __future__ import annotations

import csv
import gzip
import os
import tempfile
from pathlib import Path

import numpy as np

from measure import data_dir, interleave, report
from models import converted, source_folder

os.environ["HF_HUB_OFFLINE"] = "1"
THREADS = 2
BATCH = 32


def sentences(data: Path, count: int) -> list[str]:
    """Distinct sentences of STS-B dev, shortest first."""
    with gzip.open(data / "stsb/dev.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    distinct = dict.fromkeys(text for row in rows for text in row[1:3])
    return sorted(list(distinct)[:count], key=len)


def export_onnx(source: Path, folder: Path) -> tuple[Path, Path]:
    """MiniLM as ONNX, in fp32 and with onnxruntime's dynamic int8."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    class Encoder(torch.nn.Module):
        """The inputs by position, as the exporter passes them; the hidden states alone."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

        def forward(self, ids, mask, types):
            return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones(2, 8, dtype=torch.long)
    plain, int8 = folder / "minilm.onnx", folder / "minilm-int8.onnx"
    torch.onnx.export(
        Encoder(),
        (ids, ids, ids * 0),
        str(plain),
        input_names=names,
        output_names=["hidden"],
        dynamic_axes={name: {0: "batch", 1: "length"} for name in [*names, "hidden"]},
        dynamo=False,
        opset_version=17,
    )
    quantize_dynamic(plain, int8, weight_type=QuantType.QInt8)
    return plain, int8


def onnx_encoder(file: Path, source: Path):
    """A function from sentences to vectors, by onnxruntime."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()

    def encode(texts: list[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), BATCH):
            encoded = tokenizer.encode_batch(texts[start : start + BATCH])
            ids = np.array([item.ids for item in encoded], dtype=np.int64)
            mask = np.array([item.attention_mask for item in encoded], dtype=np.int64)
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, feed)[0]
            pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
            parts.append(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))
        return np.concatenate(parts)

    return encode


def main() -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from ai_os_diffusion.inference import ArrowEngine

    torch.set_num_threads(THREADS)
    texts = sentences(data_dir(), 2000)
    source = source_folder("minilm")
    peer = SentenceTransformer(str(source), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        plain, int8 = export_onnx(source, Path(folder))
        candidates = {
            "native int8": ArrowEngine(converted("minilm", "int8"), num_threads=THREADS).encode,
            "native fp32": ArrowEngine(converted("minilm", "fp32"), num_threads=THREADS).encode,
            "onnxruntime int8": onnx_encoder(int8, source),
            "onnxruntime fp32": onnx_encoder(plain, source),
            "sentence-transformers fp32": lambda items: peer.encode(items, batch_size=BATCH),
        }
        truth = peer.encode(texts, batch_size=BATCH, normalize_embeddings=True)
        cosine = {name: float((run(texts) * truth).sum(1).mean()) for name, run in candidates.items()}
        seconds = interleave({name: lambda run=run: run(texts) for name, run in candidates.items()})
        single = interleave({name: lambda run=run: run(texts[:1]) for name, run in candidates.items()}, 31)
    rate = {name: round(len(texts) / taken, 1) for name, taken in seconds.items()}
    best = max(rate[name] for name in rate if not name.startswith("native"))
    report(
        sentences=len(texts),
        threads=THREADS,
        sentences_per_s=rate,
        one_sentence_ms={name: round(taken * 1e3, 2) for name, taken in single.items()},
        mean_cosine_to_fp32={name: round(value, 6) for name, value in cosine.items()},
        int8_ratio_to_best_peer=round(rate["native int8"] / best, 2),
        fp32_ratio_to_onnxruntime_fp32=round(rate["native fp32"] / rate["onnxruntime fp32"], 2),
    )


if __name__ == "__main__":
    main()
