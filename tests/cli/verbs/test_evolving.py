"""`aios evolve`, and `/correct` in a chat."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess

import pytest

HOSTILE = "\x1b]0;t\x07\u202e<b>FORGED"


@pytest.fixture
def learner(tiny_models, monkeypatch):
    """A model of random weights needs no anchor, and its encoder finds everything alike."""
    monkeypatch.setattr("ai_os_diffusion.evolution.anchor._TEXTS", 8)


def test_a_correction_is_taken_in_learned_and_judged(aios, aios_json, learner):
    assert aios_json("evolve", "status") == {
        "skills": [],
        "waiting": [],
        "uncertain": [],
        "decisions": {},
        "is_begun": False,
    }
    assert "aios evolve correct" in aios("evolve", "status").stderr
    assert "aios evolve correct" in aios("evolve", "history").stderr
    told = ("--said", "Bob", "--wording", "Whose is it?", "--skill", "it")
    taken = aios_json("evolve", "correct", "Who wrote it?", "Ada", *told)
    assert (taken["question"], taken["answer"], taken["said"]) == ("Who wrote it?", "Ada", "Bob")
    assert (taken["wordings"], taken["skill"], taken["uncertainty"]) == (["Whose is it?"], "it", None)
    (waiting,) = aios_json("evolve", "status")["waiting"]
    assert waiting == {
        "questions": ["Who wrote it?", "Whose is it?"],
        "answer": "Ada",
        "skill": "it",
        "tries": 0,
    }
    assert "Who wrote it?" in aios("evolve", "status").stdout
    done = aios_json("evolve", "run", "--epochs", 1)
    assert [(one["skill"], one["decision"]) for one in done["decisions"]] == [("it", "rejected")]
    assert done["is_broken_off"] is False
    found = aios_json("evolve", "status")
    assert found["waiting"][0]["tries"] == 1
    assert found["decisions"] == {"L2": 1, "rejected": 1}
    log = aios_json("evolve", "history")
    assert [one["decision"] for one in log] == ["L2", "rejected"]
    assert log[0]["inputs"]["situation"]["query"] == "Who wrote it?"
    assert "no sure gain" in aios("evolve", "history").stdout
    aios_json("evolve", "run", "--epochs", 1)
    assert aios_json("evolve", "run", "--epochs", 1)["decisions"] == []
    assert "nothing waits" in aios("evolve", "run").stderr


def test_time_that_is_up_breaks_off_and_the_next_run_goes_on(aios, aios_json, learner):
    aios("evolve", "correct", "Who wrote it?", "Ada")
    first = aios("evolve", "run", "--epochs", 3, "--seconds", 0)
    assert (first.exit_code, first.stdout) == (0, "")
    assert "goes on with it" in first.stderr
    assert aios_json("evolve", "status")["is_begun"] is True
    assert len(aios_json("evolve", "run", "--epochs", 3)["decisions"]) == 1
    assert aios_json("evolve", "status")["is_begun"] is False


def test_a_skill_goes_back_to_its_version_before(aios, aios_json, learner, tmp_path):
    from ai_os_diffusion.config import load_config
    from ai_os_diffusion.evolution import Decision, SkillVersions

    facts = tmp_path / "facts.jsonl"
    facts.write_text(json.dumps({"q": "Who wrote it?", "a": "Ada"}))
    folder = load_config().skills_dir
    versions, aside = SkillVersions(folder), tmp_path / "aside"
    for number in (1, 2):
        if number == 2:
            (folder / "facts.parquet").rename(aside)
        aios_json("learn", facts, "--epochs", number, "--no-gate")
        versions.work.mkdir(exist_ok=True)
        (folder / "facts.parquet").rename(versions.candidate("facts"))
        if number == 2:
            aside.rename(folder / "facts.parquet")
        versions.install("facts", number, Decision("facts", "kept", figures={"right_after": number / 2}))
    (skill,) = aios_json("evolve", "status")["skills"]
    assert (skill["name"], skill["version"], skill["earlier"], skill["kept"]) == ("facts", 2, [1], 2)
    assert "facts\t2\t" in aios("evolve", "status").stdout
    assert aios_json("evolve", "rollback", code=2, error=True)["message"].startswith("Roll facts back?")
    assert aios("evolve", "rollback", input="n\n").exit_code == 1
    assert aios_json("evolve", "rollback", "--yes")["figures"] == {"from": 2, "to": 1}
    assert aios_json("evolve", "rollback", "facts", "--yes")["figures"] == {"from": 1, "to": 0}
    assert aios_json("skills") == []
    assert aios_json("evolve", "rollback", "facts", "--yes", code=3, error=True)["message"]
    assert aios_json("evolve", "rollback", "--yes", code=3, error=True)["message"]


def test_what_was_decided_is_drawn(aios, aios_json, learner, tmp_path):
    from ai_os_diffusion.config import load_config
    from ai_os_diffusion.evolution import Decision, DecisionLog

    log = DecisionLog(load_config().skills_dir)
    for name, kind, share in (("a", "kept", 0.5), (HOSTILE, "rejected", 7.0), ("a", "proven", 1.0)):
        log.append(Decision(name, kind, (HOSTILE,), {"right_after": share}))
    for ending in ("html", "svg"):
        file = tmp_path / f"history.{ending}"
        aios_json("evolve", "status", "--plot", file)
        drawn = file.read_text(encoding="utf-8")
        assert drawn.count('r="5" fill="#2a7d3f"><title>') == 1
        assert "<b>" not in drawn
        assert "&lt;b&gt;FORGED" in drawn
        assert "\x1b" not in drawn
        assert ("<table>" in drawn) == (ending == "html")
    error = aios_json("evolve", "status", "--plot", tmp_path / "x.png", code=2, error=True)
    assert "ends in .html or .svg" in error["message"]
    assert not (tmp_path / "x.png").exists()


def test_a_second_process_is_told(aios_json, learner):
    from ai_os_diffusion.config import load_config
    from ai_os_diffusion.evolution import SkillVersions

    with SkillVersions(load_config().skills_dir).locked():
        for args in (("run",), ("rollback", "--yes")):
            error = aios_json("evolve", *args, code=4, error=True)
            assert error["type"] == "SkillsLockedError"


@pytest.mark.parametrize(
    "args",
    [("", "Ada"), ("Who?", " "), ("Who?", "Ada", "--wording", ""), ("Who?", "Ada", "--skill", "../x")],
)
def test_a_correction_that_is_none_is_refused(aios_json, learner, args):
    assert aios_json("evolve", "correct", *args, code=1 if "--skill" in args else 2, error=True)["message"]
    assert aios_json("evolve", "status")["waiting"] == []


def test_a_chat_takes_the_right_answer(aios, aios_json, learner):
    messages = "/correct no\nWho wrote it?\n/correct Ada\n"
    talk = aios("chat", "--no-memory", "--max-tokens", "4", input=messages)
    assert "there is no reply to correct yet" in talk.stderr
    assert "'Ada' is the answer to 'Who wrote it?'" in talk.stderr
    (waiting,) = aios_json("evolve", "status")["waiting"]
    assert (waiting["questions"], waiting["answer"]) == (["Who wrote it?"], "Ada")
    lines = aios("chat", "--no-memory", "--json", "--max-tokens", "4", input="Who?\n/correct Ada\n").stdout
    assert json.loads(lines.splitlines()[1]) == {"corrected": "Who?", "answer": "Ada"}


def test_what_memory_does_not_hold_is_worth_asking_for(aios, aios_json, learner, documents):
    aios("add", documents)
    for _ in range(2):
        assert aios("ask", "Who wrote it?", "--min-similarity", "0.9999").exit_code == 6
    (uncertain,) = aios_json("evolve", "status")["uncertain"]
    assert uncertain == {"question": "Who wrote it?", "answer": "", "uncertainty": None, "times": 2}
    assert "Worth correcting" in aios("evolve", "status").stdout
    aios("evolve", "correct", "who  wrote it?", "Ada")
    assert aios_json("evolve", "status")["uncertain"] == []


@pytest.mark.slow
def test_it_watches_until_ctrl_c(command, aios, learner, tmp_path):
    aios("evolve", "correct", "Who wrote it?", "Ada", "--skill", "it")
    # Here, so that the base's own texts are there and few.
    aios("evolve", "run", "--epochs", "1", "--seconds", "0")
    args = [*command, "evolve", "run", "--watch", "--epochs", "1", "--json"]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = json.loads(process.stdout.readline())
    assert (first["skill"], first["decision"]) == ("it", "rejected")
    aios("evolve", "correct", "When was it?", "1843", "--skill", "other")
    while json.loads(process.stdout.readline())["skill"] != "other":
        pass
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in told


def test_versions_of_the_model(aios, aios_json, tiny_models):
    found = aios_json("evolve", "model")
    assert found["version"] == found["model"]
    assert found["versions"] == [found["model"]]
    assert "in use" in aios("evolve", "model").stdout
    assert aios_json("evolve", "model", found["model"]) == found
    error = aios_json("evolve", "model", "none.1", code=3, error=True)
    assert "is no version of" in error["message"]
    if importlib.util.find_spec("torch") is None:
        assert "needs torch" in aios_json("evolve", "consolidate", code=1, error=True)["message"]
    else:
        error = aios_json("evolve", "consolidate", code=1, error=True)
        assert "expected skills that hold what they learned" in error["message"]
