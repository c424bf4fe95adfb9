"""MusiCNN against a slow network in numpy, and against the tags that its package publishes."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from musicnn_checkpoint import random_variables, write_checkpoint

from melody_cm.evaluation.embeddings import MusicnnEmbedding, OptionalDependencyError
from melody_cm.evaluation.embeddings.musicnn import TAGS, MusicnnFrontEnd, load_musicnn
from melody_cm.storage import hash_weights

INSTALLED = find_spec("musicnn")
# The audio folder of the package's repository: its music may not be copied into ours.
EXAMPLES = os.environ.get("MUSICNN_EXAMPLES")
needs_package = pytest.mark.skipif(INSTALLED is None, reason="pip install --no-deps musicnn==0.1.0")


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "musicnn/MTT_musicnn"
    write_checkpoint(folder, random_variables())
    (folder.parent / "__init__.py").write_text("raise RuntimeError('the package must not be imported')")
    return folder


@pytest.fixture
def random_embedding(random_folder, monkeypatch):
    monkeypatch.syspath_prepend(str(random_folder.parents[1]))
    return MusicnnEmbedding


def slow_network(mel, variables):
    """A patch (187, 96) through the layers of the package's models.py, in numpy and TensorFlow's order of axes."""

    def variable(layer, index, name):
        return variables[f"{layer}_{index}/{name}" if index else f"{layer}/{name}"].astype(np.float64)

    def normalized(x, index):
        mean, variance, gamma, beta = (
            variable("batch_normalization", index, name) for name in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return (x - mean) / np.sqrt(variance + 0.001) * gamma + beta

    def convolved(image, index, before, after):
        kernel = variable("conv2d", index, "kernel")[:, :, 0]
        padded = np.pad(image, ((before, after), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2])
        total = np.tensordot(windows, kernel, axes=2) + variable("conv2d", index, "bias")
        return normalized(np.maximum(total, 0), index + 1)

    image = normalized(mel[..., None].astype(np.float64), 0)[..., 0]
    # "same" padding of an even length has one frame more behind than before.
    sides = [(3, 3), (3, 3), (63, 64), (31, 32), (15, 16)]
    front = np.concatenate([convolved(image, i, *side).max(1) for i, side in enumerate(sides)], axis=1)
    first = convolved(front, 5, 3, 3)[:, 0]
    second = convolved(first, 6, 3, 3)[:, 0] + first
    third = convolved(second, 7, 3, 3)[:, 0] + second
    features = np.concatenate([front, first, second, third], axis=1)
    pooled = np.stack([features.max(0), features.mean(0)], axis=1).reshape(-1)
    hidden = normalized(pooled, 9) @ variable("dense", 0, "kernel") + variable("dense", 0, "bias")
    penultimate = normalized(np.maximum(hidden, 0), 10)
    return penultimate, penultimate @ variable("dense", 1, "kernel") + variable("dense", 1, "bias"), features.mean(0)


def test_the_network_equals_a_slow_one(random_folder):
    mel = np.random.default_rng(1).uniform(0, 4, (2, 187, 96)).astype(np.float32)
    found = load_musicnn(random_folder)(torch.from_numpy(mel))
    for patch in range(2):
        for one, other in zip(found, slow_network(mel[patch], random_variables()), strict=True):
            np.testing.assert_allclose(one[patch].numpy(), other, rtol=1e-3, atol=1e-3 * np.abs(other).max())


@needs_package
def test_the_weights_are_those_that_the_index_of_the_checkpoint_names():
    # Of the same network filled by a reader of TensorFlow's index, which this one does without.
    network = load_musicnn(Path(INSTALLED.origin).parent / "MTT_musicnn")
    assert hash_weights(network) == "639a6f81bf0f4416"


def test_another_checkpoint_is_refused(random_folder, tmp_path):
    data = (random_folder / ".data-00000-of-00001").read_bytes()
    (tmp_path / ".data-00000-of-00001").write_bytes(data[:-4])
    with pytest.raises(ValueError, match="holds 2366398 numbers, not 2366399; install it again"):
        load_musicnn(tmp_path)


def test_the_front_end_equals_librosa_through_half_precision():
    waveform = np.random.default_rng(0).standard_normal(47616).astype(np.float32)
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=16000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect"
    ).T
    expected = np.log10(10000 * mel.astype(np.float16).astype(np.float64) + 1)
    assert expected.shape == (187, 96)
    assert expected.max() > 5  # Of 10000 mel + 1, half precision cannot hold more than 4.8.
    # Rounding to half may fall to either side: a step of 2^-11 of the value.
    np.testing.assert_allclose(MusicnnFrontEnd()(torch.from_numpy(waveform)[None])[0].numpy(), expected, atol=5e-4)


def test_quiet_mels_are_rounded_to_half_precision():
    quiet = 1e-4 * torch.randn(1, 47616, generator=torch.Generator().manual_seed(0))
    mels = (10 ** MusicnnFrontEnd()(quiet).double() - 1) / 10000
    steps = mels / 2**-24  # Below 6e-5 half precision has steps of this size.
    assert mels.max() < 6e-5
    torch.testing.assert_close(steps, steps.round(), atol=0.2, rtol=0)


@pytest.mark.parametrize(("output", "width"), [("penultimate", 200), ("tags", 50), ("mean", 753)])
def test_three_outputs(random_embedding, output, width):
    embedding = random_embedding(output)
    assert embedding.name == {"penultimate": "musicnn"}.get(output, f"musicnn_{output}")
    assert (embedding.width, embedding.sample_rate, embedding.identity.trained) == (width, 16000, True)
    music = torch.randn(2, 1, 160000)
    with torch.no_grad():
        vectors = embedding(music)
        assert vectors.shape == (2, 3, width)
        # The first and the last of three patches of 47616 samples.
        torch.testing.assert_close(vectors[:, :1], embedding(music[..., :47616]), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(vectors[:, 2:], embedding(music[..., -47616:]), rtol=1e-3, atol=1e-3)
    assert "musicnn" not in sys.modules


@torch.no_grad()
def test_short_music_is_repeated_and_none_is_refused(random_embedding):
    embedding, music = random_embedding(), torch.randn(1, 1, 20000)
    expected = embedding(torch.cat([music, music, music], dim=-1)[..., :47616])
    torch.testing.assert_close(embedding(music), expected)
    with pytest.raises(ValueError, match="without a sample"):
        embedding(music[..., :0])


def test_an_unknown_output_and_a_missing_package_are_told_in_one_line(random_embedding, monkeypatch):
    with pytest.raises(ValueError, match="output is 'logits'; musicnn gives penultimate, tags, mean"):
        random_embedding("logits")
    monkeypatch.setattr("melody_cm.evaluation.embeddings.musicnn.find_spec", lambda name: None)
    with pytest.raises(OptionalDependencyError, match=r"pip install --no-deps musicnn==0\.1\.0"):
        random_embedding()


@needs_package
@torch.no_grad()
def test_the_tags_are_those_that_the_package_lists():
    text = (Path(INSTALLED.origin).parent / "configuration.py").read_text()
    assert text.split("MTT_LABELS = ")[1].splitlines()[0] == str(list(TAGS))


@needs_package
@pytest.mark.skipif(EXAMPLES is None, reason="MUSICNN_EXAMPLES: the folder audio/ of github.com/jordipons/musicnn")
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "tags"),
    [
        (
            "joram-moments_of_clarity-08-solipsism-59-88.mp3",
            "techno, electronic, synth, fast, beat, drums, no vocals, no vocal, dance, ambient",
        ),
        ("TRWJAZW128F42760DD_test.mp3", "guitar, piano, fast"),
    ],
)
def test_the_published_tags_of_the_examples(name, tags):
    waveform, _ = librosa.load(Path(EXAMPLES) / name, sr=16000)
    mel = MusicnnFrontEnd()(torch.from_numpy(waveform)[None])[0]
    patches = mel[: len(mel) // 187 * 187].unflatten(0, (-1, 187))  # As the package cuts.
    likelihood = MusicnnEmbedding().network(patches).tags.sigmoid().mean(0)
    order = likelihood.argsort(descending=True)[: len(tags.split(", "))]
    assert ", ".join(TAGS[index] for index in order) == tags
