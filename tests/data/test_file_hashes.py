import hashlib
import logging
import os
import shutil
import time

import pytest

from melody_cm.data import file_hashes
from melody_cm.data.file_hashes import hash_contents


def sha(path):
    return int(hashlib.sha256(path.read_bytes()).hexdigest()[:16], 16)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three files that seem to have been there for long."""
    paths = [tmp_path / f"{number}.bin" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 3000)
    later = time.time_ns() + int(60e9)
    monkeypatch.setattr(file_hashes.time, "time_ns", lambda: later)
    return paths


def hashes(paths, memory):
    return hash_contents([str(path) for path in paths], memory)


def count_reads(monkeypatch):
    reads = []

    def counting(path):
        reads.append(path)
        return sha(path)

    monkeypatch.setattr(file_hashes, "hash_file", lambda path: f"{counting(path):016x}")
    return reads


def test_hashes_are_of_the_bytes_in_the_order_asked_for(files, tmp_path):
    asked = [files[2], files[0], tmp_path / "gone.bin", files[2], tmp_path]
    assert hashes(asked, tmp_path / "memory") == [sha(files[2]), sha(files[0]), 0, sha(files[2]), 0]
    assert hashes([], tmp_path / "memory") == []


def test_each_file_is_read_once(files, tmp_path, monkeypatch):
    reads = count_reads(monkeypatch)
    first = hashes([*files, files[0]], tmp_path / "memory")
    assert sorted(reads) == files
    assert hashes(files[::-1], tmp_path / "memory") == first[2::-1]
    assert len(reads) == 3


def test_a_change_in_place_of_equal_size_is_seen(files, tmp_path, monkeypatch):
    before = hashes(files, tmp_path / "memory")
    old = files[1].stat()
    with files[1].open("r+b") as file:
        file.seek(1500)
        file.write(b"!")
    os.utime(files[1], ns=(old.st_atime_ns, old.st_mtime_ns))
    after = hashes(files, tmp_path / "memory")
    assert after == [before[0], sha(files[1]), before[2]]
    assert after[1] != before[1]


def test_what_changed_just_now_is_read_again(files, tmp_path, monkeypatch):
    monkeypatch.setattr(file_hashes.time, "time_ns", lambda: max(file.stat().st_ctime_ns for file in files) + 1)
    reads = count_reads(monkeypatch)
    hashes(files, tmp_path / "memory")
    hashes(files, tmp_path / "memory")
    assert len(reads) == 6


def test_a_copy_elsewhere_has_the_same(files, tmp_path):
    (tmp_path / "copy").mkdir()
    copies = [shutil.copy(path, tmp_path / "copy") for path in files]
    assert hashes(copies, tmp_path / "other") == hashes(files, tmp_path / "memory")


def test_a_spoilt_memory_is_made_again(files, tmp_path):
    expected = hashes(files, tmp_path / "memory")
    (tmp_path / "memory").write_bytes(b"spoilt")
    assert hashes(files, tmp_path / "memory") == expected
    assert (tmp_path / "memory").stat().st_size > 50


def test_a_memory_that_cannot_be_written_costs_a_warning(files, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert hashes(files, files[0] / "memory") == [sha(path) for path in files]
    assert "cannot keep the hashes" in caplog.text


def test_an_interruption_keeps_what_was_read(files, tmp_path, monkeypatch):
    real = file_hashes.hash_file

    def interrupted(path):
        if path == files[2]:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(file_hashes, "hash_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hashes(files, tmp_path / "memory")
    monkeypatch.setattr(file_hashes, "hash_file", real)
    reads = count_reads(monkeypatch)
    assert hashes(files, tmp_path / "memory") == [sha(path) for path in files]
    assert reads == [files[2]]


def test_a_file_that_cannot_be_read_is_said(files, tmp_path, monkeypatch, caplog):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file_hashes, "hash_file", refused)
    assert hashes(files[:1], tmp_path / "memory") == [0]
    assert "0.bin: cannot be read (Permission denied)" in caplog.text
