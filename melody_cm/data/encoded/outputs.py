"""What the frozen encoders of a model give for a clip: it never changes, so it can be computed once and kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Autoencoder, Codec, JointEmbedding, Tokenizer
from melody_cm.storage import Frozen, FrozenAutoencoder, FrozenCodec, FrozenJointEmbedding, FrozenTokenizer

Kind = Literal["posterior", "codes", "audio_embedding", "text_embedding"]
HEARERS = (Autoencoder, Codec, Tokenizer, JointEmbedding)
# Long enough that the number of frames tells their size exactly.
PROBE_SAMPLES = 2**26


@dataclass(frozen=True)
class FrozenOutput:
    """One output of one frozen encoder.

    Attributes:
        kind: what it is.
        network: the frozen encoder.
        frame_samples: samples of the waveform for each frame of it; 0 where it is one value a clip.
    """

    kind: Kind
    network: Frozen
    frame_samples: int

    @property
    def name(self) -> str:
        """ "system/stage/kind", where it lies in the cache."""
        return f"{self.network.stage}/{self.kind}"

    @property
    def reads_captions(self) -> bool:
        """Whether it is made of the clip's captions, not of its sound."""
        return self.kind == "text_embedding"

    @property
    def weights(self) -> dict[str, str]:
        """The weight hash of each finished stage that it depends on, by the stage's name."""
        frozen = [module for module in self.network.modules() if isinstance(module, Frozen)]
        return {each.stage: each.weights for each in frozen}

    def of_audio(self, waveform: Tensor) -> dict[str, Tensor]:
        """Its parts (b, ...) for waveforms (b, 1, t), in the types that are kept; frames lie along the third axis."""
        if isinstance(self.network, FrozenAutoencoder):
            # Half precision moves a loss by less than 1e-5: draws add noise far above its rounding.
            mean, std = self.network.posterior(waveform)
            return {"mean": mean.half(), "std": std.half()}
        if isinstance(self.network, FrozenTokenizer | FrozenCodec):
            kept = torch.int16 if self.network.codebook_size <= 2**15 else torch.int32
            is_codec = isinstance(self.network, FrozenCodec)
            codes = self.network.encode_codes(waveform) if is_codec else self.network(_batch_of(waveform))
            return {"codes": codes.to(kept)}
        return {"embedding": self.network.embed_audio(waveform).float()}

    def of_text(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Its parts (b, ...) for captions."""
        return {"embedding": self.network.embed_captions(texts).float()}


def frozen_outputs(model: nn.Module, sample_rate: int) -> list[FrozenOutput]:
    """What the outermost frozen encoders of a model give its training, each once.

    A joint embedding that belongs to a conditioner which does not hear audio gives text embeddings, any other audio
    embeddings. What lies inside a frozen encoder is its own affair.

    Raises:
        ValueError: two stages give the same thing, which a batch could not tell apart (codes it can).
    """
    found = {output.name: output for output in _walk(model, sample_rate, deaf=False)}
    single = [output for output in found.values() if output.kind != "codes"]
    for output in single:
        rivals = sorted(other.network.stage for other in single if other.kind == output.kind)
        if len(rivals) > 1:
            raise ValueError(f"{' and '.join(rivals)} both give a {output.kind}; one model can be encoded for one only")
    return list(found.values())


def hears_by_itself(model: nn.Module) -> bool:
    """Whether a part of the model that is not frozen hears music, so that it needs the waveform."""
    if isinstance(model, HEARERS):
        return not isinstance(model, Frozen) and not any(isinstance(inside, Frozen) for inside in model.modules())
    return any(hears_by_itself(child) for child in model.children())


def _walk(module: nn.Module, sample_rate: int, deaf: bool) -> Iterator[FrozenOutput]:
    if isinstance(module, FrozenAutoencoder):
        frames = module.latent_shape(PROBE_SAMPLES / sample_rate)[1]
        yield FrozenOutput("posterior", module, round(PROBE_SAMPLES / frames))
    elif isinstance(module, FrozenTokenizer | FrozenCodec):
        yield FrozenOutput("codes", module, round(sample_rate / module.frame_rate) if module.frame_rate else 0)
    elif isinstance(module, FrozenJointEmbedding):
        yield FrozenOutput("text_embedding" if deaf else "audio_embedding", module, 0)
    else:
        deaf = deaf or getattr(module, "uses_audio", True) is False
        for child in module.children():
            yield from _walk(child, sample_rate, deaf)


def _batch_of(waveform: Tensor) -> MusicBatch:
    batch, _, length = waveform.shape
    nobody = torch.zeros(batch, dtype=torch.long, device=waveform.device)
    mask = torch.ones(batch, length, dtype=torch.bool, device=waveform.device)
    return MusicBatch(nobody, nobody, waveform, mask, [""] * batch)
