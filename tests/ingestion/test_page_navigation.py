"""Running titles, tables of contents and bookmarks of printed pages."""

import pytest

from ai_os_diffusion.ingestion.readers.pages.page_navigation import titles_of, without_navigation


def test_lines_that_stand_at_the_edge_of_many_pages_go():
    pages = [f"Handbook {n} / 9\n\nText of page {n}.\nMore of it.\n{n}" for n in range(1, 9)]
    kept, turned = without_navigation(pages)
    assert kept == [f"\n\nText of page {n}.\nMore of it.\n" for n in range(1, 9)]
    assert turned == list(range(8))


def test_few_pages_and_lines_within_pages_stay():
    pages = ["Note 1\nalpha\nbeta", "Note 2\ngamma\nbeta", "delta\nNote 3\nepsilon"]
    assert without_navigation(pages) == (pages, [])
    pages = [f"{word} begins\nthe same line\n{word} ends" for word in ("one", "two", "three", "four", "five")]
    assert without_navigation(pages) == (pages, [])


def test_lines_of_a_table_of_contents_go_and_dots_of_text_stay():
    page = "Contents\n1.1 Shells . . . . . . 12\n1.2 Files ........ iv\nAnd so on ... 7\nwait...."
    assert without_navigation([page]) == (["Contents\n\n\nAnd so on ... 7\nwait...."], [0])


@pytest.mark.parametrize(
    ("line", "mark"),
    [
        ("1.3.2 Starting MC", "Starting MC"),
        ("Starting  MC", "Starting MC"),
        ("4.4.6 GitHub.com : pull requests", "GitHub.com: pull requests"),
        ("5.5 dirs", "dirs"),
    ],
)
def test_a_title_is_found_where_it_stands(line, mark):
    assert list(titles_of(["of the page before", line, "text"], [(2, mark)])) == [(2, 1, 2)]


def test_titles_are_found_in_order_and_over_lines():
    lines = ["Files", "1 Files and what one", "can do with them", "Files", "2 Shells", "end"]
    marks = [(0, "Files and what one can do with them"), (1, "Nowhere"), (0, "Shells")]
    assert list(titles_of(lines, marks)) == [(0, 1, 3), (0, 4, 5)]
    # A sentence that ends in the words of a title is none.
    assert list(titles_of(["see the part on Shells"], [(0, "Shells")])) == []
