"""Real music judged as systems are: as it is, and through each system's decoder, which bounds what it can reach."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.comparison.coherence import Reference
from melody_cm.comparison.total_bar import TotalBar
from melody_cm.evaluation import Judge, Score, embed, si_snr
from melody_cm.evaluation.music import music_measures, pair_measures
from melody_cm.evaluation.results import Row
from melody_cm.interfaces import Pipeline
from melody_cm.placement import Placement
from melody_cm.signal import resample
from melody_cm.storage import hash_weights

REAL_CLIPS = 64
REAL = "real music"
Music = Iterable[tuple[Float[Tensor, "b 1 t"], int, Sequence[str]]]  # Clips, their rate (Hz), the piece of each.
MEAN = "mean over clips; Student's interval over prompts or pieces"
MUSIC = ("level_dbfs", "loudness_lufs", "chroma_clarity", "pitch_clarity")
PAIRED = ("chroma_correlation", "log_spectral_distance", "si_snr")


@dataclass
class Ceiling:
    """What one decoder leaves of real music.

    Attributes:
        judges: one for each reference.
        decoder: None for music as it is; sample_rate: of the decoder, Hz.
        values: by measure, a number a clip; pieces: of the clips.
    """

    label: str
    judges: list[Judge]
    decoder: Any = None
    sample_rate: int | None = None
    values: dict[str, list[float]] = field(default_factory=dict)
    pieces: list[str] = field(default_factory=list)

    @torch.no_grad()
    def add(self, waveform: Float[Tensor, "b 1 t"], sample_rate: int, pieces: Sequence[str]) -> None:
        """Hear clips through the decoder, and measure what comes out."""
        rate = self.sample_rate or sample_rate
        real = resample(waveform, sample_rate, rate)
        heard = self._decoded(real).float().clamp(-1, 1).cpu()
        length = min(real.shape[-1], heard.shape[-1])
        real, heard = real[..., :length], heard[..., :length]
        names = [f"clip {len(self.pieces) + place}" for place in range(len(heard))]
        for judge in self.judges:
            judge.add(embed(judge.embedding, heard, rate).cpu(), names, list(pieces))
        self.pieces += pieces
        for clip, original, error in zip(heard[:, 0], real[:, 0], si_snr(heard, real).tolist(), strict=True):
            found = music_measures(clip, rate)
            if self.decoder is not None:
                found |= pair_measures(clip, original, rate) | {"si_snr": error}
            for key in (*MUSIC, *PAIRED):
                if key in found:
                    self.values.setdefault(key, []).append(found[key])

    def _decoded(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b 1 t"]:
        if self.decoder is None:
            return waveform
        placement = Placement.of([self.decoder])
        waveform = waveform.to(placement.device)
        with placement.computing():
            if hasattr(self.decoder, "encode_codes"):
                return self.decoder.decode_codes(self.decoder.encode_codes(waveform))
            return self.decoder.decode(self.decoder.encode(waveform))

    def row(self) -> Row:
        """All its scores."""
        scores = {key: score for judge in self.judges for key, score in judge.scores().items()}
        means = {key: Score.mean(values, MEAN, self.pieces) for key, values in self.values.items()}
        return Row(self.label, scores | means)


def ceilings(
    real: Music, pipelines: Mapping[str, Pipeline], references: Sequence[Reference], bar: TotalBar
) -> list[Row]:
    """Rows of the first clips of real music: as they are, and through the decoder of each system that has one.

    Systems that share a decoder share its row.

    Args:
        real: other music than the reference; without any there are no rows.
        references: what all rows are judged by.
    """
    rows, known = [Ceiling(REAL, [one.judge() for one in references])], set()
    for name, pipeline in pipelines.items():
        decoder = getattr(pipeline, "autoencoder", None) or getattr(pipeline, "codec", None)
        if decoder is None or (weights := hash_weights(decoder)) in known:
            continue
        known.add(weights)
        label, judges = f"{REAL}, decoder of {name}", [one.judge() for one in references]
        rows.append(Ceiling(label, judges, decoder, pipeline.sample_rate))
    left = REAL_CLIPS
    for waveform, sample_rate, pieces in real:
        count = min(len(waveform), left)
        for row in rows:
            row.add(waveform[:count], sample_rate, pieces[:count])
        bar.advance(count)
        left -= count
        if not left:
            break
    return [one.row() for one in rows if one.pieces]
