import json
from pathlib import Path

import pytest

from melody_cm.data.clips import RowReader, check_row

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
    {"alt_captions": [None, "Two."]},
    {"audio": "./a.wav"},
    {"audio": "audio//a.wav"},
    {"audio": "audio/./a.wav"},
    {"audio": "audio/../a.wav"},
    {"audio": "audio/.hidden/a..wav"},
    {"audio": ".a.wav"},
    {"audio": "audio/a.wav/"},
    {"audio": "müsik/é.wav", "caption": "Naïve \U0001f3b5"},
    {"audio": None},
    {"audio": None, "duration": 0},
    {"genre": float("nan"), "caption": "\\u00e9 \\ud83c\\udfb5"},
    {"genre": {"deep": [1, 2, {"er": None}]}, "caption": '\\u0022 "\n'},
]
BAD = [
    {"id": None, "audio": 5},
    {"audio": ""},
    {"audio": "../a.wav"},
    {"audio": "/a.wav"},
    {"audio": "audio/../../a.wav"},
    {"split": "trained"},
    {"start": -1},
    {"start": True},
    {"start": float("nan")},
    {"duration": 0},
    {"duration": float("inf")},
    {"duration": "10"},
    {"caption": 3},
    {"caption": 0},
    {"midi": 3},
    {"piece": []},
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
    b'{"id": "a", "audio": "a.wav", "caption": "\\ud800"}',
    b'{"id": "a", "audio": "a.wav", "caption": null, "genre": ' + b"[" * 100_000,
]


def clip(folder, line, **options):
    return RowReader(folder, **{"default_split": "valid"} | options).clip(line, "m.jsonl, row 3")


@pytest.mark.parametrize("fields", GOOD, ids=str)
def test_a_row_says_at_a_glance_what_its_clip_says(tmp_path, fields):
    line = json.dumps(PLAIN | fields, ensure_ascii=False).encode()
    row, found = RowReader(tmp_path, "valid").row(line), clip(tmp_path, line)
    assert (row and (str(row.id), row.split, row.piece, row.audio)) == (
        found and (found.id, found.split, found.piece, str(found.audio))
    )
    assert found is None or found.captions == [
        text for text in [(PLAIN | fields)["caption"], *(fields.get("alt_captions") or [])] if text
    ]


@pytest.mark.parametrize(
    "line", [json.dumps(PLAIN | fields).encode() for fields in BAD] + BAD_LINES, ids=lambda line: repr(line)[:80]
)
def test_what_is_no_clip_is_one_line(tmp_path, line):
    with pytest.raises(ValueError, match=r"^m\.jsonl, row 3: ") as of_clip:
        clip(tmp_path, line)
    assert "\n" not in str(of_clip.value)
    assert len(str(of_clip.value)) < 300
    with pytest.raises(ValueError) as of_row:  # noqa: PT011
        RowReader(tmp_path, "valid").row(line)
    assert str(of_clip.value) == f"m.jsonl, row 3: {of_row.value}"


def test_a_byte_order_mark_is_no_part_of_a_row(tmp_path):
    assert clip(tmp_path, b"\xef\xbb\xbf" + json.dumps(PLAIN).encode()) == clip(tmp_path, json.dumps(PLAIN).encode())


def test_fields_of_any_other_source_are_checked_alike():
    with pytest.raises(ValueError, match=r"duration is 0; a number of seconds above 0 is needed"):
        check_row(PLAIN | {"duration": 0})
    with pytest.raises(ValueError, match=r"field 'audio' is missing; is 'odio' a misspelling of it\?"):
        check_row({"id": 1, "odio": "a.wav", "caption": None})


@pytest.mark.parametrize("audio", ["/music/a.wav", "../music/a.wav", "/music/../a.wav", "inside.wav"])
def test_files_outside_are_taken_where_that_is_allowed(tmp_path, audio):
    found = clip(tmp_path, json.dumps(PLAIN | {"audio": audio}).encode(), allow_outside=True)
    assert ".." not in found.audio.parts
    assert found.audio.resolve() == (tmp_path / Path(audio)).resolve()
