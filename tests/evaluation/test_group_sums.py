"""Sums by group against one pass over the frames they stand for."""

import pytest
import torch

from melody_cm.evaluation import GroupSums
from melody_cm.evaluation.group_sums import clip_key


def ids(count):
    return [f"clip{index}" for index in range(count)]


def sums_of(clips, names, num_groups=5):
    sums = GroupSums.empty(clips.shape[2], num_groups)
    sums.add(clips.double(), names)
    return sums


def test_leaving_a_group_out_is_never_having_seen_it():
    clips, names = torch.randn(40, 3, 4).double(), ids(40)
    sums = sums_of(clips, names)
    groups = torch.tensor([clip_key(name) % 5 for name in names])
    for group in range(5):
        frames = clips[groups != group].flatten(0, 1)
        without = sums.without(group)
        torch.testing.assert_close(without.mean, frames.mean(0))
        torch.testing.assert_close(without.cov, torch.cov(frames.T))
        assert int(sums.clips[group]) * 3 == int(sums.frames[group]) == 3 * int((groups == group).sum())


def test_sums_of_parts_add_up_to_those_of_the_whole():
    clips, names = torch.randn(30, 2, 3), ids(30)
    whole = sums_of(clips, names)
    parts = sums_of(clips[:11], names[:11]) + sums_of(clips[11:], names[11:])
    for name in ("clips", "frames", "sum", "outer"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
    assert (whole.num_clips, whole.num_frames) == (30, 60)


def test_a_clip_keeps_its_group_wherever_and_whenever_it_is_seen():
    assert [clip_key(name) for name in ("a", "b", "song 1.wav")] == [
        1_662_791_411_250_143,
        4_127_500_778_895_438,
        3_790_367_124_559_946,
    ]


def test_groups_are_filled_evenly():
    counts = torch.bincount(torch.tensor([clip_key(name) % 20 for name in ids(20_000)]), minlength=20)
    assert counts.min() > 850
    assert counts.max() < 1150


def test_only_groups_with_clips_count_as_filled():
    sums = sums_of(torch.randn(1, 2, 3), ["one"], num_groups=20)
    assert sums.filled() == [clip_key("one") % 20]


def test_one_frame_has_no_covariance():
    with pytest.raises(ValueError, match="1 usable frame"):
        sums_of(torch.randn(1, 1, 3), ["one"]).gaussian()


def test_nothing_added_changes_nothing():
    sums = sums_of(torch.randn(2, 2, 3), ids(2))
    before = sums.outer.clone()
    sums.add(torch.empty(0, 2, 3).double(), [])
    assert torch.equal(sums.outer, before)
