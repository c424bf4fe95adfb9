import pytest
import torch

from melody_cm.signal.frames import fit_length, num_segments, overlap_add, pad_to_multiple, segment


def test_paper_length_gives_80_segments():
    assert num_segments(2500, 64) == 80
    assert segment(torch.randn(1, 2500, 2), 64).shape == (1, 80, 64, 2)


@pytest.mark.parametrize(("length", "segment_length"), [(1, 2), (7, 4), (8, 4), (65, 64), (100, 16), (3, 64)])
def test_overlap_add_inverts_segmentation(length, segment_length):
    x = torch.randn(2, length, 3)
    torch.testing.assert_close(overlap_add(segment(x, segment_length), length) / 2, x)


def test_segments_are_windows_of_the_padded_sequence():
    x = torch.arange(1.0, 8.0).view(1, 7, 1)
    segments = segment(x, 4)[0, :, :, 0].tolist()
    assert segments == [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 0], [7, 0, 0, 0]]


def test_overlap_add_equals_a_loop():
    segments = torch.randn(2, num_segments(21, 8), 8, 3)
    expected = torch.zeros(2, (segments.shape[1] + 1) * 4, 3)
    for i in range(segments.shape[1]):
        expected[:, 4 * i : 4 * i + 8] += segments[:, i]
    torch.testing.assert_close(overlap_add(segments, 21), expected[:, 4:25])


def test_impossible_segments_are_refused():
    with pytest.raises(ValueError, match="63 must be even"):
        segment(torch.randn(1, 10, 2), 63)
    with pytest.raises(ValueError, match="5 segments of 4 frames"):
        overlap_add(torch.randn(1, 5, 4, 2), 20)


def test_lengths():
    x = torch.arange(1, 6).view(1, 5)
    assert fit_length(x, 3).tolist() == [[1, 2, 3]]
    assert fit_length(x, 6).tolist() == [[1, 2, 3, 4, 5, 0]]
    assert pad_to_multiple(x, 4).tolist() == [[1, 2, 3, 4, 5, 0, 0, 0]]
    assert pad_to_multiple(x, 5).shape == (1, 5)
