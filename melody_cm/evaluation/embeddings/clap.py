"""CLAP (arXiv 2211.06687), text and audio in one space, as an audio embedding and for text correlation."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.embeddings.pretrained import (
    PretrainedEmbedding,
    load_model,
    load_pretrained,
    whole_windows,
)
from melody_cm.interfaces import EmbeddingIdentity, JointEmbedding
from melody_cm.storage import hash_data, hash_weights

VERSION = "1"
EXAMPLE = "laion/clap-htsat-unfused"
# What decides the mel spectrogram of a window; other settings of the feature extractor never apply here.
SETTINGS = (
    "feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size", "frequency_min",
    "frequency_max", "padding",
)  # fmt: skip


class ClapEmbedding(PretrainedEmbedding, JointEmbedding):
    """Unit vectors of windows of about 10 s; `embed_audio` and `embed_text` give one a clip and one a text.

    Windows are cut here, because the feature extractor would crop long audio at random. Shorter audio is repeated to
    the length of a window, as the extractor does it.

    Args:
        source: folder of a transformers ClapModel with its processor, or its id on the model hub.

    Raises:
        FileNotFoundError: no such folder or hub id; ValueError: it holds something else.
    """

    def __init__(self, source: str | None) -> None:
        super().__init__()
        # transformers takes seconds to import, which an evaluation with another embedding need not wait for.
        from transformers import ClapModel, ClapProcessor

        processor = load_pretrained(ClapProcessor, source, "clap", EXAMPLE)
        self.model = load_model(ClapModel, source, "clap", EXAMPLE)
        self.extractor, self.tokenizer = processor.feature_extractor, processor.tokenizer
        self.window_seconds = float(self.extractor.max_length_s)
        self.fusion = self.model.config.audio_config.enable_fusion
        settings = {name: getattr(self.extractor, name) for name in SETTINGS}
        self.identity = EmbeddingIdentity(
            name="clap",
            version=f"{VERSION}-{hash_data({**settings, 'fusion': self.fusion})[:8]}",
            weights=hash_weights(self.model),
            sample_rate=self.extractor.sampling_rate,
            window=f"{self.window_seconds:g} s windows, evenly spread",
            width=self.model.config.projection_dim,
            trained=True,
        )
        self.eval()

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        windows = whole_windows(waveform, self.extractor.nb_max_samples)
        features = self._features(windows.flatten(0, 2)).to(waveform.device)
        longer = torch.zeros(len(features), 1, dtype=torch.bool, device=waveform.device)
        vectors = self.model.get_audio_features(input_features=features, is_longer=longer).pooler_output
        return vectors.unflatten(0, windows.shape[:2])

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        return F.normalize(self(waveform).mean(1), dim=-1)

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        device = self.model.text_projection.linear1.weight.device
        tokens: Any = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(device)
        return self.model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output

    @property
    def _max_tokens(self) -> int:
        # RoBERTa's positions begin behind the padding token's.
        config = self.model.config.text_config
        return min(self.tokenizer.model_max_length, config.max_position_embeddings - config.pad_token_id - 1)

    def _features(self, windows: Float[Tensor, "n samples"]) -> Float[Tensor, "n c l f"]:
        """The extractor's log-mels. None is longer than a window, so it crops nothing, and its draw of which clip of a
        batch counts as "longer" (fusion) is not used."""
        features = self.extractor(
            list(windows.detach().cpu().double().numpy()),
            sampling_rate=self.extractor.sampling_rate,
            truncation="fusion" if self.fusion else "rand_trunc",
            return_tensors="pt",
        )
        return features["input_features"].float()
