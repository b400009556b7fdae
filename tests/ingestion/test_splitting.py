from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.ingestion import splitting


def sentences(text):
    return [text[start:end] for start, end in splitting.sentences(text)]


@pytest.mark.parametrize(
    "whole",
    [
        "The dentist is Dr. Okafor.",
        "Ask Mr. Pereira or J. R. R. Tolkien.",
        "Nach dem 15. Mai ist kein Frost mehr.",
        "Take bus No. 5 to the harbour.",
        "Obst, z. B. Kirschen, wird eingekocht.",
        "It costs ca. 5 euros, e.g. at the market.",
    ],
)
def test_an_abbreviation_does_not_end_a_sentence(whole):
    assert sentences(f"{whole} And then?") == [whole, "And then?"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("He was born in 1987.", "Mr. Stone was not."),
        ("There were 14.", "The rest was lost."),
        ("Is it so? No.", "It is not."),
        ("“Go!”", "She went."),
    ],
)
def test_a_full_stop_before_a_capital_ends_one(first, second):
    found = sentences(f"{first} {second}")
    assert " ".join(found) == f"{first} {second}"
    assert second in found


def test_list_items_and_paragraphs_stand_alone():
    assert sentences("Eat vitamin C.\n- carrots\n- ask Dr.\n\nNext") == [
        "Eat vitamin C.",
        "- carrots",
        "- ask Dr.",
        "Next",
    ]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("a\nb\n\n  c\n", ["a\nb\n\n  c"]),
        ("1\n2\n3\n4\n5\n6\n7\n8\n", ["1\n2\n3\n4\n5", "6\n7\n8"]),
        ("  one line of its own\nb\nc", ["  one line of its own", "b\nc"]),
        ("b\na line too long for it\n", ["b", "a line too long for it"]),
        ("a \t\nb", ["a \t\nb"]),
        (" \n\n\t\n", []),
    ],
)
def test_short_lines_come_in_runs_and_long_ones_alone(text, runs):
    assert [text[start:end] for start, end in splitting.line_runs(text, most=10)] == runs


def test_short_sentences_of_a_text_of_very_many_come_together():
    text = "".join(f"No{number}! \n\n" if number % 3 else f"A{number}?  " for number in range(4000)).rstrip()
    apart = list(splitting.sentences(text))
    together = list(splitting.sentences(text, 40))
    assert [text[start:end] for start, end in apart] == text.split()
    assert len(together) < len(apart) / 3
    assert together[:200] == apart[:200]
    assert {start for start, _ in together} <= {start for start, _ in apart}
    assert {end for _, end in together} <= {end for _, end in apart}
    assert " ".join(text[start:end] for start, end in together).split() == text.split()


@pytest.mark.parametrize(
    ("joint", "parts"),
    [
        ("", ["今日は雨です。", "「本当？」", "明日は晴れます！"]),
        ("", ["今天下雨。", "明天呢？", "“会晴。”", "他说。"]),
        (" ", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        (" ", ["هل تمطر؟", "نعم، اليوم."]),
        (" ", ["“Is it?” he asked.", "«Да?» — спросил он.", "See https://e.org/?Q=1!A now."]),
        ("\n", ["The line is\nwrapped here.", "So is\nthis."]),
    ],
)
def test_sentences_of_every_script(joint, parts):
    assert sentences(joint.join(parts)) == parts


def test_a_script_without_marks_is_not_cut():
    assert sentences("ฝนตกวันนี้ พรุ่งนี้แดดออก") == ["ฝนตกวันนี้ พรุ่งนี้แดดออก"]


@given(
    st.text(st.one_of(st.sampled_from("aB1.!?。”)( \n-"), st.characters()), max_size=120), st.integers(0, 9)
)
def test_no_character_is_lost(text, most):
    spans = list(splitting.sentences(text, most))
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    outside = set(range(len(text))) - {at for start, end in spans for at in range(start, end)}
    assert all(text[at].isspace() for at in outside)
