"""Text files as people write them: UTF-8, with a byte-order mark or not, with line ends of any system."""

import csv
import os
import re
from pathlib import Path

# Lyrics and lists of tags fill cells that are longer than what Python takes unasked.
csv.field_size_limit(1 << 30)
LINE_END = re.compile(r"\r\n?|\n")


def decode(data: bytes) -> str:
    """The text of bytes.

    Raises:
        ValueError: they are not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"not UTF-8 text (line {line}, byte {error.start}); save it as UTF-8") from error


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        ValueError: it is not UTF-8; the message names the file.
    """
    try:
        return decode(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, without spaces around them; errors as of `read_text`."""
    return [line for line in map(str.strip, LINE_END.split(read_text(path))) if line]


def read_prompts(path: Path) -> list[str]:
    """The prompts in a text file: a line each; empty lines, and comments that begin with #, are none.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of prompts; give a text file with one prompt a line")
    return [line for line in read_lines(path) if not line.startswith("#")]


def by_numbers(name: str) -> list[str | int]:
    """A key by which 100_b comes before 1000_a, as by no order of texts."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def printable(name: str) -> str:
    """A file's name as text that can be printed and stored, also where its bytes are not UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")
