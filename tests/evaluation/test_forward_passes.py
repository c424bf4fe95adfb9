"""Passes by formula, and counted in pipelines whose tiny networks work at the papers' token rates."""

import pytest
import torch
from torch import nn
from toy_systems import (
    CODES,
    WIDTH,
    ToyCodec,
    toy_language_model,
    toy_melody,
    toy_musiccm,
    toy_musiclm,
    toy_teacher,
)

from melody_cm.autoencoders import GriffinLim, MelAutoencoder, WaveformAutoencoder, WaveformCodec
from melody_cm.encoders import TwoTowerEmbedding
from melody_cm.evaluation import PassCounter, melody_passes, musiccm_passes, musiclm_passes
from melody_cm.evaluation.forward_passes import saving
from melody_cm.pipelines import MeLoDy, MusicLM

PROMPT, SEMANTIC = (WIDTH, CODES, 0.0), (1, CODES, 25.0)
COARSE, FINE = (4, 4, 50.0), (8, 4, 50.0)


@pytest.mark.parametrize(
    ("seconds", "musiclm", "melody", "percent"), [(10, 6250, 270, "95.68"), (30, 18750, 770, "95.89")]
)
def test_the_table_of_the_paper(seconds, musiclm, melody, percent):
    assert (musiclm_passes(seconds), melody_passes(seconds, 20)) == (musiclm, melody)
    assert f"{100 * saving(melody, musiclm):.2f}" == percent
    assert musiccm_passes(4) == 4
    assert all(type(count) is int for count in (musiclm_passes(10.0), melody_passes(10.0, 20)))


def test_the_saving_stays_below_96_percent_however_long_the_music():
    savings = [saving(melody_passes(10**power, 20), musiclm_passes(10**power)) for power in range(1, 8)]
    assert savings == sorted(savings)
    assert 0.9599 < savings[-1] < 0.96


def test_other_rates_change_the_counts():
    assert musiclm_passes(10, codec_frame_rate=75.0) == 250 + 3000 + 6000
    assert musiclm_passes(2.56, 25.0, 50.0, coarse_codebooks=2, fine_codebooks=2) == 64 + 128 * 4
    assert melody_passes(2.54, 5) == 64 + 5  # Frames that begin are whole ones.
    assert melody_passes(1.1, 5, semantic_frame_rate=50) == 55 + 5  # 1.1 * 50 is a little more than 55 in fp64.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: melody_passes(0, 20), "0 seconds"),
        (lambda: musiclm_passes(-1.0), "-1 seconds"),
        (lambda: melody_passes(10, 0), "num_steps is 0"),
        (lambda: musiccm_passes(-2), "num_steps is -2"),
    ],
)
def test_nothing_takes_passes_that_make_no_music(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def paper_melody(seconds: int) -> MeLoDy:
    """MeLoDy's toys with a language model of 25 tokens a second, which is as long as the clip."""
    parts = dict(toy_melody().init_arguments)
    parts["semantic_lm"] = toy_language_model(25 * seconds, prompt=PROMPT, semantic=SEMANTIC)
    return MeLoDy(**{**parts, "max_seconds": float(seconds), "num_steps": 20, "guidance_scale": 2.5})


def paper_musiclm(seconds: int) -> MusicLM:
    """MusicLM's toys at 25, 4 x 50 and 8 x 50 tokens a second; the windows are 10 s and, for fine codes, 3 s long."""
    parts = dict(toy_musiclm().init_arguments)
    parts["semantic_lm"] = toy_language_model(25 * seconds, prompt=PROMPT, semantic=SEMANTIC)
    parts["coarse_lm"] = toy_language_model(500, prompt=PROMPT, semantic=SEMANTIC, coarse=COARSE)
    parts["fine_lm"] = toy_language_model(150, coarse=COARSE, fine=FINE)
    return MusicLM(**{**parts, "codec": ToyCodec(num_codebooks=12), "max_seconds": float(seconds)})


def counted(pipeline, prompts, seconds: float, **settings) -> PassCounter:
    with PassCounter(pipeline.networks) as counter:
        pipeline.generate(prompts, seconds, **settings)
    return counter


@pytest.mark.parametrize("seconds", [10, 30])
def test_melody_takes_25_passes_a_second_and_one_a_step(seconds):
    counter = counted(paper_melody(seconds), ["a", "b"], float(seconds))
    assert counter.calls["semantic_lm"] == 25 * seconds
    assert counter.calls["denoiser"] == 20
    assert counter.total(counter.calls) == melody_passes(seconds, 20) == {10: 270, 30: 770}[seconds]


class Slim(nn.Module):
    """The least that can stand for a transformer: each token looks at itself alone."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)

    def begin(self, *sizes):
        return None

    def forward(self, tokens, past):
        return self.embedding(tokens[:, -1])


@pytest.mark.parametrize(
    ("seconds", "slim"),
    [(10, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((10, False), (30, True), (30, False)))],
)
def test_musiclm_takes_625_passes_a_second(seconds, slim):
    pipeline = paper_musiclm(seconds)
    names = ("semantic_lm", "coarse_lm", "fine_lm")
    if slim:
        for model in map(pipeline.networks.get, names):
            model.decoder = Slim(model.layout.vocabulary_size, 16)
    counter = counted(pipeline, ["a"], float(seconds))
    assert [counter.calls[name] for name in names] == [25 * seconds, 200 * seconds, 400 * seconds]
    assert counter.total(counter.calls) == musiclm_passes(seconds) == {10: 6250, 30: 18750}[seconds]


@pytest.mark.slow
def test_musiclm_over_a_codec_of_75_hz_takes_what_the_formula_says_for_75_hz():
    parts = dict(paper_musiclm(2).init_arguments)
    coarse, fine = (4, 4, 75.0), (8, 4, 75.0)
    parts["coarse_lm"] = toy_language_model(750, prompt=PROMPT, semantic=SEMANTIC, coarse=coarse)
    parts["fine_lm"] = toy_language_model(750, coarse=coarse, fine=fine)
    parts["codec"] = ToyCodec(num_codebooks=12, sample_rate=1200)
    pipeline = MusicLM(**parts)
    for model in (pipeline.semantic_lm, pipeline.coarse_lm, pipeline.fine_lm):
        model.decoder = Slim(model.layout.vocabulary_size, 16)
    counter = counted(pipeline, ["a"], 2.0)
    assert counter.total(counter.calls) == musiclm_passes(2, codec_frame_rate=75)
    assert counter.total(counter.calls) == 2 * (25 + 300 + 600)


def test_guidance_counts_once_batched_and_twice_doubled():
    prompts = ["a", "b", "c"]
    for pipeline, scale, rows in ((toy_melody(), 1.0, 3), (toy_melody(), 2.5, 6), (toy_teacher(), 3.0, 6)):
        counter = counted(pipeline, prompts, 0.5, num_steps=7, guidance_scale=scale)
        assert (counter.calls["denoiser"], counter.rows["denoiser"]) == (7, 7 * rows)
    counter = counted(toy_musiccm(), prompts, 0.5, num_steps=4)
    assert (counter.calls["denoiser"], counter.rows["denoiser"]) == (4, 12)
    assert counter.total(counter.calls) == musiccm_passes(4)


def test_nothing_is_counted_before_and_after_and_in_spite_of_an_error():
    pipeline = toy_melody()
    hooks = len(pipeline.denoiser._forward_pre_hooks)
    with PassCounter(pipeline.networks) as counter:
        pass
    pipeline.generate(["a"], 0.5)
    assert set(counter.calls.values()) == {0}
    with pytest.raises(ValueError, match="seconds"), counter:
        pipeline.generate(["a"], -1.0)
    assert len(pipeline.denoiser._forward_pre_hooks) == hooks
    with counter, counter:  # Entered twice, it does not forget its hooks.
        pass
    assert len(pipeline.denoiser._forward_pre_hooks) == hooks


def tiny_decoders():
    sizes = {"downsampling": [4, 4], "encoder_channels": [4, 4], "decoder_channels": [4, 4]}
    common = {**sizes, "decoder_first_channels": 4, "residual_kernels": [3], "residual_dilations": [1]}
    waveform = WaveformAutoencoder(
        sample_rate=800, encoder_kernels=[9, 9], decoder_kernels=[9, 9], latent_channels=2, **common
    )
    codec = WaveformCodec(sample_rate=800, width=4, num_codebooks=2, codebook_size=4, **common)
    mels = {"sample_rate": 800, "n_fft": 64, "hop_length": 16, "num_mels": 8, "f_min": 0.0, "f_max": 400.0}
    blocks = {"block_out_channels": [4, 4], "latent_channels": 2, "layers_per_block": 1, "norm_num_groups": 2}
    mel = MelAutoencoder(GriffinLim(**mels, iterations=1), **mels, **blocks)
    codes = torch.zeros(3, 2, 8, dtype=torch.long)
    return {
        "waveform": (waveform, lambda: waveform.decode(torch.randn(3, 2, 8))),
        "codec": (codec, lambda: codec.decode_codes(codes)),
        "mel": (mel, lambda: mel.decode(torch.randn(3, 2, 4, 4))),
    }


@pytest.mark.parametrize("kind", ["waveform", "codec", "mel"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_decoder_counts_one_pass_a_batch(kind, frozen):
    network, decode = tiny_decoders()[kind]
    if frozen:
        network.freeze("toy/1_decoder", "stage:toy/1_decoder")
    with torch.no_grad(), PassCounter({"decoder": network}) as counter:
        decode()
    assert (counter.calls, counter.rows) == ({"decoder": 1}, {"decoder": 3})
    assert counter.total(counter.calls) == 0


def test_a_joint_embedding_counts_its_text_tower_and_a_bare_module_its_own_calls():
    embedding = TwoTowerEmbedding(
        8000, 1.0, width=8, num_mels=16, audio_layers=1, audio_width=8, audio_heads=1, text_layers=1,
        text_width=8, text_heads=1,
    )  # fmt: skip
    layer = nn.Linear(2, 2)
    with PassCounter({"embedding": embedding, "layer": layer}) as counter:
        embedding.embed_text(["a", "b"])
        layer(torch.zeros(5, 2))
    assert counter.calls == {"embedding": 1, "layer": 1}
    assert counter.rows == {"embedding": 2, "layer": 5}
