import pytest

from ai_os_diffusion.inference.reading.reading import Reading, Span, mean_reading


def test_a_place_has_the_mean_of_its_margins():
    one = Reading((Span(0, 4, 4.0), Span(9, 12, 1.0)), 2.0)
    other = Reading((Span(9, 12, 5.0), Span(0, 4, -2.0)), 1.0)
    assert mean_reading([one, other]) == Reading((Span(9, 12, 3.0), Span(0, 4, 1.0)), 1.5)
    assert mean_reading([one]) == one


def test_spans_that_overlap_are_one_place_and_the_better_stays():
    one = Reading((Span(0, 4, 4.0),))
    other = Reading((Span(2, 6, 1.0),))
    assert mean_reading([one, other]).spans == (Span(0, 4, 2.5),)


def test_what_a_reading_does_not_know_has_at_most_the_margin_of_its_last():
    one = Reading((Span(0, 4, 4.0), Span(6, 8, -1.0)))
    other = Reading((Span(10, 12, 3.0), Span(14, 16, -5.0)))
    found = mean_reading([one, other])
    assert found.spans[0] == Span(10, 12, pytest.approx(1.0))
    assert Span(0, 4, pytest.approx(-0.5)) in found.spans
    assert len(found.spans) == 2


def test_a_passage_without_words_has_no_place():
    assert mean_reading([Reading(()), Reading(())]) == Reading(())
    assert mean_reading([Reading((Span(0, 1, 1.0),)), Reading(())]).margin == float("-inf")
