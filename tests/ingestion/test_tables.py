"""Tables of separated values: rows with the names of their columns, whatever the quotes say."""

import io

import pytest

from ai_os_diffusion.ingestion import Ingestor, read_document
from ai_os_diffusion.ingestion.readers import table
from ai_os_diffusion.ingestion.readers.text_pieces import text_pieces


def rows(name, text):
    blocks = read_document(name, text.encode()).blocks
    assert {block.headings[:1] for block in blocks} <= {(name,)}
    return [(block.text, block.line, block.end_line) for block in blocks]


@pytest.mark.parametrize(
    ("name", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", "\t")]
)
def test_a_row_names_its_columns_whatever_separates_them(name, mark):
    text = "part,price,seen\nBoiler,12,2021-03-04\nRoses,,2022-05-06\n\nPump,7\n".replace(",", mark)
    assert rows(name, text) == [
        ("part | price | seen", 1, 1),
        ("part: Boiler | price: 12 | seen: 2021-03-04", 2, 2),
        ("part: Roses | seen: 2022-05-06", 3, 3),
        ("part: Pump | price: 7", 5, 5),
    ]


def test_decimal_commas_separate_nothing():
    assert rows("a.csv", "part;price\nBoiler;1,5\nPump;2,5\n")[1:] == [
        ("part: Boiler | price: 1,5", 2, 2),
        ("part: Pump | price: 2,5", 3, 3),
    ]


def test_a_row_may_span_lines():
    text = 'part,what\nBoiler,"Serviced,\nand ""cleaned"".\n"\nPump, "Replaced, twice"\n'
    assert rows("a.csv", text) == [
        ("part | what", 1, 1),
        ('part: Boiler\n\nwhat: Serviced,\nand "cleaned".', 2, 4),
        ("part: Pump | what: Replaced, twice", 5, 5),
    ]


def test_a_long_row_has_a_line_for_each_cell_below_its_first():
    said = "It was cleaned. " * 40
    _, block = read_document("a.csv", f"part,what,who\nBoiler,{said},Hugo\n".encode()).blocks
    assert block.text == f"part: Boiler\n\nwhat: {said.strip()}\n\nwho: Hugo"
    assert (block.headings, block.kind) == (("a.csv", "part: Boiler"), "prose")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Ada,1815\nBob,1820\n", "column 1: Ada | column 2: 1815"),
        ("Ada,a@b.org\nBob,b@c.org\n", "column 1: Ada | column 2: a@b.org"),
        ("red,Ada\ngreen,Bob\nred,Eve\n", "column 1: red | column 2: Ada"),
        ("1,2\n3,4\n", "column 1: 1 | column 2: 2"),
        ("name,name\nAda,Bob\n", "column 1: name | column 2: name"),
        ("year,2020,2021\n2020,5,6\n", "year | 2020 | 2021"),
        ("land,2020,2021\nA,2020,2021\n", "column 1: land | column 2: 2020 | column 3: 2021"),
        (",name,born\n0,Ada,1815\n", "name | born"),
        ("name,born\n", "name | born"),
    ],
)
def test_columns_without_names_are_numbered(text, first):
    assert rows("a.csv", text)[0] == (first, 1, 1)


def test_a_column_without_a_name_is_numbered_beside_those_with_names():
    assert rows("a.csv", ",name\n0,Ada,more\n7,Bob\n")[1:] == [
        ("column 1: 0 | name: Ada | column 3: more", 2, 2),
        ("column 1: 7 | name: Bob", 3, 3),
    ]


def test_what_stands_above_the_names_is_text():
    assert rows("a.csv", "Parts of the house,,\n\npart,price,who\nBoiler,12,Hugo\n") == [
        ("Parts of the house", 1, 1),
        ("part | price | who", 3, 3),
        ("part: Boiler | price: 12 | who: Hugo", 4, 4),
    ]


def test_a_long_name_stands_before_its_values_cut_and_once_whole():
    name = "what was done to it in the course of last year "
    found = rows("a.csv", f"part,{name}\nBoiler,cleaned\n")
    assert found[0][0] == f"part | {name.strip()}"
    assert found[1][0] == f"part: Boiler | {name[:40]}: cleaned"


@pytest.mark.parametrize(
    "text",
    [
        'id,what,who\n1,"5 pipe,x\n2,pump,y\n3,cap,z\n',
        'id,what,who\n1,"5 pipe,x\n2,pump,y\n3,"cap,z\n',
        'id,what,who\n1,"5" pipe,x\n2,pump,y\n3,cap,z\n',
        'id,what,who\n1,5" pipe,x\n2,pump,y\n3,cap,z\n',
    ],
)
def test_a_stray_quote_swallows_no_row(text):
    found = rows("a.csv", text)
    assert [line for _, line, _ in found] == [1, 2, 3, 4]
    assert found[2] == ("id: 2 | what: pump | who: y", 3, 3)
    assert ("cap" in found[3][0], "pipe" in found[1][0]) == (True, True)


def test_a_quote_that_stays_open_is_named():
    document = read_document("a.csv", b'id,what\n1,"5 pipe\n2,pump\n')
    assert [(remark.kind, remark.lines) for remark in document.remarks] == [("damaged", ((2, 2),))]


def test_a_text_without_columns_is_read_as_text():
    text = "Dear Anna,\n\nHow are you, and where, and why?\nFine.\n"
    blocks = read_document("a.csv", text.encode()).blocks
    assert [(block.text, block.line) for block in blocks] == [
        ("Dear Anna,", 1),
        ("How are you, and where, and why?\nFine.", 3),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_other_encodings_and_line_ends(encoding):
    data = "Teil;Größe\r\nTür;5\r\nKüche;7\r\n".encode(encoding)
    blocks = read_document("a.csv", data).blocks
    assert [block.text for block in blocks] == [
        "Teil | Größe",
        "Teil: Tür | Größe: 5",
        "Teil: Küche | Größe: 7",
    ]


def test_bytes_that_are_no_text_are_named():
    document = read_document("a.csv", b"part,who\n" + b"Boiler,Hugo\n" * 200 + b"Pu\0mp,Ida\n")
    assert document.blocks[-1].text == "part: Pu\ufffdmp | who: Ida"
    assert [(remark.kind, remark.lines) for remark in document.remarks] == [("replaced", ((202, 202),))]


TABLE = 'part,what\n"a1","one\ntwo"\na2,"three ""four"""\n\na3,five\n"a4","six\n\nseven",eight\n' * 9


@pytest.mark.parametrize("size", [10, 50, 300])
@pytest.mark.parametrize("end", ["", 'a5,"open\nlast,row', 'a5,"open\nlast,row\n'])
def test_a_table_read_in_pieces_is_that_of_the_whole(monkeypatch, size, end):
    monkeypatch.setattr(table, "_SAMPLE_CHARS", 60)
    reader, blocks = table.TableReader("a.csv"), []
    for piece, line in text_pieces(io.StringIO(TABLE + end), piece_chars=size):
        blocks += reader.read(piece, line)
    blocks += reader.end()
    assert [(block.text, block.line, block.end_line) for block in blocks] == rows("a.csv", TABLE + end)
    assert bool(reader.take_remarks()) == bool(end)


@pytest.mark.parametrize(
    "text",
    [
        '"a","\n' * 300_000,
        'a,"b\n' * 300_000,
        "word, " * 400_000,
        "a,b\n" + "word " * 400_000 + "\nnext,row\n",
        'id,what\n1,"' + "some words " * 200_000 + '"\n2,word\n',
        "n" * 100_000 + "," + "m" * 100_000 + "\n" + "word,2\n" * 100_000,
        "," * 2_000_000 + "word",
        '"' * 2_000_000,
    ],
)
def test_tables_that_only_hostile_files_hold_are_read_in_time(tmp_path, text):
    """Each takes hours where its cost is quadratic, or gigabytes where a name is told again and again."""
    path = tmp_path / "a.csv"
    path.write_text(text)
    opened = Ingestor(lambda texts: [len(text.split()) for text in texts]).open(str(path), path)
    kept = sum(chunk.text.count("word") for chunk in opened.chunks())
    assert kept == text.count("word") or {remark.kind for remark in opened.remarks} & {"opaque"}


def test_a_line_too_long_to_be_a_row_is_text_and_the_next_is_a_row(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "_MAX_ROW_CHARS", 1000)
    monkeypatch.setattr(table, "_SAMPLE_CHARS", 20)
    reader = table.TableReader("a.csv")
    blocks = []
    for piece, line in (
        ("part,who\nBoiler,Hugo\nPump,", 1),
        *[("word " * 100, 3)] * 9,
        ("Ida\nCap,Eve\n", 3),
    ):
        blocks += reader.read(piece, line)
        assert len(reader._held) <= 2000
    blocks += reader.end()
    assert sum(block.text.count("word") for block in blocks) == 900
    assert blocks[-1][:3] == ("part: Cap | who: Eve", 4, 4)
    assert {block.line for block in blocks[2:-1]} == {3}
    assert [(remark.kind, remark.lines) for remark in reader.take_remarks()] == [("limit", ((3, 3),))]
