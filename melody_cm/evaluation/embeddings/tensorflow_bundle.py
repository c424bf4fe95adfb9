"""Variables of a TensorFlow checkpoint ("bundle"), read without TensorFlow.

`.index` is a LevelDB table (leveldb/doc/table_format.md) from a variable's name to a small protocol buffer
(tensorflow/core/protobuf/tensor_bundle.proto); `.data-00000-of-00001` holds the raw little-endian numbers.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER_BYTES = 48
TYPE, SHAPE, SHARD, OFFSET, SIZE = 1, 2, 3, 4, 5  # Fields of BundleEntryProto.
DIMENSION, EXTENT = 2, 1  # Of TensorShapeProto, and of its Dim.
FLOAT32 = 1


def read_bundle(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The variables of single precision in a folder's `.index` and `.data-00000-of-00001`, by their names.

    Raises:
        FileNotFoundError: a file is missing; ValueError: it is no such file, is compressed, or is cut short.
    """
    index, data = folder / ".index", (folder / ".data-00000-of-00001").read_bytes()
    variables = {}
    try:
        for key, value in _table(index.read_bytes()):
            entry = dict(_fields(value))
            if key and entry.get(TYPE) == FLOAT32 and not entry.get(SHARD, 0):
                variables[key.decode()] = _variable(entry, data)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{index} is damaged ({error}); install the package again") from error
    except ValueError as error:
        raise ValueError(f"{index}: {error}; install the package again") from error
    return variables


def _variable(entry: dict[int, int | bytes], data: bytes) -> NDArray[np.float32]:
    dimensions = [part for number, part in _fields(entry.get(SHAPE, b"")) if number == DIMENSION]
    shape = [dict(_fields(dimension)).get(EXTENT, 0) for dimension in dimensions]
    numbers = np.frombuffer(data, "<f4", entry[SIZE] // 4, entry.get(OFFSET, 0))
    return numbers.reshape(shape).astype(np.float32)


def _table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table: its index block names the blocks that hold them."""
    footer = table[-FOOTER_BYTES:]
    if not footer.endswith(MAGIC):
        raise ValueError("not a LevelDB table")
    _, position = _handle(footer, 0)  # Of the metadata.
    for _, handle in _block(table, _handle(footer, position)[0]):
        yield from _block(table, _handle(handle, 0)[0])


def _block(table: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Entries of a block: each key tells how many bytes it shares with the one before."""
    offset, size = handle
    if table[offset + size]:
        raise ValueError("its blocks are compressed, which is not read here")
    block = table[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    position, end, key = 0, size - 4 * (restarts + 1), b""
    while position < end:
        shared, position = _varint(block, position)
        new, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + new]
        position += new
        yield key, block[position : position + length]
        position += length


def _handle(buffer: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the next number begins."""
    offset, position = _varint(buffer, position)
    size, position = _varint(buffer, position)
    return (offset, size), position


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and contents of a protocol buffer's fields."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            size, position = _varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        yield number, message[position : position + size]
        position += size


def _varint(buffer: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where the next one begins."""
    value, shift = 0, 0
    while True:
        byte = buffer[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
