"""Does long music hang together, and is it not merely constant? (MusicCM, arXiv 2404.13358, section 3.3)

The paper shows one picture; these numbers are ours. All are to be compared between ways to make the same music, with
`diversity` beside them, which falls when music is coherent because it is always the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.clips import embed
from melody_cm.interfaces import AudioEmbedding, JointEmbedding
from melody_cm.signal import MelFrontEnd, MelSettings, resample
from melody_cm.signal.levels import SILENT_PEAK

SAMPLE_RATE = 16000
HOP_LENGTH = 160
TEMPO_TOLERANCE = 0.04


@dataclass(frozen=True)
class Agreement:
    """The mean over pairs of segments that are `adjacent`, and over `all_pairs`; NaN without any pair."""

    adjacent: float
    all_pairs: float


def seam_ratio(mel: Float[Tensor, "b l f"], joints: Sequence[int], radius: int = 4) -> Float[Tensor, " b"]:
    """Mean |difference| of neighbouring log-mel frames at the joints over that elsewhere: 1 is seamless.

    A clip that never changes has no ratio: NaN.

    Args:
        joints: frames; a joint lies between that frame and the one before.
        radius: frames; a joint's differences are those within so many, because a transform hears it from afar.

    Raises:
        ValueError: no joint within the music, or nothing but joints.
    """
    differences = mel.double().diff(dim=1).abs().mean(2)
    place = torch.arange(differences.shape[1], device=mel.device)
    at_joint = torch.zeros_like(place, dtype=torch.bool)
    for joint in joints:
        at_joint |= (place - (joint - 1)).abs() <= radius
    if not at_joint.any() or at_joint.all():
        raise ValueError(f"joints {list(joints)} in music of {mel.shape[1]} frames leave nothing to compare")
    return (differences[:, at_joint].mean(1) / differences[:, ~at_joint].mean(1)).to(mel.dtype)


def waveform_seam_ratio(
    waveform: Float[Tensor, "b 1 t"], sample_rate: int, joints: Sequence[float]
) -> Float[Tensor, " b"]:
    """The seam ratio of music with joints at these seconds, on 64 log-mels of 10 ms frames and 32 ms windows."""
    settings = MelSettings(SAMPLE_RATE, 512, HOP_LENGTH, 64, 0.0, SAMPLE_RATE / 2)
    mel = MelFrontEnd(settings)(resample(waveform.float(), sample_rate, SAMPLE_RATE).cpu())
    return seam_ratio(mel, [round(joint * SAMPLE_RATE / HOP_LENGTH) for joint in joints])


def segments(waveform: Float[Tensor, "b 1 t"], sample_rate: int, seconds: float = 5.0) -> Float[Tensor, "b n 1 s"]:
    """Whole segments of music, end to end; what is left over at the end is left out.

    Raises:
        ValueError: music shorter than two of them.
    """
    length = round(seconds * sample_rate)
    if waveform.shape[-1] < 2 * length:
        raise ValueError(
            f"music of {waveform.shape[-1] / sample_rate:g} s has fewer than 2 segments of {seconds:g} s; give longer "
            "music or shorter segments"
        )
    return waveform.unfold(-1, length, length).transpose(1, 2)


@torch.no_grad()
def segment_vectors(
    embedding: AudioEmbedding | JointEmbedding, waveform: Float[Tensor, "b 1 t"], sample_rate: int
) -> Float[Tensor, "b d"]:
    """One vector a clip: the joint embedding, or the mean of an audio embedding's frames."""
    if isinstance(embedding, JointEmbedding):
        return embedding.embed_audio(resample(waveform, sample_rate, embedding.sample_rate))
    return embed(embedding, waveform, sample_rate).mean(1)


def segment_similarity(
    embedding: AudioEmbedding | JointEmbedding,
    waveform: Float[Tensor, "1 1 t"],
    sample_rate: int,
    seconds: float = 5.0,
    centre: Float[Tensor, " d"] | None = None,
) -> Agreement:
    """Cosine of the embeddings of segments; its level depends on the embedding.

    Args:
        centre: subtracted first. Hand-made features such as log-mel statistics need it: without it all music, whatever
            it sounds like, has a cosine above 0.99. Use the mean over all music that is compared.
    """
    vectors = segment_vectors(embedding, segments(waveform, sample_rate, seconds)[0], sample_rate)
    return _agreement(_cosines(vectors if centre is None else vectors - centre))


def diversity(vectors: Float[Tensor, "n d"], centre: Float[Tensor, " d"] | None = None) -> float:
    """1 - the mean cosine of all pairs of clips that were made from unlike seeds; 0 if the seed changes nothing.

    Args:
        vectors: one a clip (`segment_vectors`).
        centre: as in `segment_similarity`; not the mean of these same clips.

    Raises:
        ValueError: fewer than two clips.
    """
    if len(vectors) < 2:
        raise ValueError(f"{len(vectors)} clips have no diversity; give at least 2, from unlike seeds")
    return 1 - _agreement(_cosines(vectors if centre is None else vectors - centre)).all_pairs


def tempo_agreement(waveform: Float[Tensor, "1 1 t"], sample_rate: int, seconds: float = 5.0) -> Agreement:
    """The share of pairs of segments whose tempos differ by at most 4 %, or that from twice or half of each other.

    Silent segments have no tempo and are left out.
    """
    pieces = segments(waveform, sample_rate, seconds)[0, :, 0].float().cpu()
    tempos = torch.tensor([_tempo(piece, sample_rate) for piece in pieces], dtype=torch.float64)
    octaves = (tempos[:, None] / tempos).log2()
    # Only the distance to the nearest of half, same and double counts.
    apart = (octaves - octaves.round().clamp(-1, 1)).abs()
    near = (apart <= np.log2(1 + TEMPO_TOLERANCE)).double()
    return _agreement(torch.where(apart.isnan(), torch.nan, near))


def chroma_agreement(waveform: Float[Tensor, "1 1 t"], sample_rate: int, seconds: float = 5.0) -> Agreement:
    """Correlation of the mean chroma of segments: 1 for the same pitch classes, about 0 for unrelated ones.

    Silent segments, and those that have all pitch classes alike, are left out.
    """
    pieces = segments(waveform, sample_rate, seconds)[0, :, 0].float().cpu()
    chroma = torch.stack([_chroma(piece, sample_rate) for piece in pieces])
    return _agreement(_cosines(chroma - chroma.mean(1, keepdim=True)))


def _tempo(piece: Float[Tensor, " t"], sample_rate: int) -> float:
    """Beats a minute, NaN for silence."""
    if piece.abs().max() < SILENT_PEAK:
        return float("nan")
    return float(librosa.feature.tempo(y=piece.numpy(), sr=sample_rate)[0])


def _chroma(piece: Float[Tensor, " t"], sample_rate: int) -> Float[Tensor, "12"]:
    if piece.abs().max() < SILENT_PEAK:
        return torch.zeros(12)
    return torch.from_numpy(librosa.feature.chroma_stft(y=piece.numpy(), sr=sample_rate, tuning=0.0).mean(1)).float()


def _cosines(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Cosines of all pairs; NaN where a vector has no direction."""
    unit = F.normalize(vectors.double(), dim=1)
    usable = vectors.isfinite().all(1) & (vectors.double().norm(dim=1) > 1e-6)
    return torch.where(usable[:, None] & usable, unit @ unit.T, torch.nan)


def _agreement(pairs: Float[Tensor, "n n"]) -> Agreement:
    rows, columns = torch.triu_indices(*pairs.shape, offset=1)
    return Agreement(pairs.diagonal(1).nanmean().item(), pairs[rows, columns].nanmean().item())
