"""Tables as users have them: what is read, and what is refused with the place and the remedy."""

from pathlib import Path

import pytest

from zoo.data.table import pick_column, read_sheet
from zoo.errors import UserError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\nhé 🦓,x\n"one, ""two""\nlines",y\n'),
        ("a.CSV", '\ufefftext;label\r\nhé 🦓;x\r\n"one, ""two""\nlines";y\r\n'),
        ("a.csv", 'text\tlabel\nhé 🦓\tx\n\n"one, ""two""\nlines"\ty'),
        ("a.jsonl", '{"text": "hé 🦓", "label": "x"}\n\n{"text": "one, \\"two\\"\\nlines", "label": "y"}\n'),
    ],
)
def test_what_is_read(tmp_path: Path, name: str, content: str) -> None:
    sheet = read_sheet(written(tmp_path, name, content))
    assert list(sheet.columns) == ["text", "label"]
    assert [row.values for row in sheet.rows] == [
        {"text": "hé 🦓", "label": "x"},
        {"text": 'one, "two"\nlines', "label": "y"},
    ]


def test_the_nameless_index_of_pandas_is_no_column(tmp_path: Path) -> None:
    sheet = read_sheet(written(tmp_path, "a.csv", ",text,label\n0,fine,x\n1,bad,y\n"))
    assert list(sheet.columns) == ["text", "label"]
    assert sheet.rows[1].values == {"text": "bad", "label": "y"}


def test_tab_separated_values_have_no_quotes(tmp_path: Path) -> None:
    sheet = read_sheet(written(tmp_path, "a.tsv", 'text\tlabel\n"so it began\tx\nfine" he said\ty\n'))
    assert [row.values["text"] for row in sheet.rows] == ['"so it began', 'fine" he said']
    assert [row.line for row in sheet.rows] == [2, 3]


def test_a_cell_may_be_very_long(tmp_path: Path) -> None:
    sheet = read_sheet(written(tmp_path, "a.csv", f"text,label\n{'long ' * 100_000},x\n"))
    assert len(sheet.rows[0].values["text"]) == 500_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "text,label\n", "a header, but no rows"),
        ("a.csv", b"text,label\ncaf\xe9,x\n", r"not UTF-8: byte 0xe9 in line 2\n.* save it as UTF-8.*iconv -f cp1252"),
        ("a.csv", b"text,label\na\x81,x\n", r"not UTF-8: byte 0x81 in line 2\nsave it as UTF-8.*iconv -f ENCODING"),
        (
            "a.csv",
            "text,label\ncafé,x\nthé,y\n".encode() + b"\xc3",
            r"byte 0xc3 in line 4\nmuch of the rest is, .*: mend line 4, or export",
        ),
        (
            "a.csv",
            "text,label\ncafé,x\n".encode() + b"th\xe9,y\n",
            r"line 3\nmuch of the rest is, .*: mend line 3, or export",
        ),
        (
            "a.csv",
            "text,label\ncafé,x\nthé,y\n".encode() + b"th\xe9,y\n" + "né,x\n".encode() + b"\xe9t\xe9,y\n",
            r"line 4\nmuch of the rest is, .*: mend lines 4, 6, or export",
        ),
        (
            "a.csv",
            "text,label\ncafé,x\n".encode() + b"\xe9t\xe9,y\n",
            r"line 3\nif its language is a Western one, save",
        ),
        ("a.csv", "text,label\na,x\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        ("a.csv", "text,label\na\0b,x\n", "a NUL byte in line 2"),
        ("a.csv", b"RIFF\x80\x3e\0\0WAVE", "a NUL byte in line 1"),
        ("a.csv", "text,label\na,b,x\nfine,y\n", r"has 2 columns, but line 2 has 3 fields; so wrong are 1 line: 2"),
        ("a.csv", 'text,label\n"never closed,x\n', "no well-formed table: line 2"),
        ("a.csv", "text,text,label\na,b,x\n", "several columns called 'text'"),
        ("a.csv", "text,,label\na,b,x\n", "a column of the first line has no name"),
        ("a.xlsx", b"PK\x03\x04\xff\x00", "is no table: known are .csv .tsv .jsonl .ndjson"),
        ("a.jsonl", '{"text": "a"}\n{"text":\n', "line 2, is no JSON"),
        ("a.jsonl", "[1, 2]\n", "line 1, is no JSON object"),
        ("a.xlsx", "x", "is no table: known are .csv .tsv .jsonl .ndjson"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(UserError, match=message):
        read_sheet(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        read_sheet(tmp_path / "none.csv")


def test_columns_are_recognised(tmp_path: Path) -> None:
    sheet = read_sheet(written(tmp_path, "a.csv", "id,Review,Stars\n1,good,5\n"))
    assert pick_column(sheet, ("text", "review")) == "Review"
    assert pick_column(sheet, ("label",), asked="Stars") == "Stars"
    with pytest.raises(UserError, match=r"none of its columns is called label.*\n.*'id', 'Review', 'Stars'\n.*--set"):
        pick_column(sheet, ("label",), key="data.label_column", taken="Review")
    with pytest.raises(UserError, match="no column 'Star'; did you mean 'Stars'"):
        pick_column(sheet, ("label",), asked="Star")


def test_the_only_column_left_is_it(tmp_path: Path) -> None:
    sheet = read_sheet(written(tmp_path, "a.csv", "tweet,label\nhi,x\n"))
    assert pick_column(sheet, ("text",), taken="label") == "tweet"
