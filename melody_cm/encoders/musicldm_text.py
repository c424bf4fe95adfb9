"""The text side of CLAP as MusicCM's prompt, in place of a joint embedding of ours (arXiv 2404.13358, section 4.1)."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import JointEmbedding
from melody_cm.nn.clap_text import ClapText, clap_arguments
from melody_cm.storage import load_part, load_tokenizer, public_stage


class ClapTextEmbedding(JointEmbedding):
    """CLAP's unit vectors of texts. It has no audio tower: conditioners must use captions (`source: text`).

    Args:
        config, tokenizer: as in `ClapText`; longer texts are cut to the tokens that the model takes.
    """

    def __init__(self, config: dict[str, Any], tokenizer: str) -> None:
        super().__init__()
        self.text = ClapText(config, tokenizer)
        self.width = self.text.width
        self.sample_rate, self.window_seconds = 48000, 10.0

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        """Refused.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "this joint embedding is the text side of a public MusicLDM folder and cannot embed audio; "
            "condition on captions (source: text), or take a whole CLAP"
        )

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        return self.text(texts)


def musicldm_text(folder: str) -> JointEmbedding:
    """The text encoder of a public MusicLDM folder (its parts `text_encoder` and `tokenizer`), frozen.

    Args:
        folder: in the layout of diffusers, or its id on the model hub (owner/name).

    Raises:
        FileNotFoundError, ValueError: it cannot be had, or is another kind of model.
    """
    from transformers import ClapTextModelWithProjection

    public = load_part(ClapTextModelWithProjection, folder, "text_encoder")
    embedding = ClapTextEmbedding(**clap_arguments(public, load_tokenizer(folder)))
    embedding.text.model.load_state_dict(public.state_dict())
    origin = {"class_path": "melody_cm.encoders.musicldm_text", "init_args": {"folder": folder}}
    return embedding.freeze(public_stage(folder), origin)
