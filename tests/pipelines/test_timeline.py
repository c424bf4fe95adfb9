"""Samples, frames and codes over five minutes, counted against a clock of whole numbers."""

import pytest

from melody_cm.pipelines.timeline import Timeline


def slow_codes(frames, hop_length, code_rate, sample_rate):
    """Codes that begin before the last sample of so many frames, one by one."""
    count = 0
    while count * sample_rate < frames * hop_length * code_rate:
        count += 1
    return count


@pytest.mark.parametrize(
    ("sample_rate", "hop_length", "code_rate", "max_seconds"),
    [(24000, 96, 25, 10.0), (16000, 64, 25, 2.56), (24000, 96, 50, 10.24), (22050, 100, 25, 10.0), (800, 8, 25, 1.0)],
)
def test_codes_and_frames_do_not_drift_over_five_minutes(sample_rate, hop_length, code_rate, max_seconds):
    timeline = Timeline(sample_rate, hop_length, float(code_rate), max_seconds, 4)
    made, end = timeline.codes(timeline.window), timeline.window
    while timeline.seconds(end) < 300:
        end += timeline.chunk
        new = timeline.codes(end) - made
        made += new
        assert abs(new - timeline.chunk * hop_length * code_rate / sample_rate) < 1
        assert 0 <= made / code_rate - timeline.seconds(end) < 1 / code_rate
    assert made == slow_codes(end, hop_length, code_rate, sample_rate)


def test_the_papers_chunks_take_63_and_62_codes_in_turn():
    timeline = Timeline(24000, 96, 25.0, 10.0, 4)
    assert (timeline.window, timeline.chunk, timeline.codes(2500), timeline.fade) == (2500, 625, 250, 480)
    ends = range(0, 625 * 121, 625)
    counts = [timeline.codes(end + 625) - timeline.codes(end) for end in ends]
    assert counts[:120] == [63, 62] * 60
    assert sum(counts[:120]) == 7500


def test_divisible_sizes_take_equally_many_codes():
    timeline = Timeline(24000, 96, 25.0, 10.24, 4)
    assert (timeline.window, timeline.chunk) == (2560, 640)
    assert {timeline.codes(end + 640) - timeline.codes(end) for end in range(0, 640 * 120, 640)} == {64}


@pytest.mark.parametrize("frames", [0, 1, 9, 10, 11, 625, 74999])
def test_whole_codes_are_those_that_end_in_time(frames):
    timeline = Timeline(24000, 96, 25.0, 10.0, 4)
    assert timeline.whole_codes(frames) == frames // 10
    assert timeline.codes(frames) == -(-frames // 10)


def test_the_last_chunk_is_the_trained_one():
    """Training cuts l frames at floor(m * l / 4); what is new in a window is the last of these pieces."""
    for window in (100, 101, 102, 103):
        timeline = Timeline(800, 8, 25.0, window / 100, 4)
        assert timeline.window == window
        assert timeline.chunk == window - 3 * window // 4
