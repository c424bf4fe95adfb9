"""Rows of cells with titles above and notes below, for Markdown, the terminal and a spreadsheet."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table


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

    def rich(self) -> Table:
        """The same for a terminal."""
        table = Table(title=self.title or None, caption="\n".join(self.notes), caption_justify="left")
        for index, title in enumerate(self.headings):
            table.add_column(title, justify="left" if index == 0 else "right")
        for line in self.lines:
            table.add_row(*line)
        return table


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows for a spreadsheet: a column for every key that any of them has, empty where a row has nothing."""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
