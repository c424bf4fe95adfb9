"""A TensorFlow checkpoint of MusiCNN's layout with random weights, written as TensorFlow writes one."""

import struct

import numpy as np

FRONT = [(7, 38, 1, 204), (7, 67, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51)]
MIDDLE = [(7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64)]
DENSE = [(1506, 200), (200, 50)]
NORMS = [1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200]


def random_variables():
    """The variables by TensorFlow's names."""
    generator = np.random.default_rng(0)
    shapes = {}
    for index, shape in enumerate(FRONT + MIDDLE):
        shapes[f"conv2d{f'_{index}' * (index > 0)}"] = shape
    for index, shape in enumerate(DENSE):
        shapes[f"dense{f'_{index}' * (index > 0)}"] = shape
    variables = {}
    for name, shape in shapes.items():
        scale = (2 / np.prod(shape[:-1])) ** 0.5
        variables[f"{name}/kernel"] = scale * generator.standard_normal(shape)
        variables[f"{name}/bias"] = 0.1 * generator.standard_normal(shape[-1])
    for index, width in enumerate(NORMS):
        name = f"batch_normalization{f'_{index}' * (index > 0)}"
        variables[f"{name}/gamma"] = 0.5 + generator.standard_normal(width)  # Some are negative.
        variables[f"{name}/beta"] = 0.1 * generator.standard_normal(width)
        variables[f"{name}/moving_mean"] = 0.1 * generator.standard_normal(width)
        variables[f"{name}/moving_variance"] = generator.uniform(1e-3, 1.0, width)
    return {name: value.astype("<f4") for name, value in variables.items()}


def varint(number):
    """Seven bits a byte, the lowest first."""
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def field(number, content):
    """One field of a protocol buffer."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def block(entries):
    """A block of a LevelDB table, keys shortened by what they share with the one before, and its trailer."""
    found, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        new = key[shared:]
        found, before = found + varint(shared) + varint(len(new)) + varint(len(value)) + new + value, key
    return found + struct.pack("<II", 0, 1)


def write_checkpoint(folder, variables, per_block=7):
    """`.index` and `.data-00000-of-00001` of the variables, with entries of two kinds that are no such variables."""
    folder.mkdir(parents=True)
    data, entries = b"", [(b"", field(1, 1))]
    for name, value in sorted(variables.items()):
        shape = b"".join(field(2, field(1, extent)) for extent in value.shape)
        entry = field(1, 1) + field(2, shape) + (field(4, len(data)) if data else b"") + field(5, value.nbytes)
        entries.append((name.encode(), entry + bytes([6 << 3 | 5]) + b"crc?"))
        data += value.tobytes()
    entries.append((b"global_step", field(1, 9) + field(4, len(data)) + field(5, 8)))
    data += bytes(8)
    table, index = b"", []
    entries.sort()
    for start in range(0, len(entries), per_block):
        part = entries[start : start + per_block]
        body = block(part)
        index.append((part[-1][0], varint(len(table)) + varint(len(body))))
        table += body + b"\0" + b"crc?"
    handles = b""
    for body in (block([]), block(index)):
        handles += varint(len(table)) + varint(len(body))
        table += body + b"\0" + b"crc?"
    (folder / ".index").write_bytes(table + handles.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"))
    (folder / ".data-00000-of-00001").write_bytes(data)
