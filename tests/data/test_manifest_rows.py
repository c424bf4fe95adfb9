import json
from pathlib import Path

import pytest

from melody_cm.data import manifest_rows
from melody_cm.data.manifest_rows import ManifestRows

PLAIN = {"id": "a", "audio": "audio/a.wav", "caption": "One."}
GOOD = [
    {},
    {"id": 7},
    {"id": 1.5},
    {"piece": "song", "split": "test", "start": 1, "duration": 2.5, "alt_captions": ["Two.", ""]},
    {"piece": 12},
    {"piece": ""},
    {"split": ""},
    {"split": None, "start": None, "duration": None, "alt_captions": None, "caption": None},
    {"caption": ""},
    {"caption": 0},
    {"alt_captions": [None, "Two."]},
    {"alt_captions": 0},
    {"audio": "./a.wav"},
    {"audio": "audio//a.wav"},
    {"audio": "audio/./a.wav"},
    {"audio": "audio/../a.wav"},
    {"audio": "audio/.hidden/a..wav"},
    {"audio": ".a.wav"},
    {"audio": "audio/a.wav/"},
    {"audio": "müsik/é.wav", "caption": "Naïve \U0001f3b5"},
    {"audio": None},
    {"genre": {"deep": [1, 2, {"er": None}]}, "caption": '\\u0022 "\n'},
]
BAD = [
    {"id": None, "audio": 5},
    {"audio": ""},
    {"audio": "../a.wav"},
    {"audio": "/a.wav"},
    {"audio": "audio/../../a.wav"},
    {"split": "training"},
    {"start": -1},
    {"start": True},
    {"start": float("nan")},
    {"duration": 0},
    {"duration": float("inf")},
    {"duration": "10"},
    {"caption": 3},
    {"alt_captions": "Two."},
    {"alt_captions": [3]},
]
BAD_LINES = [
    b'{"id": "a", "audio": "a.wav", "caption": null',
    b'{"id": "a", "audio": "a.wav", "caption": null} {"id": "b"}',
    b'{"id": "a", "audio": "a.wav", "caption": null, "genre": tru}',
    b'{"id": "a", "audio": "a.wav", "caption": null, "genre": "caf\xe9"}',
    b'{"id": "a", "audio": "a.wav", "captoin": null}',
    b'{"audio": "a.wav", "caption": null}',
    b"[1]",
    b'\xef\xbb\xbf{"id": "a", "audio": "a.wav", "caption": null}',
]


def rows(folder, **options):
    return ManifestRows(folder / "manifest.jsonl", **{"default_split": "valid", "allow_outside": False} | options)


@pytest.mark.parametrize("fields", GOOD, ids=str)
def test_facts_are_those_of_the_clip(tmp_path, fields):
    line = json.dumps(PLAIN | fields, ensure_ascii=False).encode()
    clip = rows(tmp_path).clip(3, line)
    expected = clip and (clip.id, clip.split, clip.piece, str(clip.audio))
    assert rows(tmp_path).facts(3, line) == expected


@pytest.mark.parametrize(
    "line", [json.dumps(PLAIN | fields).encode() for fields in BAD] + BAD_LINES, ids=lambda line: repr(line)
)
def test_what_is_no_clip_has_no_facts_and_the_same_message(tmp_path, line):
    with pytest.raises(ValueError, match=r"manifest\.jsonl, row 3: ") as of_clip:
        rows(tmp_path).clip(3, line)
    with pytest.raises(ValueError, match=r"manifest\.jsonl, row 3: ") as of_facts:
        rows(tmp_path).facts(3, line)
    assert str(of_facts.value) == str(of_clip.value)
    assert "\n" not in str(of_clip.value)


def test_plain_rows_need_no_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_rows, "parse_row", None)
    line = json.dumps(PLAIN | {"genre": "folk", "split": "train", "start": 0, "duration": 10}).encode()
    audio = str(tmp_path / "audio" / "a.wav")
    assert rows(tmp_path).facts(1, line) == ("a", "train", audio, audio)


@pytest.mark.parametrize("audio", ["/music/a.wav", "../music/a.wav", "/music/../a.wav", "inside.wav"])
def test_files_outside_are_taken_where_that_is_allowed(tmp_path, audio):
    line = json.dumps(PLAIN | {"audio": audio}).encode()
    allowed = rows(tmp_path, allow_outside=True)
    clip = allowed.clip(1, line)
    assert ".." not in clip.audio.parts
    assert clip.audio.resolve() == (tmp_path / Path(audio)).resolve()
    assert allowed.facts(1, line) == ("a", "valid", str(clip.audio), str(clip.audio))


def test_empty_lines_are_no_rows(tmp_path):
    assert rows(tmp_path).clip(1, b"  \r\n") is None
    assert rows(tmp_path).facts(1, b"\n") is None
