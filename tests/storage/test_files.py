import os
import subprocess

import pytest

from melody_cm.storage import folder_atomically, read_json, sweep, write_atomically, write_json, write_text


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


def test_a_damaged_json_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a.json is not valid JSON"):
        read_json(tmp_path / "a.json")


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


def test_what_dead_writers_left_is_swept_and_nothing_else(tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    dead, alive = tmp_path / f".last.ckpt.{process.pid}.part", tmp_path / f"deep/.last.ckpt.{os.getpid()}.part"
    folder, others = tmp_path / f".export.{process.pid}.part", [tmp_path / ".x.part", tmp_path / "a.1.part"]
    for path in (folder, alive.parent):
        path.mkdir()
    (folder / "weights").touch()
    for path in (dead, alive, *others):
        path.touch()
    sweep(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([alive, *others])
    assert not folder.exists()
