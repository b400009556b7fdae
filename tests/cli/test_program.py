import json
import os
import shutil
import subprocess
import sys

import pytest

from ai_os_diffusion.cli.lazy import GLOBAL_OPTIONS, VERBS, hoist


def test_help_names_every_verb(aios):
    result = aios("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert f"  {verb}" in result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(aios, verb):
    result = aios(verb, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_imports_nothing_heavy(command):
    code = (
        "import sys; sys.argv = ['aios', '--help']\n"
        "from ai_os_diffusion.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'rich', 'yaml', 'jinja2', 'platformdirs', 'torch', 'ai_os_diffusion._native'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_version(aios):
    assert aios("--version").stdout.startswith("aios ")


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("recall",),
        ("recall", "x", "--top", "0"),
        ("embed", "--nope"),
        ("bench", "--seconds", "x"),
    ],
)
def test_wrong_usage_ends_with_2(aios, args):
    assert aios(*args).exit_code == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nonsense", "--json"), "nonsense"),
        (("recall", "--json"), "QUESTION"),
        (("recall", "x", "--json", "--top", "0"), "--top"),
        (("embed", "--json", "--nope"), "--nope"),
        (("memory", "show", "--json"), "memory_id"),
        (("memory", "none", "--json"), "none"),
        (("add", "x", "--json", "--store"), "--store"),
    ],
)
def test_wrong_usage_is_json_where_json_was_asked_for(aios, args, said):
    result = aios(*args)
    assert result.exit_code == 2
    error = json.loads(result.stderr)["error"]
    assert (error["type"], error["exit_code"]) == ("UsageError", 2)
    assert said in error["message"]
    assert result.stdout == ""


def test_json_asks_no_question(aios_json, tiny_models, documents):
    aios_json("add", documents)
    error = aios_json("memory", "forget", "--source", documents, code=2, error=True)
    assert error["message"] == "Forget 5 memories? --yes confirms"
    assert aios_json("memory", "forget", "--source", documents, "--yes")["forgotten"]


def test_options_of_the_program_may_follow_the_verb():
    args = ["recall", "where", "--store", "s", "--config=c", "-k", "3", "--", "--store", "kept"]
    assert hoist(args) == [
        "--store",
        "s",
        "--config=c",
        "recall",
        "where",
        "-k",
        "3",
        "--",
        "--store",
        "kept",
    ]
    assert all(option.startswith("--") for option in GLOBAL_OPTIONS)


def test_an_unknown_setting_is_wrong_usage(aios, home):
    (home / "aios.yaml").write_text("storage:\n  pth: x\n")
    result = aios("memory", "stats")
    assert result.exit_code == 2
    assert "storage.path" in result.stderr


def test_a_misspelt_variable_is_told_once(aios, tiny_models, documents, monkeypatch):
    monkeypatch.setenv("AIOS_STORAGE_PAHT", "elsewhere")
    result = aios("add", documents / "trains.txt")
    assert result.exit_code == 0
    assert result.stderr.count("did you mean AIOS_STORAGE_PATH?") == 1
    assert aios("memory", "stats", "--json").stderr == ""


def test_a_bad_value_says_where_it_was_given(aios, home):
    (home / "aios.yaml").write_text("retrieval:\n  top_k: x\n")
    assert "aios.yaml: retrieval.top_k: expected int, got 'x'" in aios("memory", "stats").stderr


def test_a_missing_configuration_file_is_named(aios, home):
    result = aios("memory", "stats", "--config", "none.yaml")
    assert result.exit_code == 2
    assert "none.yaml" in result.stderr


def test_errors_are_json_where_json_was_asked_for(aios):
    result = aios("recall", "anything", "--json")
    assert result.exit_code == 3
    error = json.loads(result.stderr)["error"]
    assert error["type"] == "ModelNotFoundError"
    assert error["exit_code"] == 3
    assert "aios pull minilm" in error["message"]


def test_no_traceback_unless_asked_for(command, home):
    def stderr(**extra):
        return subprocess.run(
            [*command, "recall", "anything"], capture_output=True, text=True, env={**os.environ, **extra}
        ).stderr

    assert "Traceback" not in stderr()
    assert "Traceback" in stderr(AIOS_DEBUG="1")


def test_a_pipe_that_closes_early_is_quiet(command, home):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("module", ["ai_os_diffusion.cli.program", "typer", "yaml", "numpy"])
def test_ctrl_c_while_modules_are_imported_is_quiet(home, module):
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from ai_os_diffusion.cli.main import run\n"
        "assert 'typer' not in sys.modules\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['aios', 'recall', 'x', '--config', 'own.yaml']\n"
        "run()\n"
    )
    (home / "own.yaml").write_text("")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr, done.stdout) == (130, "interrupted\n", "")


@pytest.mark.parametrize(
    "where",
    [
        # While Typer reads the signatures of verbs, before it looks for one.
        "typer.main.get_command = lambda app: os.kill(os.getpid(), signal.SIGINT)",
        # Inside native code, which made an error of its own of it.
        "output.show_table = lambda *rows: garbled()",
        # Inside a callback of the interpreter, which only mentions it.
        "output.show_table = lambda *rows: lost()",
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_ctrl_c_is_not_lost(home, where, form):
    code = (
        "import os, signal, sys, typer.main, weakref\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from ai_os_diffusion.cli import main\n"
        "from ai_os_diffusion.cli.terminal import output\n"
        "def press(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "def garbled():\n"
        "    try: press()\n"
        "    except KeyboardInterrupt: raise TypeError('garbled') from None\n"
        "class Object: pass\n"
        "def lost():\n    held = Object()\n    gone = weakref.ref(held, press)\n    del held\n"
        f"{where}\n"
        "output.show_json = output.show_table\n"
        f"sys.argv = ['aios', 'doctor', *{form}]\n"
        "main.run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    said = json.loads(done.stderr)["error"]["message"] if done.stderr.startswith("{") else done.stderr.strip()
    assert (done.returncode, said) == (130, "interrupted")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_the_verbs(command, home, shell):
    words = {"bash": {"COMP_WORDS": "aios re", "COMP_CWORD": "1"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "aios re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    env = {**os.environ, **words, "_AIOS_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert "recall" in done.stdout


@pytest.mark.parametrize("typed", ["rm ", "inspect ti", "quantize t", "embed --model ", "--models-dir . rm "])
def test_completion_offers_the_models_that_are_here(command, home, tmp_path, tiny_encoder_dir, typed):
    folder = home if "--models-dir" in typed else tmp_path / "models"
    shutil.copytree(tiny_encoder_dir, folder / "tiny")
    words = {"COMP_WORDS": f"aios {typed}", "COMP_CWORD": str(typed.count(" ") + 1)}
    env = {**os.environ, **words, "_AIOS_COMPLETE": "complete_bash"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (done.stdout.split(), done.stderr) == (["tiny"], "")


def test_completion_is_silent_where_settings_are_wrong(command, home):
    (home / "aios.yaml").write_text("nonsense")
    env = {**os.environ, "COMP_WORDS": "aios rm ", "COMP_CWORD": "2", "_AIOS_COMPLETE": "complete_bash"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_help_of_a_narrow_terminal_is_broken_into_its_lines(aios, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    text = aios("recall", "--help").stdout
    prose = text[text.index("Find what") : text.index("Arguments")]
    assert max(map(len, prose.splitlines())) <= 30
