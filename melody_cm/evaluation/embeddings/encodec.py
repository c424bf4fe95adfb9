"""EnCodec (arXiv 2210.13438) as an audio embedding: what its encoder hears before anything is quantized."""

from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.embeddings.pretrained import PretrainedEmbedding, load_model
from melody_cm.interfaces import EmbeddingIdentity
from melody_cm.storage import hash_weights

VERSION = "1"
EXAMPLE = "facebook/encodec_24khz"


class EncodecEmbedding(PretrainedEmbedding):
    """Latent frames of EnCodec's encoder, 75 a second and d = 128 for the public model of 24 kHz.

    It hears the signal as a codec does, fidelity rather than music.

    Args:
        source: folder of a transformers EncodecModel, or its id on the model hub.

    Raises:
        FileNotFoundError: no such folder or hub id.
        ValueError: a stereo or normalizing model, which would need other windows.
    """

    def __init__(self, source: str | None) -> None:
        super().__init__()
        # transformers takes seconds to import, which an evaluation with another embedding need not wait for.
        from transformers import EncodecModel

        model = load_model(EncodecModel, source, "encodec", EXAMPLE)
        if model.config.audio_channels != 1 or model.config.normalize:
            raise ValueError(
                f"{source} is an EnCodec of {model.config.audio_channels} channel(s), normalize "
                f"{model.config.normalize}; encodec takes mono ones that do not normalize, e.g. {EXAMPLE}"
            )
        self.encoder = model.encoder
        self.identity = EmbeddingIdentity(
            name="encodec",
            version=VERSION,
            weights=hash_weights(self.encoder),
            sample_rate=model.config.sampling_rate,
            window=f"{model.config.hop_length / model.config.sampling_rate * 1000:.3g} ms encoder frames",
            width=model.config.hidden_size,
            trained=True,
        )
        self.eval()

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        return self.encoder(waveform).transpose(1, 2)
