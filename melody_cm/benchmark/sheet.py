"""Rows of cells with titles above and notes below, for Markdown, the terminal and a spreadsheet."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

NAMED_BY = 2  # Columns that say what a line is about.
FRAME = 3  # Characters of padding and border that a column takes.


@dataclass
class Sheet:
    """A table as text; every line has as many cells as there are headings, the first one names it.

    Attributes:
        title: above the headings; nothing for a table that speaks for itself.
    """

    headings: list[str]
    lines: list[list[str]]
    notes: list[str]
    title: str = ""

    def markdown(self) -> str:
        """A Markdown table with its notes as a list."""
        whole = [self.headings, ["---", *["---:"] * (len(self.headings) - 1)], *self.lines]
        table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in whole)
        notes = "\n".join(f"- {note}" for note in self.notes)
        title = f"**{self.title}**\n\n" if self.title else ""
        return f"{title}{table}\n\n{notes}\n"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The same for a terminal; a narrow one gets several tables, each with the columns that name the lines."""
        for number, columns in enumerate(self._blocks(options.max_width)):
            yield self._table(columns, self.title if number == 0 else "")
        yield from (Text(note) for note in self.notes)

    def _table(self, columns: Sequence[int], title: str) -> Table:
        table = Table(title=title or None)
        for column in columns:
            justify = "left" if column == 0 else "right"
            table.add_column(self.headings[column], justify=justify, min_width=self._width(column) - FRAME)
        for line in self.lines:
            table.add_row(*(Text(line[column]) for column in columns))
        return table

    def _blocks(self, width: int) -> list[list[int]]:
        """Columns that fit beside each other without a broken word."""
        named_by, others = range(len(self.headings))[:NAMED_BY], range(len(self.headings))[NAMED_BY:]
        room = width - 1 - sum(map(self._width, named_by))
        blocks: list[list[int]] = [[]]
        for column in others:
            if blocks[-1] and sum(map(self._width, [*blocks[-1], column])) > room:
                blocks.append([])
            blocks[-1].append(column)
        return [[*named_by, *block] for block in blocks]

    def _width(self, column: int) -> int:
        cells = [self.headings[column], *(line[column] for line in self.lines)]
        return FRAME + max((len(word) for cell in cells for word in cell.split()), default=0)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows for a spreadsheet: a column for every key that any of them has, empty where a row has nothing."""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
