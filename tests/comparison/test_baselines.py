"""Other people's systems behind our interface: tiny random ones, their published sizes, their refusals."""

import pytest
import torch

from melody_cm.comparison.baselines import Baseline, open_baseline, random_weights
from melody_cm.comparison.baselines.published import AudioLDM2, MusicGen, MusicLDM, StableAudio

CLAP = {
    "projection_dim": 16,
    "text_config": {
        "vocab_size": 128, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 34, "projection_dim": 16,
    },
    "audio_config": {
        "num_mel_bins": 16, "spec_size": 32, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
        "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16,
        "aff_block_r": 2, "num_classes": 4, "projection_dim": 16,
    },
}  # fmt: skip
T5 = {"vocab_size": 128, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
MEL = {
    "unet": {"block_out_channels": (32, 64), "layers_per_block": 1, "sample_size": 64},
    "vae": {"block_out_channels": (8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4},
    "vocoder": {"upsample_initial_channel": 32, "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": [[1, 3]]},
    "clap": CLAP,
}
STABLE = {
    "transformer": {
        "sample_size": 128, "in_channels": 4, "out_channels": 4, "num_layers": 1, "attention_head_dim": 16,
        "num_attention_heads": 2, "num_key_value_attention_heads": 1, "cross_attention_dim": 32,
        "cross_attention_input_dim": 32, "global_states_input_dim": 64, "time_proj_dim": 16,
    },
    "vae": {
        "encoder_hidden_size": 8, "downsampling_ratios": [8, 16], "channel_multiples": [1, 2], "decoder_channels": 8,
        "decoder_input_channels": 4, "sampling_rate": 8000,
    },
    "t5": T5,
}  # fmt: skip
MUSICGEN = {
    "t5": T5,
    "codec": {
        "num_filters": 4, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 16, "upsampling_ratios": [8, 5, 4, 4],
        "target_bandwidths": [0.8], "num_lstm_layers": 1,
    },
    "decoder": {
        "vocab_size": 16, "num_hidden_layers": 1, "hidden_size": 16, "ffn_dim": 32, "num_attention_heads": 2,
        "num_codebooks": 4,
    },
}  # fmt: skip
TINY = {
    MusicLDM: MEL,
    AudioLDM2: {**MEL, "t5": T5, "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2}},
    StableAudio: STABLE,
    MusicGen: MUSICGEN,
}
STEPS = {MusicGen: 1}
RATES = {MusicLDM: 16000, AudioLDM2: 16000, StableAudio: 8000, MusicGen: 32000}
PARTS = {MusicGen: {"planner", "decoder"}}
PROMPTS = ["calm piano", "loud drums", "slow strings of many words"]


@pytest.fixture(scope="module", params=list(TINY), ids=lambda kind: kind.__name__)
def baseline(request) -> Baseline:
    return request.param.random(TINY[request.param])


def make(baseline, prompts, seconds, seed, **options):
    return baseline.generate(prompts, seconds, seed, STEPS.get(type(baseline), 2), **options)


def test_a_clip_is_as_long_as_asked_and_its_time_is_told_by_part(baseline):
    for seconds in (0.3, 0.565):  # The second is no whole number of latent or mel frames.
        audio = make(baseline, PROMPTS[:1], seconds, 0)
        assert audio.sample_rate == baseline.sample_rate == RATES[type(baseline)]
        assert audio.waveform.shape == (1, 1, round(seconds * baseline.sample_rate))
        assert audio.waveform.std() > 0
    assert set(audio.timings) == PARTS.get(type(baseline), {"planner", "denoiser", "decoder"})
    assert all(value > 0 for value in audio.timings.values())


def test_a_clip_sounds_by_its_seed_alone_whatever_is_made_beside_it(baseline):
    state = torch.get_rng_state()
    both = make(baseline, PROMPTS[:2], 0.3, [5, 6]).waveform
    alone = make(baseline, PROMPTS[1:2], 0.3, [6]).waveform
    other = make(baseline, PROMPTS[1:2], 0.3, [7]).waveform
    # Attention pads shorter texts of a batch, so the sum of another length rounds otherwise.
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-4 * both.abs().max().item() + 1e-6)
    assert (other - alone).abs().max() > 1e-3 * alone.abs().max()
    assert torch.equal(torch.get_rng_state(), state)


def test_identity_tells_weights_apart_and_says_that_they_are_random(baseline):
    again = type(baseline).random(TINY[type(baseline)])
    assert baseline.random_weights
    assert baseline.identity() == again.identity()
    with torch.no_grad():
        next(iter(again.networks.values())).get_parameter(
            next(name for name, _ in next(iter(again.networks.values())).named_parameters())
        ).add_(1)
    again.__dict__.pop("weight_hashes", None)
    assert baseline.identity()["weights"] != again.identity()["weights"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "there is no prompt"),
        ({"prompts": [" "]}, "texts that are not empty"),
        ({"seconds": 1000.0}, "makes at most"),
        ({"seconds": 0.0}, "makes at most"),
        ({"num_steps": 0}, "num_steps"),
        ({"guidance_scale": 0.5}, "at least 1"),
        ({"guidance_scale": float("nan")}, "finite"),
        ({"seed": [1, 2]}, "2 seeds for 1 prompts"),
    ],
)
def test_what_cannot_be_made_is_refused(baseline, changes, message):
    arguments = {"prompts": ["a"], "seconds": 0.3, "seed": 0, "num_steps": 1, "guidance_scale": 1.0}
    with pytest.raises(ValueError, match=message):
        baseline.generate(**arguments | changes)


def test_musicgen_has_no_steps():
    with pytest.raises(ValueError, match="no sampling steps; say 1"):
        MusicGen.random(MUSICGEN).generate(["a"], 0.3, num_steps=4)


def test_steps_and_guidance_reach_the_library():
    baseline, seen = MusicLDM.random(MEL), []
    baseline.networks["unet"].register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    baseline.generate(["a"], 0.3, num_steps=3, guidance_scale=1.0)
    baseline.generate(["a"], 0.3, num_steps=2)
    assert seen == [1, 1, 1, 2, 2]  # Its own guidance doubles the batch.


@pytest.mark.parametrize(
    ("build", "millions"),
    [
        # The releases': U-Net 185 M (MusicLDM), "350M" and "1.1B" in all (AudioLDM2), 1.06 B DiT, 420 M decoder.
        (lambda: random_weights.musicldm_parts(random_weights.MUSICLDM), {"unet": (180, 190)}),
        (
            lambda: random_weights.audioldm2_parts(random_weights.AUDIOLDM2),
            {"unet": (340, 355), "text_encoder_2": (335, 345), "language_model": (120, 130)},
        ),
        (
            lambda: random_weights.stable_audio_parts(random_weights.STABLE_AUDIO),
            {"transformer": (1050, 1065), "vae": (150, 160), "text_encoder": (108, 112)},
        ),
        (lambda: random_weights.musicgen_parts(random_weights.MUSICGEN), {"model": (580, 595)}),
    ],
    ids=["musicldm", "audioldm2", "stable_audio", "musicgen"],
)
def test_published_sizes(build, millions):
    with torch.device("meta"):
        parts = build()
    for name, (low, high) in millions.items():
        assert low < sum(parameter.numel() for parameter in parts[name].parameters()) / 1e6 < high, name


def test_a_saved_pipeline_is_loaded_from_its_folder_with_the_same_sound(tmp_path):
    baseline = MusicLDM.random(MEL)
    baseline.pipeline.save_pretrained(tmp_path / "musicldm")
    loaded = open_baseline(f"musicldm:{tmp_path / 'musicldm'}")
    assert not loaded.random_weights
    torch.testing.assert_close(
        make(loaded, PROMPTS[:1], 0.3, 0).waveform, make(baseline, PROMPTS[:1], 0.3, 0).waveform, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("musicgen", "say KIND:SOURCE"),
        ("jukebox:random", "no baseline 'jukebox:random'"),
        ("musicgen:", "say KIND:SOURCE"),
        ("musicldm:./nowhere", "no folder ./nowhere"),
        ("folder:/nowhere", "no folder /nowhere"),
    ],
)
def test_unknown_baselines_are_refused_in_one_line(text, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_baseline(text)


@pytest.mark.parametrize("kind", ["musicldm", "audioldm2", "stable_audio", "musicgen"])
def test_a_folder_without_a_pipeline_is_refused_in_one_line(tmp_path, kind):
    with pytest.raises(ValueError, match=f"{kind}:.* cannot be loaded") as caught:
        open_baseline(f"{kind}:{tmp_path}")
    assert "\n" not in str(caught.value)
