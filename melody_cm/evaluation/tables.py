"""Results as tables: Markdown, terminal and CSV, what changed since older results, and what to know of embeddings."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from melody_cm.evaluation.frechet import few_words
from melody_cm.evaluation.results import Difference, Results, Row, apart, arrow
from melody_cm.evaluation.score import unlike_n
from melody_cm.placement import refuse_unlike_placements

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
            yield self._table(columns, self.title if number == 0 else "", options.max_width)
        yield from (Text(note) for note in self.notes)

    def _table(self, columns: Sequence[int], title: str, width: int) -> Table:
        table = Table(title=title or None)
        widths = self._widths(columns, width - 1)
        for column in columns:
            justify = "left" if column == 0 else "right"
            table.add_column(self.headings[column], justify=justify, width=widths[column])
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

    def _widths(self, columns: Sequence[int], room: int) -> dict[int, int]:
        """At least the longest word; the whole of the longest cell where there is room, narrow columns first."""
        widths = {column: self._width(column) - FRAME for column in columns}
        wanted = {column: max(map(len, self._cells(column))) - widths[column] for column in columns}
        spare = room - sum(map(self._width, columns))
        for column in sorted(columns, key=wanted.__getitem__):
            extra = max(min(spare, wanted[column]), 0)
            widths[column] += extra
            spare -= extra
        return widths

    def _width(self, column: int) -> int:
        return FRAME + max((len(word) for cell in self._cells(column) for word in cell.split()), default=0)

    def _cells(self, column: int) -> list[str]:
        return [self.headings[column], *(line[column] for line in self.lines)]


def change_sheet(older: Results, newer: Results) -> Sheet:
    """What changed since older results: the rows and metrics that both have, and whether their intervals part.

    Raises:
        ValueError: they were made on unlike devices or in unlike precisions, or measured in unlike embeddings.
    """
    refuse_unlike_placements(older.metadata, newer.metadata)
    lines, notes = [], []
    known = {(row.title, key): score for row in older.rows for key, score in row.metrics.items()}
    shared = [(row, key) for row in newer.rows for key in row.metrics if (row.title, key) in known]
    for row, key in shared:
        before, after = known[row.title, key], row.metrics[key]
        found = apart(key, (row.title, after), (row.title, before)).verdict
        sides = [text for score in (before, after) for text in (number(score.value), score.interval())]
        lines.append([row.title, key + arrow(key), *sides, found])
        notes += [f"{row.title}, {key}: {note}" for note in [unlike_n(before, after)] if note]
    return Sheet(["row", "metric", "older", "interval", "this", "interval", "verdict"], lines, notes, "What changed")


def number(value: float | None) -> str:
    """A number for a table; a dash for none."""
    return "-" if value is None else f"{value:.4g}"


def embedding_notes(results: Results) -> list[str]:
    """What a reader must know of the embeddings before comparing distances."""
    notes = []
    for name, identity in results.embeddings().items():
        notes.append(f"{name}: {identity}.")
        if not identity.trained:
            notes.append(f"fad_{name} uses hand-made features: it is not plain FAD; no published number compares.")
        if any(score.too_few for score in results.scores(f"fad_{name}")):
            notes.append(f"† too few, {few_words(identity.width)}: fad_{name} is mostly bias; compare equal n only.")
    return notes


def csv_text(results: Results) -> str:
    """The rows of results for a spreadsheet: a column for every number that any of them has, empty where one has none.

    Differences are told only where all rows are compared with one baseline.
    """
    told = results.differences if results.metadata.get("baseline") else []
    rows = [_flat(row, [one for one in told if one.first == row.title]) for row in results.rows]
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: Row, differences: Sequence[Difference]) -> dict[str, Any]:
    flat: dict[str, Any] = {"label": row.label, "num_steps": row.num_steps}
    for key, score in row.metrics.items():
        parts = ("value", "corrected", "low", "high", "n_generated", "n_reference", "too_few")
        flat |= {f"{key}.{part}": getattr(score, part) for part in parts}
        flat |= {f"{key}.{name}": value for name, value in score.details.items()}
    flat |= {f"{key}.{name}": value for key, values in row.samples.items() for name, value in values.items()}
    for one in differences:
        parts = ("difference", "low", "high", "p", "p_holm", "verdict")
        flat |= {f"{one.metric}.difference.{part}": getattr(one, part) for part in parts}
    for name, fact in row.facts.items():
        plain = fact if isinstance(fact, dict) else {"": fact}
        named = {f"{name}.{key}".rstrip("."): value for key, value in plain.items()}
        flat |= {key: value for key, value in named.items() if not isinstance(value, dict | list)}
    return flat
