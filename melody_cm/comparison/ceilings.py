"""Real music judged as systems are: as it is, and through each system's decoder, which bounds what it can reach."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor

from melody_cm.comparison.coherence import Reference
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
MUSIC = ("level_dbfs", "loudness_lufs", "chroma_clarity", "pitch_clarity")
PAIRED = ("chroma_correlation", "log_spectral_distance", "si_snr")


@dataclass
class Ceiling:
    """What one decoder leaves of real music; the identity leaves all.

    Attributes:
        judges: one for each reference; values: by measure, a number a clip; pieces: of the clips.
    """

    label: str
    judges: list[Judge]
    values: dict[str, list[float]] = field(default_factory=dict)
    pieces: list[str] = field(default_factory=list)

    def row(self) -> Row:
        """All its scores."""
        scores = {key: score for judge in self.judges for key, score in judge.scores().items()}
        return Row(self.label, scores | {key: score_of(values, self.pieces) for key, values in self.values.items()})


def ceilings(
    real: Music, pipelines: Mapping[str, Pipeline], references: Sequence[Reference], progress: Progress
) -> list[Row]:
    """Rows of the first clips of real music: as they are, and through the decoder of each system that has one.

    Systems that share a decoder share its row.

    Args:
        real: other music than the reference; without any there are no rows.
        references: what all rows are judged by.
    """
    decoders: dict[str, tuple[Callable[[Tensor], Tensor], int | None]] = {REAL: (lambda waveform: waveform, None)}
    known: dict[str, str] = {}
    for name, pipeline in pipelines.items():
        decoder = getattr(pipeline, "autoencoder", None) or getattr(pipeline, "codec", None)
        if decoder is not None and known.setdefault(hash_weights(decoder), name) == name:
            decoders[f"real music, decoder of {name}"] = (_through(decoder), pipeline.sample_rate)
    rows = {label: Ceiling(label, [_judge(one) for one in references]) for label in decoders}
    left = REAL_CLIPS
    for waveform, sample_rate, pieces in progress.track(real, description=REAL):
        count = min(len(waveform), left)
        for label, (decode, rate) in decoders.items():
            _add(rows[label], references, waveform[:count], sample_rate, pieces[:count], decode, rate)
        left -= count
        if not left:
            break
    return [one.row() for one in rows.values() if one.pieces]


def score_of(values: Sequence[float], groups: Sequence[str]) -> Score:
    """The mean of what could be measured, with the interval over groups."""
    told = [(value, group) for value, group in zip(values, groups, strict=True) if abs(value) < float("inf")]
    lost = {"generated": {"other": len(values) - len(told)} if len(told) < len(values) else {}, "reference": {}}
    method = "mean over clips; Student's interval over prompts or pieces"
    return Score.mean([value for value, _ in told], method, [group for _, group in told], dropped=lost)


def _judge(reference: Reference) -> Judge:
    judge = Judge(reference.embedding)
    judge.reference(reference.statistics)
    return judge


def _through(decoder: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    placement = Placement.of([decoder])

    def through(waveform: Tensor) -> Tensor:
        waveform = waveform.to(placement.device)
        with placement.computing():
            if hasattr(decoder, "encode_codes"):
                return decoder.decode_codes(decoder.encode_codes(waveform))
            return decoder.decode(decoder.encode(waveform))

    return through


@torch.no_grad()
def _add(
    ceiling: Ceiling,
    references: Sequence[Reference],
    waveform: Float[Tensor, "b 1 t"],
    sample_rate: int,
    pieces: Sequence[str],
    decode: Callable[[Tensor], Tensor],
    rate: int | None,
) -> None:
    rate = rate or sample_rate
    real = resample(waveform, sample_rate, rate)
    heard = decode(real).float().clamp(-1, 1).cpu()
    length = min(real.shape[-1], heard.shape[-1])
    real, heard = real[..., :length], heard[..., :length]
    names = [f"clip {len(ceiling.pieces) + place}" for place in range(len(heard))]
    for judge, reference in zip(ceiling.judges, references, strict=True):
        judge.add(embed(reference.embedding, heard, rate).cpu(), names, list(pieces))
    ceiling.pieces += pieces
    errors = si_snr(heard, real).tolist()
    for clip, original, error in zip(heard[:, 0], real[:, 0], errors, strict=True):
        found = music_measures(clip, rate)
        if ceiling.label != REAL:
            found |= pair_measures(clip, original, rate) | {"si_snr": error}
        for key in (*MUSIC, *PAIRED):
            if key in found:
                ceiling.values.setdefault(key, []).append(found[key])
