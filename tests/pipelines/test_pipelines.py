"""Both systems with toy networks: keyed noise, lengths, guidance, errors."""

import math

import pytest
import torch
from toy_systems import MAX_SECONDS, SAMPLE_RATE, ToyAutoencoder, toy_melody, toy_musiccm, toy_teacher

from melody_cm.interfaces import Sampler
from melody_cm.pipelines import Request
from melody_cm.pipelines.request import Stopwatch
from melody_cm.pipelines.streaming import joined
from melody_cm.randomness import keyed_generator


def alone(pipeline, request, batch_size=1):
    """The clips of a request, made in batches of their own."""
    return torch.cat([joined(blocks).waveform for blocks in pipeline.streams(request, batch_size)])


PROMPTS = [f"piece number {i}" for i in range(8)]


@pytest.fixture(params=[toy_melody, toy_musiccm, toy_teacher])
def pipeline(request):
    return request.param()


class RecordingSampler(Sampler):
    """Keeps what it was given and returns the noise."""

    def sample(self, denoiser, noise, conditioning, angles, generators, known=None):
        self.noise, self.denoiser, self.angles, self.conditioning = noise, denoiser, angles, conditioning
        self.fresh = torch.stack([torch.rand(4, generator=generator) for generator in generators])
        return noise


@pytest.mark.parametrize("make", [toy_melody, toy_musiccm])
def test_one_clip_alone_starts_from_the_same_noise_as_in_a_batch_of_8(make):
    pipeline = make()
    pipeline.sampler = RecordingSampler()
    pipeline.generate(PROMPTS, 0.5, seed=3)
    together, fresh = pipeline.sampler.noise, pipeline.sampler.fresh
    for clip, blocks in enumerate(pipeline.streams(Request(PROMPTS, 0.5, seed=3), batch_size=1)):
        next(blocks)
        torch.testing.assert_close(pipeline.sampler.noise[0], together[clip], rtol=0, atol=0)
        torch.testing.assert_close(pipeline.sampler.fresh[0], fresh[clip], rtol=0, atol=0)


def test_one_clip_alone_sounds_as_in_a_batch_of_8(pipeline):
    request = Request(PROMPTS, 0.5, seed=3, num_steps=4)
    together = pipeline.generate(request).waveform
    for batch_size in (1, 3):
        apart = alone(pipeline, request, batch_size)
        torch.testing.assert_close(apart, together, rtol=0, atol=1e-4)
    assert together.std() > 1e-3


def test_an_int_seeds_clip_i_by_seed_and_i_and_a_sequence_gives_each_clip_its_own():
    for seed, key in ((7, (7, 1)), ([4, 9], (9, 0))):
        batch = toy_melody().batch(Request(PROMPTS[:2], 0.5, seed))
        expected = torch.randn(12, generator=keyed_generator(key[0], "sampling noise", 0, key[1])).view(4, 3)
        torch.testing.assert_close(batch.noise((4, 3))[1], expected, rtol=0, atol=0)


def test_a_clip_with_its_own_seed_does_not_depend_on_its_place(pipeline):
    audio = pipeline.generate(["a", "b", "c"], 0.5, seed=[5, 6, 7]).waveform
    alone = pipeline.generate(["c"], 0.5, seed=[7]).waveform
    torch.testing.assert_close(alone[0], audio[2], rtol=0, atol=1e-4)


def test_seed_and_prompt_change_the_sound(pipeline):
    base, other_prompt = pipeline.generate(["calm piano", "loud drums"], 0.5, seed=[1, 1]).waveform
    other_seed = pipeline.generate(["calm piano"], 0.5, seed=[2]).waveform[0]
    assert (base - other_prompt).abs().max() > 1e-4
    assert (base - other_seed).abs().max() > 1e-3


def keyed_uniform(purpose, seed, clip):
    return torch.rand(4, generator=keyed_generator(seed, purpose, 0, clip))


@pytest.mark.parametrize("make", [toy_melody, toy_musiccm])
def test_noise_and_fresh_noise_are_drawn_for_separate_purposes(make):
    pipeline = make()
    pipeline.sampler = RecordingSampler()
    pipeline.generate(["a", "b"], 0.5, seed=3)
    for clip in range(2):
        torch.testing.assert_close(pipeline.sampler.fresh[clip], keyed_uniform("sampler", 3, clip), rtol=0, atol=0)


def test_tokens_are_drawn_for_a_purpose_of_their_own():
    pipeline, given = toy_melody(), []
    sample = pipeline.semantic_lm.sample

    def recording(prompt, length, generators):
        given.extend(torch.rand(4, generator=generator) for generator in generators)
        return sample(prompt, length, generators)

    pipeline.semantic_lm.sample = recording
    pipeline.generate(["a", "b"], 0.5, seed=3)
    expected = torch.stack([keyed_uniform("token sampling", 3, clip) for clip in range(2)])
    torch.testing.assert_close(torch.stack(given), expected, rtol=0, atol=0)


@pytest.mark.parametrize("seconds", [0.1, 0.333, 1.0])
def test_audio_is_exactly_as_long_as_asked_finite_fp32_and_within_range(pipeline, seconds):
    audio = pipeline.generate(["a", "b"], seconds)
    assert audio.waveform.shape == (2, 1, round(seconds * SAMPLE_RATE))
    assert audio.waveform.dtype == torch.float32
    assert audio.waveform.isfinite().all()
    assert audio.waveform.abs().max() <= 1
    assert audio.sample_rate == SAMPLE_RATE
    assert list(audio.timings) == ["planner", "denoiser", "decoder"]
    assert min(audio.timings.values()) > 0


def test_a_short_clip_of_musiccm_is_the_beginning_of_the_full_length():
    whole, short = (toy_musiccm().generate(["a"], seconds, seed=5).waveform for seconds in (MAX_SECONDS, 0.333))
    torch.testing.assert_close(short, whole[..., : short.shape[-1]], rtol=0, atol=0)


def test_loud_audio_is_clamped_and_quiet_audio_left_alone():
    quiet, loud = toy_melody(), toy_melody()
    loud.autoencoder.gain = 100 * quiet.autoencoder.gain
    soft = quiet.generate(["a"], 0.5).waveform
    torch.testing.assert_close(loud.generate(["a"], 0.5).waveform, (100 * soft).clamp(-1, 1))
    assert (100 * soft).abs().max() > 1


def test_melody_plans_as_many_codes_as_the_seconds_need():
    pipeline = toy_melody(semantic_frame_rate=25.0)
    lengths = []
    sample = pipeline.semantic_lm.sample
    pipeline.semantic_lm.sample = lambda prompt, length, generators: (
        lengths.append(length) or sample(prompt, length, generators)
    )
    pipeline.generate(["a"], 0.5)
    pipeline.generate(["a"], 1.0)
    assert lengths == [math.ceil(12.5), 25]


@pytest.mark.parametrize(("asked", "used"), [(None, 2.5), (1.0, 1.0), (4.0, 4.0)])
def test_the_sampler_gets_the_guidance_scale_and_steps_asked_for(asked, used):
    pipeline = toy_melody()
    pipeline.sampler = RecordingSampler()
    pipeline.generate(["a"], 0.5, num_steps=7, guidance_scale=asked)
    assert pipeline.sampler.denoiser.guidance_scale == used
    torch.testing.assert_close(pipeline.sampler.angles, pipeline.schedule.angles(7))


def test_a_student_refuses_guidance_and_its_teacher_takes_it():
    with pytest.raises(ValueError, match="guidance is built in"):
        toy_musiccm().generate(["a"], 0.5, guidance_scale=2.0)
    teacher = toy_teacher()
    plain, guided = (teacher.generate(["a"], 0.5, guidance_scale=scale).waveform for scale in (1.0, 5.0))
    assert (plain - guided).abs().max() > 1e-3
    with pytest.raises(ValueError, match="guidance_scale is 2"):
        toy_musiccm(guidance_scale=2.0)


@pytest.mark.parametrize("toy", [toy_musiccm, toy_teacher])
def test_a_negative_prompt_is_refused_with_the_reason(toy):
    with pytest.raises(ValueError, match=r"nothing to act on: .*; say in the prompt what is wanted"):
        toy().generate(["a"], 0.5, negative_prompt="drums")


@pytest.mark.parametrize("toy", [toy_melody, toy_musiccm])
def test_any_student_refuses_guidance_and_says_what_it_learned(toy):
    student = toy(guidance_scale=1.0, guidance_embedded=True, embedded_guidance_scale=3.0)
    student.generate(["a"], 0.5)
    for asked in (1.0, 2.0):
        with pytest.raises(ValueError, match="teacher's results at guidance scale 3: guidance is built in"):
            student.generate(["a"], 0.5, guidance_scale=asked)
    with pytest.raises(ValueError, match="guidance_scale is 2"):
        toy(guidance_scale=2.0, guidance_embedded=True)


def test_the_teachers_default_guidance_is_its_constructors():
    teacher = toy_teacher()
    explicit = teacher.generate(["a"], 0.5, guidance_scale=3.0).waveform
    torch.testing.assert_close(teacher.generate(["a"], 0.5).waveform, explicit, rtol=0, atol=0)


@pytest.mark.parametrize("seconds", [1e6, 0.0, -1.0, float("nan")])
def test_a_length_it_cannot_make_names_the_limit(pipeline, seconds):
    with pytest.raises(ValueError, match=f"at most {pipeline.longest_seconds:g} seconds"):
        pipeline.generate(["a"], seconds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": []}, "there is no prompt"),
        ({"prompts": ["a", "  "]}, "texts that are not empty"),
        ({"prompts": " "}, "texts that are not empty"),
        ({"num_steps": 0}, "1 to 1000 steps"),
        ({"seed": [1, 2]}, "2 seeds for 1 prompts"),
    ],
)
def test_wrong_requests_are_refused_before_any_work(pipeline, arguments, message):
    pipeline.joint_embedding.embed_text = None
    with pytest.raises(ValueError, match=message):
        pipeline.generate(**{"prompts": ["a"], "seconds": 0.5} | arguments)


def test_batches_check_the_request_when_called_and_not_when_first_used():
    with pytest.raises(ValueError, match="at most"):
        toy_melody().streams(Request(["a"], 99.0))
    with pytest.raises(ValueError, match="batch_size is 0"):
        toy_melody().streams(Request(["a"], 0.5), batch_size=0)


@pytest.mark.parametrize("damage", ["short", "nan"])
def test_a_decoder_that_does_not_fit_is_reported(damage):
    pipeline = toy_melody()
    if damage == "short":
        pipeline.autoencoder.latent_shape = lambda seconds: (4, 2)
    else:
        torch.nn.init.constant_(pipeline.autoencoder.decoder.bias, float("nan"))
    with pytest.raises(ValueError, match="diverged"):
        pipeline.generate(["a"], 0.5)


def test_generation_leaves_no_gradient_and_no_training_mode():
    pipeline = toy_melody()
    pipeline.denoiser.train()
    assert not pipeline.generate(["a"], 0.5).waveform.requires_grad
    assert not pipeline.denoiser.training


def test_generation_does_not_touch_the_global_random_numbers(pipeline):
    before = torch.get_rng_state()
    pipeline.generate(["a"], 0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_stopwatch_adds_up_a_part():
    stopwatch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with stopwatch.part("decoder"):
            first = stopwatch.seconds.get("decoder", 0.0)
    assert stopwatch.seconds["decoder"] > first > 0


def test_stopwatch_counts_a_part_within_another_once(monkeypatch):
    stopwatch, now = Stopwatch(torch.device("cpu")), iter([0.0, 1.0, 4.0, 9.0])
    monkeypatch.setattr(stopwatch, "_now", lambda: next(now))
    with stopwatch.part("decoder"), stopwatch.part("denoiser"):
        pass
    assert stopwatch.lap() == {"denoiser": 3.0, "decoder": 6.0}


def test_passes_are_recorded_on_a_gpu_alone(monkeypatch):
    pipeline, asked = toy_musiccm(), []
    with pytest.raises(ValueError, match="only a CUDA device records passes, and this is on cpu"):
        pipeline.compile()
    monkeypatch.setattr(type(pipeline), "device", torch.device("cuda"))
    monkeypatch.setattr(pipeline.denoiser, "compile", lambda **how: asked.append(how))
    assert pipeline.compile() is pipeline
    assert asked == [{"mode": "reduce-overhead"}]


def test_the_autoencoder_decides_the_sample_rate():
    assert toy_melody().sample_rate == ToyAutoencoder().sample_rate
