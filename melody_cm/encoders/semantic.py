"""Self-supervised features of music: a Wav2Vec2-Conformer at 25 Hz (MeLoDy, arXiv 2305.15719, appendix B.2)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel

from melody_cm.interfaces import SemanticEncoder
from melody_cm.signal.frames import pad_to_multiple
from melody_cm.storage.pretrained import load_model, load_pretrained

EXAMPLE = "facebook/wav2vec2-conformer-rel-pos-large"


def strides_for(sample_rate: int, frame_rate: float) -> list[int]:
    """The strides of a convolution stack that brings `sample_rate` down to `frame_rate` (both Hz), largest first.

    Raises:
        ValueError: the ratio is not a whole number, or has a prime factor above 7.
    """
    samples = sample_rate / frame_rate
    strides, rest = [], int(samples)
    for prime in (7, 5, 3, 2):
        while rest and rest % prime == 0:
            strides.append(prime)
            rest //= prime
    if samples != int(samples) or rest != 1 or not strides:
        raise ValueError(
            f"sample_rate {sample_rate} Hz / frame_rate {frame_rate:g} Hz = {samples:g} samples a frame is no product "
            "of 2, 3, 5 and 7; use e.g. 24000, 16000 or 8000 Hz at 25 Hz"
        )
    return strides


def pad_for_frames(
    waveform: Float[Tensor, "b 1 t"], strides: list[int], kernels: list[int], frame_samples: int
) -> Float[Tensor, "b 1 padded"]:
    """Silence around a waveform so that unpadded convolutions give a frame for every begun `frame_samples` samples.

    What a frame hears is centred on its own samples.
    """
    period, field = math.prod(strides), 1
    for stride, kernel in zip(reversed(strides), reversed(kernels), strict=True):
        field = (field - 1) * stride + kernel
    left = (field - period) // 2
    return F.pad(pad_to_multiple(waveform, frame_samples), (left, field - period - left))


class Wav2Vec2ConformerEncoder(SemanticEncoder):
    """transformers' Wav2Vec2-Conformer, built from its sizes: strided convolutions, then blocks with rotary attention.

    Nothing is resampled: waveforms must be at `sample_rate`. Each convolution is normalized frame by frame, so a frame
    does not depend on far ones before the blocks; it has no bias, so loudness hardly matters. Without dropout: one
    input always has one result, and a training draws nothing but what is keyed.

    Args:
        sample_rate: Hz.
        frame_rate: of the hidden states, Hz; each convolution takes a prime factor of the ratio as its stride and
            twice that as its kernel (24 kHz: 960 samples a frame, strides 5, 3, 2, 2, 2, 2, 2, 2).
        width: d of the hidden states.
        num_layers: blocks.
        num_heads: of their attention.
        feedforward_width: of the two feed-forward layers in each block.
        conv_width: channels of the convolutions.
        depthwise_kernel: frames that the convolution inside a block sees; odd.

    Raises:
        ValueError: rates that do not divide, a width that the heads do not divide, or an even kernel.
    """

    def __init__(
        self,
        sample_rate: int = 24000,
        frame_rate: float = 25.0,
        width: int = 768,
        num_layers: int = 14,
        num_heads: int = 12,
        feedforward_width: int = 3072,
        conv_width: int = 512,
        depthwise_kernel: int = 31,
    ) -> None:
        super().__init__()
        if width % (2 * num_heads):
            raise ValueError(f"width {width} must be a multiple of 2 x num_heads = {2 * num_heads}")
        if depthwise_kernel % 2 == 0:
            raise ValueError(f"depthwise_kernel {depthwise_kernel} must be odd; use e.g. {depthwise_kernel + 1}")
        self.sample_rate, self.frame_rate = sample_rate, frame_rate
        self.width, self.num_layers, self.conv_width = width, num_layers, conv_width
        self.strides = strides_for(sample_rate, frame_rate)
        self.kernels = [2 * stride for stride in self.strides]
        self.frame_samples = math.prod(self.strides)
        self.body = Wav2Vec2ConformerModel(
            Wav2Vec2ConformerConfig(
                hidden_size=width,
                num_hidden_layers=num_layers,
                num_attention_heads=num_heads,
                intermediate_size=feedforward_width,
                conv_dim=[conv_width] * len(self.strides),
                conv_stride=self.strides,
                conv_kernel=self.kernels,
                feat_extract_norm="layer",
                conv_depthwise_kernel_size=depthwise_kernel,
                position_embeddings_type="rotary",
                hidden_dropout=0.0,
                activation_dropout=0.0,
                attention_dropout=0.0,
                conformer_conv_dropout=0.0,
                layerdrop=0.0,
            )
        )
        # transformers makes this layer (4.7 M parameters at paper size) and never calls it.
        self.body.encoder.pos_conv_embed = nn.Identity()

    def _apply(self, *args: Any, **kwargs: Any) -> "Wav2Vec2ConformerEncoder":
        # transformers keeps the last rotary angles, and would go on with them on the device that was left.
        self.body.encoder.embed_positions.cached_sequence_length = None
        return super()._apply(*args, **kwargs)

    def hidden_states(self, waveform: Float[Tensor, "b 1 t"], layer: int) -> Float[Tensor, "b l d"]:
        return states_after(self.body, self._padded(waveform), layer)

    def masked(
        self, waveform: Float[Tensor, "b 1 t"], mask: Bool[Tensor, "b l"], gradient_scale: float = 1.0
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b l c"], Float[Tensor, ""]]:
        """For training: the last hidden states where the frames in `mask` are hidden, the convolutions' features
        (c = conv_width) of all frames as they are, normalized, and the mean square of these before that.

        The convolutions learn by `gradient_scale` times their gradient.
        """
        extracted = self.body.feature_extractor(self._padded(waveform))
        if extracted.requires_grad:
            extracted.register_hook(lambda gradient: gradient * gradient_scale)
        hidden, features = self.body.feature_projection(extracted.transpose(1, 2))
        # Selected, not written to: to write to places that a mask tells waits for the GPU.
        shown = torch.where(mask[..., None], self.body.masked_spec_embed.to(hidden.dtype), hidden)
        return self.body.encoder(shown).last_hidden_state, features, extracted.float().square().mean()

    def num_frames(self, samples: int) -> int:
        """Frames of a waveform of that many samples."""
        return -(-samples // self.frame_samples)

    def _padded(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b padded"]:
        return pad_for_frames(waveform, self.strides, self.kernels, self.frame_samples)[:, 0]


class PretrainedSemanticEncoder(SemanticEncoder):
    """A Wav2Vec2-Conformer from a folder or the model hub: frozen, in evaluation mode, absent from checkpoints.

    The public ones hear 16 kHz and give 50 frames a second; the mean of each `own rate / frame_rate` = 2 of them is
    one frame. Nothing is resampled. Waveforms are set to zero mean and unit variance where the weights' own
    preprocessor does so.

    Args:
        source: a folder in transformers' layout (config.json, weights, preprocessor_config.json), or `owner/name` on
            the model hub, which is asked only if no such folder is here.
        frame_rate: of the hidden states, Hz.

    Raises:
        FileNotFoundError: no such folder, or the hub does not give it.
        ValueError: it holds something else or not all weights, or its frame rate is no whole multiple of `frame_rate`.
    """

    def __init__(self, source: str, frame_rate: float = 25.0) -> None:
        super().__init__()
        about = {"preset": "the semantic encoder", "example": EXAMPLE, "give": "give source=FOLDER"}
        preprocessor = load_pretrained(AutoFeatureExtractor, source, **about)
        self.body: Wav2Vec2ConformerModel = load_model(Wav2Vec2ConformerModel, source, **about)
        self.sample_rate, self.frame_rate = int(preprocessor.sampling_rate), frame_rate
        self.normalizes = bool(preprocessor.do_normalize)
        config = self.body.config
        self.width, self.num_layers = int(config.hidden_size), int(config.num_hidden_layers)
        self.strides, self.kernels = list(config.conv_stride), list(config.conv_kernel)
        own_rate = self.sample_rate / math.prod(self.strides)
        self.group = round(own_rate / frame_rate)
        if self.group < 1 or self.group * frame_rate != own_rate:
            raise ValueError(
                f"{source} gives {own_rate:g} frames a second, no whole multiple of frame_rate {frame_rate:g} Hz; "
                f"set frame_rate to {own_rate:g} or a whole part of it"
            )

    def train(self, mode: bool = True) -> "PretrainedSemanticEncoder":
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        return {} if destination is None else destination

    @torch.no_grad()
    def hidden_states(self, waveform: Float[Tensor, "b 1 t"], layer: int) -> Float[Tensor, "b l d"]:
        if self.normalizes:
            waveform = F.layer_norm(waveform, waveform.shape[-1:], eps=1e-7)
        padded = pad_for_frames(waveform, self.strides, self.kernels, math.prod(self.strides) * self.group)
        return reduce(states_after(self.body, padded[:, 0], layer), "b (l g) d -> b l d", "mean", g=self.group)


def states_after(
    body: Wav2Vec2ConformerModel, samples: Float[Tensor, "b padded"], layer: int
) -> Float[Tensor, "b l d"]:
    """What block `layer` of a body gives; the blocks after it are not computed.

    Raises:
        ValueError: there is no such block.
    """
    if not 0 <= layer <= len(body.encoder.layers):
        raise ValueError(f"layer {layer} is none of the encoder's; it has 0 to {len(body.encoder.layers)}")
    hidden = body.feature_projection(body.feature_extractor(samples).transpose(1, 2))[0]
    embed_positions = body.encoder.embed_positions
    positions = None if embed_positions is None else embed_positions(hidden)
    for block in body.encoder.layers[:layer]:
        hidden = block(hidden, relative_position_embeddings=positions)
    return hidden
