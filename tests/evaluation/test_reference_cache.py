"""Reference statistics are computed once for one content, and again when anything that decides them changes."""

import logging
from dataclasses import replace

import pytest
import torch

from melody_cm.data import Clip
from melody_cm.evaluation import EmbeddingStatistics, cached_statistics
from melody_cm.interfaces import EmbeddingIdentity

IDENTITY = EmbeddingIdentity("test", "1", "abc", 16000, "any", 4, True)


@pytest.fixture
def clips(tmp_path):
    made = []
    for index in range(3):
        file = tmp_path / "music" / f"{index}.wav"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes([index]) * 100)
        made.append(Clip(file.name, file, 0.0, 5.0, "test", [], file.name, ""))
    return made


class Computation:
    """Counts how often it was needed."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        statistics = EmbeddingStatistics.empty(4)
        statistics.add(torch.randn(5, 2, 4), [f"clip{index}" for index in range(5)])
        return statistics


@pytest.fixture
def ask(clips, tmp_path):
    compute = Computation()

    def ask(identity=IDENTITY, clips=clips):
        before = compute.calls
        statistics = cached_statistics(identity, clips, compute, tmp_path / "cache")
        return statistics, compute.calls > before

    return ask


def test_the_second_time_nothing_is_computed(ask):
    first, computed = ask()
    assert computed
    second, computed = ask()
    assert not computed
    assert torch.equal(first.sums.outer, second.sums.outer)


@pytest.mark.parametrize(
    "change",
    [{"version": "2"}, {"weights": "abd"}, {"resampler": "other"}, {"window": "1 s"}, {"sample_rate": 8000}],
)
def test_another_embedding_is_another_reference(ask, change):
    ask()
    assert ask(replace(IDENTITY, **change))[1]
    assert not ask()[1]


def test_another_content_place_or_name_is_another_reference(ask, clips):
    ask()
    assert ask(clips=clips[:2])[1]
    assert ask(clips=[*clips[:2], replace(clips[2], start=1.0)])[1]
    assert ask(clips=[*clips[:2], replace(clips[2], duration=4.0)])[1]
    assert ask(clips=[*clips[:2], replace(clips[2], id="x")])[1]
    assert ask(clips=[*clips[:2], replace(clips[2], piece="x")])[1]
    assert not ask(clips=clips[::-1])[1]
    clips[0].audio.write_bytes(bytes([9]) * 100)  # The same size and name.
    assert ask()[1]
    clips[0].audio.unlink()
    assert ask()[1]


def test_the_folder_may_move(ask, clips):
    ask()
    moved = clips[0].audio.parent.rename(clips[0].audio.parent.with_name("moved"))
    assert not ask(clips=[replace(clip, audio=moved / clip.id) for clip in clips])[1]


def test_a_damaged_file_is_computed_again_with_one_line_of_warning(ask, tmp_path, caplog):
    ask()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        statistics, computed = ask()
    assert computed
    assert len(caplog.records) == 1
    assert "\n" not in caplog.text.strip()
    assert "computed again" in caplog.text
    assert not ask()[1]
    assert statistics.num_clips == 5


def test_a_folder_that_cannot_be_written_is_done_without(clips, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    compute = Computation()
    with caplog.at_level(logging.WARNING):
        statistics = cached_statistics(IDENTITY, clips, compute, tmp_path / "cache")
    assert statistics.num_clips == 5
    assert "not kept" in caplog.text
