"""Which prompt belongs to which file, in all three forms, and what is refused."""

import json
from pathlib import Path

import pytest

from melody_cm.data import Clip
from melody_cm.data.texts import read_prompts
from melody_cm.evaluation.clips import read_clip_prompts


def clips(*names):
    return [Clip(name, Path("/music") / name, 0.0, None, "test", [], name, name) for name in names]


THREE = clips("a.wav", "b/c.wav", "d.wav")


def test_lines_belong_to_the_files_in_order(tmp_path):
    (tmp_path / "p.txt").write_text("\ufeffcalm piano\n\n  loud drums \nslow strings\n", encoding="utf-8")
    prompts = read_clip_prompts(tmp_path / "p.txt", THREE)
    assert prompts == {"a.wav": "calm piano", "b/c.wav": "loud drums", "d.wav": "slow strings"}


ROWS = [("d.wav", 'a, "quoted" one'), ("c.wav", "two\u2028lines"), ("a.wav", "three")]


def as_jsonl(path, rows):
    path.write_text("\n".join(json.dumps({"file": file, "caption": caption}) for file, caption in rows) + "\n\n")


def as_csv(path, rows):
    import csv

    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("caption", "file"), *((caption, name) for name, caption in rows)])


@pytest.mark.parametrize(("name", "write"), [("p.jsonl", as_jsonl), ("p.csv", as_csv)])
def test_rows_are_found_by_path_or_name_in_any_order(tmp_path, name, write):
    write(tmp_path / name, ROWS)
    prompts = read_clip_prompts(tmp_path / name, THREE)
    assert prompts == {"a.wav": "three", "b/c.wav": "two\u2028lines", "d.wav": 'a, "quoted" one'}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "one\ntwo\n", r"2 prompts for 3 sound files"),
        ("p.csv", "file,caption\na.wav,x\n", r"1 prompts for 3 sound files"),
        (
            "p.csv",
            "file,caption\na.wav,x\nc.wav,y\ne.wav,z\n",
            r"no prompt for 'd\.wav', but one for 'e\.wav', which is not there",
        ),
        ("p.csv", "file,caption\na.wav,x\na.wav,y\nd.wav,z\n", r"row 2: 'a\.wav' is named twice"),
        ("p.csv", "file,caption\nb/c.wav,x\nc.wav,y\nd.wav,z\n", r"no prompt for 'a\.wav', but one for 'c\.wav'"),
        ("p.csv", "name,lyrics\na.wav,x\nc.wav,y\nd.wav,z\n", r"no column prompt or caption or text but name, lyrics"),
        ("p.csv", "file,lyrics\na.wav,x\nc.wav,y\nd.wav,z\n", r"row 1: the texts 'file' and 'caption' are needed"),
        ("p.jsonl", '{"file": "a.wav"\n', r"p\.jsonl: not JSON"),
        ("p.jsonl", '["a"]\n["b"]\n["c"]\n', r"a row is a JSON object, not list"),
        ("p.jsonl", "[" * 9999 + "\n", r"p\.jsonl: not JSON"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_clip_prompts(tmp_path / name, THREE)


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "P.CSV", "p.txt"])
def test_what_generate_takes_is_taken(tmp_path, name):
    table = {
        "csv": "id,prompt\n1,calm piano\n2,drums\n3,strings\n",
        "txt": "# three\ncalm piano\n\ndrums\nstrings\n",
        "jsonl": "".join(f'{{"caption": "{text}"}}\n' for text in ("calm piano", "drums", "strings")),
    }
    (tmp_path / name).write_text(table[name.rpartition(".")[2].lower()])
    assert read_prompts(tmp_path / name) == list(read_clip_prompts(tmp_path / name, THREE).values())


def test_missing_and_undecodable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"p\.txt: no such file of prompts"):
        read_clip_prompts(tmp_path / "p.txt", THREE)
    (tmp_path / "p.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read_clip_prompts(tmp_path / "p.txt", THREE)


def test_cells_longer_than_python_takes_unasked_are_read(tmp_path):
    (tmp_path / "p.csv").write_text(f"file,caption,lyrics\na.wav,x,{'la ' * 60000}\nc.wav,y,\nd.wav,z,\n")
    assert read_clip_prompts(tmp_path / "p.csv", THREE)["d.wav"] == "z"


def test_a_thousand_clips_are_in_the_order_of_their_numbers(tmp_path):
    prompts = [f"piece {index}" for index in range(1005)]
    names = sorted(f"{index:03d}_piece.wav" for index in range(1005))
    (tmp_path / "p.txt").write_text("# comment\n\n" + "\n".join(prompts))
    found = read_clip_prompts(tmp_path / "p.txt", clips(*names))
    assert found == {f"{index:03d}_piece.wav": prompt for index, prompt in enumerate(prompts)}


def told(folder, **prompts):
    """Clips whose JSON files name their prompts."""
    for name, prompt in prompts.items():
        (folder / f"{name}.json").write_text(json.dumps({"prompt": prompt}))
    return [Clip(f"{name}.wav", folder / f"{name}.wav", 0.0, None, "test", [], name, name) for name in prompts]


def test_the_json_beside_a_clip_says_its_prompt(tmp_path):
    (tmp_path / "p.txt").write_text("loud\ncalm\n")
    three = told(tmp_path, a="calm", b="loud", c="calm")
    assert read_clip_prompts(tmp_path / "p.txt", three) == {"a.wav": "calm", "b.wav": "loud", "c.wav": "calm"}


def test_a_prompt_that_the_json_beside_a_clip_contradicts_is_refused(tmp_path):
    (tmp_path / "p.txt").write_text("calm\nloud\n")
    with pytest.raises(ValueError, match=r"does not have 'slow' for 'b\.wav'"):
        read_clip_prompts(tmp_path / "p.txt", told(tmp_path, a="calm", b="slow", c="loud"))
    with pytest.raises(ValueError, match="no clip of the prompt 'loud'"):
        read_clip_prompts(tmp_path / "p.txt", told(tmp_path, a="calm", b="calm"))
    (tmp_path / "b.json").unlink()
    two = [*told(tmp_path, a="loud"), *clips("b.wav")]
    with pytest.raises(ValueError, match=r"does not have 'loud' for 'a\.wav'"):
        read_clip_prompts(tmp_path / "p.txt", two)
    as_csv(tmp_path / "p.csv", [("a.wav", "slow"), ("b.wav", "x")])
    with pytest.raises(ValueError, match=r"does not have 'loud' for 'a\.wav'"):
        read_clip_prompts(tmp_path / "p.csv", two)


def test_any_other_json_beside_a_clip_says_nothing(tmp_path):
    (tmp_path / "p.txt").write_text("calm\nloud\n")
    two = told(tmp_path, a=None, b=7)
    (tmp_path / "a.json").write_text("[")
    assert read_clip_prompts(tmp_path / "p.txt", two) == {"a.wav": "calm", "b.wav": "loud"}


@pytest.mark.parametrize(
    "names",
    [
        ("0000_calm.wav", "0002_slow.wav", "bonus.wav"),
        ("000.wav", "001.wav", "001 (copy).wav"),
        ("b/000.wav", "a/0.wav", "a/001.wav"),
    ],
)
def test_numbers_that_do_not_tell_whose_a_clip_is_are_refused(tmp_path, names):
    (tmp_path / "p.txt").write_text("calm\nloud\nslow\n")
    with pytest.raises(ValueError, match="numbers do not tell whose prompt this is"):
        read_clip_prompts(tmp_path / "p.txt", clips(*names))


def test_a_table_that_names_other_files_is_a_list_of_prompts_where_json_files_tell_whose(tmp_path):
    as_jsonl(tmp_path / "p.jsonl", [("music/1.mp3", "calm"), ("music/2.mp3", "loud")])
    two = told(tmp_path, a="loud", b="calm")
    assert read_clip_prompts(tmp_path / "p.jsonl", two) == {"a.wav": "loud", "b.wav": "calm"}
    with pytest.raises(ValueError, match=r"but one for 'music/1\.mp3', which is not there"):
        read_clip_prompts(tmp_path / "p.jsonl", clips("a.wav", "b.wav"))
