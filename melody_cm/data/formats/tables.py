"""What the readers of tables share: rows with their places, and cells that hold numbers or lists."""

import ast
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from melody_cm.data.clips import OTHER_NAMES, SPLITS, Split, read_split
from melody_cm.data.texts import lines_of, named_cells

Fields = dict[str, Any]
# What a format gives: of each row its place ("file, row n"), and a function that tells its fields as a manifest has
# them, or None if the row is not wanted. It raises a ValueError if the row cannot be understood.
Rows = Iterator[tuple[str, Callable[[], Fields | None]]]


def read_cells(path: Path, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """The rows of a UTF-8 table with their places, counted from 1 as a spreadsheet does; empty ones left out. A
    FileNotFoundError if there is no such file, a ValueError if it is no table."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    # Bytes that are not UTF-8 are kept as surrogates, so that only their own row suffers.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        # A zero byte is no text either, and Python 3.10's csv would give up the whole table for it.
        lines = (line.replace("\0", "\udc00") for line in lines_of(file))
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting)
        try:
            yield from ((f"{path}, row {number}", cells) for number, cells in enumerate(reader, start=1) if cells)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: not a row of a table ({error})") from error


def read_header(path: Path, rows: Iterator[tuple[str, list[str]]]) -> list[str]:
    """The next row, which must be there: names of columns.

    Raises:
        ValueError: there is none, or the table is not UTF-8.
    """
    for _, cells in rows:
        if any("\ud800" <= sign <= "\udfff" for sign in "".join(cells)):  # UTF-16, or Latin-1.
            raise ValueError(f"{path}: its names of columns are not UTF-8 text; save it as UTF-8")
        return [name.strip() for name in cells]
    raise ValueError(f"{path}: empty, not even a row of column names")


def read_rows(path: Path, needed: Sequence[str], translate: Callable[[Fields], Fields | None]) -> Rows:
    """The rows of a CSV file, translated under the names in its first row; a ValueError if a `needed` column is not
    there."""
    rows = read_cells(path)
    header = read_header(path, rows)
    missing = [name for name in needed if name not in header]
    if missing:
        raise ValueError(f"{path}: no column '{missing[0]}'; it has {', '.join(header)[:200]}")
    return ((where, partial(translate_cells, translate, header, cells)) for where, cells in rows)


def translate_cells(translate: Callable[[Fields], Fields | None], header: list[str], cells: list[str]) -> Fields | None:
    """A row's cells, translated under their columns' names."""
    return translate(named_cells(header, cells))


def split_files(sources: Sequence[str]) -> list[tuple[Split, Path]]:
    """The files of a collection that keeps each split in a file of its own, from sources like train=FILE; else a
    ValueError."""
    files = []
    for source in sources:
        split, _, path = source.partition("=")
        if split not in (*SPLITS, *OTHER_NAMES) or not path:
            raise ValueError(f"{source!r} names no split; give train=FILE, valid=FILE, test=FILE, or some of them")
        files.append((read_split(split), Path(path)))
    return files


def single_file(sources: Sequence[str]) -> Path:
    """The one file of a collection that is one table."""
    if len(sources) != 1:
        raise ValueError(f"{len(sources)} files are given; this format is one table")
    return Path(sources[0])


def numeric_cell(cells: Fields, column: str) -> float:
    """A cell as a number."""
    try:
        return float(cells[column])
    except ValueError:
        raise ValueError(f"{column} is {cells[column]!r}; a number is needed") from None


def text_list(cells: Fields, column: str, parse: Callable[[str], Any] = ast.literal_eval) -> list[str]:
    """A cell that holds a list of texts as Python (or JSON, with `json.loads`) writes it; empty if the cell is."""
    text = cells[column].strip()
    try:
        values = parse(text) if text else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        example = '["...", "..."]' if parse is json.loads else "['...', '...']"
        raise ValueError(f"{column} is {text[:60]!r}; a list of texts is needed: {example}")
    return values


def without(cells: Fields, *names: str) -> Fields:
    """All cells but some."""
    return {name: value for name, value in cells.items() if name not in names}
