import os
import subprocess
import sys
from pathlib import Path

import pytest

from melody_cm.pipelines import PretrainedPipeline
from melody_cm.storage import (
    folder_atomically,
    load_network,
    read_json,
    sweep,
    weight_hash,
    write_atomically,
    write_json,
    write_text,
)
from melody_cm.storage.files import SWEPT


def test_a_reader_sees_the_old_file_or_the_new_one_and_nothing_between(tmp_path):
    path = tmp_path / "notes.txt"
    write_text(path, "old")
    with path.open() as reading:
        write_text(path, "new and longer")
        assert reading.read() == "old"
    assert path.read_text() == "new and longer"
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_numbers_that_json_does_not_know_are_refused_and_leave_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json") == {"x": 1}


@pytest.mark.parametrize("text", ["true", "null", "[]", '"networks"', "3"])
def test_json_without_keys_is_named_where_keys_are_due(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").touch()
    for read in (weight_hash, load_network, PretrainedPipeline.from_pretrained):
        with pytest.raises(ValueError, match=r"config\.json holds no keys and values"):
            read(tmp_path)


def test_a_damaged_json_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a.json is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_what_cannot_be_a_text_of_ours_is_refused_before_it_fills_the_memory(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ValueError, match=r"a\.json has more than 64 MiB, which no such file of ours has"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"more than 64 MiB"):
        read_json(Path("/dev/zero"))
    os.mkfifo(tmp_path / "b.json")
    with pytest.raises(ValueError, match=r"b\.json is no file"):
        read_json(tmp_path / "b.json")


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "export"
    for content in ("first", "second"):
        with folder_atomically(folder) as aside:
            (aside / content).write_text(content)
    assert [file.name for file in folder.iterdir()] == ["second"]

    def fail_half_way():
        with folder_atomically(folder) as aside:
            (aside / "third").write_text("third")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail_half_way()
    assert [file.name for file in folder.iterdir()] == ["second"]
    assert [file.name for file in tmp_path.iterdir()] == ["export"]


def test_a_full_disk_is_one_line_whatever_a_library_makes_of_it(tmp_path, monkeypatch):
    write_text(tmp_path / "a.bin", "old")
    monkeypatch.setattr("melody_cm.storage.files._is_full", lambda folder: True)

    def fails(aside):
        aside.write_bytes(bytes(2**20))
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1829760 vs 1829648")

    with pytest.raises(OSError, match=r"no space left for .*a.bin: 1.0 MiB of it could be written"):
        write_atomically(tmp_path / "a.bin", fails)
    assert (tmp_path / "a.bin").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def killed(write, path):
    """What a process leaves that is killed while it writes `path`."""
    code = f"import sys; from pathlib import Path; from melody_cm.storage import *\n{write}"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=-1, stdout=-1) as process:
        process.stdout.read(1)
        process.kill()
    (left,) = path.parent.glob(f".{path.name}.*.part")
    return left


WAITS = "lambda: (print('.', flush=True), sys.stdin.read())"
FILE = f"write_atomically(Path(sys.argv[1]), lambda aside: (aside.touch(), ({WAITS})()))"
FOLDER = f"with folder_atomically(Path(sys.argv[1])) as aside: (aside / 'weights').touch(), ({WAITS})()"


@pytest.mark.parametrize("write", [FILE, FOLDER])
def test_the_next_writer_in_a_folder_deletes_what_a_killed_one_left(tmp_path, write):
    left = killed(write, tmp_path / "a")
    others = [tmp_path / name for name in (".x.part", "a.1.part", f".a.{os.getpid()}.part", ".a.00000000-1.part")]
    elsewhere = tmp_path / left.name.replace(left.name.split(".")[2].split("-")[0], "ffffffff")
    for path in (*others, elsewhere):
        path.touch()
    SWEPT.clear()
    write_text(tmp_path / "b", "new")
    assert sorted(tmp_path.iterdir()) == sorted([*others, elsewhere, tmp_path / "b"]), (
        "those of other machines may live"
    )
    sweep(tmp_path)
    left_alone = {".x.part", "a.1.part", f".a.{os.getpid()}.part", "b"}
    assert {path.name for path in tmp_path.iterdir()} == left_alone, "no other writes here now"


def test_a_folder_whose_writer_was_killed_between_its_renames_is_there_again(tmp_path):
    (tmp_path / ".export.old").mkdir()
    (tmp_path / ".export.old/weights").write_text("good")

    def fails():
        with folder_atomically(tmp_path / "export"):
            raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"):
        fails()
    assert (tmp_path / "export/weights").read_text() == "good"
