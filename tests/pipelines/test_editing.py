"""Music that goes on from given music, or has a hole filled: what was given stays, and decides what comes."""

import pytest
import soxr
import torch
from long_toys import CHUNK, FADE, HOP, WINDOW, music, tiny_melody
from test_long_melody import recording
from toy_systems import SAMPLE_RATE, toy_melody

from melody_cm.pipelines import Request

SEAM = 2 * SAMPLE_RATE - FADE


def test_a_continuation_keeps_the_samples_given_up_to_the_cross_fade():
    given = music(2.0, clips=2)
    audio = tiny_melody().continue_from(given, SAMPLE_RATE, Request(seconds=3.3))
    assert audio.waveform.shape == (2, 1, round(3.3 * SAMPLE_RATE))
    assert torch.equal(audio.waveform[..., :SEAM], given[..., :SEAM])
    assert (audio.waveform[..., SEAM : SEAM + FADE] != given[..., SEAM:]).all()
    assert list(audio.timings) == ["planner", "encoder", "decoder", "denoiser"]


def test_the_cross_fade_is_exact_and_the_rest_is_the_latent_decoded_whole():
    pipeline, given = tiny_melody(), music(2.0)
    calls = recording(pipeline)
    audio = pipeline.continue_from(given, SAMPLE_RATE, Request(seconds=3.0)).waveform
    latent = pipeline.autoencoder.encode(given[..., SEAM - WINDOW * HOP :])[..., :WINDOW].detach()
    for _, _, known, window in calls["sample"]:
        assert torch.equal(window[..., : WINDOW - CHUNK], latent[..., CHUNK - WINDOW :])
        assert known.frames.sum() == WINDOW - CHUNK
        latent = torch.cat([latent, window[..., WINDOW - CHUNK :]], dim=-1)
    whole = pipeline.autoencoder.decode(latent)[..., WINDOW * HOP :]
    rise = torch.arange(1, FADE + 1) / (FADE + 1)
    expected = (1 - rise) * given[..., SEAM:] + rise * whole[..., :FADE]
    torch.testing.assert_close(audio[..., SEAM : SEAM + FADE], expected, rtol=0, atol=1e-5)
    new = audio[..., SEAM + FADE :]
    torch.testing.assert_close(new, whole[..., FADE : FADE + new.shape[-1]], rtol=0, atol=1e-5)


def test_codes_go_on_after_those_that_were_heard():
    pipeline, given = tiny_melody(), music(2.0)
    calls = recording(pipeline)
    pipeline.continue_from(given, SAMPLE_RATE, Request(seconds=3.0))
    heard = pipeline.hear(given[..., SEAM - WINDOW * HOP :])[..., :25]
    assert torch.equal(calls["extend"][0][0], heard)
    first = calls["extend"][0][1]
    assert first.shape == (1, 1, 7)
    expected = pipeline.conditioner.embed(torch.cat([heard, first], dim=-1)[..., -25:]).sequence
    assert torch.equal(calls["sample"][0][1].sequence, expected)


def test_only_the_last_window_is_heard():
    pipeline, given = tiny_melody(), music(4.0)
    whole = pipeline.continue_from(given, SAMPLE_RATE, Request(seconds=5.0)).waveform
    last = given[..., -(WINDOW * HOP + FADE) :]
    assert torch.equal(
        pipeline.continue_from(last, SAMPLE_RATE, Request(seconds=2.0 + FADE / 800)).waveform[..., -850:],
        whole[..., -850:],
    )


def test_music_shorter_than_the_window_goes_on_with_all_of_it_known():
    pipeline, given = tiny_melody(), music(0.5)
    calls = recording(pipeline)
    audio = pipeline.continue_from(given, SAMPLE_RATE, Request(seconds=2.0)).waveform
    frames = (400 - FADE) // HOP
    assert calls["sample"][0][2].frames.sum() == frames
    assert calls["extend"][0][0].shape[-1] == frames // 4
    assert calls["extend"][0][1].shape[-1] == 25 - frames // 4
    assert torch.equal(audio[..., : 400 - FADE], given[..., :-FADE])
    assert audio.shape[-1] == 1600


def test_what_was_given_decides_how_it_goes_on():
    pipeline = tiny_melody()
    given = music(2.0, clips=2)
    request = Request(["a", "a"], seconds=3.0, seed=[1, 1])
    new = pipeline.continue_from(given, SAMPLE_RATE, request).waveform[..., 2 * SAMPLE_RATE :]
    assert (new[0] - new[1]).abs().max() > 1e-3


def test_without_prompts_the_music_is_its_own():
    pipeline = tiny_melody()
    asked, embed = [], pipeline.embed_prompts
    pipeline.embed_prompts = lambda prompts: asked.append(prompts) or embed(prompts)
    pipeline.continue_from(music(2.0), SAMPLE_RATE, Request(seconds=2.5))
    assert torch.equal(asked[0][0].waveform, music(2.0)[..., -(WINDOW * HOP + FADE) :])
    pipeline.continue_from(music(2.0), SAMPLE_RATE, Request(prompts=["calm"], seconds=2.5))
    assert asked[1] == ["calm"]


def test_music_at_another_rate_is_resampled():
    pipeline, given = tiny_melody(), music(4.0)
    audio = pipeline.continue_from(given, 2 * SAMPLE_RATE, Request(seconds=3.0)).waveform
    expected = torch.from_numpy(soxr.resample(given[0, 0].numpy(), 2 * SAMPLE_RATE, SAMPLE_RATE, quality="HQ"))
    assert torch.equal(audio[0, 0, :SEAM], expected[:SEAM])
    assert audio.shape[-1] == 2400


def test_a_stream_begins_at_the_cross_fade():
    pipeline, given = tiny_melody(), music(2.0)
    blocks = [audio.waveform for audio in pipeline.stream_continuation(given, SAMPLE_RATE, Request(seconds=1.5))]
    assert len(blocks) > 3
    whole = pipeline.continue_from(given, SAMPLE_RATE, Request(seconds=3.5)).waveform
    assert torch.equal(torch.cat(blocks, dim=-1), whole[..., SEAM:])


def test_continuations_that_cannot_be_made_are_refused():
    pipeline = tiny_melody()
    pipeline.embed_prompts = None
    with pytest.raises(ValueError, match=r"2 seconds asked for, but the music given has 2 s already"):
        pipeline.continue_from(music(2.0), SAMPLE_RATE, Request(seconds=2.0))
    with pytest.raises(ValueError, match=r"has 0\.26 s, but to go on from it takes one chunk of 0\.25 s"):
        pipeline.continue_from(music(0.26), SAMPLE_RATE, Request(seconds=2.0))
    with pytest.raises(ValueError, match="the music given is silent"):
        pipeline.continue_from(torch.zeros(1, 1, 1600), SAMPLE_RATE, Request(seconds=3.0))
    with pytest.raises(ValueError, match="2 prompts for 1 clips"):
        pipeline.continue_from(music(2.0), SAMPLE_RATE, Request(prompts=["a", "b"], seconds=3.0))
    with pytest.raises(ValueError, match="1 to 1000 steps"):
        pipeline.continue_from(music(2.0), SAMPLE_RATE, Request(seconds=3.0, num_steps=0))
    with pytest.raises(ValueError, match="per_frame_angles is False"):
        toy_melody().continue_from(music(2.0), SAMPLE_RATE, Request(seconds=3.0))
    with pytest.raises(ValueError, match="per_frame_angles is False"):
        toy_melody().inpaint(music(2.0), SAMPLE_RATE, 1.0, 1.2)


def test_inpainting_keeps_every_sample_outside_the_hole_and_its_fades():
    given = music(4.0, clips=2)
    audio = tiny_melody().inpaint(given, SAMPLE_RATE, 1.5, 1.9)
    first, last = 1200, 1520
    assert torch.equal(audio.waveform[..., : first - FADE], given[..., : first - FADE])
    assert torch.equal(audio.waveform[..., last + FADE :], given[..., last + FADE :])
    assert (audio.waveform[..., first - FADE : last + FADE] != given[..., first - FADE : last + FADE]).all()
    assert list(audio.timings) == ["planner", "encoder", "denoiser", "decoder"]


def test_the_hole_is_what_the_sampler_made_of_its_frames():
    pipeline, given = tiny_melody(), music(4.0)
    calls = recording(pipeline)
    audio = pipeline.inpaint(given, SAMPLE_RATE, 1.5, 1.9).waveform
    start = (1200 + 1520 - 800) // 2
    emptied = given[..., start : start + 800].clone()
    emptied[..., 1200 - start : 1520 - start] = 0
    ((_, conditioning, known, latent),) = calls["sample"]
    unknown = torch.arange(100)[~known.frames[0]] * HOP + start
    assert unknown[0] <= 1200 - FADE < unknown[0] + HOP
    assert unknown[-1] < 1520 + FADE <= unknown[-1] + HOP
    encoded = pipeline.autoencoder.encode(emptied)
    assert torch.equal(latent[..., known.frames[0]], encoded[..., known.frames[0]])
    decoded = pipeline.autoencoder.decode(latent)
    torch.testing.assert_close(audio[..., 1200:1520], decoded[..., 1200 - start : 1520 - start], rtol=0, atol=1e-6)
    # Codes: those before and after the hole are the music's own, those in it follow from those before.
    ((before, new),) = calls["extend"]
    own = pipeline.hear(emptied)
    first, count = before.shape[-1], new.shape[-1]
    assert first == (unknown[0] - start) // 32
    assert first + count == -(-(unknown[-1] + HOP - start) // 32)
    codes = torch.cat([own[..., :first], new, own[..., first + count :]], dim=-1)
    assert torch.equal(before, own[..., :first])
    assert torch.equal(conditioning.sequence, pipeline.conditioner.embed(codes).sequence)


def test_nothing_has_a_gradient_and_the_setting_of_the_caller_stays():
    pipeline = tiny_melody()
    assert not pipeline.inpaint(music(4.0), SAMPLE_RATE, 1.5, 1.9).waveform.requires_grad
    for block in pipeline.stream_continuation(music(2.0), SAMPLE_RATE, Request(seconds=0.6)):
        assert torch.is_grad_enabled()
        assert not block.waveform.requires_grad


def test_what_was_in_the_hole_does_not_matter():
    pipeline, given = tiny_melody(), music(4.0)
    other = given.clone()
    other[..., 1200:1520] = 0.9
    filled = [pipeline.inpaint(x, SAMPLE_RATE, 1.5, 1.9).waveform for x in (given, other)]
    assert torch.equal(*filled)


@pytest.mark.parametrize(("begin", "end"), [(0.0, 0.3), (3.7, 4.0), (0.01, 0.2), (1.0, 1.7)])
def test_holes_may_lie_at_the_ends(begin, end):
    given = music(4.0)
    audio = tiny_melody().inpaint(given, SAMPLE_RATE, begin, end).waveform
    first, last = round(begin * SAMPLE_RATE), round(end * SAMPLE_RATE)
    keep = torch.ones(given.shape[-1], dtype=torch.bool)
    keep[max(0, first - FADE) : last + FADE] = False
    assert torch.equal(audio[..., keep], given[..., keep])
    assert (audio[..., first:last] != given[..., first:last]).all()
    assert audio.isfinite().all()


@pytest.mark.parametrize("samples", [401, 407, 640])
def test_short_music_of_any_length_can_be_inpainted(samples):
    given = music(4.0)[..., :samples]
    audio = tiny_melody().inpaint(given, SAMPLE_RATE, 0.2, 0.25).waveform
    assert audio.shape == given.shape
    assert torch.equal(audio[..., 200 + FADE :], given[..., 200 + FADE :])


def test_inpainting_that_cannot_be_done_is_refused():
    pipeline = tiny_melody()
    pipeline.embed_prompts = None
    with pytest.raises(ValueError, match=r"may have 0\.71 s"):
        pipeline.inpaint(music(4.0), SAMPLE_RATE, 1.0, 2.0)
    with pytest.raises(ValueError, match="does not lie in music of 4 s"):
        pipeline.inpaint(music(4.0), SAMPLE_RATE, 3.0, 5.0)
    lone = torch.zeros(1, 1, 1600)
    lone[..., 800:820] = 0.5
    with pytest.raises(ValueError, match="the music around the hole is silent"):
        pipeline.inpaint(lone, SAMPLE_RATE, 1.0, 1.1)
