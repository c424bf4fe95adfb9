"""The joint embedding from public towers: an AST trained on AudioSet and BERT (MeLoDy, arXiv 2305.15719, B.3)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel, AutoTokenizer, BertConfig, BertModel

from melody_cm.encoders.joint import mean_of_tokens, mean_of_windows
from melody_cm.encoders.texts import TextTokens
from melody_cm.interfaces import JointEmbedding
from melody_cm.signal.filterbank import KaldiFilterBank
from melody_cm.signal.resampling import resample
from melody_cm.storage.pretrained import load_pretrained

AUDIO_EXAMPLE = "MIT/ast-finetuned-audioset-10-10-0.4593"
TEXT_EXAMPLE = "google-bert/bert-base-uncased"
# Kept of the audio tower's own preprocessor.
FEATURES = ("sampling_rate", "num_mel_bins", "max_length", "mean", "std")

Tower = str | dict[str, Any] | None


class PretrainedTwoTowerEmbedding(JointEmbedding):
    """Unit vectors of audio (AST, as in MIT/ast-finetuned-audioset-10-10-0.4593) and of text (BERT with its own word
    pieces), each projected to one space. Towers and projections learn; without dropout.

    Audio is heard as the AST was trained: resampled to its rate, as Kaldi's log-mels, normalized by its preprocessor's
    settings, followed by zeros where it is shorter than what the tower takes. Of audio longer than the window, windows
    are embedded and averaged. An export describes and holds both towers whole and needs neither source again.

    Args:
        audio_tower, text_tower: a folder in transformers' layout, or `owner/name` on the model hub, which is asked
            only if no such folder is here; in an export, the tower's own description.
        sample_rate: of the waveforms, Hz.
        window_seconds: of audio that the tower sees at once.
        window_stride_seconds: between the windows of longer audio.
        width: d of the shared space.
        max_text_tokens: a text's; what comes after them is ignored, and a warning says so once.

    Raises:
        FileNotFoundError: no source, no such folder, or the hub does not give it.
        ValueError: it holds something else or not all weights; a window, or a text, that is longer than its tower
            takes; an empty text.
    """

    def __init__(
        self,
        audio_tower: Tower,
        text_tower: Tower,
        sample_rate: int = 16000,
        window_seconds: float = 10.0,
        window_stride_seconds: float = 1.0,
        width: int = 128,
        max_text_tokens: int = 256,
    ) -> None:
        super().__init__()
        self.sample_rate, self.window_seconds, self.width = sample_rate, window_seconds, width
        self.window = round(window_seconds * sample_rate)
        self.stride = round(window_stride_seconds * sample_rate)
        if self.stride < 1:
            raise ValueError(f"window_stride_seconds {window_stride_seconds:g} must be above 0; use e.g. 1.0")
        self.audio_tower, audio = _audio_tower(audio_tower)
        self.text_tower, text = _text_tower(text_tower)
        # Recorded in place of the sources, so that what is exported can be rebuilt without them.
        self.init_arguments = {**self.init_arguments, "audio_tower": audio, "text_tower": text}
        self.features = audio["features"]
        self.mel = KaldiFilterBank(self.features["sampling_rate"], self.features["num_mel_bins"])
        self._check_lengths(max_text_tokens)
        self.tokens = TextTokens(text["tokenizer"], self.text_tower.config.pad_token_id, max_text_tokens)
        self.audio_projection = nn.Linear(self.audio_tower.config.hidden_size, width)
        self.text_projection = nn.Linear(self.text_tower.config.hidden_size, width)

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        return mean_of_windows(self._embed_window, waveform, self.window, self.stride)

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        tokens, real = (x.to(self.text_projection.weight.device) for x in self.tokens(texts))
        hidden = self.text_tower(input_ids=tokens, attention_mask=real).last_hidden_state
        return F.normalize(self.text_projection(mean_of_tokens(hidden, real)).float(), dim=-1)

    def _embed_window(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        mel = self.mel(resample(waveform, self.sample_rate, self.features["sampling_rate"]))
        mel = F.pad(mel, (0, 0, 0, self.features["max_length"] - mel.shape[1]))
        mel = (mel - self.features["mean"]) / (2 * self.features["std"])
        hidden = self.audio_tower(mel.to(self.audio_projection.weight.dtype)).pooler_output
        return F.normalize(self.audio_projection(hidden).float(), dim=-1)

    def _check_lengths(self, max_text_tokens: int) -> None:
        seconds = self.features["max_length"] * self.mel.hop_length / self.features["sampling_rate"]
        if self.window_seconds > seconds:
            raise ValueError(
                f"window_seconds {self.window_seconds:g} is longer than the {seconds:g} s that the audio tower takes; "
                f"set it to {seconds:g} or less"
            )
        positions = self.text_tower.config.max_position_embeddings
        if not 3 <= max_text_tokens <= positions:
            raise ValueError(f"max_text_tokens {max_text_tokens} must be within 3 .. {positions}, the text tower's own")


def _audio_tower(source: Tower) -> tuple[ASTModel, dict[str, Any]]:
    """The tower and its description."""
    if isinstance(source, dict):
        return ASTModel(ASTConfig(**source["config"])), source
    extractor = _load(ASTFeatureExtractor, source, "audio_tower", AUDIO_EXAMPLE)
    features = {name: getattr(extractor, name) for name in FEATURES}
    if not extractor.do_normalize:
        features |= {"mean": 0.0, "std": 0.5}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = _load_whole(ASTModel, source, "audio_tower", AUDIO_EXAMPLE, **no_dropout)
    return model, {"config": _configuration(model), "features": features}


def _text_tower(source: Tower) -> tuple[BertModel, dict[str, Any]]:
    """The tower and its description."""
    if isinstance(source, dict):
        return BertModel(BertConfig(**source["config"]), add_pooling_layer=False), source
    tokenizer = _load(AutoTokenizer, source, "text_tower", TEXT_EXAMPLE).backend_tokenizer.to_str()
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = _load_whole(BertModel, source, "text_tower", TEXT_EXAMPLE, add_pooling_layer=False, **no_dropout)
    return model, {"config": _configuration(model), "tokenizer": tokenizer}


def _load(kind: Any, source: str | None, argument: str, example: str, **options: Any) -> Any:
    return load_pretrained(kind, source, argument, example, give=f"set {argument} to FOLDER", **options)


def _load_whole(kind: Any, source: str | None, argument: str, example: str, **options: Any) -> Any:
    with torch.device("cpu"):  # Weights have values even where a network is only counted.
        model, report = _load(kind, source, argument, example, dtype=torch.float32, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{source} is no complete {kind.__name__} for {argument}: {len(missing)} weights are missing, the first "
            f"{missing[0]}; get one: hf download {example} --local-dir FOLDER"
        )
    return model


def _configuration(model: Any) -> dict[str, Any]:
    """What rebuilds an equal network; names of classes that the tower does not tell apart are left out."""
    return {name: value for name, value in model.config.to_diff_dict().items() if name not in ("id2label", "label2id")}
