import math

import pytest
import torch
from encoder_toys import SAMPLE_RATE, music_batch

from melody_cm.encoders import LogMelKMeans, cluster_stability, cluster_use
from melody_cm.encoders.codebooks import mutual_information

REPORTED = {"cluster_perplexity", "cluster_share", "nmi_other_seed", "nmi_shifted", "nmi_noisy"}


def test_use_is_the_perplexity_of_the_counts_and_the_share_of_entries_that_occur():
    perplexity, share = cluster_use(torch.tensor([[[0, 0, 1, 3]]]), codebook_size=8)
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert perplexity == pytest.approx(math.exp(entropy))
    assert share == 3 / 8
    assert cluster_use(torch.arange(8), 8) == pytest.approx((8.0, 1.0))
    assert cluster_use(torch.zeros(8, dtype=torch.long), 8) == pytest.approx((1.0, 1 / 8))


def test_mutual_information_against_the_formula():
    codes, others = torch.randint(4, (500,)), torch.randint(3, (500,))
    others[:250] = codes[:250] % 3
    joint = torch.zeros(4, 3).index_put((codes, others), torch.ones(500), accumulate=True).double() / 500
    first, second = joint.sum(1), joint.sum(0)
    shared = float((torch.special.xlogy(joint, joint) - torch.special.xlogy(joint, first[:, None] * second)).sum())
    entropies = float(torch.special.entr(first).sum() + torch.special.entr(second).sum())
    assert mutual_information(codes, others) == pytest.approx(2 * shared / entropies, rel=1e-6)
    assert mutual_information(codes, (codes + 1) % 4) == pytest.approx(1.0)


def report(waveform_of) -> dict[str, float]:
    batch = music_batch(6, 4 * SAMPLE_RATE)
    batch.waveform = waveform_of(batch.waveform)
    tokenizer = LogMelKMeans(SAMPLE_RATE, 25.0, 8, num_mels=20, n_fft=256)
    features = tokenizer.features(batch).flatten(0, 1)
    tokenizer.fit(features, seed=0)
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    found = cluster_stability(tokenizer, features, batch, seed=0)
    assert all(torch.equal(tokenizer.state_dict()[name], value) for name, value in before.items())
    assert cluster_stability(tokenizer, features, batch, seed=0) == found
    return found


def eight_tones(noise: torch.Tensor) -> torch.Tensor:
    """Every half second another of eight tones in noise 20 dB below: eight clusters that nothing should move."""
    t = torch.arange(noise.shape[-1]) / SAMPLE_RATE
    steps = (torch.arange(6)[:, None] + (2 * t).long()) % 8
    return (0.3 * torch.sin(2 * torch.pi * 300 * (steps + 1) * t))[:, None] + 0.06 * noise


def test_clear_clusters_are_stable_and_those_of_noise_are_not():
    clear, none = report(eight_tones), report(lambda noise: noise)
    assert set(clear) == set(none) == REPORTED
    assert clear["nmi_other_seed"] > 0.8
    assert clear["nmi_shifted"] > 0.8
    assert clear["nmi_noisy"] > 0.6
    assert none["nmi_other_seed"] < 0.6
    assert 1 < none["cluster_perplexity"] <= 8
    assert none["cluster_share"] == 1.0


def test_a_cut_that_is_no_whole_number_of_frames_moves_no_frame():
    """Codes are compared frame by frame: a shift by the wrong number of samples would show as lost information."""
    found = report(lambda noise: noise)
    assert found["nmi_shifted"] > 0.9


class Elsewhere(torch.Tensor):
    """Stands for a tensor on another device than the tokenizer: only what `to` gives can be used there."""

    def to(self, *args, **kwargs):
        return self.as_subclass(torch.Tensor).to(*args, **kwargs)


class Here(LogMelKMeans):
    def quantize(self, features):
        assert not isinstance(features, Elsewhere), "features on another device than the codebooks"
        return super().quantize(features)


def test_features_that_were_kept_on_another_device_are_brought_to_the_tokenizer():
    batch = music_batch(6, 4 * SAMPLE_RATE)
    tokenizer = Here(SAMPLE_RATE, 25.0, 8, num_mels=20, n_fft=256)
    features = tokenizer.features(batch).flatten(0, 1)
    tokenizer.fit(features, seed=0)
    expected = cluster_stability(tokenizer, features, batch, seed=0)
    assert cluster_stability(tokenizer, features.as_subclass(Elsewhere), batch, seed=0) == expected
