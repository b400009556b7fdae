"""Every verb on hostile documents, names, ids, models and arguments: the bytes that reach the two streams."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.cli.lazy import VERBS
from ai_os_diffusion.cli.terminal.wrapping import cells_of
from ai_os_diffusion.utils.statistics.calibration import Calibration
from support import terminal
from support.package_files import epub_of
from support.reader_cards import reader_card

# Titles, clipboards, clearing, hiding, in 7 and 8 bits; deletion; reordered text; line breaks of many kinds;
# the markup of a library that draws tables. After every line break stands what would pass for a line of ours.
PAYLOAD = (
    "\x1b]0;title\x07\x1b]52;c;cm0=\x07\x1b[2J\x1b[8m\x1b[1A\x9b2J\x9d0;title\x9c\x08\x7f\x85\u202egnp\u202c"
    "\u2066\u2069[bold][/none]\r\nFORGED\nFORGED\rFORGED\u2028FORGED\u2029FORGED\x0b\x0c"
)
NAME = PAYLOAD.replace("\0", "").replace("/", "")
# What the program itself sends to a terminal: styles, and the movements of a progress bar.
OURS = re.compile(r"\x1b\[(?!8m)[\d;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A(?=\x1b\[2K)")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_encoder_dir, tiny_decoder_dir, tiny_diffusion_dir):
    """A folder whose documents, store, models and settings are hostile; returns it and the environment."""
    folder = tmp_path_factory.mktemp("hostile")
    models = folder / "models"
    shutil.copytree(tiny_encoder_dir, models / f"encoder{NAME}")
    metadata = models / f"encoder{NAME}" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "architecture": "bert"}))
    documents = folder / f"docs{NAME}"
    documents.mkdir()
    text = f"Turtles {PAYLOAD} swim in the sea.\n\nFORGED {PAYLOAD}\n"
    (documents / f"turtles{NAME}.md").write_text(f"# Turtles {PAYLOAD}\n\n{text}", newline="")
    (documents / f"turtles{NAME}.py").write_text(f"def swim():\n    '''{text}'''\n", newline="")
    (documents / f"turtles{NAME}.jsonl").write_text(
        json.dumps({"title": f"T {PAYLOAD}", "text": text}) + "\nno\n"
    )
    quoted = text.replace('"', '""')
    (documents / f"turtles{NAME}.csv").write_text(f'what,where\nturtle,"{quoted}"\nshark,sea\n', newline="")
    (documents / f"turtles{NAME}.html").write_text(f"<title>T {PAYLOAD}</title><p>{text}</p>", newline="")
    notebook = {"cells": [{"cell_type": "markdown", "source": f"# T {PAYLOAD}\n\n{text}"}]}
    (documents / f"turtles{NAME}.ipynb").write_text(json.dumps(notebook))
    headers = "From: a@b\nSubject: =?utf-8?b?VHVydGxlcyAbWzJKG10wO3RpdGxlBw==?=\n"
    # An answer begins at the left, with whatever sentence it quotes.
    body = f"Turtles {PAYLOAD} swim.".replace("\n", " ")
    mail = f"{headers}Content-Type: text/plain; charset=utf-8\n\n{body}"
    (documents / f"turtles{NAME}.eml").write_text(mail, newline="")
    page = f"<p>Turtles {PAYLOAD} swim.</p>".replace("\x1b", "&#27;")
    (documents / f"turtles{NAME}.epub").write_bytes(epub_of([page], more={f"x{NAME}": ""}))
    (documents / f"binary{NAME}.bin").write_bytes(b"\0\0\1")
    (folder / "facts.jsonl").write_text(json.dumps({"q": PAYLOAD, PAYLOAD: PAYLOAD}))
    hostile_skill(folder / "skills", tiny_decoder_dir)
    for name, odds in (("reader", 5.0), ("deaf", -5.0)):
        config = Judge(Calibration(odds)).to_config()
        reader_card(tiny_encoder_dir, folder / f"{name}{NAME}.parquet", config=config)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIOS_")}
    environment |= {
        "HOME": str(folder),
        "AIOS_STORAGE_PATH": str(folder / "store"),
        "AIOS_MODELS_DIR": str(models),
        "AIOS_SKILLS_DIR": str(folder / "skills"),
        "AIOS_MODEL_ENCODER": str(tiny_encoder_dir),
        "AIOS_MODEL_DECODER": str(tiny_decoder_dir),
        "AIOS_MODEL_DIFFUSION": str(tiny_diffusion_dir),
        f"AIOS_MODEL_ENCODE{NAME.replace('=', '')}": "x",
        "PYTHONWARNINGS": "ignore",
    }
    return folder, environment


def hostile_skill(folder, base):
    """A skill that says hostile things of itself, and a file that is none."""
    from ai_os_diffusion.models.cards import Base, Card, CardDescription

    folder.mkdir()
    own = Base.of_folder(base)
    own = Base(f"base{PAYLOAD}", own.architecture, own.weights_sha256)
    about = CardDescription(
        "facts", "skill", own, 0, 1.0, config={"examples": [PAYLOAD]}, metrics={"pairs": PAYLOAD, PAYLOAD: 1}
    )
    norm = np.random.default_rng(3).normal(size=32).astype(np.float32)
    Card.write(folder / "facts.parquet", about, [("model.norm.weight", norm)])
    (folder / f"no{NAME}.parquet").write_bytes(b"PAR1")
    from ai_os_diffusion.evolution import Decision, DecisionLog

    DecisionLog(folder).append(Decision(PAYLOAD, PAYLOAD, (PAYLOAD,), {PAYLOAD: 1.0}, PAYLOAD))


@pytest.fixture(scope="module")
def hostile(place):
    """The same with the documents remembered, and a memory of hostile id and metadata."""
    from ai_os_diffusion.storage import ArrowStorage

    folder, environment = place
    done = run(["add", documents_of(folder)], folder, environment)
    assert done.returncode == 0, done.stderr
    with ArrowStorage(folder / "store") as storage:
        vector = np.eye(1, 32, dtype=np.float32)[0]
        storage.save(
            f"id{PAYLOAD}", f"About turtles {PAYLOAD}", vector, {f"key{PAYLOAD}": PAYLOAD, "source": PAYLOAD}
        )
    return folder, environment


def documents_of(folder):
    return next(path for path in folder.iterdir() if path.name.startswith("docs"))


def run(args, folder, environment, **options):
    program = [sys.executable, "-c", "from ai_os_diffusion.cli.main import run; run()"]
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, **options}
    return subprocess.run([*program, *map(str, args)], cwd=folder, env=environment, timeout=120, **options)


def on_terminal(args, folder, environment, **options):
    """Run with both streams on a terminal; returns what it was sent."""
    program = [sys.executable, "-c", "from ai_os_diffusion.cli.main import run; run()"]
    return terminal.on_terminal([*program, *args], folder, environment, **options)


def check(sent, *, terminal=False):
    """Fail if anything of what was sent acts on a terminal or begins a line that a document wrote."""
    text = sent.decode()
    if terminal:
        text = OURS.sub("", text).replace("\r", "\n")
    acting = {
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character)
        in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    } - {"\n", "\t"}
    assert not acting, (acting, text)
    assert not [line for line in text.split("\n") if line.startswith("FORGED")], text


def commands(folder, encoder):
    """A line or more for every verb; where a word can be hostile, it is."""
    documents = documents_of(folder)
    hostile_id = f"id{PAYLOAD}"
    return {
        "pull": [["pull", f"hf:org/{NAME}", "--offline"], ["pull", f"no{NAME}"], ["pull", encoder / NAME]],
        "models": [["models"]],
        "rm": [["rm", f"no{NAME}"], ["rm", f"encoder{NAME}", "--dry-run"], ["rm", f"encoder{NAME}"]],
        "convert": [["convert", documents, folder / "out"], ["convert", encoder, documents, "--force"]],
        "quantize": [["quantize", f"encoder{NAME}", folder / f"q{NAME}", "--to", "int8", "--force"]],
        "inspect": [["inspect", f"encoder{NAME}"], ["inspect", f"no{NAME}"], ["inspect", documents]],
        "embed": [["embed", PAYLOAD], ["embed", "--file", folder / NAME], ["embed", "x", "--model", NAME]],
        "similarity": [["similarity", PAYLOAD, PAYLOAD, PAYLOAD]],
        "add": [["add", documents], ["add", folder / NAME], ["add", "--dry-run", documents, "--all"]],
        "recall": [
            ["recall", f"turtles {PAYLOAD}", "--all", "-k", "10"],
            ["recall", f"turtles {PAYLOAD}", "--full"],
            ["recall", "turtles", "--filter", f"{PAYLOAD}=x"],
            ["recall", "turtles", "--filter", PAYLOAD],
        ],
        "ask": [
            ["ask", f"where do turtles swim? {PAYLOAD}", "--min-similarity", "-1"],
            ["ask", f"where do turtles swim? {PAYLOAD}", "--reader", folder / f"reader{NAME}.parquet"],
            ["ask", "turtles", "--mode", "ar", "--max-tokens", "8"],
            ["ask", "turtles", "--mode", "diffusion", "--max-tokens", "8"],
            ["ask", "turtles", "--mode", PAYLOAD],
            ["ask", f"where is {PAYLOAD.split()[0]}?", "--reader", folder / f"deaf{NAME}.parquet"],
            ["ask", "turtles", "--reader", NAME],
        ],
        "chat": [["chat", "--no-memory", "--temperature", "2", "--seed", "1"], ["chat", "--min", PAYLOAD]],
        "generate": [
            ["generate", PAYLOAD, "--max-tokens", "8"],
            ["generate", "x", "--max-tokens", "4", "--banned", "x", "--required", f"a{PAYLOAD}b"],
            ["generate", "x", "--matches", f"[{PAYLOAD}"],
            ["generate", "x", "--schema", folder / NAME],
            ["generate", "x", "--required", PAYLOAD, "--banned", PAYLOAD],
        ],
        "diffuse": [
            ["diffuse", "x", "--required", f"a{PAYLOAD}b", "--max-tokens", "8"],
            ["diffuse", f"where do turtles swim? {PAYLOAD}", "--memory", "--max-tokens", "8"],
            ["diffuse", "--infill", f"Turtles {PAYLOAD} swim {{}} {PAYLOAD}.", "--max-fill", "3"],
            ["diffuse", PAYLOAD, "--context", folder / NAME],
            ["diffuse", PAYLOAD, "--template", folder / NAME],
            ["diffuse", PAYLOAD, "--sampler", PAYLOAD],
        ],
        "learn": [
            ["learn", folder / NAME],
            ["learn", folder / f"no{NAME}.jsonl"],
            ["learn", folder / "facts.jsonl", "--name", PAYLOAD],
            ["learn", folder / "facts.jsonl", "--trainer", PAYLOAD, "--device", PAYLOAD],
            ["learn", folder / "facts.jsonl", "--selective", "--dora", "--rank", PAYLOAD],
            ["learn", folder / "facts.jsonl", "--paraphrases", PAYLOAD],
            ["learn", folder / "facts.jsonl", "--method", PAYLOAD, "--width", PAYLOAD, "--blocks", PAYLOAD],
            ["learn", folder / NAME, "--method", "control"],
            ["learn", folder / "facts.jsonl", "--model", encoder],
        ],
        "skills": [
            ["skills"],
            ["skills", "show", "facts"],
            ["skills", "show", PAYLOAD],
            ["skills", "ask", PAYLOAD],
            ["skills", "ask", "--skill", "facts", PAYLOAD],
            ["skills", "rm", "facts"],
            ["skills", "rm", f"no{NAME}"],
            ["skills", f"no{PAYLOAD}"],
        ],
        "evolve": [
            ["evolve", "correct", PAYLOAD, PAYLOAD, "--said", PAYLOAD, "--wording", f"{PAYLOAD} a"],
            ["evolve", "correct", PAYLOAD, PAYLOAD, "--skill", PAYLOAD],
            ["evolve", "status"],
            ["evolve", "status", "--plot", folder / f"{NAME}.html"],
            ["evolve", "run", "--seconds", "0", "--epochs", "1"],
            ["evolve", "run", "--device", PAYLOAD],
            ["evolve", "model"],
            ["evolve", "model", PAYLOAD],
            ["evolve", "consolidate", "--device", PAYLOAD],
            ["evolve", "history"],
            ["evolve", "rollback", PAYLOAD],
            ["evolve", "rollback"],
            ["evolve", f"no{PAYLOAD}"],
        ],
        "train-diffusion": [
            ["train-diffusion", "--config", folder / NAME],
            ["train-diffusion", "--set", PAYLOAD],
        ],
        "train-reader": [
            ["train-reader", "--config", folder / NAME],
            ["train-reader", "--set", PAYLOAD],
            ["train-reader", "--config", folder / NAME, "--pack", folder / PAYLOAD],
        ],
        "memory": [
            ["memory", "list"],
            ["memory", "show", hostile_id],
            ["memory", "show", f"no{PAYLOAD}"],
            ["memory", "forget", f"no{PAYLOAD}"],
            ["memory", "forget", hostile_id, "--dry-run"],
            ["memory", "forget", hostile_id],
            ["memory", "stats"],
            ["memory", "compact"],
            ["memory", "export", folder / f"{NAME}.jsonl", "--yes"],
            ["memory", "import", folder / f"{NAME}.jsonl"],
            ["memory", "import", folder / f"no{NAME}.jsonl"],
            ["memory", f"no{PAYLOAD}"],
        ],
        "doctor": [["doctor"]],
        "bench": [["bench", "--seconds", "0.1"]],
        "program": [
            [f"no{PAYLOAD}"],
            [f"--no{PAYLOAD}"],
            ["recall", "x", PAYLOAD],
            ["recall", "x", "-k", PAYLOAD],
            ["recall", "x", "--config", NAME],
            ["recall", "x", "--store", folder / NAME],
            ["memory", "stats", "--store", f"{folder / 'aios.yaml'}{NAME}"],
        ],
    }


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*VERBS, "program"])
def test_nothing_foreign_acts_on_a_terminal_or_forges_a_line(hostile, tiny_encoder_dir, verb):
    folder, environment = hostile
    for args in commands(folder, tiny_encoder_dir)[verb]:
        given = f"{PAYLOAD}\nHello\n".encode() if verb == "chat" else b"n\n"
        for form in ([], ["--json"]):
            done = run([*args, *form], folder, environment, input=given, stdin=None)
            assert b"Traceback" not in done.stderr, (args, done.stderr)
            check(done.stdout)
            check(done.stderr)
        check(on_terminal(args, folder, environment, input=given), terminal=True)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*VERBS, "program"])
def test_no_line_is_wider_than_a_narrow_terminal(hostile, tiny_encoder_dir, verb):
    folder, environment = hostile
    for args in commands(folder, tiny_encoder_dir)[verb]:
        given = b"Hello\n" if verb == "chat" else b"n\n"
        sent = on_terminal(args, folder, environment, columns=24, input=given)
        check(sent, terminal=True)
        # What a bar wrote is gone with the line; what is typed ends the line of a question.
        shown = re.sub(r"[^\n]*\r(?!\n)", "", OURS.sub("", sent.decode()))
        shown = shown.replace("[y/N]: ", "[y/N]:\n").split("\n")
        wide = [line for line in shown if cells_of(line.strip("\r ")) > 24]
        assert not wide, (args, wide)


def test_json_holds_what_was_hostile_unchanged(hostile):
    folder, environment = hostile
    done = run(["memory", "show", f"id{PAYLOAD}", "--json"], folder, environment)
    memory = json.loads(done.stdout)
    assert memory["memory_id"] == f"id{PAYLOAD}"
    assert memory["metadata"][f"key{PAYLOAD}"] == PAYLOAD


def test_text_shows_what_was_hostile(hostile):
    folder, environment = hostile
    shown = run(["memory", "show", f"id{PAYLOAD}"], folder, environment).stdout.decode()
    assert r"\x1b]0;title\x07" in shown
    assert r"\x9b2J" in shown
    assert "\n    FORGED" in shown


def test_a_model_that_writes_controls_is_shown_whole(hostile):
    folder, environment = hostile
    args = ["chat", "--no-memory", "--temperature", "2", "--seed", "1", "--max-tokens", "200"]
    (line,) = run([*args, "--json"], folder, environment, input=b"Hello", stdin=None).stdout.splitlines()
    written = json.loads(line)["answer"]
    assert any(unicodedata.category(character) == "Cc" for character in written)


def test_a_bar_shows_foreign_names_as_they_are(hostile):
    environment = hostile[1]
    code = (
        "from ai_os_diffusion.cli.terminal.streams import guard_streams\n"
        "from ai_os_diffusion.cli.terminal.progress import ProgressBar\n"
        "guard_streams()\n"
        f"with ProgressBar(unit='bytes') as bar:\n    bar({PAYLOAD!r}, 1, 2, {PAYLOAD!r})\n"
    )
    master, slave = pty.openpty()
    environment = {**environment, "TERM": "xterm", "COLUMNS": "1000"}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=slave) as process:
        os.close(slave)
        sent = bytearray()
        while True:
            try:
                sent += os.read(master, 65536)
            except OSError:
                break
    os.close(master)
    assert process.returncode == 0
    assert b"[bold][/none]" in sent
    check(bytes(sent), terminal=True)


def test_warnings_and_tracebacks_are_safe_too(hostile):
    folder, environment = hostile
    code = (
        "import warnings\n"
        "from ai_os_diffusion.cli.terminal.streams import guard_streams\n"
        "guard_streams()\n"
        "warnings.simplefilter('always')\n"
        f"warnings.warn({PAYLOAD!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert b"UserWarning" in done.stderr
    check(done.stderr)
    debug = {**environment, "AIOS_DEBUG": "1"}
    done = run(["embed", "x", "--model", "\x1b[2J\x9b2J\u202e"], folder, debug)
    assert b"Traceback" in done.stderr
    check(done.stderr)


def test_completion_offers_no_hostile_name(hostile):
    folder, environment = hostile
    words = {"COMP_WORDS": "aios rm ", "COMP_CWORD": "2", "_AIOS_COMPLETE": "complete_bash"}
    done = run([], folder, {**environment, **words})
    check(done.stdout)
    check(done.stderr)
