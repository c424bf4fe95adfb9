"""MusicCM beyond its trained length: windows, prompts with times, loops, and decoding in pieces."""

import math

import pytest
import torch
from test_diffusers_export import MEL, student
from toy_systems import HOP, SAMPLE_RATE, ToyDenoiser, toy_melody, toy_musiccm, toy_teacher

from melody_cm.autoencoders import GriffinLim, HiFiGANVocoder
from melody_cm.evaluation import seam_ratio
from melody_cm.interfaces import Sampler
from melody_cm.pipelines import Request
from melody_cm.pipelines.streaming import close_loop, context_frames, cropped, decode_tiles, tile_weights, vocode
from melody_cm.signal import PHASE_PERIOD

WINDOW = 101  # Latent frames of the toys' second.


class WatchingSampler(Sampler):
    """Keeps the noises and conditions it is given and returns the noise."""

    def __init__(self):
        self.noise, self.pooled = [], []

    def sample(self, denoiser, noise, conditioning, angles, generators, known=None):
        self.noise.append(noise)
        self.pooled.append(conditioning.pooled)
        return noise


@pytest.fixture(params=[toy_musiccm, toy_teacher])
def pipeline(request):
    return request.param()


@pytest.mark.parametrize("windows", ["shared", "independent"])
@pytest.mark.parametrize("seconds", [1.01, 2.5, 3.0071])
def test_music_is_as_long_as_asked_and_never_falls_silent(pipeline, windows, seconds):
    audio = pipeline.generate(["a", "b"], seconds, num_steps=2, windows=windows).waveform
    assert audio.shape == (2, 1, round(seconds * SAMPLE_RATE))
    assert (audio.unfold(-1, HOP, HOP).std(-1) > 1e-6).all()


def test_a_stream_is_what_generate_makes():
    blocks = list(toy_musiccm().stream(["a", "b"], 4.0, seed=[5, 6]))
    assert len(blocks) > 4
    whole = toy_musiccm().generate(["a", "b"], 4.0, seed=[5, 6]).waveform
    assert torch.equal(torch.cat([block.waveform for block in blocks], dim=-1), whole)
    assert {part for block in blocks for part in block.timings} == {"planner", "denoiser", "decoder"}


@pytest.mark.parametrize(("windows", "needed"), [("shared", 4 + 6 + 8 + 10), ("independent", 4 * 2)])
def test_the_first_sound_does_not_wait_for_the_rest(windows, needed):
    """101 frames are seen by 3 windows, 50 apart, two at a time; each step is as far ahead as the next one looks."""
    pipeline = toy_musiccm()
    rows, forward = [], pipeline.denoiser.forward
    pipeline.denoiser.forward = lambda noisy, *known: rows.append(len(noisy)) or forward(noisy, *known)
    stream = next(pipeline.streams(Request(["a"], 40.0, num_steps=4, windows=windows)))
    next(stream)
    assert sum(rows) == needed
    list(stream)
    assert sum(rows) == 4 * len(pipeline.window_seconds(40.0, windows=windows))


@pytest.mark.parametrize("windows", ["shared", "independent"])
def test_one_clip_alone_sounds_as_in_a_batch(windows):
    pipeline = toy_musiccm()
    together = pipeline.generate(["a", "b", "c"], 2.5, seed=3, windows=windows).waveform
    alone = torch.cat(
        [next(stream).waveform for stream in pipeline.streams(Request(["a", "b", "c"], 2.5, 3, windows=windows), 1)],
    )
    torch.testing.assert_close(alone, together[..., : alone.shape[-1]], rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_the_trained_length_is_made_as_ever():
    pipeline = toy_musiccm()
    plain = pipeline.generate(["a"], 1.0).waveform
    assert torch.equal(plain, pipeline.generate(["a"], 1.0, windows="independent").waveform)
    longer = pipeline.generate(["a"], 2.0, windows="independent").waveform
    torch.testing.assert_close(longer[..., :SAMPLE_RATE], plain, rtol=0, atol=1e-6)


def test_independent_windows_each_have_noise_of_their_own():
    pipeline = toy_musiccm()
    pipeline.sampler = WatchingSampler()
    pipeline.generate(["a", "b"], 9.2, windows="independent")
    noise = torch.cat(pipeline.sampler.noise)
    assert [len(each) for each in pipeline.sampler.noise] == [2] * 10
    assert len({row[0, 0].item() for row in noise}) == 20
    pipeline.sampler = WatchingSampler()
    pipeline.generate(["a", "b"], 9.2)
    assert [each.shape for each in pipeline.sampler.noise] == [(2, 4, 920)]


def test_each_window_is_told_the_prompt_that_holds_in_its_middle():
    pipeline = toy_musiccm()
    pipeline.sampler = WatchingSampler()
    pipeline.generate(["own", "other"], 3.0, prompt_at=[(1.0, "calm"), (2, "drums")])
    # 301 frames of 10 ms: windows begin at 0, 50, 100, 150 and 200, their middles are 0.505, 1.005, ... 2.505 s.
    own, other, calm, drums = pipeline.embed_prompts(["own", "other", "calm", "drums"])
    expected = torch.stack([own, calm, calm, drums, drums, other, calm, calm, drums, drums])
    assert pipeline.window_seconds(3.0) == [0.0, 0.5, 1.0, 1.5, 2.0]
    torch.testing.assert_close(pipeline.sampler.pooled[0], expected)
    pipeline.sampler = WatchingSampler()
    pipeline.generate(["own", "other"], 3.0, prompt_at=[(1.0, "calm"), (2, "drums")], windows="independent")
    # End to end they begin at 0, 1.01 and 2.02 s; rows are windows first.
    expected = torch.stack([own, other, calm, calm, drums, drums])
    torch.testing.assert_close(torch.cat(pipeline.sampler.pooled), expected)


def test_prompts_change_the_music_where_they_hold_and_not_far_before():
    plain = toy_musiccm().generate(["calm piano"], 6.0, num_steps=1).waveform
    changed = toy_musiccm().generate(["calm piano"], 6.0, num_steps=1, prompt_at=[(4.0, "loud drums")]).waveform
    assert torch.equal(plain[..., : 3 * SAMPLE_RATE], changed[..., : 3 * SAMPLE_RATE])
    assert (plain - changed)[..., 5 * SAMPLE_RATE :].abs().max() > 1e-3


class LevelDenoiser(ToyDenoiser):
    """Hears one level in all of a window: what else is there is scaled down."""

    def forward(self, noisy_latent, angle, conditioning):
        clean = 20 * noisy_latent.mean(-1, keepdim=True) + 0.1 * noisy_latent
        return (angle[:, None, None].cos() * noisy_latent - clean) / angle[:, None, None].sin()


def test_shared_windows_meet_more_softly_than_independent_ones():
    ratios = {}
    for windows in ("shared", "independent"):
        pipeline = toy_musiccm()
        pipeline.denoiser = LevelDenoiser()
        made = pipeline.generate(["a"] * 4, 10.0, num_steps=1, windows=windows).waveform
        frames = made.unfold(-1, HOP, HOP)[:, 0]
        joints = [round(second * SAMPLE_RATE / HOP) for second in pipeline.window_seconds(10.0, windows=windows)[1:]]
        ratios[windows] = seam_ratio(frames, joints, radius=0)
    assert (ratios["shared"] < 2).all()
    assert (ratios["independent"] > 2 * ratios["shared"]).all()


def jump(samples, place):
    """The step between two neighbouring samples, in units of the usual one."""
    return float((samples[place] - samples[place - 1]).abs() / samples.diff().abs().mean())


def test_the_end_of_a_loop_goes_over_into_its_beginning():
    """With every window the same, turning the noise by a stride turns the music."""
    pipeline = toy_musiccm()
    pipeline.sampler = WatchingSampler()
    loop = pipeline.generate(["a"], 4.0, loop=True).waveform
    assert loop.shape == (1, 1, 4 * SAMPLE_RATE)
    noise = pipeline.sampler.noise[0]
    assert noise.shape == (1, 4, 400)
    whole = pipeline.autoencoder.decode(torch.cat([noise, noise, noise], dim=2))  # The toy's decoder is local.
    torch.testing.assert_close(loop, whole[..., 4 * SAMPLE_RATE : 8 * SAMPLE_RATE], rtol=0, atol=1e-5)


def test_a_loop_of_mels_has_no_jump_where_it_closes():
    pipeline = student()
    samples = pipeline.generate(["a"], 1.92, loop=True, seed=1).waveform[0, 0]
    assert len(samples) == 15360
    front_end, twice = pipeline.autoencoder.mel, torch.cat([samples, samples])
    mel = front_end(twice[None, None])
    assert float(seam_ratio(mel, [mel.shape[1] // 2])) < 1.6
    assert jump(twice, len(samples)) < 5


def test_closing_a_loop_fades_the_end_into_what_came_before_the_beginning():
    ramp = torch.arange(20.0).expand(1, 1, -1)
    closed = torch.cat(list(close_loop(ramp.split(3, dim=-1), before=6, fade=2, length=10)), dim=-1)[0, 0]
    assert closed[:8].tolist() == [6, 7, 8, 9, 10, 11, 12, 13]
    torch.testing.assert_close(closed[8:], torch.tensor([14 * 2 / 3 + 4 / 3, 15 / 3 + 5 * 2 / 3]))
    assert torch.cat(list(cropped(ramp.split(7, dim=-1), 5, 4)), dim=-1).tolist() == [[[5, 6, 7, 8]]]


@pytest.mark.parametrize("frames", [101, 102, 150, 151, 199, 333, 400])
def test_pieces_of_a_local_decoder_are_the_whole(frames):
    """Each frame depends on those up to 9 on either side: less than the margin of a window, 12."""
    torch.manual_seed(0)
    decoder = torch.nn.Conv1d(4, 6, 19, padding=9)
    latent = torch.randn(2, 4, frames)

    def decode(piece):
        return decoder(piece).unflatten(1, (2, 3)).permute(0, 3, 1, 2).flatten(1, 2)  # Two frames a latent frame.

    with torch.no_grad():
        pieces = list(decode_tiles(latent.split(37, dim=2), frames, decode, WINDOW))
        torch.testing.assert_close(torch.cat(pieces, dim=1), decode(latent), rtol=0, atol=1e-4)
    assert len(pieces) == 1 + math.ceil((frames - WINDOW) / 50)


def test_pieces_of_a_decoder_with_norms_over_all_it_hears_are_cross_faded_by_hand():
    """The loop adds up whole canvases, with the weights written out."""
    autoencoder = student().autoencoder
    latent = torch.randn(2, 3, 29, 8)
    with torch.no_grad():
        pieces = torch.cat(list(decode_tiles([latent], 29, autoencoder.decode_mel, 8)), dim=1)
        total, weight = torch.zeros(2, 58, 16), torch.zeros(58)
        for start in (0, 4, 8, 12, 16, 20, 21):
            decoded = autoencoder.decode_mel(latent[:, :, start : start + 8])
            for place in range(16):
                x = (place + 0.5) / 16
                part = min(1.0, max(0.0, min(x - 1 / 8, 1 - x - 1 / 8) * 4))
                part = 1.0 if (start == 0 and place < 8) or (start == 21 and place >= 8) else part
                total[:, 2 * start + place] += part * decoded[:, place]
                weight[2 * start + place] += part
    torch.testing.assert_close(pieces, total / weight[:, None], rtol=0, atol=1e-4)


def test_the_weights_of_pieces_half_a_length_apart_sum_to_one():
    weights = tile_weights(64)
    torch.testing.assert_close(weights[32:] + weights[:32], torch.ones(32))
    assert weights[:8].sum() == 0


def hifigan():
    torch.manual_seed(5)
    return HiFiGANVocoder(
        **MEL, upsampling=[5, 4, 4], upsampling_kernels=[16, 16, 8], first_channels=16, residual_kernels=[3],
        residual_dilations=[1],
    ).eval()  # fmt: skip


@pytest.mark.parametrize("make", [hifigan, lambda: GriffinLim(**MEL, iterations=8)])
def test_vocoding_blocks_is_vocoding_the_whole(make):
    vocoder = make()
    mel = -4 + 2 * torch.randn(2, 1200, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = vocoder(mel)
        blocks = list(vocode(mel.split(97, dim=1), vocoder, mel.device))
    assert len(blocks) > 3
    together = torch.cat(blocks, dim=-1)
    torch.testing.assert_close(together, whole, rtol=0, atol=1e-4)
    assert whole.std() > 0.005


def test_griffin_lim_hears_as_far_as_its_iterations_reach():
    vocoder = GriffinLim(**MEL, iterations=8)
    context = context_frames(lambda mel: vocoder(mel.transpose(1, 2)), 16, 80, 1024, torch.device("cpu"))
    assert 8 * 3 <= context <= 10 * 4 < PHASE_PERIOD


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt_at": [(5.0, "a"), (3.0, "b")]}, "prompts at 5, 3 s: give ascending times from 0 on"),
        ({"prompt_at": [(5.0, "a"), (5, "b")]}, "ascending"),
        ({"prompt_at": [(-1.0, "a")]}, "from 0 on"),
        ({"prompt_at": [(float("nan"), "a")]}, "from 0 on"),
        ({"prompt_at": [(0.0, " ")]}, "the prompt at 0 s is empty"),
        ({"prompt_at": [(10.0, "a")]}, "a prompt at 10 s, but the music has 10 s"),
        ({"prompt_at": [(0.0, "a")], "seconds": 1.0}, "prompts change in music beyond 1 s"),
        ({"loop": True, "windows": "independent"}, "no loop"),
        ({"loop": True, "seconds": 0.5}, "shorter than the window of 1 s"),
        ({"loop": True, "seconds": 2.005}, "ask for 2 or 2.01 s"),
        ({"loop": True, "seconds": 1.0}, "ask for 1.01 or 1.01 s"),
        ({"seconds": 1e6}, "at most 43200"),
    ],
)
def test_what_cannot_be_made_is_refused_before_any_work(arguments, message):
    pipeline = toy_musiccm()
    pipeline.joint_embedding.embed_text = None
    with pytest.raises(ValueError, match=message) as error:
        pipeline.generate(**{"prompts": ["a"], "seconds": 10.0} | arguments)
    assert "\n" not in str(error.value)


def test_an_arrangement_tells_what_is_not_plain():
    assert Request(["a"], 3.0, seed=4).arrangement() == {}
    arrangement = Request(prompt_at=[(0, "a"), (2.5, "b")], loop=True).arrangement()
    assert arrangement == {"prompt_at": [[0, "a"], [2.5, "b"]], "loop": True}


def test_other_systems_take_no_arrangement():
    with pytest.raises(ValueError, match=r"MeLoDy takes no prompt_at, loop or windows: .* MusicCM does"):
        toy_melody().generate(["a"], 0.5, loop=True)
