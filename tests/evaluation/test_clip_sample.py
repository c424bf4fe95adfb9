"""A bounded sample of clips does not depend on order, batches or processes."""

import torch

from melody_cm.evaluation import ClipSample
from melody_cm.evaluation.clip_sample import lowest
from melody_cm.evaluation.group_sums import clip_key


def ids(count):
    return [f"clip{index}" for index in range(count)]


def sample_of(clips, names, max_clips=8):
    sample = ClipSample.empty(clips.shape[2], max_clips)
    sample.add(clips, names)
    return sample


def test_the_clips_of_the_lowest_hashes_are_kept_as_means():
    clips, names = torch.randn(50, 3, 4).double(), ids(50)
    vectors, keys = sample_of(clips, names).vectors()
    order = sorted(range(50), key=lambda index: clip_key(names[index]))[:8]
    torch.testing.assert_close(vectors, clips.mean(1)[order])
    assert keys.tolist() == [clip_key(names[index]) for index in order]


def test_order_and_processes_do_not_matter():
    clips, names = torch.randn(50, 3, 4).double(), ids(50)
    whole = sample_of(clips, names).vectors()
    turned = sample_of(clips.flip(0), names[::-1]).vectors()
    parts = [sample_of(clips[start::3], names[start::3]) for start in range(3)]
    for other in (turned, (parts[0] + parts[1] + parts[2]).vectors()):
        assert torch.equal(other[0], whole[0])
        assert torch.equal(other[1], whole[1])
    assert torch.equal(ClipSample(lowest(torch.stack([part.rows for part in parts]))).vectors()[0], whole[0])


def test_free_rows_are_no_clips():
    clips = torch.randn(3, 2, 4).double()
    vectors, keys = sample_of(clips, ids(3)).vectors()
    assert vectors.shape == (3, 4)
    assert len(keys) == 3
    assert ClipSample.empty(4).vectors()[0].shape == (0, 4)


def test_clips_of_one_id_are_kept_side_by_side():
    clips = torch.randn(3, 2, 4).double()
    vectors, keys = sample_of(clips, ["song", "song", "song"]).vectors()
    assert len(vectors) == 3
    assert len(set(keys.tolist())) == 1
