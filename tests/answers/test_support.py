import pytest

from ai_os_diffusion.answers.support import keeps_question, support, term_overlap

ROSES = "Cut roses in early March, never in 2019."


def test_what_the_text_holds_is_supported():
    assert (
        support("Anna's birthday is on 4 May.", "Anna's birthday is on 4 May.", "When was Anna born?") == 1.0
    )
    assert support("It costs 38 Euro.", "Die Übernachtung kostet 38 Euro.", "Was kostet sie?") < 1.0
    assert support("Die Übernachtung kostet 38 Euro.", "Eine Übernachtung: 38 Euro.", "Was kostet sie?") > 0.6


@pytest.mark.parametrize(
    ("statement", "text", "question"),
    [
        ("Use os.tempfile to make a folder.", "Use tempfile.mkdtemp to make a folder.", "how?"),
        ("Call mk_dir to make a folder.", "Call mkdir to make a folder.", "how?"),
        ("Roses are cut on 12 March.", "Roses are cut in March.", "When are roses cut?"),
        ("It was serviced in 2020.", "It was serviced in 2019.", "When was it serviced?"),
        ("The train leaves at 8:15.", "The train leaves at 8:10.", "When does it leave?"),
        ("The dentist is Dr. Meyer.", "The dentist is Dr. Okafor.", "Who is the dentist?"),
        ("Tom's birthday is on 4 May.", "Anna's birthday is on 4 May.", "When is Tom's birthday?"),
        ("Tom's birthday is on 4 May.", "Anna's birthday is on 4 May.", "when is tom's birthday?"),
        ("Wash the pan with soap.", "Never wash the pan with soap.", "What do I wash the pan with?"),
        ("Der Hund darf nicht ins Haus.", "Der Hund darf ins Haus.", "Darf der Hund hinein?"),
        (
            "Inflammation is a response that damages native tissues.",
            "Inflammation is a first response to infection.",
            "Which response damages native tissues?",
        ),
        ("Cutting is a common practice in many cultures.", "Roses are cut in March.", "When are roses cut?"),
    ],
)
def test_what_the_text_does_not_hold_is_not(statement, text, question):
    assert support(statement, text, question) < 0.8


def test_repeating_the_question_proves_nothing():
    assert (
        support("The last ferry sails.", "The last ferry sails at ten.", "When does the last ferry sail?")
        == 0.0
    )
    assert support("", "Roses are cut in March.", "When?") == 0.0


def test_a_name_may_stand_in_the_headings_but_a_number_may_not():
    question = "Where was Tom born?"
    assert support("Tom was born in Oslo.", "He was born in Oslo.", question, headings="About Tom") == 1.0
    assert support("Tom was born in Oslo.", "He was born in Oslo.", question) == 0.0
    assert support("He was born in 1987.", "He was born in Oslo.", "When?", headings="1987") == 0.0


def test_identifiers_are_found_whole_and_in_parts():
    text = "Pass `chunksize=10000` to `pandas.read_csv`."
    assert support("Use pandas.read_csv.", text, "how?") == 0.5
    assert support("Pass chunksize to read_csv.", text, "how?") == 1.0


def test_term_overlap_are_a_share_of_those_of_the_question():
    assert term_overlap("when do I cut the roses?", "Roses are cut in March.") == 1.0
    assert term_overlap("when do I cut the lawn?", "Roses are cut in March.") == 0.5
    assert term_overlap("when is it?", "Roses are cut in March.") == 0.0


def test_a_statement_that_drops_what_was_asked_answers_another_question():
    text, question = (
        "Old logs are removed by a script, which keeps 14 logs.",
        "which script keeps 14 old logs?",
    )
    assert keeps_question("A script removes old logs and keeps 14.", text, question)
    assert not keeps_question("Old logs are removed by a script.", text, question)
