"""Embeddings that are thin wrappers of networks with trained weights: our own joint embedding, CLAP and EnCodec."""

import re
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import AudioEmbedding, EmbeddingIdentity, JointEmbedding
from melody_cm.signal.windows import whole_windows
from melody_cm.storage import hash_data, hash_weights, load_network, stage_folder
from melody_cm.storage.pretrained import load_model

VERSION = "1"
SLOT = "joint_embedding"
STAGE_NAME = re.compile(r"\w+/\w+")
HOW = "give the folder of a finished stage, joint:runs/NAME/shared/1_joint_embedding"
# What decides the mel spectrogram of a window of CLAP; other settings of its feature extractor never apply here.
CLAP_SETTINGS = (
    "feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size", "frequency_min",
    "frequency_max", "padding",
)  # fmt: skip
ENCODEC_EXAMPLE = "facebook/encodec_24khz"


class PretrainedEmbedding(AudioEmbedding):
    """An embedding whose weights come from elsewhere: never trained, and absent from its owner's checkpoints."""

    def identify(self, name: str, version: str, weights: str, sample_rate: int, window: str, width: int) -> None:
        """Say what it is, and freeze it; subclasses call this last in their constructors."""
        self.identity = EmbeddingIdentity(name, version, weights, sample_rate, window, width, trained=True)
        self.freeze(f"public/{weights}", None)


class TextAudioEmbedding(PretrainedEmbedding, JointEmbedding):
    """A joint embedding as an audio embedding: unit vectors of evenly spread windows.

    `embed_audio` gives one vector a clip, `embed_text` one a text.
    """

    def use(self, network: JointEmbedding, name: str, version: str, weights: str) -> None:
        """Embed with a network; subclasses call this last in their constructors."""
        self.network = network
        self.window_seconds = network.window_seconds
        window = f"{network.window_seconds:g} s windows, evenly spread"
        self.identify(name, version, weights, network.sample_rate, window, network.width)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        windows = whole_windows(waveform, round(self.window_seconds * self.sample_rate))
        return self.network.embed_audio(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        return self.network.embed_audio(waveform)

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        return self.network.embed_text(texts)


class JointAudioEmbedding(TextAudioEmbedding):
    """The joint text-audio embedding that conditions the systems, as a judge of them (MCC of MeLoDy, arXiv 2305.15719).

    It was trained on the same music as the systems that it judges, so it forgives what they all do alike.

    Args:
        source: a stage of the current run ("shared/1_joint_embedding"), the folder of such a stage
            (runs/NAME/shared/1_joint_embedding), or a folder that holds an exported joint embedding.
        name: in metric keys; two joint embeddings that judge side by side need two names.

    Raises:
        FileNotFoundError: no finished stage and no such folder; ValueError: another kind of network.
    """

    def __init__(self, source: str = "shared/1_joint_embedding", name: str = "joint") -> None:
        super().__init__()
        folder = _exported(source)
        network = load_network(folder)
        if not isinstance(network, JointEmbedding):
            raise ValueError(f"{folder} holds a {type(network).__name__}; joint needs a joint text-audio embedding")
        self.use(network, name, VERSION, hash_weights(network))


def _exported(source: str) -> Path:
    given = Path(source).expanduser()
    for folder in (given / "export" / SLOT, given / SLOT, given):
        if (folder / "config.json").is_file():
            return folder
    if given.is_dir() or not STAGE_NAME.fullmatch(source):
        problem = "holds no exported joint embedding" if given.is_dir() else "does not exist"
        raise FileNotFoundError(f"{source} {problem}; {HOW}")
    try:
        return stage_folder(source) / "export" / SLOT
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; or {HOW}") from error


class ClapEmbedding(TextAudioEmbedding):
    """CLAP (arXiv 2211.06687): text and audio in one space, windows of about 10 s.

    Args:
        source: folder of a transformers ClapModel with its processor, or its id on the model hub.

    Raises:
        FileNotFoundError: no such folder or hub id; ValueError: it holds something else.
    """

    def __init__(self, source: str | None) -> None:
        super().__init__()
        # transformers takes seconds to import, which an evaluation with another embedding need not wait for.
        from melody_cm.encoders.clap import ClapJointEmbedding

        network = ClapJointEmbedding(source)
        network.sample_rate = network.extractor.sampling_rate
        settings = {name: getattr(network.extractor, name) for name in CLAP_SETTINGS}
        version = f"{VERSION}-{hash_data({**settings, 'fusion': network.fusion})[:8]}"
        self.use(network, "clap", version, hash_weights(network.model))


class EncodecEmbedding(PretrainedEmbedding):
    """Latent frames of EnCodec's encoder (arXiv 2210.13438) before anything is quantized.

    They are 75 a second with d = 128 for the public model of 24 kHz. It hears the signal as a codec does, fidelity
    rather than music.

    Args:
        source: folder of a transformers EncodecModel, or its id on the model hub.

    Raises:
        FileNotFoundError: no such folder or hub id.
        ValueError: a stereo or normalizing model, which would need other windows.
    """

    def __init__(self, source: str | None) -> None:
        super().__init__()
        from transformers import EncodecModel  # As slow to import as CLAP.

        model = load_model(EncodecModel, source, "encodec", ENCODEC_EXAMPLE)
        if model.config.audio_channels != 1 or model.config.normalize:
            raise ValueError(
                f"{source} is an EnCodec of {model.config.audio_channels} channel(s), normalize "
                f"{model.config.normalize}; encodec takes mono ones that do not normalize, e.g. {ENCODEC_EXAMPLE}"
            )
        self.encoder, rate = model.encoder, model.config.sampling_rate
        window = f"{model.config.hop_length / rate * 1000:.3g} ms encoder frames"
        self.identify("encodec", VERSION, hash_weights(self.encoder), rate, window, model.config.hidden_size)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        return self.encoder(waveform).transpose(1, 2)
