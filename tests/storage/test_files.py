import pytest

from melody_cm.storage import folder_atomically, read_json, write_json, write_text


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
