"""MusicLM with toy networks: which codes go where, windows, seeds, and what is refused."""

import pytest
import torch
from toy_systems import MAX_SECONDS, SAMPLE_RATE, ToyCodec, toy_language_model, toy_musiclm

from melody_cm.pipelines import MusicLM, PretrainedPipeline, Request
from melody_cm.randomness import keyed_generator


def recorded(pipeline: MusicLM) -> dict[str, list]:
    """What every model is asked for from now on: (prompt, known codes, length, temperature), and what it makes."""
    calls = {name: [] for name in ("semantic_lm", "coarse_lm", "fine_lm")}
    for name, kept in calls.items():
        model = getattr(pipeline, name)

        def extend(prompt, codes, length, generators, temperature, top_k, top_p, extend=model.extend, kept=kept):
            made = extend(prompt, codes, length, generators, temperature, top_k, top_p)
            kept.append((dict(prompt), codes, length, temperature, made))
            return made

        model.extend = extend
    return calls


def test_each_model_is_given_what_the_ones_before_it_made():
    pipeline = toy_musiclm()
    calls = recorded(pipeline)
    decoded = []
    pipeline.codec.decode_codes = lambda codes: decoded.append(codes) or ToyCodec().decode_codes(codes)
    pipeline.generate(["calm", "loud"], 0.4)
    (semantic,), (coarse,), (fine,) = calls.values()
    prompt = pipeline.joint_tokenizer.quantize(pipeline.joint_embedding.embed_text(["calm", "loud"])[:, None])
    assert [call[2] for call in (semantic, coarse, fine)] == [10, 20, 20]
    assert [call[3] for call in (semantic, coarse, fine)] == [1.0, 0.95, 0.4]
    assert torch.equal(semantic[0]["prompt"], prompt)
    assert torch.equal(coarse[0]["prompt"], prompt)
    assert torch.equal(coarse[0]["semantic"], semantic[4])
    assert list(fine[0]) == ["coarse"]
    assert torch.equal(fine[0]["coarse"], coarse[4])
    assert torch.equal(decoded[0], torch.cat([coarse[4], fine[4]], dim=1))


def test_windows_of_coarse_and_fine_codes_overlap_and_follow_the_music():
    pipeline = toy_musiclm()
    calls = recorded(pipeline)
    audio = pipeline.generate(["calm"], 1.0)
    assert audio.waveform.shape == (1, 1, SAMPLE_RATE)
    assert [call[2] for call in calls["semantic_lm"]] == [25]
    assert [call[2] for call in calls["coarse_lm"]] == [30, 15, 5]
    assert [call[2] for call in calls["fine_lm"]] == [20, 10, 10, 10]
    semantic = calls["semantic_lm"][0][4]
    seen = [call[0]["semantic"] for call in calls["coarse_lm"]]
    for part, (first, last) in zip(seen, [(0, 15), (8, 23), (10, 25)], strict=True):
        assert torch.equal(part, semantic[..., first:last])
    coarse = torch.cat([call[4] for call in calls["coarse_lm"]], dim=2)
    for call, first in zip(calls["fine_lm"], (0, 10, 20, 30), strict=True):
        assert torch.equal(call[0]["coarse"], coarse[..., first : first + 20])
    fine = torch.cat([call[4] for call in calls["fine_lm"]], dim=2)
    expected = ToyCodec().decode_codes(torch.cat([coarse, fine], dim=1))
    torch.testing.assert_close(audio.waveform, expected.clamp(-1, 1))


def test_music_beyond_the_trained_length_begins_with_what_the_trained_length_gives():
    pipeline = toy_musiclm()
    calls = recorded(pipeline)
    long = pipeline.generate(["a", "b"], 2.5, seed=5).waveform
    assert long.shape == (2, 1, round(2.5 * SAMPLE_RATE))
    assert [call[2] for call in calls["semantic_lm"]] == [25, 13, 13, 12]
    short = toy_musiclm().generate(["a", "b"], 0.9, seed=5).waveform  # As far as three whole coarse windows reach.
    torch.testing.assert_close(long[..., : short.shape[-1]], short, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="at most 300 seconds"):
        pipeline.generate(["a"], 301.0)


def test_every_stage_draws_for_a_purpose_of_its_own():
    pipeline, given = toy_musiclm(), []
    for name in ("semantic_lm", "coarse_lm", "fine_lm"):
        model = getattr(pipeline, name)

        def extend(prompt, codes, length, generators, *settings, count=model.layout.target.num_codebooks):
            given.append(torch.stack([torch.rand(4, generator=generator) for generator in generators]))
            return torch.zeros(len(generators), count, length, dtype=torch.long)

        model.extend = extend
    pipeline.generate(["a", "b"], 0.4, seed=3)
    purposes = ("token sampling", "coarse token sampling", "fine token sampling")
    for drawn, purpose in zip(given, purposes, strict=True):
        for clip in range(2):
            assert torch.equal(drawn[clip], torch.rand(4, generator=keyed_generator(3, purpose, 0, clip)))


def test_one_clip_alone_sounds_as_in_a_batch_of_4():
    pipeline, prompts = toy_musiclm(), [f"piece number {i}" for i in range(4)]
    together = pipeline.generate(prompts, 1.0, seed=3).waveform
    alone = torch.cat([next(blocks).waveform for blocks in pipeline.streams(Request(prompts, 1.0, seed=3), 1)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-2
    assert (together - pipeline.generate(prompts, 1.0, seed=4).waveform).abs().amax(-1).min() > 1e-2


@pytest.mark.parametrize("seconds", [0.1, 0.333, MAX_SECONDS])
def test_audio_is_exactly_as_long_as_asked(seconds):
    audio = toy_musiclm().generate(["a", "b"], seconds)
    assert audio.waveform.shape == (2, 1, round(seconds * SAMPLE_RATE))
    assert audio.waveform.abs().max() <= 1
    assert list(audio.timings) == ["planner", "coarse", "fine", "decoder"]


def test_there_are_no_steps_and_no_guidance_to_choose():
    pipeline = toy_musiclm()
    plain = pipeline.generate(["a"], 0.4).waveform
    assert torch.equal(pipeline.generate(["a"], 0.4, num_steps=1, guidance_scale=1.0).waveform, plain)
    with pytest.raises(ValueError, match="num_steps 20 asked for, but MusicLM has no sampling steps"):
        pipeline.generate(["a"], 0.4, num_steps=20)
    with pytest.raises(ValueError, match="guidance_scale 3 asked for, but MusicLM has no guidance"):
        pipeline.generate(["a"], 0.4, guidance_scale=3.0)


def test_a_loaded_pipeline_makes_bit_equal_audio(tmp_path):
    pipeline = toy_musiclm(fine_temperature=0.7)
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = PretrainedPipeline.from_pretrained(tmp_path / "saved")
    assert isinstance(loaded, MusicLM)
    assert loaded.fine_temperature == 0.7
    assert torch.equal(loaded.generate(["a"], 0.7).waveform, pipeline.generate(["a"], 0.7).waveform)
    assert loaded.weight_hashes() == pipeline.weight_hashes()


PROMPT, SEMANTIC, COARSE = (6, 16, 0.0), (1, 16, 25.0), (2, 4, 50.0)


@pytest.mark.parametrize(
    ("part", "other", "message"),
    [
        ("codec", lambda: ToyCodec(num_codebooks=6), r"codec has \(6, 4\) but the coarse and fine models \(5, 4\)"),
        ("codec", lambda: ToyCodec(sample_rate=1600), "codec has 100.0 but the coarse model 50.0"),
        (
            "fine_lm",
            lambda: toy_language_model(20, coarse=(2, 5, 50.0), fine=(3, 4, 50.0)),
            r"coarse model has \(2, 4\) but the fine model \(2, 5\)",
        ),
        (
            "fine_lm",
            lambda: toy_language_model(20, coarse=COARSE, fine=(3, 4, 75.0)),
            "codec has 50.0 but the fine model 75.0",
        ),
        (
            "semantic_lm",
            lambda: toy_language_model(20, prompt=(6, 8, 0.0), semantic=SEMANTIC),
            r"joint tokenizer has \(6, 16\) but the semantic model's prompt \(6, 8\)",
        ),
        (
            "semantic_lm",
            lambda: toy_language_model(20, prompt=PROMPT, semantic=(1, 16, 50.0)),
            "semantic model has 50.0 but the coarse model 25.0",
        ),
        (
            "coarse_lm",
            lambda: toy_language_model(30, prompt=PROMPT, semantic=(1, 32, 25.0), coarse=COARSE),
            r"semantic model has \(1, 16\) but the coarse model \(1, 32\)",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_both_numbers(part, other, message):
    with pytest.raises(ValueError, match=message):
        MusicLM(**{**toy_musiclm().init_arguments, part: other()})


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("coarse_lm", "fine_lm", "coarse_lm .* streams prompt, semantic, coarse, but this one's are coarse, fine;"),
        ("semantic_lm", "fine_lm", "semantic_lm .* streams prompt, semantic, but this one's are coarse, fine;"),
        ("semantic_lm", "coarse_lm", "semantic_lm .* prompt, semantic, but this one's are prompt, semantic, coarse;"),
    ],
)
def test_models_that_are_swapped_are_refused_with_both_layouts(first, second, message):
    parts = toy_musiclm().init_arguments
    with pytest.raises(ValueError, match=message):
        MusicLM(**{**parts, first: parts[second], second: parts[first]})


def test_a_context_that_fills_the_window_is_refused():
    with pytest.raises(ValueError, match="context is 1"):
        toy_musiclm(context=1.0)


@pytest.mark.parametrize(("context", "hops"), [(0.0, (20, 29, 20)), (0.999, (1, 1, 1))])
def test_any_context_that_is_accepted_makes_music(context, hops):
    """A coarse window begins where a semantic frame does, so it moves by one frame less than its 30 at most."""
    parts = dict(toy_musiclm().init_arguments)
    parts["semantic_lm"] = toy_language_model(20, prompt=PROMPT, semantic=SEMANTIC)
    pipeline = MusicLM(**{**parts, "context": context})
    calls = recorded(pipeline)
    assert pipeline.generate(["calm"], 1.7).waveform.shape == (1, 1, round(1.7 * SAMPLE_RATE))
    assert tuple(kept[1][2] for kept in calls.values()) == hops
