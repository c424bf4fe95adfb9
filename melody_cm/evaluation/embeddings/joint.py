"""The joint text-audio embedding that conditions the systems, as a judge of them (MCC of MeLoDy, arXiv 2305.15719)."""

import re
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.embeddings.pretrained import PretrainedEmbedding, whole_windows
from melody_cm.interfaces import EmbeddingIdentity, JointEmbedding
from melody_cm.storage import hash_weights, load_network, stage_folder

VERSION = "1"
SLOT = "joint_embedding"
STAGE_NAME = re.compile(r"\w+/\w+")
HOW = "give the folder of a finished stage, joint:runs/NAME/shared/1_joint_embedding"


class JointAudioEmbedding(PretrainedEmbedding, JointEmbedding):
    """Unit vectors of windows of our own joint embedding; `embed_audio` and `embed_text` give one a clip, one a text.

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
        self.network = network.requires_grad_(False)
        self.window_seconds = network.window_seconds
        self.identity = EmbeddingIdentity(
            name=name,
            version=VERSION,
            weights=hash_weights(network),
            sample_rate=network.sample_rate,
            window=f"{network.window_seconds:g} s windows, evenly spread",
            width=network.width,
            trained=True,
        )
        self.eval()

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        windows = whole_windows(waveform, round(self.window_seconds * self.sample_rate))
        return self.network.embed_audio(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        return self.network.embed_audio(waveform)

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        return self.network.embed_text(texts)


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
