"""Collections that keep each split in a file of its own."""

from pathlib import Path

from melody_cm.data.clips import Split


def split_files(train: str | None, valid: str | None, test: str | None) -> list[tuple[Split, Path]]:
    """The files that are given, each with its split.

    Raises:
        ValueError: none is.
    """
    given: list[tuple[Split, str | None]] = [("train", train), ("valid", valid), ("test", test)]
    files = [(split, Path(path)) for split, path in given if path]
    if not files:
        raise ValueError("no file of any split is given; set at least one of train, valid, test")
    return files
