"""Lists with tabs: with the quotation marks of csv, or with those of their texts."""

import csv

import pytest

from rcnn_jax.data.files.text_lines import tab_separated

pytestmark = pytest.mark.one_row


def read(tmp_path, content):
    path = tmp_path / "list.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [fields for _, fields in tab_separated(path)]


TEXTS = {
    "quotes": ['He said "stop", twice', "plain"],
    "a quotation": ['"Go home."', "plain"],
    "two quotations": ['"Stop," he said. "Go."', '"', '""', 'a "b" c', "it's 5\""],
    "commas": ["one, two", '"Yes, sir."'],
    "tabs and lines": ["a\tb", "two\nlines", 'three\n"quoted"\nlines', ""],
    "none": ["plain", "it's, well, plain"],
    "other scripts": ['sie sagt "nö"', "猫, 犬"],
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("kind", TEXTS)
def test_what_csv_wrote_is_read_as_csv_reads_it(tmp_path, kind, quoting, end):
    rows = [[f"{place}.png", text] for place, text in enumerate(TEXTS[kind])]
    with (tmp_path / "written.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=quoting, lineterminator=end).writerows(rows)
    assert read(tmp_path, (tmp_path / "written.tsv").read_bytes()) == rows


@pytest.mark.parametrize("kind", [kind for kind in TEXTS if kind != "tabs and lines"])
def test_what_was_written_without_quoting_stays_as_it_is(tmp_path, kind):
    rows = [[f"{place}.png", text] for place, text in enumerate(TEXTS[kind])]
    content = "".join("\t".join(row) + "\n" for row in rows)
    assert read(tmp_path, content) == rows
    assert read(tmp_path, content.encode("utf-8-sig")) == rows


@pytest.mark.parametrize(
    "texts",
    [
        ['"It was late', 'and dark."'],  # a quotation over two lines of a page
        ['"It was late', "and", 'dark."', '"So dark."'],
        ['"Go ""home"" now', "b"],
        ['He said ""stop""', '"a ""b"""'],
        [' "Stop"', '"a ""b"""'],
        ['"Stop" ', '"a ""b"""'],
        ['"Hello, world"', '"Hello"', "x"],
        ['"Hello, world"', "one, two"],
        [r'"He said \"stop\""', "b"],  # R's write.table; no csv
    ],
)
def test_one_text_that_is_not_quoted_leaves_all(tmp_path, texts):
    rows = [[f"{place}.png", text] for place, text in enumerate(texts)]
    assert read(tmp_path, "\n".join("\t".join(row) for row in rows)) == rows


def test_spreadsheets_quote_commas(tmp_path):
    content = 'a.png\t"Hello, world"\nb.png\tplain\nc.png\t"yes, ""yes"""\n'
    assert [row[1] for row in read(tmp_path, content)] == ["Hello, world", "plain", 'yes, "yes"']
    content = 'a.png\t"Hello, world"\nb.png\tplain\n'
    assert [row[1] for row in read(tmp_path, content)] == ["Hello, world", "plain"]


def test_rows_are_named_by_the_line_they_begin_in(tmp_path):
    path = tmp_path / "list.tsv"
    path.write_text('a.png\t"two\n\nlines"\n\n  \nb.png\tx\t\n\t\nc.png\n')
    assert [(w.rpartition(":")[2], fields) for w, fields in tab_separated(path)] == [
        ("1", ["a.png", '"two']),
        ("3", ['lines"']),
        ("6", ["b.png", "x", ""]),
        ("7", ["", ""]),
        ("8", ["c.png"]),
    ]
    path.write_text('a.png\t"two\n\nlines"\n\n  \nb.png\tx\nc.png\t"a ""b"""\n')
    assert [(w.rpartition(":")[2], fields) for w, fields in tab_separated(path)] == [
        ("1", ["a.png", "two\n\nlines"]),
        ("6", ["b.png", "x"]),
        ("7", ["c.png", 'a "b"']),
    ]
    path.write_bytes(b'a.png\t"x"\nb.png\t\xff\n')
    with pytest.raises(ValueError, match=r"list\.tsv:2: byte 6 \(0xff\) is no UTF-8"):
        tab_separated(path)
