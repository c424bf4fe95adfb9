"""CLAP (arXiv 2211.06687), text and audio in one space, as an audio embedding and for text correlation."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.embeddings.pretrained import PretrainedEmbedding
from melody_cm.interfaces import EmbeddingIdentity, JointEmbedding
from melody_cm.storage import hash_data, hash_weights

VERSION = "1"
# What decides the mel spectrogram of a window; other settings of the feature extractor never apply here.
SETTINGS = (
    "feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size", "frequency_min",
    "frequency_max", "padding",
)  # fmt: skip


class ClapEmbedding(PretrainedEmbedding, JointEmbedding):
    """Unit vectors of windows of about 10 s; `embed_audio` and `embed_text` give one a clip and one a text.

    Args:
        source: folder of a transformers ClapModel with its processor, or its id on the model hub.

    Raises:
        FileNotFoundError: no such folder or hub id; ValueError: it holds something else.
    """

    def __init__(self, source: str | None) -> None:
        super().__init__()
        # transformers takes seconds to import, which an evaluation with another embedding need not wait for.
        from melody_cm.encoders.clap import ClapJointEmbedding

        self.network = ClapJointEmbedding(source)
        extractor = self.network.extractor
        self.network.sample_rate = extractor.sampling_rate
        self.window_seconds = self.network.window_seconds
        settings = {name: getattr(extractor, name) for name in SETTINGS}
        self.identity = EmbeddingIdentity(
            name="clap",
            version=f"{VERSION}-{hash_data({**settings, 'fusion': self.network.fusion})[:8]}",
            weights=hash_weights(self.network.model),
            sample_rate=extractor.sampling_rate,
            window=f"{self.window_seconds:g} s windows, evenly spread",
            width=self.network.width,
            trained=True,
        )
        self.eval()

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        return self.network.embed_windows(waveform)

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        return self.network.embed_audio(waveform)

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        return self.network.embed_text(texts)
