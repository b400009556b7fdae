import base64
import hashlib
import random
import re

import pytest

from ai_os_diffusion.ingestion import Block, Ingestor, read_document
from ai_os_diffusion.ingestion.opaque import without_opaque

RNG = random.Random(5)
BYTES = RNG.randbytes(3000)
BASE64 = base64.b64encode(BYTES).decode()


def wrapped(text, width=64):
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


@pytest.mark.parametrize(
    "noise",
    [
        BASE64,
        BASE64[:200],
        wrapped(BASE64, 76),
        wrapped(BASE64[:1000]),
        base64.urlsafe_b64encode(BYTES).decode(),
        base64.b32encode(BYTES).decode(),
        BYTES.hex(),
        wrapped(BYTES.hex(), 32),
        "a" * 1000,
        "é" * 1000,
        "\uac00" * 1000,
        "GATTACA" * 100,
        "=" * 5000,
        ". " * 5000,
        "!?" * 5000,
    ],
)
def test_what_is_no_language_is_found_whole(noise):
    text = f"Before it stands this.\n{noise}\nBehind it stands that."
    (block,), _ = without_opaque([Block(text, 1, 1 + text.count("\n"))])
    left = block.text
    assert len(left) < 120 + text.count("\n")
    assert re.findall(r"\w+", left) == "Before it stands this Behind it stands that".split()


@pytest.mark.parametrize(
    "text",
    [
        f"sha512: {hashlib.sha512(BYTES).hexdigest()}",
        "\n".join(f"{hashlib.sha256(bytes([n])).hexdigest()}  release-{n}.tar.gz" for n in range(20)),
        "https://example.org/a/very/long/path/to/some-page-with-a-title/and?query=words&more=of-them#anchor"
        * 3,
        "org.example.project.module.submodule.ClassNameWithManyWords.methodNameWithManyWords" * 4,
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "中文没有空格" * 100,
        "ภาษาไทยไม่มีช่องว่าง" * 50,
        ",".join(f"{n}.5" for n in range(400)),
        "if(a){return b[c]+d.e(f)}else{g=h?i:j;}" * 20,
        "a b c d e f g " * 100,
        "+" + "-" * 60 + "+",
        "def f():\n" + " " * 300 + "return 1",
    ],
)
def test_what_people_write_stays(text):
    block = Block(text, 1, 1 + text.count("\n"))
    assert without_opaque([block]) == ([block], [])


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.py", "a.js", "a.jsonl", "a.html"])
def test_no_passage_holds_it_whatever_the_format_and_it_is_told(name):
    import json

    text = f"Serviced in 2019.\n\n{BASE64}\n\nThe boiler is old.\n"
    content = {
        "a.md": f"# Boiler manual\n\n{text}",
        "a.py": f'"""Serviced in 2019."""\n\nKEY = "{BASE64}"\nNOTE = "The boiler is old."\n',
        "a.js": f'// Serviced in 2019.\nconst key = "{BASE64}";\nconst note = "The boiler is old.";\n',
        "a.jsonl": json.dumps({"title": "Boiler", "text": text}),
        "a.html": f"<h1>Boiler</h1><p>Serviced in 2019.</p><p>{BASE64}</p><p>The boiler is old.</p>",
    }.get(name, text)
    reading = Ingestor(lambda texts: [len(text) // 4 + 1 for text in texts]).open(name, content.encode())
    passages = [chunk.text for chunk in reading.chunks()]
    joined = "\n".join(passages)
    assert "2019" in joined
    assert "boiler is old" in joined
    assert not any(BASE64[at : at + 20] in joined for at in range(0, len(BASE64), 20))
    assert [remark.kind for remark in reading.remarks] == ["opaque"]


def test_lines_are_found_where_they_stand():
    text = f"one\n{wrapped(BASE64)}\ntwo\nthree\n"
    (block,) = read_document("a.txt", text.encode()).blocks
    assert block.is_aligned
    lines = text.split("\n")
    for at, line in enumerate(block.text.split("\n"), block.line):
        assert line == "" or line == lines[at - 1]
    (remark,) = read_document("a.txt", text.encode()).remarks
    assert remark.lines == ((2, len(lines) - 3),)
