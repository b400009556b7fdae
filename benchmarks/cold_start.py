"""Cold start: wall time of a whole process that embeds one sentence, beside the peers. Median of 11."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from encode import export_onnx
from measure import interleave, report
from models import converted, source_folder

PEER = """
from sentence_transformers import SentenceTransformer
SentenceTransformer({source!r}, device="cpu").encode("hello")
"""
ONNX = """
import numpy as np, onnxruntime
from tokenizers import Tokenizer
session = onnxruntime.InferenceSession({file!r}, providers=["CPUExecutionProvider"])
ids = np.array([Tokenizer.from_file({source!r} + "/tokenizer.json").encode("hello").ids])
session.run(None, {{"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}})
"""
OURS = """
from ai_os_diffusion.inference import ArrowEngine
ArrowEngine({model!r}).encode("hello")
"""


def process(*command: str):
    """A function that runs a command to its end."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return lambda: subprocess.run(command, check=True, capture_output=True, env=environment)


def main() -> None:
    source, model = str(source_folder("minilm")), str(converted("minilm", "int8"))
    aios = str(Path(sys.executable).with_name("aios"))
    subprocess.run([sys.executable, "-m", "compileall", "-qq", str(Path(sys.prefix) / "lib")], check=False)
    with tempfile.TemporaryDirectory() as folder:
        _, int8 = export_onnx(Path(source), Path(folder))
        seconds = interleave(
            {
                "aios embed hello": process(aios, "embed", "--model", model, "hello"),
                "python -c, ArrowEngine": process(sys.executable, "-c", OURS.format(model=model)),
                "python -c, onnxruntime int8": process(
                    sys.executable, "-c", ONNX.format(file=str(int8), source=source)
                ),
                "python -c, sentence-transformers": process(sys.executable, "-c", PEER.format(source=source)),
                "aios --help": process(aios, "--help"),
                "python -c pass": process(sys.executable, "-c", "pass"),
            },
            11,
        )
    report(seconds={name: round(taken, 3) for name, taken in seconds.items()})


if __name__ == "__main__":
    main()
