"""MeLoDy beyond its trained length: nothing drifts, blocks are the whole, memory does not grow."""

import time

import pytest
import torch
from long_toys import CHUNK, HOP, WINDOW, music, tiny_autoencoder, tiny_melody
from toy_systems import SAMPLE_RATE, toy_melody

from melody_cm.diffusion import ConsistencySampler
from melody_cm.pipelines import AudioPrompt, MeLoDy, Request
from melody_cm.pipelines.streaming import context_frames, decode_blocks, joined

SECONDS = 2.4


def recording(pipeline):
    """What the pipeline's language model, sampler and decoder are asked for."""
    calls = {"extend": [], "sample": [], "decode": []}
    extend, sample, decode = pipeline.semantic_lm.extend, pipeline.sampler.sample, pipeline.autoencoder.decode

    def recorded_extend(prompt, codes, length, generators, *rest):
        new = extend(prompt, codes, length, generators, *rest)
        calls["extend"].append((codes, new))
        return new

    def recorded_sample(denoiser, noise, conditioning, angles, generators, known=None):
        latent = sample(denoiser, noise, conditioning, angles, generators, known)
        calls["sample"].append((noise, conditioning, known, latent))
        return latent

    def recorded_decode(latent):
        calls["decode"].append(latent)
        return decode(latent)

    pipeline.semantic_lm.extend, pipeline.sampler.sample = recorded_extend, recorded_sample
    pipeline.autoencoder.decode = recorded_decode
    return calls


def test_long_music_is_its_windows_one_after_another():
    pipeline = tiny_melody()
    calls = recording(pipeline)
    audio = pipeline.generate(["a", "b"], SECONDS, seed=3)
    assert audio.waveform.shape == (2, 1, round(SECONDS * SAMPLE_RATE))
    assert list(audio.timings) == ["planner", "decoder", "denoiser"]
    # 240 frames: one window of 100, then 6 chunks of 25.
    first, *others = calls["sample"]
    assert first[2] is None
    assert len(others) == 6
    latent = first[3]
    for noise, _, known, window in others:
        assert noise.shape == window.shape == (2, 4, WINDOW)
        assert known.frames.tolist() == [[True] * (WINDOW - CHUNK) + [False] * CHUNK] * 2
        assert torch.equal(window[..., : WINDOW - CHUNK], latent[..., CHUNK - WINDOW :])
        latent = torch.cat([latent, window[..., WINDOW - CHUNK :]], dim=-1)
    whole = pipeline.autoencoder.decode(latent)[..., : round(SECONDS * SAMPLE_RATE)]
    torch.testing.assert_close(audio.waveform, whole.clamp(-1, 1), rtol=0, atol=1e-5)


def test_codes_keep_step_with_the_latent():
    pipeline = tiny_melody()
    calls = recording(pipeline)
    list(pipeline.stream(["a"], 10.0, num_steps=1))
    new = [codes.shape[-1] for _, codes in calls["extend"]]
    assert new == [25] + [7, 6, 6, 6] * 9
    made = torch.cat([codes for _, codes in calls["extend"]], dim=-1)[0, 0]
    end = 0
    for (_, conditioning, _, _), count in zip(calls["sample"], new, strict=True):
        end += count
        assert torch.equal(conditioning.sequence, pipeline.conditioner.embed(made[None, None, end - 25 : end]).sequence)
    for (context, _), before in zip(calls["extend"][1:], torch.tensor(new).cumsum(0), strict=False):
        assert torch.equal(context[0, 0], made[max(0, before - 25) : before])


def test_neither_networks_nor_the_stream_hold_more_when_music_is_longer():
    held = []
    for seconds in (3.0, 12.0):
        pipeline = tiny_melody()
        calls = recording(pipeline)
        blocks = [audio.waveform.shape[-1] for audio in pipeline.stream(["a"], seconds, num_steps=1)]
        assert sum(blocks) == round(seconds * SAMPLE_RATE)
        windows = max(latent.shape[-1] for *_, latent in calls["sample"])
        decoded = max(latent.shape[-1] for latent in calls["decode"])
        contexts = max(codes.shape[-1] for codes, _ in calls["extend"])
        held.append((windows, decoded, contexts, max(blocks)))
    assert held[0] == held[1]
    assert max(held[0][:2]) == WINDOW


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.01, 3.0])
def test_a_stream_is_what_generate_makes(seconds):
    pipeline = tiny_melody()
    blocks = list(pipeline.stream(["a", "b"], seconds, seed=[5, 6]))
    whole = pipeline.generate(["a", "b"], seconds, seed=[5, 6]).waveform
    assert torch.equal(torch.cat([block.waveform for block in blocks], dim=-1), whole)
    assert whole.shape == (2, 1, round(seconds * SAMPLE_RATE))
    assert (len(blocks) > 1) == (seconds > 1)
    assert all(block.timings and block.sample_rate == SAMPLE_RATE for block in blocks)


def test_a_block_is_given_away_while_the_next_chunk_is_made_and_no_further_one():
    pipeline = tiny_melody()
    calls = recording(pipeline)
    for count, _ in enumerate(pipeline.stream(["a"], 3.0)):
        deadline = time.monotonic() + 20
        while len(calls["sample"]) < min(count + 2, 9):
            assert time.monotonic() < deadline, "the next chunk waits for the caller"
            time.sleep(0.002)
        time.sleep(0.02)
        assert len(calls["sample"]) == min(count + 2, 9)


def test_an_error_of_the_next_block_reaches_whoever_takes_it():
    pipeline = tiny_melody()
    blocks = pipeline.stream(["a"], 3.0)
    next(blocks)
    pipeline.autoencoder.decode = lambda latent: torch.full_like(latent[:, :1], torch.nan)
    with pytest.raises(ValueError, match="the decoder gave"):
        list(blocks)


def test_music_begins_the_same_however_long_it_gets():
    short, long = (tiny_melody().generate(["a"], seconds, seed=2).waveform for seconds in (2.0, 4.0))
    same = short.shape[-1] - 40 * HOP  # The decoder of the shorter one hears its end.
    torch.testing.assert_close(short[..., :same], long[..., :same], rtol=0, atol=1e-5)


def test_one_clip_alone_goes_on_as_in_a_batch():
    pipeline, prompts = tiny_melody(), ["a", "b", "c"]
    together = pipeline.generate(prompts, SECONDS, seed=3).waveform
    streams = pipeline.streams(Request(prompts, SECONDS, seed=3), batch_size=1)
    alone = torch.cat([joined(blocks).waveform for blocks in streams])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_every_window_has_noise_and_tokens_of_its_own():
    pipeline = tiny_melody()
    calls = recording(pipeline)
    list(pipeline.stream(["a"], 3.0))
    noises = [noise for noise, *_ in calls["sample"]]
    assert len({noise[0, 0, 0].item() for noise in noises}) == len(noises)
    codes = {tuple(new[0, 0, :6].tolist()) for _, new in calls["extend"]}
    assert len(codes) > len(noises) // 2


def test_the_prompt_is_heard_in_every_chunk():
    pipeline = tiny_melody()
    one, other = (pipeline.generate([prompt], 3.0, seed=[1]).waveform for prompt in ("calm piano", "loud drums"))
    assert (one - other)[..., -SAMPLE_RATE:].abs().max() > 1e-3


def test_a_consistency_student_goes_on_too():
    pipeline = tiny_melody()
    pipeline.sampler = ConsistencySampler()
    calls = recording(pipeline)
    pipeline.generate(["a"], SECONDS)
    before, after = calls["sample"][:2]
    assert torch.equal(after[3][..., : WINDOW - CHUNK], before[3][..., CHUNK:])


def test_a_denoiser_with_one_angle_a_clip_stays_within_its_length():
    with pytest.raises(ValueError, match="at most 1 seconds"):
        toy_melody().stream(["a"], 1.5)
    with pytest.raises(ValueError, match="at most 43200 seconds"):
        tiny_melody().stream(["a"], 1e6)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="num_chunks is 1"):
        tiny_melody(num_chunks=1)
    with pytest.raises(ValueError, match="makes 25 codes a second, but semantic_frame_rate is 50"):
        tiny_melody(semantic_frame_rate=50.0)


def test_a_saved_pipeline_goes_on_as_before(tmp_path):
    pipeline = tiny_melody()
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = MeLoDy.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded.generate(["a"], SECONDS).waveform, pipeline.generate(["a"], SECONDS).waveform)
    given = music(1.0)
    assert torch.equal(loaded.hear(given), pipeline.hear(given))


@pytest.mark.parametrize("make", [toy_melody, tiny_melody])
def test_music_can_take_the_place_of_a_text(make):
    pipeline = make()
    prompt = AudioPrompt(music(3.0), SAMPLE_RATE)
    mixed = pipeline.generate(["calm", prompt, "loud"], 0.5, seed=1).waveform
    texts = pipeline.generate(["calm", "other", "loud"], 0.5, seed=1).waveform
    torch.testing.assert_close(mixed[::2], texts[::2], rtol=0, atol=1e-5)
    embedded = pipeline.embed_prompts([prompt, "calm"])
    assert torch.equal(embedded[0], pipeline.joint_embedding.embed_audio(prompt.waveform)[0])
    assert torch.equal(embedded[1], pipeline.joint_embedding.embed_text(["calm"])[0])


def test_an_audio_prompt_at_another_rate_is_resampled():
    pipeline, heard = tiny_melody(), []
    embed = pipeline.joint_embedding.embed_audio
    pipeline.joint_embedding.embed_audio = lambda waveform: heard.append(waveform.shape) or embed(waveform)
    pipeline.generate([AudioPrompt(music(3.0), 2 * SAMPLE_RATE)], 0.5)
    assert heard == [(1, 1, round(1.5 * SAMPLE_RATE))]


def test_audio_prompts_that_cannot_be_used_are_refused():
    with pytest.raises(ValueError, match="has 0 samples"):
        AudioPrompt(torch.zeros(1, 1, 0), SAMPLE_RATE)
    with pytest.raises(ValueError, match="is silent"):
        AudioPrompt(torch.zeros(1, 1, 800), SAMPLE_RATE)
    with pytest.raises(ValueError, match="NaN"):
        AudioPrompt(torch.full((1, 1, 800), torch.nan), SAMPLE_RATE)
    with pytest.raises(ValueError, match=r"601\.0 s is too long .* at most 600 s"):
        AudioPrompt(torch.ones(1, 1, 601 * SAMPLE_RATE), SAMPLE_RATE)


@pytest.mark.parametrize("make", [toy_melody, tiny_melody])
def test_an_audio_prompt_shorter_than_a_chunk_is_refused(make):
    pipeline = make()
    chunk = pipeline.timeline.seconds(pipeline.timeline.chunk)
    pipeline.generate(["calm", AudioPrompt(music(chunk), SAMPLE_RATE)], 0.5)
    with pytest.raises(ValueError, match=rf"of {chunk / 2:g} s is shorter than the {chunk:g} s .* give at least"):
        pipeline.generate(["calm", AudioPrompt(music(chunk / 2), SAMPLE_RATE)], 0.5)


def test_the_context_of_a_decoder_is_how_far_it_looks():
    decode = tiny_autoencoder().decode
    context = context_frames(decode, 4, HOP, WINDOW, torch.device("cpu"))
    latent = 0.3 * torch.randn(1, 4, 101)
    changed = latent.clone()
    changed[..., 50] += 0.3
    frames = (decode(latent) != decode(changed))[0, 0].nonzero() // HOP
    assert max(50 - frames.min(), frames.max() - 50) == context > 1


def test_a_decoder_that_hears_everything_is_refused():
    def decode(latent):
        return (latent - latent.mean()).repeat_interleave(HOP, dim=-1)[:, :1]

    with pytest.raises(ValueError, match="further than the 100 latent frames"):
        context_frames(decode, 4, HOP, WINDOW, torch.device("cpu"))


@pytest.mark.parametrize("lengths", [[7] * 9, [1] * 63, [63], [40, 1, 1, 21], [3, 60]])
@pytest.mark.parametrize("past", [None, 0, 5, 30])
def test_blocks_together_are_the_latent_decoded_whole(lengths, past):
    decode = tiny_autoencoder().decode
    context = context_frames(decode, 4, HOP, WINDOW, torch.device("cpu"))
    latent = torch.rand(2, 4, (past or 0) + sum(lengths)) - 0.5
    before = None if past is None else latent[..., :past]
    pieces = latent[..., past or 0 :].split(lengths, dim=-1)
    blocks = torch.cat(list(decode_blocks(pieces, decode, context, HOP, before)), dim=-1)
    torch.testing.assert_close(blocks, decode(latent)[..., (past or 0) * HOP :], rtol=0, atol=1e-5)
