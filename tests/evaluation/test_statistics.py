"""Statistics against one pass over the frames they stand for; the sample does not depend on order or processes."""

import pytest
import torch

from melody_cm.evaluation import EmbeddingStatistics
from melody_cm.evaluation.statistics import clip_key, lowest


def ids(count):
    return [f"clip{index}" for index in range(count)]


def statistics_of(clips, names, num_groups=5, max_clips=8):
    made = EmbeddingStatistics.empty(clips.shape[2], num_groups, max_clips)
    made.add(clips, names)
    return made


def test_leaving_a_group_out_is_never_having_seen_it():
    clips, names = torch.randn(40, 3, 4).double(), ids(40)
    statistics = statistics_of(clips, names)
    groups = torch.tensor([clip_key(name) % 5 for name in names])
    for group in range(5):
        frames = clips[groups != group].flatten(0, 1)
        without = statistics.gaussian(torch.arange(5) != group)
        torch.testing.assert_close(without.mean, frames.mean(0))
        torch.testing.assert_close(without.cov, torch.cov(frames.T))
        assert int(statistics.clips[group]) * 3 == int(statistics.frames[group]) == 3 * int((groups == group).sum())


def test_batches_of_any_size_give_one_result():
    clips, names = torch.randn(30, 2, 3), ids(30)
    whole, parts = statistics_of(clips, names), statistics_of(clips[:11], names[:11])
    parts.add(clips[11:], names[11:])
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
    statistics = statistics_of(torch.randn(1, 2, 3), ["one"], num_groups=20)
    assert statistics.filled() == [clip_key("one") % 20]


def test_a_large_offset_does_not_spoil_the_covariance():
    frames = torch.randn(5000, 1, 4, dtype=torch.float64)
    statistics = statistics_of(frames + 1e4, ids(5000))
    torch.testing.assert_close(statistics.gaussian().cov, torch.cov(frames[:, 0].T), rtol=0, atol=1e-6)


def test_sums_are_float64_after_half_precision():
    statistics = statistics_of(torch.randn(4, 2, 3).half(), ids(4))
    assert statistics.sum.dtype == statistics.outer.dtype == statistics.sample.dtype == torch.float64


def test_nothing_added_changes_nothing():
    statistics = statistics_of(torch.randn(2, 2, 3), ids(2))
    before = statistics.outer.clone()
    statistics.add(torch.empty(0, 2, 3).double(), [])
    assert torch.equal(statistics.outer, before)


def test_clips_that_are_not_finite_are_counted_and_change_nothing():
    clips, names = torch.randn(10, 3, 4), ids(12)
    clean = statistics_of(clips, names[:10])
    broken = statistics_of(torch.cat([clips, torch.full((2, 3, 4), torch.nan)]), names)
    assert torch.equal(broken.outer, clean.outer)
    assert torch.equal(broken.sample, clean.sample)
    assert (broken.num_clips, broken.num_dropped()) == (10, {"not finite": 2})
    broken.add(torch.empty(1, 0, 4), ["nothing"])
    broken.drop("bored", "a.wav: bored")
    assert broken.num_clips == 10
    assert broken.dropped == {"not finite": ["", ""], "empty": [""], "bored": ["a.wav: bored"]}


def test_what_is_wrong_is_said_in_one_line():
    with pytest.raises(ValueError, match="1 usable frame"):
        statistics_of(torch.randn(1, 1, 3), ["one"]).gaussian()


def test_the_clips_of_the_lowest_hashes_are_sampled_as_means():
    clips, names = torch.randn(50, 3, 4).double(), ids(50)
    vectors, keys = statistics_of(clips, names).vectors()
    order = sorted(range(50), key=lambda index: clip_key(names[index]))[:8]
    torch.testing.assert_close(vectors, clips.mean(1)[order])
    assert keys.tolist() == [clip_key(names[index]) for index in order]


def test_the_sample_does_not_depend_on_order_or_processes():
    clips, names = torch.randn(50, 3, 4).double(), ids(50)
    whole = statistics_of(clips, names).vectors()
    turned = statistics_of(clips.flip(0), names[::-1]).vectors()
    parts = torch.cat([statistics_of(clips[start::3], names[start::3]).sample for start in range(3)])
    for vectors, keys in (turned, (lowest(parts, 8)[:, 1:], lowest(parts, 8)[:, 0].long())):
        assert torch.equal(vectors, whole[0])
        assert torch.equal(keys, whole[1])


def test_free_rows_of_the_sample_are_no_clips():
    vectors, keys = statistics_of(torch.randn(3, 2, 4), ids(3)).vectors()
    assert vectors.shape == (3, 4)
    assert len(keys) == 3
    assert EmbeddingStatistics.empty(4).vectors()[0].shape == (0, 4)


def test_clips_of_one_id_are_sampled_side_by_side():
    vectors, keys = statistics_of(torch.randn(3, 2, 4), ["song", "song", "song"]).vectors()
    assert len(vectors) == 3
    assert len(set(keys.tolist())) == 1
