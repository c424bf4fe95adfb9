"""The smallest networks that fill every slot of the pipelines, with weights, so that they can be exported."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.diffusion import ConsistencySampler, DDIMSampler, GridAngles, LinearAngles, ScaledLinearBetaAngles
from melody_cm.interfaces import (
    Angle,
    AudioEmbedding,
    Autoencoder,
    Codec,
    Conditioner,
    Conditioning,
    Denoiser,
    EmbeddingIdentity,
    JointEmbedding,
    Reconstruction,
    Tokenizer,
    TokenLM,
)
from melody_cm.language_models import CausalTokenLM, Stream
from melody_cm.pipelines import MeLoDy, MusicCM, MusicLM
from melody_cm.randomness import Draws
from melody_cm.signal import pad_to_multiple

HOP = 8
SAMPLE_RATE = 800
WIDTH = 6
CODES = 16
MAX_SECONDS = 1.0


class ToyJointEmbedding(JointEmbedding):
    def __init__(self) -> None:
        super().__init__()
        self.sample_rate, self.window_seconds, self.width = SAMPLE_RATE, 1.0, WIDTH
        self.letters = nn.Embedding(256, WIDTH)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        rows = [self.letters(torch.tensor(list(text.encode()))).mean(0) for text in texts]
        return nn.functional.normalize(torch.stack(rows), dim=-1)

    def embed_audio(self, waveform: Tensor) -> Tensor:
        levels = ((waveform[:, 0] + 1) * 128).long().clamp(0, 255)
        return nn.functional.normalize(self.letters(levels).mean(1), dim=-1)


class ToyTokenizer(Tokenizer):
    def __init__(self) -> None:
        super().__init__()
        self.num_codebooks, self.codebook_size, self.frame_rate = WIDTH, CODES, 0.0
        self.register_buffer("scale", torch.tensor(100.0))

    def quantize(self, features: Tensor) -> Tensor:
        return (features * self.scale).round().long().remainder(CODES).transpose(1, 2)

    def features(self, batch: MusicBatch) -> Tensor:
        raise NotImplementedError

    def fit(self, features: Tensor, seed: int) -> None:
        raise NotImplementedError

    def dequantize(self, codes: Tensor) -> Tensor:
        raise NotImplementedError


class ToySemanticTokenizer(ToyTokenizer):
    """One code for every 1/25 of a second, by its loudest sample."""

    def __init__(self) -> None:
        super().__init__()
        self.num_codebooks, self.frame_rate = 1, 25.0

    def features(self, batch: MusicBatch) -> Tensor:
        frame = int(SAMPLE_RATE / self.frame_rate)
        return pad_to_multiple(batch.need_waveform(), frame).unflatten(-1, (-1, frame)).amax((1, 3))[..., None]


class ToyTokenLM(TokenLM):
    """Draws codes from probabilities that depend on the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Embedding(CODES, CODES)
        self.stream_sizes = {"prompt": (WIDTH, CODES), "semantic": (1, CODES)}
        self.frame_rates = {"prompt": 0.0, "semantic": 25.0}
        self.max_frames = 25

    def logits(self, streams: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def extend(
        self,
        prompt: Mapping[str, Tensor],
        codes: Tensor,
        length: int,
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Tensor:
        probabilities = self.prompt(prompt["prompt"][..., 0]).mean(1).softmax(-1)
        rows = [
            torch.multinomial(row, length, replacement=True, generator=generator)
            for row, generator in zip(probabilities, generators, strict=True)
        ]
        return torch.stack(rows)[:, None]


class ToyConditioner(Conditioner):
    """Codes (b, 1, n) or embeddings (b, d) -> one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Embedding(CODES, WIDTH)

    def describe(self, batch: MusicBatch) -> Tensor:
        raise NotImplementedError

    def embed(self, source: Tensor) -> Conditioning:
        pooled = source if source.is_floating_point() else self.codes(source[:, 0]).mean(1)
        return Conditioning(None, pooled, None, torch.zeros(len(source), dtype=torch.bool))


class ToyDenoiser(Denoiser):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.mix = nn.Conv1d(channels, channels, 3, padding=1)
        self.condition = nn.Linear(WIDTH, channels)

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        condition = self.condition(conditioning.pooled).masked_fill(conditioning.dropped[:, None], 0.0)
        return torch.tanh(self.mix(noisy_latent) + condition[..., None]) * (1 + angle[:, None, None].cos())


class ToyAutoencoder(Autoencoder):
    """Decodes to whole latent frames, so that the last one reaches beyond the seconds asked for."""

    def __init__(self, gain: float = 0.1) -> None:
        super().__init__()
        self.sample_rate, self.latent_channels, self.gain = SAMPLE_RATE, 4, gain
        self.decoder = nn.ConvTranspose1d(4, 1, HOP, stride=HOP)

    def posterior(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        frames = pad_to_multiple(waveform, HOP).unflatten(-1, (-1, HOP))[:, 0]
        latent = frames.transpose(1, 2)[:, :4]
        return latent, torch.zeros_like(latent)

    def reconstruct(self, waveform: Tensor, draws: Draws) -> Reconstruction:
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        return self.gain * self.decoder(latent)

    def latent_shape(self, seconds: float) -> tuple[int, ...]:
        return (4, int(seconds * SAMPLE_RATE) // HOP + 1)


class ToyCodec(Codec):
    """q levels of 4 codes a frame of 16 samples: each level halves the step with which the frame's mean is rounded."""

    def __init__(self, num_codebooks: int = 5, sample_rate: int = SAMPLE_RATE) -> None:
        super().__init__()
        self.sample_rate, self.frame_rate = sample_rate, sample_rate / 16
        self.num_codebooks, self.codebook_size = num_codebooks, 4
        self.register_buffer("steps", 0.5 ** torch.arange(num_codebooks) / 4)

    def encode_codes(self, waveform: Tensor) -> Tensor:
        residual, codes = pad_to_multiple(waveform[:, 0], 16).unflatten(-1, (-1, 16)).mean(-1), []
        for step in self.steps:
            codes.append((residual / step + 2).floor().clamp(0, 3).long())
            residual = residual - (codes[-1] - 1.5) * step
        return torch.stack(codes, dim=1)

    def decode_codes(self, codes: Tensor) -> Tensor:
        steps = self.steps[: codes.shape[1], None]
        return ((codes - 1.5) * steps).sum(1).repeat_interleave(16, dim=-1)[:, None]


class ToyEmbedding(AudioEmbedding):
    """Two numbers for every frame of 100 samples: mean and standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = EmbeddingIdentity("toy", "1", "none", SAMPLE_RATE, "frames of 100 samples", 2, False)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = waveform[:, 0].unfold(-1, 100, 100)
        return torch.stack([frames.mean(-1), frames.std(-1)], -1)


def toy_melody(**settings) -> MeLoDy:
    torch.manual_seed(1)
    tokens = [ToyTokenizer(), ToySemanticTokenizer(), ToyTokenLM()]
    networks = [ToyJointEmbedding(), *tokens, ToyConditioner(), ToyDenoiser(), ToyAutoencoder()]
    return MeLoDy(*networks, LinearAngles(), DDIMSampler(), **{"max_seconds": MAX_SECONDS, "num_steps": 3} | settings)


def toy_musiccm(**settings) -> MusicCM:
    torch.manual_seed(2)
    schedule = GridAngles(ScaledLinearBetaAngles(spacing="lcm", zero_terminal_snr=True), grid_steps=50)
    networks = [ToyJointEmbedding(), ToyConditioner(), ToyDenoiser(), ToyAutoencoder()]
    return MusicCM(*networks, schedule, ConsistencySampler(), **{"max_seconds": MAX_SECONDS} | settings)


def toy_teacher() -> MusicCM:
    torch.manual_seed(2)
    schedule = ScaledLinearBetaAngles(spacing="trailing", zero_terminal_snr=True)
    networks = [ToyJointEmbedding(), ToyConditioner(), ToyDenoiser(), ToyAutoencoder()]
    settings = {"num_steps": 50, "guidance_scale": 3.0, "guidance_embedded": False, "max_seconds": MAX_SECONDS}
    return MusicCM(*networks, schedule, DDIMSampler(), **settings)


def toy_language_model(max_frames: int, **streams: tuple[int, int, float]) -> CausalTokenLM:
    """Streams as (codebooks, codes, frames a second); its output layer is large, so that codes are no coin tosses."""
    layout = [Stream(name, *stream) for name, stream in streams.items()]
    model = CausalTokenLM(layout, 16, num_layers=1, num_heads=2, feedforward_width=24, max_frames=max_frames)
    nn.init.normal_(model.body.lm_head.weight)
    return model


def toy_musiclm(**settings) -> MusicLM:
    """50 frames a second of 2 coarse and 3 fine levels; the windows are 0.6 s (coarse) and 0.4 s (fine) long."""
    torch.manual_seed(3)
    prompt, semantic, coarse = (WIDTH, CODES, 0.0), (1, CODES, 25.0), (2, 4, 50.0)
    models = [
        toy_language_model(25, prompt=prompt, semantic=semantic),
        toy_language_model(30, prompt=prompt, semantic=semantic, coarse=coarse),
        toy_language_model(20, coarse=coarse, fine=(3, 4, 50.0)),
    ]
    return MusicLM(ToyJointEmbedding(), ToyTokenizer(), *models, ToyCodec(), **{"max_seconds": MAX_SECONDS} | settings)
