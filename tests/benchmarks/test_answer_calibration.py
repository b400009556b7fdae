"""The fit of how likely an answer is right: kinds count as told, and what is answered is worth it."""

import random
from types import SimpleNamespace

import pytest


@pytest.fixture
def script(benchmark):
    return benchmark("answer_calibration")


def asked(script, count, slope, seed):
    """Questions with three answers each; the right one has more margin, of unanswerable ones none has."""
    rng, rows = random.Random(seed), []
    for number in range(count):
        answerable = number % 3 > 0
        found = [
            script.Found({"margin": rng.gauss(slope * is_right, 1.0)}, is_right, is_right, float(is_right))
            for is_right in (answerable, False, False)
        ]
        rows.append(script.Asked(f"{seed} {number}", answerable, found))
    return rows


def test_an_answer_is_shown_where_it_is_worth_more_than_none(script):
    kinds = {"open": asked(script, 300, 3.0, 1), "documents": asked(script, 90, 3.0, 2)}
    judge, every = script.fitted(kinds), kinds["open"] + kinds["documents"]
    figures = script.measured(every, [judge] * 390)
    best = [one.best(judge.calibration) for one in every]

    def worth(threshold):
        return sum(
            found.right - script._COST * (not found.right) for chance, found in best if chance >= threshold
        )

    assert worth(judge.threshold) > max(worth(judge.threshold / 4), worth(0.9))
    assert figures["auroc_right"] > 0.85
    assert figures["questions"] == 260


def test_documents_count_as_much_as_all_others_however_few(script):
    liked, disliked = asked(script, 60, 3.0, 3), asked(script, 600, -3.0, 4)
    weight = script.fitted({"open": disliked, "documents": liked}).calibration.features["margin"].weight
    assert weight > 0
    swapped = script.fitted({"open": liked, "documents": disliked}).calibration.features["margin"].weight
    assert swapped < 0


def test_each_question_is_judged_by_a_fit_without_it(script):
    kinds = {"open": asked(script, 300, 3.0, 5)}
    own, others = (
        script.measured(kinds["open"], [script.fitted(kinds)] * 300),
        script.across_folds(kinds, "open"),
    )
    assert others["questions"] == own["questions"] == 200
    assert others["auroc_right"] == pytest.approx(own["auroc_right"], abs=0.03)


def test_what_was_read_is_kept(script, tmp_path):
    class Read:
        """A question with one answer, which is right."""

        asked = SimpleNamespace(text="?", answers=("so",))
        found = (SimpleNamespace(features={"margin": 1.0}),)
        removed = False

        def is_right(self, one):
            return True

        is_exact = is_right

        def f1(self, one):
            return 0.5

    def never():
        raise AssertionError("nothing is to be read again")

    read = script.kept(tmp_path, "open", lambda: [Read()])
    assert read == [script.Asked("?", True, [script.Found({"margin": 1.0}, True, True, 0.5)])]
    assert script.kept(tmp_path, "open", never) == read
