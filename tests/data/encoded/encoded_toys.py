"""Frozen encoders small enough to check by hand, and a corpus whose samples tell their place."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melody_cm.encoders.conditioners import TextConditioner
from melody_cm.interfaces import Autoencoder, JointEmbedding, Tokenizer

RATE = 8000
HOP = 16
CODE_HOP = 40
SECONDS = 0.512


class SmoothAutoencoder(Autoencoder):
    """Convolutions that look a few frames around, one latent frame every 16 samples."""

    def __init__(self, sample_rate: int = RATE) -> None:
        super().__init__()
        self.sample_rate, self.latent_channels = sample_rate, 3
        self.first = nn.Conv1d(1, 4, HOP, stride=HOP)
        self.second = nn.Conv1d(4, 6, 5, padding=2)

    def posterior(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(waveform, (0, -waveform.shape[-1] % HOP))
        mean, log_std = self.second(self.first(padded).tanh()).chunk(2, dim=1)
        return mean, log_std.exp()

    def reconstruct(self, waveform, draws):
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        raise NotImplementedError

    def latent_shape(self, seconds: float) -> tuple[int, ...]:
        return (3, -(-round(seconds * self.sample_rate) // HOP))


class LoudnessTokenizer(Tokenizer):
    """A code every 40 samples: how loud they are."""

    num_codebooks = 1

    def __init__(self, codebook_size: int = 64) -> None:
        super().__init__()
        self.codebook_size, self.frame_rate = codebook_size, RATE / CODE_HOP
        self.register_buffer("scale", torch.tensor(64.0))

    def features(self, batch) -> Tensor:
        padded = F.pad(batch.need_waveform(), (0, -batch.need_waveform().shape[-1] % CODE_HOP))
        return padded.unfold(-1, CODE_HOP, CODE_HOP).abs().mean(-1).transpose(1, 2)

    def fit(self, features, seed):
        raise NotImplementedError

    def quantize(self, features: Tensor) -> Tensor:
        return (features * self.scale).long().clamp(max=self.codebook_size - 1).transpose(1, 2)

    def dequantize(self, codes):
        raise NotImplementedError


class ClipTokenizer(LoudnessTokenizer):
    """Two codes for the whole crop."""

    num_codebooks = 2

    def __init__(self) -> None:
        super().__init__(50000)
        self.frame_rate = 0.0

    def features(self, batch) -> Tensor:
        waveform = batch.need_waveform()[:, 0]
        return torch.stack([waveform.abs().mean(-1), waveform.square().mean(-1)], -1)[:, None] * 100


class MomentEmbedding(JointEmbedding):
    """Audio: four quarters' loudness; text: counts of letters."""

    def __init__(self) -> None:
        super().__init__()
        self.sample_rate, self.window_seconds, self.width = RATE, SECONDS, 4
        self.register_buffer("scale", torch.ones(()))

    def embed_audio(self, waveform: Tensor) -> Tensor:
        return F.normalize(waveform[:, 0].abs().unflatten(-1, (4, -1)).mean(-1) * self.scale, dim=-1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        counts = [torch.bincount(torch.tensor(list(text.encode() + b"x")) % 4, minlength=4) for text in texts]
        return F.normalize(self.scale * torch.stack(counts), dim=-1)


def make_parts() -> dict[str, nn.Module]:
    """What a model may hold: frozen encoders, some of them inside conditioners; the same weights each time."""
    torch.manual_seed(5)
    joint = MomentEmbedding().freeze("toy/4_joint", "stage:toy/4_joint")
    return {
        "autoencoder": SmoothAutoencoder().freeze("toy/1_autoencoder", "stage:toy/1_autoencoder"),
        "target": LoudnessTokenizer().freeze("toy/2_tokenizer", "stage:toy/2_tokenizer"),
        "prompt": ClipTokenizer().freeze("toy/3_clip_tokenizer", "stage:toy/3_clip_tokenizer"),
        "conditioner": TextConditioner(joint, width=4),
        "hearing": TextConditioner(joint, width=4, source="audio"),
    }


def make_music(
    folder: Path,
    seconds: Sequence[float],
    splits: Sequence[str] | None = None,
    silent: int | None = None,
    pause: int | None = None,
) -> Path:
    """A manifest of noisy clips of these lengths whose loudness changes all the time; clip `silent` is silent, and so
    is the middle of clip `pause`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, length in enumerate(seconds):
        time = np.arange(round(length * RATE)) / RATE
        noise = np.random.default_rng(number).uniform(-0.4, 0.4, len(time))
        samples = noise * (1.2 + np.sin(9 * time + number))
        samples[len(samples) // 3 : 2 * len(samples) // 3] *= number != pause
        samples *= number != silent
        soundfile.write(folder / f"{number}.wav", samples, RATE, subtype="FLOAT")
        row = {"id": str(number), "audio": f"{number}.wav", "caption": f"a{number}", "alt_captions": ["bb", "c"]}
        rows.append({**row, "split": splits[number] if splits else "train"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "manifest.jsonl"
