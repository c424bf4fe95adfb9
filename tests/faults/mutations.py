"""Ways to spoil a file: its bytes, or a place in what it says."""

import json
from collections.abc import Iterator
from math import inf, nan
from random import Random
from typing import Any

DEEP = "\ue000deep"  # Stands for a hundred thousand brackets, which no encoder of JSON would write.
PAYLOAD = "touch ran"
WORDS = (
    *("", "\x00", "\ud800", "\x1b[2J\x1b]0;x\x07", "../../../../etc/passwd", "/dev/zero", "x" * 100_000, "stage:../x"),
    *("owner/model", "https://example.invalid/x", "NaN", "%s%n", "{x}", "~", ".", "\ufeff", "train\u202e"),
)
NUMBERS = (-1, 0, 1, 3, 2**15, 2**20, 10**7, 2**31, 2**63, 10**400, -(10**9), 1e-300, 1e308, inf, nan)
CLASSES = (
    *(
        "os.system",
        "subprocess.Popen",
        "idlelib.idle.main",
        "evil.Evil",
        "builtins.eval",
        "torch.load",
        "shutil.rmtree",
    ),
    *("melody_cm.data.ManifestCorpus", "melody_cm.diffusion.LinearAngles", "melody_cm.runs.Run", "antigravity.x"),
)


def hostile_value(rng: Random) -> Any:
    """One value that no writer of ours would write there."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(WORDS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice([None, True, [], {}, [[]], [None], {"": None}, DEEP])
    if kind == 3:
        return {"class_path": rng.choice(CLASSES), "init_args": rng.choice([{}, [PAYLOAD], {"args": PAYLOAD}, None])}
    if kind == 4:
        return [rng.choice(NUMBERS)] * rng.choice([1, 2, 1000])
    return {rng.choice(WORDS): rng.choice(NUMBERS)}


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (holder, key) in nested data."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from places(value)


def spoil_tree(tree: Any, rng: Random) -> Any:
    """A copy of plain data in which one to three places hold, lack or gain something."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        there = list(places(tree))
        if not there or rng.random() < 0.02:
            return hostile_value(rng)
        holder, key = rng.choice(there)
        value, way = holder[key], rng.randrange(5)
        if way == 0 and isinstance(value, int | float) and abs(value) < 1e300:
            holder[key] = rng.choice([value * 1000, -value, value + 1, value / 2, value * 10**9])
        elif way == 1:
            del holder[key]
        elif way == 2 and isinstance(holder, dict):
            holder[rng.choice([*WORDS, "class_path", "init_args", "extends"])] = hostile_value(rng)
        else:
            holder[key] = hostile_value(rng)
    return tree


def to_json(data: Any) -> bytes:
    """As JSON that may hold what JSON does not know."""
    text = json.dumps(data).replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000)
    return text.encode("utf-8", "surrogatepass")


def spoil_bytes(data: bytes, rng: Random) -> bytes:
    """Bytes that are flipped, cut, doubled, zeroed, inserted or exchanged."""
    place, length = rng.randrange(max(1, len(data))), rng.choice([1, 4, 16, 256, 4096])
    way = rng.randrange(7)
    if way == 0:
        return flip(data, rng)
    if way == 1:
        return data[:place]
    if way == 2:
        return data[:place] + data[place + length :]
    if way == 3:
        return data[:place] + bytes(length) + data[place + length :]
    if way == 4:
        return data[:place] + rng.randbytes(length) + data[place:]
    if way == 5:
        return data[:place] + data[place : place + length] * rng.choice([2, 50]) + data[place + length :]
    head = bytearray(data)  # Headers lie in the beginning, where a size is.
    for _ in range(rng.choice([1, 4]) if head else 0):
        head[rng.randrange(min(100, len(head)))] = rng.choice([0, 0xFF, 0x7F, 0x80, rng.randrange(256)])
    return bytes(head)


def flip(data: bytes, rng: Random) -> bytes:
    """One other bit."""
    place = rng.randrange(max(1, len(data)))
    return data[:place] + bytes([(data or b"\0")[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
