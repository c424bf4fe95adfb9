"""Text and audio in one space: an AST and a BERT tower (MuLan's role; MeLoDy, arXiv 2305.15719, appendix B.3)."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel, AutoTokenizer, BertConfig, BertModel

from melody_cm.interfaces import JointEmbedding
from melody_cm.nn.texts import ByteTokens, WordTokens, refuse_empty
from melody_cm.signal.filterbank import KaldiFilterBank
from melody_cm.signal.frames import fit_length
from melody_cm.signal.mel import MelFrontEnd, MelSettings
from melody_cm.signal.resampling import resample
from melody_cm.signal.windows import window_starts
from melody_cm.storage.pretrained import load_model, load_pretrained

# Roughly the mean and twice the standard deviation of the log-mels of music: the tower's input is about [-1, 1].
MEL_MEAN, MEL_SPREAD = -5.0, 5.0
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
AUDIO_EXAMPLE = "MIT/ast-finetuned-audioset-10-10-0.4593"
TEXT_EXAMPLE = "google-bert/bert-base-uncased"
# Kept of a public audio tower's own preprocessor.
FEATURES = ("sampling_rate", "num_mel_bins", "max_length", "mean", "std")

Tower = str | dict[str, Any] | None


class TwoTowers(JointEmbedding):
    """Unit vectors of audio (AST) and of text (BERT), each projected to one space; subclasses make the towers.

    Windows of longer audio are embedded and averaged. Without dropout: one input always has one embedding.

    Args:
        sample_rate: of the waveforms, Hz.
        window_seconds: of audio that the tower sees at once.
        window_stride_seconds: between the windows of longer audio.
        width: d of the shared space.

    Raises:
        ValueError: no stride; an empty text; audio, but no audio tower.
    """

    audio_tower: nn.Module | None
    text_tower: nn.Module
    tokens: ByteTokens | WordTokens

    def __init__(self, sample_rate: int, window_seconds: float, window_stride_seconds: float, width: int) -> None:
        super().__init__()
        self.sample_rate, self.window_seconds, self.width = sample_rate, window_seconds, width
        self.window = round(window_seconds * sample_rate)
        self.stride = round(window_stride_seconds * sample_rate)
        if self.stride < 1:
            raise ValueError(f"window_stride_seconds {window_stride_seconds:g} must be above 0; use e.g. 1.0")

    def _make_projections(self) -> None:
        if self.audio_tower is not None:
            self.audio_projection = nn.Linear(self.audio_tower.config.hidden_size, self.width)
        self.text_projection = nn.Linear(self.text_tower.config.hidden_size, self.width)

    @abstractmethod
    def _mel(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l f"]:
        """What the audio tower is given of a window."""

    @property
    def pass_module(self) -> nn.Module:
        """The text tower, which is what a pipeline calls."""
        return self.text_tower

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        if self.audio_tower is None:
            raise ValueError(
                "this joint embedding travels without its audio tower, so it reads text alone; give a text"
            )
        starts = window_starts(waveform.shape[-1], self.window, self.stride)
        windows = [self._embed_window(waveform[..., start : start + self.window]) for start in starts]
        return F.normalize(torch.stack(windows).mean(0), dim=-1)

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        refuse_empty(texts)
        ids, mask = (x.to(self.text_projection.weight.device) for x in self.tokens(texts))
        hidden = self.text_tower(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(self.text_projection(mean).float(), dim=-1)

    def _embed_window(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        hidden = self.audio_tower(self._mel(waveform).to(self.audio_projection.weight.dtype)).pooler_output
        return F.normalize(self.audio_projection(hidden).float(), dim=-1)


class TwoTowerEmbedding(TwoTowers):
    """Towers built from their sizes, which read bytes.

    Nothing is resampled: waveforms must be at `sample_rate`. Shorter ones are padded with silence.

    Args:
        sample_rate, window_seconds, window_stride_seconds, width: as in `TwoTowers`.
        num_mels, n_fft, hop_length: of the log-mel; bins, samples, samples.
        patch_size: mel bins and frames of the audio tower's square patches.
        patch_stride: mel bins and frames from one patch to the next.
        audio_layers, audio_width, audio_heads: of the audio tower; its feed-forward layers are 4 times as wide. Without
            layers there is no audio tower: `text_only` makes such an embedding.
        text_layers, text_width, text_heads: of the text tower.
        max_text_bytes: what comes after them is ignored, and a warning says so once.

    Raises:
        ValueError: a window with less than one patch, a width that the heads do not divide, or an empty text.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        window_seconds: float = 10.0,
        window_stride_seconds: float = 1.0,
        width: int = 128,
        num_mels: int = 128,
        n_fft: int = 1024,
        hop_length: int = 160,
        patch_size: int = 16,
        patch_stride: int = 10,
        audio_layers: int = 12,
        audio_width: int = 768,
        audio_heads: int = 12,
        text_layers: int = 12,
        text_width: int = 768,
        text_heads: int = 12,
        max_text_bytes: int = 512,
    ) -> None:
        super().__init__(sample_rate, window_seconds, window_stride_seconds, width)
        num_frames = -(-self.window // hop_length)
        _check_sizes(num_frames, num_mels, patch_size, audio=(audio_width, audio_heads), text=(text_width, text_heads))
        self.tokens = ByteTokens(max_text_bytes)
        self.mel = MelFrontEnd(MelSettings(sample_rate, n_fft, hop_length, num_mels, 0.0, sample_rate / 2))
        audio = ASTConfig(
            hidden_size=audio_width,
            num_hidden_layers=audio_layers,
            num_attention_heads=audio_heads,
            intermediate_size=4 * audio_width,
            patch_size=patch_size,
            frequency_stride=patch_stride,
            time_stride=patch_stride,
            max_length=num_frames,
            num_mel_bins=num_mels,
        )
        text = BertConfig(
            vocab_size=ByteTokens.vocabulary,
            hidden_size=text_width,
            num_hidden_layers=text_layers,
            num_attention_heads=text_heads,
            intermediate_size=4 * text_width,
            max_position_embeddings=max_text_bytes + 1,
            type_vocab_size=1,
            pad_token_id=ByteTokens.pad_id,
            **NO_DROPOUT,
        )
        self.audio_tower = ASTModel(audio) if audio_layers else None
        self.text_tower = BertModel(text, add_pooling_layer=False)
        self._make_projections()

    def text_only(self) -> "TwoTowerEmbedding":
        """The same embedding of texts, without the audio tower: less than half of the weights, for a system that
        travels and is only ever given texts."""
        smaller = TwoTowerEmbedding(**{**self.init_arguments, "audio_layers": 0})
        kept = {name: value for name, value in self.state_dict().items() if not name.startswith("audio_")}
        smaller.load_state_dict(kept)
        smaller.origin, smaller.made_by, smaller.left_out = self.origin, self.made_by, self.left_out
        return smaller

    def _mel(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l f"]:
        return (self.mel(fit_length(waveform, self.window)) - MEL_MEAN) / MEL_SPREAD


class PretrainedTwoTowerEmbedding(TwoTowers):
    """Public towers, which go on learning: an AST that was trained on AudioSet, and BERT with its own word pieces.

    Audio is heard as the AST was trained: resampled to its rate, as Kaldi's log-mels, normalized by its preprocessor's
    settings, followed by zeros where it is shorter than what the tower takes. An export describes and holds both towers
    whole and needs neither source again.

    Args:
        audio_tower, text_tower: a folder in transformers' layout, or `owner/name` on the model hub, which is asked
            only if no such folder is here; in an export, the tower's own description.
        sample_rate, window_seconds, window_stride_seconds, width: as in `TwoTowers`.
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
        super().__init__(sample_rate, window_seconds, window_stride_seconds, width)
        self.audio_tower, audio = _audio_tower(audio_tower)
        self.text_tower, text = _text_tower(text_tower)
        # Recorded in place of the sources, so that what is exported can be rebuilt without them.
        self.init_arguments = {**self.init_arguments, "audio_tower": audio, "text_tower": text}
        self.features = audio["features"]
        self.mel = KaldiFilterBank(self.features["sampling_rate"], self.features["num_mel_bins"])
        self._check_lengths(max_text_tokens)
        self.tokens = WordTokens(text["tokenizer"], self.text_tower.config.pad_token_id, max_text_tokens)
        self._make_projections()

    def _mel(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l f"]:
        mel = self.mel(resample(waveform, self.sample_rate, self.features["sampling_rate"]))
        mel = F.pad(mel, (0, 0, 0, self.features["max_length"] - mel.shape[1]))
        return (mel - self.features["mean"]) / (2 * self.features["std"])

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


def _check_sizes(num_frames: int, num_mels: int, patch_size: int, **towers: tuple[int, int]) -> None:
    if min(num_frames, num_mels) < patch_size:
        raise ValueError(
            f"a window of {num_frames} frames and {num_mels} mel bins holds no patch of {patch_size} x {patch_size}; "
            "make patch_size smaller or the window longer"
        )
    for name, (width, heads) in towers.items():
        if width % heads:
            raise ValueError(f"{name}_width {width} must be a multiple of {name}_heads {heads}")


def _audio_tower(source: Tower) -> tuple[ASTModel, dict[str, Any]]:
    """The tower and its description."""
    if isinstance(source, dict):
        return ASTModel(ASTConfig(**source["config"])), source
    about = ("audio_tower", AUDIO_EXAMPLE, "set audio_tower to FOLDER")
    extractor = load_pretrained(ASTFeatureExtractor, source, *about)
    features = {name: getattr(extractor, name) for name in FEATURES}
    if not extractor.do_normalize:
        features |= {"mean": 0.0, "std": 0.5}
    model = load_model(ASTModel, source, *about, **NO_DROPOUT).requires_grad_(True)
    return model, {"config": _configuration(model), "features": features}


def _text_tower(source: Tower) -> tuple[BertModel, dict[str, Any]]:
    """The tower and its description."""
    if isinstance(source, dict):
        return BertModel(BertConfig(**source["config"]), add_pooling_layer=False), source
    about = ("text_tower", TEXT_EXAMPLE, "set text_tower to FOLDER")
    tokenizer = load_pretrained(AutoTokenizer, source, *about).backend_tokenizer.to_str()
    model = load_model(BertModel, source, *about, add_pooling_layer=False, **NO_DROPOUT).requires_grad_(True)
    return model, {"config": _configuration(model), "tokenizer": tokenizer}


def _configuration(model: Any) -> dict[str, Any]:
    """What rebuilds an equal network; names of classes that the tower does not tell apart are left out."""
    return {name: value for name, value in model.config.to_diff_dict().items() if name not in ("id2label", "label2id")}
