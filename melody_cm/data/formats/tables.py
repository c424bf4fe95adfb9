"""The rows of CSV and TSV files, each with its place; a row that cannot be taken apart does not stop the others."""

import ast
import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row as its file has it: `where` it is ("file, row n"), and its cells by column."""

    where: str
    cells: dict[str, Any]


def read_cells(path: Path, delimiter: str = ",") -> Iterator[tuple[str, list[str]] | ValueError]:
    """The rows of a UTF-8 table with their places, counted from 1 as a spreadsheet does; empty ones left out.

    Args:
        path: the table.
        delimiter: between cells; tables with tabs know no quotes.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    # Bytes that are not UTF-8 are kept as surrogates, so that only their own row suffers.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        for place in itertools.count(1):
            where = f"{path}, row {place}"
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


def read_rows(path: Path, needed: Sequence[str]) -> Iterator[Row | ValueError]:
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
    for row in cells:
        yield row if isinstance(row, ValueError) else name_cells(*row, header)


def read_header(path: Path, cells: Iterator[tuple[str, list[str]] | ValueError]) -> list[str]:
    """The next row, which must be there, or the error in its place, raised."""
    row = next(cells, ValueError(f"{path}: empty, not even a row of column names"))
    if isinstance(row, ValueError):
        raise row
    return [name.strip() for name in row[1]]


def name_cells(where: str, cells: list[str], header: Sequence[str]) -> Row | ValueError:
    """A row under its columns' names."""
    if len(cells) != len(header):
        return ValueError(f"{where}: {len(cells)} cells, but {len(header)} columns have names; is a quote missing?")
    return Row(where, dict(zip(header, cells, strict=True)))


def number(row: Row, column: str) -> float:
    """A cell as a number.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(row.cells[column])
    except ValueError:
        raise ValueError(f"{row.where}: {column} is {row.cells[column]!r}; a number is needed") from None


def literal_list(row: Row, column: str) -> list[str]:
    """A cell that holds a list of texts as Python writes it; empty if the cell is.

    Raises:
        ValueError: it is none.
    """
    return _list(row, column, ast.literal_eval, "['...', '...']")


def json_list(row: Row, column: str) -> list[str]:
    """A cell that holds a list of texts as JSON writes it.

    Raises:
        ValueError: it is none.
    """
    return _list(row, column, json.loads, '["...", "..."]')


def _list(row: Row, column: str, parse: Any, example: str) -> list[str]:
    text = row.cells[column].strip()
    try:
        values = parse(text) if text else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{row.where}: {column} is {text[:60]!r}; a list of texts is needed: {example}")
    return values
