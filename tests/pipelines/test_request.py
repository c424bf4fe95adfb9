"""A request in batches."""

import pytest
from toy_systems import toy_melody

from melody_cm.pipelines.request import Request

REQUEST = toy_melody(max_seconds=2.0).batch(Request(["a", "b", "c", "d", "e"], 1.5, 7, 4, 2.0))


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_batches_hold_every_clip_once_with_its_own_key(batch_size, sizes):
    batches = REQUEST.split(batch_size)
    assert [len(batch.prompts) for batch in batches] == sizes
    pairs = [pair for batch in batches for pair in zip(batch.prompts, batch.keys, strict=True)]
    assert pairs == list(zip(REQUEST.prompts, REQUEST.keys, strict=True))
    assert {(batch.seconds, batch.num_steps, batch.guidance_scale) for batch in batches} == {(1.5, 4, 2.0)}


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_of_no_clips_is_refused_when_it_is_asked_for(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; it must be at least 1"):
        REQUEST.split(batch_size)


def test_whole_numbers_are_as_good_as_others():
    batch = toy_melody(max_seconds=2.0).batch(Request("a", seconds=1, guidance_scale=2))
    assert [type(value) for value in (batch.seconds, batch.guidance_scale)] == [float, float]
