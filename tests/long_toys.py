"""A MeLoDy of real but tiny untrained networks at 800 Hz, which continues and inpaints: 100 frames, 25 codes a second.

A chunk is 25 frames = 6.25 codes long, so that frames and codes do not fit evenly.
"""

import torch
from toy_systems import CODES, SAMPLE_RATE, WIDTH, ToyJointEmbedding, ToyTokenizer

from melody_cm.autoencoders import WaveformAutoencoder
from melody_cm.denoisers import DualPathDenoiser
from melody_cm.diffusion import DDIMSampler, LinearAngles
from melody_cm.encoders import LogMelKMeans, SemanticConditioner
from melody_cm.language_models import CausalTokenLM, Stream
from melody_cm.pipelines import MeLoDy

CHUNK, WINDOW, HOP, FADE = 25, 100, 8, 16


def tiny_autoencoder() -> WaveformAutoencoder:
    return WaveformAutoencoder(
        sample_rate=SAMPLE_RATE,
        downsampling=[4, 2],
        encoder_channels=[8, 8],
        encoder_kernels=[9, 5],
        decoder_channels=[8, 8],
        decoder_kernels=[5, 9],
        decoder_first_channels=8,
        latent_channels=4,
        residual_kernels=[3],
        residual_dilations=[1, 3],
    )


def tiny_tokenizer() -> LogMelKMeans:
    tokenizer = LogMelKMeans(SAMPLE_RATE, codebook_size=CODES, num_mels=6, n_fft=64, mels_per_frame=1)
    tokenizer.fit(torch.randn(200, 6), seed=0)
    return tokenizer


def tiny_melody(**settings) -> MeLoDy:
    torch.manual_seed(4)
    streams = [Stream("prompt", WIDTH, CODES), Stream("semantic", 1, CODES)]
    networks = [
        ToyJointEmbedding(),
        ToyTokenizer(),
        tiny_tokenizer(),
        CausalTokenLM(streams, width=16, num_layers=1, num_heads=2, feedforward_width=16, max_frames=25),
        SemanticConditioner(None, CODES, 8),
        DualPathDenoiser(4, 8, num_blocks=1, segment_length=10, num_heads=2, feedforward_width=8, angle_width=4),
        tiny_autoencoder(),
    ]
    torch.nn.init.normal_(networks[5].output.weight)  # So that tokens and known frames are heard.
    with torch.no_grad():  # So that what was said before decides what is said next.
        for weight in networks[3].parameters():
            weight.mul_(20 if weight.ndim > 1 else 1)
    return MeLoDy(*networks, LinearAngles(), DDIMSampler(), **{"max_seconds": 1.0, "num_steps": 2} | settings)


def music(seconds: float, clips: int = 1) -> torch.Tensor:
    """Music that was given: (b, 1, t), never silent."""
    generator = torch.Generator().manual_seed(8)
    return 0.3 * torch.randn(clips, 1, round(seconds * SAMPLE_RATE), generator=generator).clamp(-3, 3)
