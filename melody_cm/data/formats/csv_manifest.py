"""Manifests as spreadsheets write them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from melody_cm.data.clips import Split
from melody_cm.data.formats.described import DescribedCorpus
from melody_cm.data.formats.tables import Row, json_list, number, read_rows

LISTS = ("alt_captions", "instruments")


class CsvCorpus(DescribedCorpus):
    """The clips of a CSV file whose columns are the fields of a manifest (docs/data.md); empty cells are absent fields.

    Lists (alt_captions, instruments) are JSON, or texts with `|` between them.

    Args:
        path: the CSV file; `audio` is relative to its folder.
        default_split: the split of rows that name none.
        allow_outside: let `audio` lead out of the file's folder.
    """

    def __init__(self, path: str, default_split: Split = "train", allow_outside: bool = False) -> None:
        super().__init__([Path(path)], Path(path).parent, allow_outside)
        self.default_split = default_split

    def rows(self) -> Iterator[Row | ValueError]:
        return read_rows(self.tables[0], ("id", "audio", "caption"))

    def fields(self, row: Row) -> dict[str, Any]:
        filled = {name: cell for name, cell in row.cells.items() if cell.strip()}
        if "id" not in filled:
            raise ValueError(f"{row.where}: the id is empty; give each row one of its own")
        fields: dict[str, Any] = {"audio": None, "caption": None, "split": self.default_split} | filled
        fields |= {name: number(row, name) for name in ("start", "duration") if name in filled}
        return fields | {name: _texts(row, name) for name in LISTS if name in filled}


def _texts(row: Row, column: str) -> list[str]:
    cell = row.cells[column].strip()
    if cell.startswith("["):
        return json_list(row, column)
    return [text.strip() for text in cell.split("|") if text.strip()]
