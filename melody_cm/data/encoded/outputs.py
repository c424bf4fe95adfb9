"""What the frozen encoders of a model give for a clip: it never changes, so it can be computed once and kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Autoencoder, Codec, JointEmbedding, Network, Tokenizer
from melody_cm.signal import fit_length
from melody_cm.storage import hash_weights

Kind = Literal["posterior", "codes", "audio_embedding", "text_embedding"]
ENCODERS = (Autoencoder, Codec, Tokenizer, JointEmbedding)
# Long enough that the number of frames tells their size exactly.
PROBE_SAMPLES = 2**26
# Heard on both sides of a window of a long clip, at least: encoders look that far and no farther.
CONTEXT_SECONDS = 0.25


class Window(NamedTuple):
    """A part of a long clip, in samples: the encoder hears `first` to `last`, and `begin` to `end` of it is kept."""

    first: int
    last: int
    begin: int
    end: int


def frame_windows(clip: int, crop: int, frame_samples: int, sample_rate: int) -> list[Window]:
    """Windows of about a crop's length that cover a clip, each heard with a quarter of a crop on both sides.

    They begin where frames begin. A clip no longer than the crop is one window, padded to the crop's length.
    """
    if clip <= crop:
        return [Window(0, crop, 0, crop)]
    core = -(-crop // frame_samples) * frame_samples
    context = -(-max(crop // 4, round(CONTEXT_SECONDS * sample_rate)) // frame_samples) * frame_samples
    count = max(1, round(clip / core))  # The last window takes up to half a core more, or less.
    edges = [index * core for index in range(count)] + [clip]
    return [Window(max(0, begin - context), min(clip, end + context), begin, end) for begin, end in pairwise(edges)]


def value_windows(clip: int, crop: int) -> list[int]:
    """Where the windows of outputs with one value a crop begin: every half crop, and one that ends with the clip."""
    spare = max(0, clip - crop)
    return [*range(0, spare, max(1, crop // 2)), spare]


@dataclass(frozen=True)
class FrozenOutput:
    """One output of one frozen encoder."""

    kind: Kind
    network: Any  # The frozen encoder.
    frame_samples: int  # Samples of the waveform for each frame; 0 where the output is one value a crop.

    @property
    def name(self) -> str:
        """ "system/stage/kind", the output's folder in the cache."""
        return f"{self.network.stage}/{self.kind}"

    @property
    def reads_captions(self) -> bool:
        """Whether it is made of the clip's captions, not of its sound."""
        return self.kind == "text_embedding"

    @property
    def weights(self) -> dict[str, str]:
        """The weight hash of the encoder and of each frozen network inside it, by their stages."""
        return {module.stage: hash_weights(module) for module in self.network.modules() if is_frozen(module)}

    @torch.no_grad()
    def encode(self, samples: Tensor, captions: Sequence[str], crop: int, sample_rate: int) -> dict[str, Tensor]:
        """The fields of a `MusicBatch` for a clip of samples (t,), in the types that are kept: (c, l, ...) for outputs
        with l frames, else (n, ...), a row for each of n windows or captions; none count as one empty caption.

        `crop` counts the samples of a training crop. A ValueError for numbers that are not finite, or not as many
        frames as `frame_samples` says.
        """
        length, size = len(samples), self.frame_samples
        if self.reads_captions:
            tensors = {self.kind: self.network.embed_captions(captions or [""]).float()}
        elif size:
            windows = frame_windows(length, crop, size, sample_rate)
            tensors = _joined([self._frames(samples, window) for window in windows], dim=1)
        else:
            starts = value_windows(length, crop)
            tensors = _joined([self._hear(samples, start, start + crop) for start in starts], dim=0)
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise ValueError(f"{self.name} gives numbers that are not finite; train that stage again with --retrain")
        return {name: value.cpu().contiguous() for name, value in tensors.items()}

    def _frames(self, samples: Tensor, window: Window) -> dict[str, Tensor]:
        """The frames of a window that are kept (c, l, ...)."""
        size, length = self.frame_samples, window.last - window.first
        heard = self._hear(samples, window.first, window.last)
        if any(value.shape[2] != -(-length // size) for value in heard.values()):
            raise ValueError(
                f"{self.name} does not give one frame every {size} samples of {length}; it cannot be kept, train "
                "without encoding"
            )
        frames = slice((window.begin - window.first) // size, -(-(window.end - window.first) // size))
        return {name: value[0, :, frames] for name, value in heard.items()}

    def _hear(self, samples: Tensor, first: int, last: int) -> dict[str, Tensor]:
        """What the encoder makes of a part of a clip, zeros after its end: (1, ...), frames along the third axis."""
        waveform = fit_length(samples[first:last], last - first)[None, None]
        if self.kind == "posterior":
            # Half precision moves a loss by less than 1e-5: the posterior's noise is far above its rounding.
            mean, std = self.network.posterior(waveform)
            return {"latent_mean": mean.half(), "latent_std": std.half()}
        if self.kind == "audio_embedding":
            return {self.kind: self.network.embed_audio(waveform).float()}
        is_codec = isinstance(self.network, Codec)
        codes = self.network.encode_codes(waveform) if is_codec else self.network(_batch_of(waveform))
        return {"codes": codes.to(torch.int16 if self.network.codebook_size <= 2**15 else torch.int32)}


def is_frozen(module: nn.Module) -> bool:
    """Whether a module is a frozen network."""
    return isinstance(module, Network) and module.frozen


def frozen_outputs(model: nn.Module, sample_rate: int) -> list[FrozenOutput]:
    """What the outermost frozen encoders of a model give its training, each once.

    A joint embedding inside a conditioner that does not use audio gives text embeddings, any other one audio
    embeddings. Encoders inside a frozen encoder are not listed: their results are not used outside it. A ValueError if
    two stages give the same thing, which a batch could not tell apart (codes it can).
    """
    found = {output.name: output for output in _walk(model, sample_rate, uses_audio=True)}
    single = [output for output in found.values() if output.kind != "codes"]
    for output in single:
        rivals = sorted(other.network.stage for other in single if other.kind == output.kind)
        if len(rivals) > 1:
            raise ValueError(f"{' and '.join(rivals)} both give a {output.kind}; one model can be encoded for one only")
    return list(found.values())


def has_live_encoder(model: nn.Module) -> bool:
    """Whether the model holds an encoder that nothing frozen does the work of, so that it needs the waveform."""
    if isinstance(model, ENCODERS):
        return not any(is_frozen(module) for module in model.modules())
    return any(has_live_encoder(child) for child in model.children())


def _walk(module: nn.Module, sample_rate: int, uses_audio: bool) -> Iterator[FrozenOutput]:
    if isinstance(module, ENCODERS) and is_frozen(module):
        yield _output_of(module, sample_rate, uses_audio)
        return
    uses_audio = uses_audio and getattr(module, "uses_audio", True)
    for child in module.children():
        yield from _walk(child, sample_rate, uses_audio)


def _output_of(network: nn.Module, sample_rate: int, uses_audio: bool) -> FrozenOutput:
    if isinstance(network, Autoencoder):
        frames = network.latent_shape(PROBE_SAMPLES / sample_rate)[1]
        return FrozenOutput("posterior", network, round(PROBE_SAMPLES / frames))
    if isinstance(network, JointEmbedding):
        return FrozenOutput("audio_embedding" if uses_audio else "text_embedding", network, 0)
    return FrozenOutput("codes", network, round(sample_rate / network.frame_rate) if network.frame_rate else 0)


def _batch_of(waveform: Tensor) -> MusicBatch:
    nobody = torch.zeros(1, dtype=torch.long, device=waveform.device)
    return MusicBatch(nobody, nobody, waveform, torch.ones_like(waveform[:, 0], dtype=torch.bool), [""])


def _joined(pieces: Sequence[Mapping[str, Tensor]], dim: int) -> dict[str, Tensor]:
    return {name: torch.cat([piece[name] for piece in pieces], dim=dim) for name in pieces[0]}
