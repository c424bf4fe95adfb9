"""CLAP (arXiv 2211.06687) in the place of our joint embedding: whole, or the text side that conditions MusicLDM."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from melody_cm.interfaces import JointEmbedding
from melody_cm.nn.clap import ClapText, clap_tokens, load_clap, read_clap_text
from melody_cm.nn.texts import refuse_empty
from melody_cm.signal.resampling import resample
from melody_cm.signal.windows import whole_windows
from melody_cm.storage import public_stage


class ClapJointEmbedding(JointEmbedding):
    """Any ClapModel of transformers: frozen, in evaluation mode. Its export holds it whole and needs no source again.

    Windows of about 10 s, evenly spread, are cut here, because the feature extractor would crop long audio at random;
    their unit vectors are averaged and normalized again. Shorter audio is repeated to the length of a window, as the
    extractor does it.

    Args:
        source: a folder of a ClapModel with its processor, or `owner/name` on the model hub, which is asked only if
            no such folder is here; in an export, the model's own description.
        sample_rate: of the waveforms, Hz; brought to CLAP's own (48000).

    Raises:
        FileNotFoundError: no source, no such folder, or the hub does not give it.
        ValueError: it holds something else or not all weights; an empty text.
    """

    def __init__(self, source: str | dict[str, Any] | None, sample_rate: int = 48000) -> None:
        super().__init__()
        self.model, self.extractor, description = _clap(source)
        # Recorded in place of the source, so that what is exported can be rebuilt without it.
        self.init_arguments = {**self.init_arguments, "source": description}
        self.sample_rate = sample_rate
        self.window_seconds = float(self.extractor.max_length_s)
        self.width = int(self.model.config.projection_dim)
        self.fusion = bool(self.model.config.audio_config.enable_fusion)
        self.tokens = clap_tokens(self.model.config.text_config, description["tokenizer"], description["max_tokens"])
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "ClapJointEmbedding":
        return super().train(False)

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        return F.normalize(self.embed_windows(waveform).mean(1), dim=-1)

    def embed_windows(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        """The unit vector of each window."""
        waveform = resample(waveform, self.sample_rate, self.extractor.sampling_rate)
        windows = whole_windows(waveform, self.extractor.nb_max_samples)
        features = self._features(windows.flatten(0, 2)).to(waveform.device)
        longer = torch.zeros(len(features), 1, dtype=torch.bool, device=waveform.device)
        vectors = self.model.get_audio_features(input_features=features, is_longer=longer).pooler_output
        return vectors.unflatten(0, windows.shape[:2])

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        refuse_empty(texts)
        ids, mask = (x.to(self.model.text_projection.linear1.weight.device) for x in self.tokens(texts))
        return self.model.get_text_features(ids, mask).pooler_output

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


class ClapTextEmbedding(JointEmbedding):
    """CLAP's unit vectors of texts. It has no audio tower: conditioners must use captions (`source: text`).

    Args:
        config, tokenizer, max_tokens: as in `ClapText`.
    """

    def __init__(self, config: dict[str, Any], tokenizer: str, max_tokens: int) -> None:
        super().__init__()
        self.text = ClapText(config, tokenizer, max_tokens)
        self.width = self.text.width
        self.sample_rate, self.window_seconds = 48000, 10.0

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        """Refused with a ValueError: there is no audio tower."""
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
    arguments, weights = read_clap_text(folder)
    embedding = ClapTextEmbedding(**arguments)
    embedding.text.load_state_dict(weights)
    origin = {"class_path": "melody_cm.encoders.musicldm_text", "init_args": {"folder": folder}}
    return embedding.freeze(public_stage(folder), origin)


def _clap(source: str | dict[str, Any] | None) -> tuple[ClapModel, ClapFeatureExtractor, dict[str, Any]]:
    """The model, its feature extractor, and the description from which both can be made again."""
    if isinstance(source, dict):
        return ClapModel(ClapConfig(**source["config"])), ClapFeatureExtractor(**source["extractor"]), source
    model, processor = load_clap(source)
    extractor = processor.feature_extractor
    description = {
        "config": model.config.to_diff_dict(),
        "extractor": {name: value for name, value in extractor.to_dict().items() if not name.endswith("_type")},
        "tokenizer": processor.tokenizer.backend_tokenizer.to_str(),
        "max_tokens": int(processor.tokenizer.model_max_length),
    }
    return model, extractor, description
