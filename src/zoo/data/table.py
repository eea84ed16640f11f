"""Tables of a user: .csv, .tsv and .jsonl files as rows with line numbers, and which column is which.

Comma-separated values: RFC 4180, in UTF-8, with a header; semicolons and tabs are recognised by it. Tab-separated
values are read without quoting, as IANA has them. JSON Lines: an object a line.
"""

import csv
import io
import json
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import UserError, counted, did_you_mean, listing

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
LISTED = 10


class Row(NamedTuple):
    """A row and the line of the file on which it ends, counted from 1."""

    line: int
    values: Mapping[str, Any]


class Sheet(NamedTuple):
    """A table as it was read. A value of a .csv or .tsv is a string, one of a .jsonl any JSON."""

    path: Path
    columns: Sequence[str]
    rows: Sequence[Row]


def read_sheet(path: Path) -> Sheet:
    """Read a whole table.

    Raises:
        UserError: It is missing, empty, no UTF-8, has a NUL byte, no header, or lines that do not fit it.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise UserError(f"'{path}' is no table: known are {' '.join(SUFFIXES)}\nconvert it, or rename it")
    text = read_text(path)
    sheet = _json_lines(path, text) if kind in (".jsonl", ".ndjson") else _separated(path, text, tabs=kind == ".tsv")
    if not sheet.rows:
        raise UserError(f"'{path}' has a header, but no rows\nadd some")
    return sheet


def pick_column(
    sheet: Sheet,
    known: Sequence[str],
    *,
    asked: str | None = None,
    key: str | None = None,
    taken: Collection[str | None] = (),
) -> str:
    """The column of a meaning: as asked, else one with a known name in any case, else the only one left.

    Args:
        known: Names that are recognised, the best first.
        key: The setting that names it, such as ``data.text_column``, where there is one.
        taken: Columns that have another meaning already; None counts for none.

    Raises:
        UserError: There is none.
    """
    free = [column for column in sheet.columns if column not in taken]
    if asked is not None:
        if asked not in sheet.columns:
            raise UserError(
                f"'{sheet.path}' has no column '{asked}'{did_you_mean(asked, sheet.columns)}\n"
                f"its columns are: {_named(sheet.columns)}" + (f"; name one with --set {key}=NAME" if key else "")
            )
        return asked
    lowered = {column.strip().lower(): column for column in reversed(free)}
    for name in known:
        if name in lowered:
            return lowered[name]
    if any(taken) and len(free) == 1:
        return free[0]
    raise UserError(
        f"'{sheet.path}': none of its columns is called {', '.join(known[:6])} or the like\n"
        f"its columns, from line 1, are: {_named(sheet.columns)}\n"
        + (f"name one with --set {key}=NAME, or rename it" if key else "rename the one that is meant")
        + "; the first line must hold the columns' names"
    )


def find_column(sheet: Sheet, known: Sequence[str]) -> str | None:
    """The column with a known name, in any case, where there is one."""
    return next((column for column in sheet.columns if column.strip().lower() in known), None)


def _named(columns: Sequence[str]) -> str:
    return listing([f"'{each}'" if len(each) <= 40 else f"'{each[:40]}...'" for each in columns], LISTED)


# ---------------------------------------------------------------- text


def read_text(path: Path) -> str:
    """The whole of a text file in UTF-8, with or without a byte-order mark.

    Raises:
        UserError: It cannot be read, or is something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}\nname a file that exists and is readable") from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"'{path}' is UTF-16, not UTF-8\n{_recode(path, 'utf-16')}")
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise UserError(f"'{path}' has a NUL byte in line {line}: it is no text, or damaged\nexport or copy it anew")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"'{path}' is not UTF-8: byte 0x{content[error.start]:02x} in line {line}\n{_remedy(path, content)}"
        ) from error
    if not text.strip():
        raise UserError(f"'{path}' is empty\nadd some text")
    return text


def _remedy(path: Path, content: bytes) -> str:
    """What to do with what is no UTF-8: most of it may be, and then it is no other encoding."""
    known = content.decode("utf-8", "replace")
    if sum(each > "\x7f" for each in known) >= 2 * known.count("\ufffd"):
        lines = [str(i) for i, line in enumerate(known.split("\n"), start=1) if "\ufffd" in line]
        where = f"line{'' if len(lines) == 1 else 's'} {listing(lines, 8)}"
        return f"much of the rest is, so that it was damaged or put together from two: mend {where}, or export it anew"
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return f"{_recode(path, 'ENCODING')}; ENCODING is what it was written in"
    return f"if its language is a Western one, {_recode(path, 'cp1252')}"


def _recode(path: Path, encoding: str) -> str:
    beside = path.with_stem(f"{path.stem}-utf8")
    command = f"iconv -f {encoding} -t utf-8 {shlex.quote(str(path))} > {shlex.quote(str(beside))}"
    excel = "such as by Excel's 'CSV UTF-8'"
    return f"save it as UTF-8, {excel}, or by: {command}; then name that file, or put it in the old one's place"


# ---------------------------------------------------------------- kinds of tables


def _separated(path: Path, text: str, *, tabs: bool) -> Sheet:
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = "\t" if tabs else max(",;\t", key=header.count)
    before = csv.field_size_limit(sys.maxsize)  # a cell may be long
    try:
        lines = list(_lines(text, delimiter, quoted=not tabs))
    except csv.Error as error:
        raise UserError(
            f"'{path}' is no well-formed table: {error}\nquote a text that holds a separator, and close every quote"
        ) from error
    finally:
        csv.field_size_limit(before)
    columns = [name.strip() for name in lines[0][1]]
    wrong = [(line, len(fields)) for line, fields in lines[1:] if len(fields) != len(columns)]
    if wrong:
        line, number = wrong[0]
        some = ", ".join(str(line) for line, _ in wrong[:LISTED]) + (" ..." if len(wrong) > LISTED else "")
        raise UserError(
            f"'{path}' has {counted(len(columns), 'column')}, but line {line} has {counted(number, 'field')}; so wrong "
            f"are {counted(len(wrong), 'line')}: {some}\nput a text that holds {_spoken(delimiter)} into quotes"
        )
    first = int(len(columns) > 1 and not columns[0])  # what pandas writes for its index has no name
    _refuse_odd_header(path, columns[first:])
    rows = [Row(line, dict(zip(columns[first:], fields[first:], strict=True))) for line, fields in lines[1:]]
    return Sheet(path, columns[first:], rows)


def _lines(text: str, delimiter: str, *, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Each record's last line and its fields; blank lines are passed over."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=quoted)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise csv.Error(f"line {reader.line_num}: {error}") from error
        if fields:
            yield reader.line_num, fields


def _refuse_odd_header(path: Path, columns: Sequence[str]) -> None:
    if "" in columns:
        raise UserError(f"'{path}': a column of the first line has no name: {_named(columns)}\nname each column")
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise UserError(f"'{path}' has several columns called '{twice[0]}'\nrename or remove all but one")


def _spoken(delimiter: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}[delimiter]


def _json_lines(path: Path, text: str) -> Sheet:
    columns: dict[str, None] = {}
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):  # a text may hold what else ends a line in Unicode
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UserError(f"'{path}', line {number}, is no JSON: {error}\nput one object on each line") from error
        if not isinstance(values, dict):
            raise UserError(f"'{path}', line {number}, is no JSON object\nput one object on each line")
        columns |= dict.fromkeys(values)
        rows.append(Row(number, values))
    return Sheet(path, list(columns), rows)
