"""PDF is read page by page in a process of its own; what is not read is named."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from ai_os_diffusion.ingestion import read_document
from ai_os_diffusion.ingestion.readers import limited_process
from ai_os_diffusion.ingestion.readers.pages import pdf
from ai_os_diffusion.utils.errors import IngestError
from support.pdf_files import lines_of, pdf_of_objects, pdf_of_pages, self_containing_pdf, stream

pytest.importorskip("pypdfium2")

MUTATIONS = int(os.environ.get("AIOS_PDF_MUTATIONS", "60"))
PICTURE = b"0 0 50 50 re f"


def read(data):
    document = read_document("a.pdf", data)
    found = [(block.text, block.metadata["page"]) for block in document.blocks]
    return found, [(remark.kind, remark.pages) for remark in document.remarks]


def test_pages_without_text_are_named_and_empty_ones_are_not():
    pages = [lines_of(["Cut in March"]), PICTURE, PICTURE, b"", lines_of(["Serviced"]), PICTURE]
    assert read(pdf_of_pages(pages)) == (
        [("Cut in March", 1), ("Serviced", 5)],
        [("no_text", ((2, 3), (6, 6)))],
    )


def test_a_remark_tells_pages_and_remedy():
    (remark,) = read_document("a.pdf", pdf_of_pages([lines_of(["a"]), PICTURE, PICTURE])).remarks
    assert str(remark).startswith("pages 2-3: no text layer")
    assert "ocrmypdf" in str(remark)


def test_a_pdf_that_shows_no_text_at_all_is_refused_with_its_pages():
    with pytest.raises(IngestError, match="pages 1-2: no text layer"):
        read(pdf_of_pages([PICTURE, PICTURE]))


def test_damaged_pages_are_named_and_the_others_read():
    data = pdf_of_pages([lines_of(["one"]), lines_of(["two"]), lines_of(["three"])])
    # The second page's object becomes something else.
    at = data.index(b"/Type /Page /Parent", data.index(b"(two)"))
    found, remarks = read(data[:at] + b"/Type /Gage /Parent" + data[at + 19 :])
    assert found == [("one", 1), ("three", 3)]
    assert remarks == [("damaged", ((2, 2),))]


def test_notes_and_form_fields_are_read():
    note = stream(
        lines_of(["Hugo"]),
        b"/Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources << /Font << /F1 3 0 R >> >>",
    )
    annotation = (
        b"<< /Type /Annot /Subtype /FreeText /Rect [0 0 600 800] /F 4 /Contents (Hugo) /AP << /N 4 0 R >> >>"
    )
    data = pdf_of_pages([lines_of(["Serviced by"])], annotations=[b"5 0 R"], more=[note, annotation])
    assert "Hugo" in " ".join(text for text, _ in read(data)[0])


def test_a_page_that_contains_itself_is_named_and_the_others_are_read():
    assert read(self_containing_pdf("before", "after")) == (
        [("before", 1), ("after", 3)],
        [("limit", ((2, 2),))],
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/Count 1", b"/Count 2147483647"),
        (b"/Count 1", b"/Count -1"),
        (b"/MediaBox [0 0 600 800]", b"/MediaBox " + b"[" * 100_000 + b"]" * 100_000),
        (b"/MediaBox [0 0 600 800]", b"/X " + b"<< /A " * 100_000 + b"1" + b">>" * 100_000),
        (b"/Kids [5 0 R]", b"/Kids [2 0 R]"),
    ],
)
def test_structures_without_end_are_bounded(old, new):
    data = pdf_of_pages([lines_of(["one"])])
    try:
        found, remarks = read(data.replace(old, new))
    except IngestError:
        return
    assert found == [("one", 1)]
    assert remarks == []


def test_text_that_multiplies_is_bounded():
    page = b"BT /F1 1 Tf " + b"(Hello turtles) Tj " * 300_000 + b"ET"
    found, remarks = read(pdf_of_pages([lines_of(["one"]), page], pack=True))
    assert found[0] == ("one", 1)
    assert len(found) > 1 or [kind for kind, _ in remarks] == ["limit"]


def test_a_pdf_of_any_bytes_neither_crashes_nor_hangs_the_reader():
    """Bits flipped, pieces replaced, swapped, cut off; most are still read, none takes the process along."""
    chance = random.Random(7)
    seeds = [
        pdf_of_pages([lines_of(["one", "two"]), PICTURE, lines_of(["three"])], pack=pack)
        for pack in (False, True)
    ]
    seeds.append(self_containing_pdf("one", "two"))
    readable = 0
    for _ in range(MUTATIONS):
        data = mutated(chance.choice(seeds), chance)
        try:
            read_document("a.pdf", data)
            readable += 1
        except IngestError:
            pass
    assert readable


def mutated(data, chance):
    data = bytearray(data)
    for _ in range(chance.choice([1, 4, 30])):
        at, other = chance.randrange(len(data)), chance.randrange(len(data))
        how = chance.random()
        if how < 0.4:
            data[at] ^= 1 << chance.randrange(8)
        elif how < 0.6:
            data[at : at + 4] = chance.randbytes(4)
        elif how < 0.8:
            data[at : at + 40], data[other : other + 40] = data[other : other + 40], data[at : at + 40]
        elif how < 0.95:
            digits = [place for place in range(at, min(at + 300, len(data))) if 48 <= data[place] <= 57]
            if digits:
                data[digits[0] : digits[0] + 1] = str(chance.choice([0, -1, 2**31, 99_999_999])).encode()
        else:
            del data[max(at, 20) :]
    return bytes(data)


GOOD = pdf_of_pages([lines_of(["Rain fell on Monday"])])
SCRIPT = """
import os, pathlib, sys
from ai_os_diffusion.ingestion import read_document
data = pathlib.Path(sys.argv[1]).read_bytes()
print(read_document("a.pdf", data).blocks[0].text, flush=True)
"""


def run_script(tmp_path, script, **options):
    file, source = tmp_path / "good.pdf", tmp_path / "script.py"
    file.write_bytes(GOOD)
    source.write_text(script)
    command = [sys.executable, "-W", "error", str(source), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def test_a_script_without_a_main_guard_reads_pdf(tmp_path):
    done = run_script(tmp_path, SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Rain fell on Monday\n", "")


def test_modules_of_the_current_folder_are_not_run(tmp_path):
    for name in ("pypdfium2", "json", "runpy", "resource"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('run')")
    other = tmp_path / "script"
    other.mkdir()
    done = run_script(other, SCRIPT, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("Rain fell on Monday\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_reads_by_a_process_of_its_own(tmp_path):
    script = SCRIPT + textwrap.dedent(
        """
        child = os.fork()
        print(read_document("a.pdf", data).blocks[0].text, flush=True)
        if child:
            os.waitpid(child, 0)
            print(read_document("a.pdf", data).blocks[0].text, flush=True)
        """
    )
    done = run_script(tmp_path, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Rain fell on Monday\n" * 4, "")


def test_threads_share_the_process():
    found = []
    threads = [threading.Thread(target=lambda: found.append(read(GOOD))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [([("Rain fell on Monday", 1)], [])] * 8


@pytest.mark.skipif(os.name != "posix", reason="signals of a terminal")
def test_ctrl_c_ends_the_reading_and_the_process(tmp_path):
    script = SCRIPT + textwrap.dedent(
        """
        import signal, threading
        from ai_os_diffusion.ingestion.readers.pages import pdf
        worker = pdf._process._process
        pdf._process.ask = lambda *_: threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            read_document("a.pdf", data)
        except KeyboardInterrupt:
            print(worker.returncode)
        """
    )
    done = run_script(tmp_path, script)
    assert done.stdout == f"Rain fell on Monday\n{-signal.SIGKILL}\n"


THREE_PAGES = pdf_of_pages([lines_of(["one"]), lines_of(["two"]), lines_of(["three"])])


@pytest.fixture
def at_second_page(monkeypatch, tmp_path):
    """Give the reader a process that does something more at the second page."""
    started = []

    def start(statement, **limits):
        script = tmp_path / "worker.py"
        script.write_text(
            textwrap.dedent(
                f"""
                import os, signal, sys, time
                from ai_os_diffusion.ingestion.readers.pages import pdf_worker
                page_of = pdf_worker._page

                def page(document, index):
                    if index == 1:
                        {statement}
                    return page_of(document, index)

                pdf_worker._page = page
                pdf_worker.main(sys.stdin.buffer, sys.stdout.buffer)
                """
            )
        )
        process = limited_process.LimitedProcess(script, **limits)
        monkeypatch.setattr(pdf, "_process", process)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def test_a_page_of_a_process_that_was_stopped_is_not_lost(at_second_page, monkeypatch):
    monkeypatch.setattr(pdf, "_PAGE_SECONDS", 0.5)
    limited = at_second_page("os.kill(os.getpid(), signal.SIGSTOP)")
    found = []
    reading = threading.Thread(target=lambda: found.append(read(THREE_PAGES)))
    reading.start()
    while (process := limited._process) is None:
        time.sleep(0.01)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    time.sleep(4 * pdf._PAGE_SECONDS)
    process.send_signal(signal.SIGCONT)
    reading.join()
    assert found == [([("one", 1), ("two", 2), ("three", 3)], [])]


def test_a_page_that_computes_without_end_is_named_and_the_others_read(at_second_page, monkeypatch):
    monkeypatch.setattr(pdf, "_PAGE_SECONDS", 0.5)
    at_second_page("while True: pass")
    assert read(THREE_PAGES) == ([("one", 1), ("three", 3)], [("limit", ((2, 2),))])


def test_a_page_that_sleeps_without_end_is_named_and_the_others_read(at_second_page):
    at_second_page("time.sleep(10_000)", hang_seconds=5)
    assert read(THREE_PAGES) == ([("one", 1), ("three", 3)], [("limit", ((2, 2),))])


def test_a_process_that_dies_is_started_again():
    read(GOOD)
    process = pdf._process._process
    process.kill()
    process.wait()
    assert read(GOOD) == ([("Rain fell on Monday", 1)], [])


def test_a_process_is_kept_whatever_the_size_of_the_one_that_started_it():
    pdf._process.kill()
    held = bytearray(300 << 20)
    held[::4096] = b"." * len(held[::4096])
    read(GOOD)
    process = pdf._process._process
    del held
    assert process is not None
    read(GOOD)
    assert pdf._process._process is process


def test_a_process_that_cannot_be_started_is_named(monkeypatch):
    pdf._process.kill()
    monkeypatch.setattr(limited_process.sys, "executable", "/no/such/python")
    with pytest.raises(IngestError, match="/no/such/python"):
        read(GOOD)


def test_the_title_of_the_file_is_context_only():
    data = pdf_of_pages([lines_of(["one"])], more=[b"<< /Title (Boiler) >>"], trailer=b"/Info 4 0 R")
    (block,) = read_document("a.pdf", data).blocks
    assert block.headings == ("Boiler",)


def test_no_page_at_all_is_refused():
    with pytest.raises(IngestError):
        read(pdf_of_objects([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"]))


def test_bookmarks_are_the_titles_of_what_stands_below_them():
    pages = [["1 First steps", "Open the box."], ["1.1 The plug", "Put it in.", "2 Care", "Keep it dry."]]
    # Objects 4 to 7 are the bookmarks, 9 and 11 the pages.
    marks = [
        b"<< /First 5 0 R /Last 7 0 R /Count 2 >>",
        b"<< /Title (First steps) /Parent 4 0 R /Next 7 0 R /First 6 0 R /Last 6 0 R /Dest [9 0 R /Fit] >>",
        b"<< /Title (The plug) /Parent 5 0 R /Dest [11 0 R /Fit] >>",
        b"<< /Title (Care) /Parent 4 0 R /Dest [11 0 R /Fit] >>",
    ]
    data = pdf_of_pages(map(lines_of, pages), more=marks, catalogue=b"/Outlines 4 0 R")
    document = read_document("a.pdf", data)
    assert [(block.headings, block.text, block.metadata["page"]) for block in document.blocks] == [
        (("1 First steps",), "Open the box.", 1),
        (("1 First steps", "1.1 The plug"), "Put it in.", 2),
        (("2 Care",), "Keep it dry.", 2),
    ]
    assert document.remarks == ()


def test_bookmarks_without_end_are_bounded():
    marks = [
        b"<< /First 5 0 R /Last 5 0 R /Count 1 >>",
        b"<< /Title (again) /Parent 4 0 R /Next 5 0 R /First 4 0 R /Last 4 0 R /Dest [7 0 R /Fit] >>",
    ]
    data = pdf_of_pages([lines_of(["one"])], more=marks, catalogue=b"/Outlines 4 0 R")
    assert [block.text for block in read_document("a.pdf", data).blocks] == ["one"]
