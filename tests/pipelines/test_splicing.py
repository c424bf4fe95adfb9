"""Cross-fades against sums written out, and given samples against themselves."""

import pytest
import torch

from melody_cm.pipelines.request import check_music
from melody_cm.pipelines.streaming import cross_fade, fade_in, fade_weights
from melody_cm.pipelines.timeline import Hole, Timeline, hole_weights

CLOCK = Timeline(800, 8, 25.0, 1.0, 4)


def test_a_fade_over_three_samples():
    earlier, later = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[10.0, 20.0, 30.0]]])
    faded = cross_fade(earlier, later, fade_weights(3))
    torch.testing.assert_close(faded, torch.tensor([[[0.75 + 2.5, 1.0 + 10.0, 0.75 + 22.5]]]))


def test_where_only_one_is_heard_its_bits_are_kept():
    earlier, later = torch.rand(2, 1, 4), torch.full((2, 1, 4), torch.inf)
    mixed = cross_fade(earlier, later, torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert torch.equal(mixed[..., :2], earlier[..., :2])
    assert torch.equal(mixed[..., 2:], later[..., 2:])


@pytest.mark.parametrize("lengths", [[10], [2, 8], [1, 1, 1, 7], [4, 6], [5, 0, 5]])
def test_blocks_fade_in_over_a_tail_however_they_are_cut(lengths):
    tail, new = torch.rand(2, 1, 4), torch.rand(2, 1, 10)
    faded = torch.cat(list(fade_in(tail, new.split(lengths, dim=-1))), dim=-1)
    for sample in range(4):
        weight = (sample + 1) / 5
        expected = (1 - weight) * tail[..., sample] + weight * new[..., sample]
        torch.testing.assert_close(faded[..., sample], expected)
    assert torch.equal(faded[..., 4:], new[..., 4:])


def test_a_hole_fades_on_both_sides():
    weights = hole_weights(12, 5, 8, 3)
    expected = torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25, 0])
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(hole_weights(4, 0, 2, 3), torch.tensor([1.0, 1.0, 0.75, 0.5]))


@pytest.mark.parametrize(
    ("length", "begin", "end", "window"),
    [
        (4000, 2000, 2100, slice(1650, 2450)),
        (4000, 10, 100, slice(0, 800)),
        (4000, 3900, 4000, slice(3200, 4000)),
        (500, 200, 240, slice(0, 500)),
        (4000, 2001, 2100, slice(1650, 2450)),
    ],
)
def test_the_window_has_the_hole_in_its_middle_as_far_as_there_is_music(length, begin, end, window):
    hole = Hole(CLOCK, length, begin, end)
    assert hole.window == window
    inner = hole.within_window()
    assert (inner.begin, inner.end) == (begin - window.start, end - window.start)
    assert inner.window == slice(0, window.stop - window.start)
    assert inner.within_window() == inner


def test_frames_and_codes_of_a_hole_cover_it_and_its_fades():
    hole = Hole(CLOCK, 800, 331, 470)
    first, last = hole.frames  # 20 ms are 16 samples.
    assert (first, last) == (315 // 8, -(-486 // 8))
    assert hole.codes == (first * 8 // 32, -(-last * 8 // 32))
    known = hole.known_frames()
    assert known.shape == (100,)
    assert not known[first:last].any()
    assert known.sum() == 100 - (last - first)


def test_filling_keeps_the_samples_around_bit_for_bit():
    given, new = torch.rand(2, 1, 800), torch.rand(2, 1, 800)
    filled = Hole(CLOCK, 800, 300, 400).fill(given, new)
    assert torch.equal(filled[..., :284], given[..., :284])
    assert torch.equal(filled[..., 416:], given[..., 416:])
    assert torch.equal(filled[..., 300:400], new[..., 300:400])
    mixed = filled[..., 284:300]
    assert ((mixed - given[..., 284:300]) * (mixed - new[..., 284:300]) <= 0).all()
    assert (mixed != given[..., 284:300]).all()


def test_around_and_emptied_forget_the_hole():
    music, hole = torch.rand(1, 1, 800) + 1, Hole(CLOCK, 800, 300, 400)
    assert torch.equal(hole.around(music)[..., 300:], music[..., 400:])
    emptied = hole.emptied(music)
    assert not emptied[..., 300:400].any()
    assert torch.equal(emptied[..., 400:], music[..., 400:])
    assert music.min() >= 1


@pytest.mark.parametrize(
    ("length", "begin", "end", "message"),
    [
        (4000, 400, 400, "from 0.5 s to 0.5 s does not lie in music of 5 s"),
        (4000, 500, 400, "does not lie"),
        (4000, -1, 400, "does not lie"),
        (4000, 3900, 4001, "does not lie"),
        (4000, 1000, 1569, r"one chunk of 0\.25 s must be known; the hole may have 0\.71 s"),
        (300, 100, 200, r"of the 0\.375 s that are looked at.*may have 0\.085 s"),
    ],
)
def test_holes_that_cannot_be_filled_are_refused(length, begin, end, message):
    with pytest.raises(ValueError, match=message):
        Hole(CLOCK, length, begin, end)
    assert Hole(CLOCK, 4000, 1000, 1568).end == 1568


def test_silence_and_nan_are_no_music():
    with pytest.raises(ValueError, match="the music given is silent"):
        check_music(torch.stack([torch.ones(1, 9), torch.zeros(1, 9)]), "the music given")
    with pytest.raises(ValueError, match="NaN or infinite"):
        check_music(torch.tensor([[[1.0, torch.nan]]]), "the music given")
    check_music(torch.tensor([[[0.0, 0.001]]]), "the music given")
