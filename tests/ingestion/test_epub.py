"""A book is read chapter by chapter; what is hostile, damaged or locked is named."""

import pytest

from ai_os_diffusion.ingestion import Ingestor, read_document
from ai_os_diffusion.ingestion.readers.packages import package
from ai_os_diffusion.utils.errors import IngestError
from support.package_files import CONTAINER, epub_of, zip_of

PAGE = (
    "<html xmlns='http://www.w3.org/1999/xhtml'><head><title>One</title></head>\n<body>\n{}\n</body></html>"
)


def read(data, name="a.epub"):
    document = read_document(name, data)
    found = [
        (block.text, block.metadata["part"], block.line, block.headings) for block in document.blocks[1:]
    ]
    return found, [(remark.kind, remark.reason, remark.lines) for remark in document.remarks]


def test_chapters_come_in_the_order_of_the_spine_with_their_titles_and_lines():
    first = PAGE.format("<h1>Pruning</h1>\n<p>Cut in March.</p><p hidden='hidden'>no</p>")
    second = PAGE.replace("One", "Roses").format("<p>Water at dawn.</p>")
    assert read(epub_of([first, second])) == (
        [
            ("Cut in March.", "OPS/c1.xhtml", 4, ("Roses", "One", "Pruning")),
            ("Water at dawn.", "OPS/c2.xhtml", 3, ("Roses",)),
        ],
        [("hidden", "OPS/c1.xhtml: marked as not shown", ((4, 4),))],
    )


def test_what_the_book_says_of_itself_is_a_passage():
    metadata = "<dc:creator>Ada Rose</dc:creator><dc:title>Roses</dc:title><dc:date>1999</dc:date>"
    front = read_document("a.epub", epub_of([PAGE.format("<p>x</p>")], metadata=metadata)).blocks[0]
    assert front.text == "title: Roses\ncreator: Ada Rose\ndate: 1999"


def test_xml_is_not_taken_for_html():
    body = (
        "<a id='x'/><script src='a'/><p title='a > b'/><i>one</i><br/><![CDATA[two < & three ]]><title/>four"
    )
    found, remarks = read(epub_of([PAGE.replace("<title>One</title>", "<title/>").format(body)]))
    assert [word for text, *_ in found for word in text.split()] == "one two < & three four".split()
    assert remarks == []


def test_names_in_the_book_may_be_escaped_and_lie_above():
    files = {
        "META-INF/container.xml": CONTAINER,
        "OPS/book.opf": '<package><manifest><item id="a" href="../text/ch%201.xhtml#x" '
        'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>',
        "text/ch 1.xhtml": PAGE.format("<p>Cut.</p>"),
    }
    document = read_document("a.epub", zip_of(files))
    assert [(block.text, block.metadata["part"]) for block in document.blocks] == [
        ("Cut.", "text/ch 1.xhtml")
    ]


def test_a_book_is_known_under_any_name_and_by_its_name_alone():
    data = epub_of([PAGE.format("<p>Cut.</p>")])
    assert read_document("a.zip", data).kind == read_document("book", data).kind == "epub"
    unnamed = zip_of({"META-INF/container.xml": CONTAINER})
    with pytest.raises(IngestError, match="an archive"):
        read_document("a.zip", unnamed)
    with pytest.raises(IngestError, match=r"no file OPS/book\.opf"):
        read_document("a.epub", unnamed)


def test_damaged_and_missing_chapters_are_named_and_the_others_read():
    data = epub_of(["<p>" + "rain " * 99, PAGE.format("<p>Cut.</p>"), b"\0\1\2" * 99])
    at = data.index(b"OPS/c1.xhtml") + len("OPS/c1.xhtml")
    damaged = data[:at] + b"\xff" * 8 + data[at + 8 :]
    found, remarks = read(damaged)
    assert [text for text, *_ in found] == ["Cut."]
    assert [(kind, reason.split(":")[0]) for kind, reason, _ in remarks] == [
        ("damaged", "OPS/c1.xhtml"),
        ("damaged", "OPS/c3.xhtml"),
    ]


def test_a_chapter_that_is_no_page_is_named():
    with pytest.raises(IngestError, match=r"OPS/c1\.xhtml: not a page of text \(image/png\)"):
        read_document("a.epub", epub_of(["x"], kind="image/png"))


LOCKED = (
    "<encryption xmlns:e='http://www.w3.org/2001/04/xmlenc#'><e:EncryptedData>"
    "<e:EncryptionMethod Algorithm='{}'/></e:EncryptedData></encryption>"
)


def test_a_locked_book_is_named_and_scrambled_fonts_lock_nothing():
    page = PAGE.format("<p>Cut.</p>")
    name = "META-INF/encryption.xml"
    fonts = LOCKED.format("http://www.idpf.org/2008/embedding")
    assert read(epub_of([page], more={name: fonts}))[0][0][0] == "Cut."
    locked = LOCKED.format("http://www.w3.org/2001/04/xmlenc#aes256-cbc")
    with pytest.raises(IngestError, match="locked by DRM"):
        read(epub_of([page], more={name: locked}))


BOMB = "<!DOCTYPE a [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>"
FETCHES = "<!DOCTYPE a [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>"


@pytest.mark.parametrize("declared", [BOMB, FETCHES])
def test_entities_are_refused(declared):
    files = {"META-INF/container.xml": declared + CONTAINER}
    with pytest.raises(IngestError, match="declares entities"):
        read(zip_of(files))


def test_what_unpacks_to_too_much_is_refused(monkeypatch):
    bomb = PAGE.format("<p>" + " " * 3_000_000 + "</p>")
    with pytest.raises(IngestError, match="larger than 32 MB or 100 times"):
        read(epub_of([bomb]))
    monkeypatch.setattr(package, "_MAX_FILES", 3)
    with pytest.raises(IngestError, match="more than 3 files"):
        read(epub_of([PAGE.format("<p>x</p>")]))


def test_a_list_nested_too_deeply_is_refused():
    with pytest.raises(IngestError, match="nested more than 1,000 deep"):
        read(zip_of({"META-INF/container.xml": "<a>" * 5000 + "</a>" * 5000}))


def test_a_list_without_end_is_refused():
    with pytest.raises(IngestError, match="more than 200,000 elements"):
        read(zip_of({"META-INF/container.xml": "<a>" + "<a/>x" * 200_000 + "</a>", "pad": bytes(10)}))


@pytest.mark.parametrize("end", [30, 100, -30, -1])
def test_a_book_that_is_cut_is_named(end):
    with pytest.raises(IngestError, match="not an EPUB, or damaged"):
        read(epub_of([PAGE.format("<p>x</p>")])[:end])


def test_many_remarks_of_many_chapters_are_few():
    chapters = [PAGE.format(f"<p>{number}</p><p hidden=''>no</p>") for number in range(200)]
    remarks = read_document("a.epub", epub_of(chapters)).remarks
    assert len(remarks) == 33
    assert "168 times in all" in remarks[-1].reason


def test_markup_that_only_hostile_books_hold_is_read_in_time():
    """Each takes minutes where its cost is quadratic."""
    for piece in ("<a b='", '<a "', "<!--", "<![CDATA[", "<a ", "<a b='c' "):
        with_text = "<html><p>text</p>" + piece * 60_000
        data = epub_of([with_text], more={"pad": bytes(range(256)) * 400})
        assert read(data)[0][0][0].startswith("text")


def test_passages_of_a_book_name_their_chapter():
    data = epub_of([PAGE.format("<p>Cut in March.</p>")])
    reading = Ingestor(lambda texts: [len(text.split()) for text in texts]).open("a.epub", data)
    assert [chunk.metadata["part"] for chunk in reading.chunks()] == ["OPS/book.opf", "OPS/c1.xhtml"]
    assert reading.kind == "epub"
