"""The rows of CSV and TSV files, each with its place; a row that cannot be taken apart does not stop the others."""

import ast
import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from melody_cm.data.clips import SPLITS, Split

Fields = dict[str, Any]


class TableRow(NamedTuple):
    """A row as its file has it: `where` it is ("file, row n"), and its cells by column."""

    where: str
    cells: Fields


# What a format gives: rows with the fields of a manifest, an error in the place of one that cannot be understood.
Rows = Iterator[TableRow | ValueError]


def translate(rows: Iterable[TableRow | ValueError], translation: Callable[[Fields], Fields | None]) -> Rows:
    """The rows in the fields of a manifest; those that are translated to None are left out.

    Args:
        rows: with the cells that the table has.
        translation: of a row's cells; raises ValueError if it cannot understand them.
    """
    for row in rows:
        if isinstance(row, ValueError):
            yield row
            continue
        try:
            fields = translation(row.cells)
        except ValueError as error:
            yield ValueError(f"{row.where}: {error}")
        else:
            if fields is not None:
                yield TableRow(row.where, fields)


def read_cells(path: Path, delimiter: str = ",") -> Iterator[tuple[str, list[str]] | ValueError]:
    """The rows of a UTF-8 table with their places, counted from 1 as a spreadsheet does; empty ones left out.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    # Bytes that are not UTF-8 are kept as surrogates, so that only their own row suffers.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        for number in itertools.count(1):
            where = f"{path}, row {number}"
            try:
                cells = next(reader)
                "".join(cells).encode()
            except StopIteration:
                return
            except UnicodeEncodeError:
                yield ValueError(f"{where}: not UTF-8 text; save the file as UTF-8")
            except csv.Error as error:
                yield ValueError(f"{where}: not a row of a table ({error})")
            else:
                if cells:
                    yield where, cells


def read_rows(path: Path, needed: Sequence[str]) -> Rows:
    """The rows of a CSV file under the names in its first row.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a needed column is not there.
    """
    cells = read_cells(path)
    header = read_header(path, cells)
    missing = [name for name in needed if name not in header]
    if missing:
        raise ValueError(f"{path}: no column '{missing[0]}'; it has {', '.join(header)[:200]}")
    return name_cells(cells, header)


def read_header(path: Path, cells: Iterator[tuple[str, list[str]] | ValueError]) -> list[str]:
    """The next row, which must be there, or the error in its place, raised."""
    row = next(cells, ValueError(f"{path}: empty, not even a row of column names"))
    if isinstance(row, ValueError):
        raise row
    return [name.strip() for name in row[1]]


def name_cells(rows: Iterator[tuple[str, list[str]] | ValueError], header: Sequence[str]) -> Rows:
    """The rows under their columns' names."""
    for row in rows:
        if isinstance(row, ValueError):
            yield row
        elif len(row[1]) != len(header):
            counts = f"{len(row[1])} cells, but {len(header)} columns have names"
            yield ValueError(f"{row[0]}: {counts}; is a quote missing?")
        else:
            yield TableRow(row[0], dict(zip(header, row[1], strict=True)))


def split_files(sources: Sequence[str]) -> list[tuple[Split, Path]]:
    """The files of a collection that keeps each split in a file of its own, from sources like train=FILE.

    Raises:
        ValueError: a source names no split.
    """
    files = []
    for source in sources:
        split, _, path = source.partition("=")
        if split not in SPLITS or not path:
            raise ValueError(f"{source!r} names no split; give train=FILE, valid=FILE, test=FILE, or some of them")
        files.append((split, Path(path)))
    return files


def single_file(sources: Sequence[str]) -> Path:
    """The one file of a collection that is one table."""
    if len(sources) != 1:
        raise ValueError(f"{len(sources)} files are given; this format is one table")
    return Path(sources[0])


def number(cells: Fields, column: str) -> float:
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
