"""Text files as people write them: UTF-8, with a byte-order mark or not, with line ends of any system."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

from melody_cm.storage import located, read_whole

# Lyrics and lists of tags fill cells that are longer than what Python takes unasked.
MOST_IN_A_LINE = 1 << 24
csv.field_size_limit(MOST_IN_A_LINE)
COLUMNS = ("prompt", "caption", "text")  # Of tables of prompts, the likeliest first.
LINE_END = re.compile(r"\r\n?|\n")


def decode(data: bytes) -> str:
    """The text of bytes; a ValueError if they are not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"not UTF-8 text (line {line}, byte {error.start}); save it as UTF-8") from error


def read_text(path: Path) -> str:
    """The text of a file; a ValueError that names it if it is not UTF-8, or too large."""
    data = read_whole(path)
    with located(path):
        return decode(data)


def lines_of(file: IO[AnyStr]) -> Iterator[AnyStr]:
    """The lines of an open file; a ValueError that names it if one is longer than any row is."""
    number = 0
    while line := file.readline(MOST_IN_A_LINE):
        number += 1
        if len(line) == MOST_IN_A_LINE:
            raise ValueError(f"{file.name}, line {number}: longer than {MOST_IN_A_LINE >> 20} MiB, which no row is")
        yield line


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, without spaces around them; errors as of `read_text`."""
    return [line for line in map(str.strip, LINE_END.split(read_text(path))) if line]


def read_prompts(path: Path, column: str | None = None) -> list[str]:
    """The prompts in a file: those of a column of a .csv or .jsonl (None: the first of `COLUMNS` that is there); else a
    line each. Empty lines, and comments that begin with #, are none.

    A FileNotFoundError if there is no such file, a ValueError if it is not UTF-8, has no such column, or a row without
    a text there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of prompts; give a text file with one prompt a line")
    if path.suffix.lower() in TABLES:
        text = read_text(path)
        try:
            rows = TABLES[path.suffix.lower()](text)
        except (ValueError, RecursionError, csv.Error) as error:
            raise ValueError(f"{path}: not a table of prompts ({error})") from error
        return _column(path, rows, column)
    if column is not None:
        raise ValueError(f"{path}: only {' and '.join(TABLES)} have columns; leave the column {column!r} out")
    return [line for line in read_lines(path) if not line.startswith("#")]


def _column(path: Path, rows: list[Any], column: str | None) -> list[str]:
    known = list(rows[0]) if rows and isinstance(rows[0], dict) else []
    name = column or next((name for name in COLUMNS if name in known), None)
    if name is None or name not in known:
        wanted = repr(column) if column else " or ".join(COLUMNS)
        raise ValueError(f"{path}: no column {wanted} but {', '.join(map(str, known)) or 'none'}; name one of them")
    texts = [row.get(name) if isinstance(row, dict) else None for row in rows]
    if bad := [number for number, text in enumerate(texts, 1) if not (isinstance(text, str) and text.strip())]:
        raise ValueError(f"{path}: row {bad[0]} has no text in the column {name!r}; add one or leave the row out")
    return [text.strip() for text in texts]


def named_cells(header: list[str], cells: list[str]) -> dict[str, str]:
    """A row of a table under the names of its columns; a ValueError if they do not fit each other."""
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, but {len(header)} columns have names; is a quote missing?")
    named = dict(zip(header, cells, strict=True))
    if len(named) < len(header) and (twice := [name for name in header if name and header.count(name) > 1]):
        raise ValueError(f"two columns are named {twice[0]!r}; rename one")
    return named


def _csv_rows(text: str) -> list[dict[str, str]]:
    header, *rows = [cells for cells in csv.reader(io.StringIO(text, newline="")) if cells] or [[]]
    header = [name.strip() for name in header]
    named = []
    for number, cells in enumerate(rows, start=1):
        with located(f"row {number}"):
            named.append(named_cells(header, cells))
    return named


def _json_rows(text: str) -> list[Any]:
    return [json.loads(line) for line in LINE_END.split(text) if line.strip()]


TABLES = {".csv": _csv_rows, ".jsonl": _json_rows}


def by_numbers(name: str) -> list[str | int]:
    """A key by which 100_b comes before 1000_a, as by no order of texts."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def printable(name: str) -> str:
    """A file's name as text that can be printed and stored, also where its bytes are not UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")
