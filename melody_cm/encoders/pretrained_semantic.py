"""Public self-supervised weights as the semantic encoder: a Wav2Vec2-Conformer of transformers, brought to 25 Hz."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor
from transformers import AutoFeatureExtractor, Wav2Vec2ConformerModel

from melody_cm.encoders.semantic import pad_for_frames, states_after
from melody_cm.interfaces import SemanticEncoder
from melody_cm.storage.pretrained import load_model, load_pretrained

EXAMPLE = "facebook/wav2vec2-conformer-rel-pos-large"


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
