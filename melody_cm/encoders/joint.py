"""Text and audio in one space: an AST and a BERT tower (MuLan's role; MeLoDy, arXiv 2305.15719, appendix B.3)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel, BertConfig, BertModel

from melody_cm.encoders.texts import CutWarning, refuse_empty
from melody_cm.interfaces import JointEmbedding
from melody_cm.signal.frames import fit_length
from melody_cm.signal.mel import MelFrontEnd, MelSettings
from melody_cm.signal.windows import window_starts

# Roughly the mean and twice the standard deviation of the log-mels of music: the tower's input is about [-1, 1].
MEL_MEAN, MEL_SPREAD = -5.0, 5.0
PAD, START, FIRST_BYTE = 0, 1, 2


def byte_tokens(texts: Sequence[str], max_bytes: int) -> Int[Tensor, "b n"]:
    """A start token and the first `max_bytes` UTF-8 bytes of each text, padded to the longest.

    What UTF-8 cannot encode becomes a question mark.
    """
    rows = [
        torch.tensor([START] + [FIRST_BYTE + byte for byte in text.encode("utf-8", "replace")[:max_bytes]])
        for text in texts
    ]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def mean_of_windows(
    embed: Callable[[Tensor], Tensor], waveform: Float[Tensor, "b 1 t"], window: int, stride: int
) -> Float[Tensor, "b d"]:
    """Unit vectors: what `embed` makes of windows of `window` samples, one every `stride`, averaged."""
    starts = window_starts(waveform.shape[-1], window, stride)
    windows = [embed(waveform[..., start : start + window]) for start in starts]
    return F.normalize(torch.stack(windows).mean(0), dim=-1)


def mean_of_tokens(hidden: Float[Tensor, "b n d"], real: Tensor) -> Float[Tensor, "b d"]:
    """The mean over the tokens that are no padding."""
    return (hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True)


class TwoTowerEmbedding(JointEmbedding):
    """Unit vectors of audio (AST on log-mel patches) and of text (BERT on bytes), each projected to one space.

    Nothing is resampled: waveforms must be at `sample_rate`. Shorter ones are padded with silence; of longer ones,
    windows are embedded and averaged. Without dropout: one input always has one embedding.

    Args:
        sample_rate: Hz.
        window_seconds: of audio that the tower sees at once.
        window_stride_seconds: between the windows of longer audio.
        width: d of the shared space.
        num_mels, n_fft, hop_length: of the log-mel; bins, samples, samples.
        patch_size: mel bins and frames of the audio tower's square patches.
        patch_stride: mel bins and frames from one patch to the next.
        audio_layers, audio_width, audio_heads: of the audio tower; its feed-forward layers are 4 times as wide.
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
        super().__init__()
        self.sample_rate, self.window_seconds, self.width = sample_rate, window_seconds, width
        self.max_text_bytes = max_text_bytes
        self.warn_of_cut = CutWarning(max_text_bytes, "bytes")
        self.window = round(window_seconds * sample_rate)
        self.stride = round(window_stride_seconds * sample_rate)
        if self.stride < 1:
            raise ValueError(f"window_stride_seconds {window_stride_seconds:g} must be above 0; use e.g. 1.0")
        num_frames = -(-self.window // hop_length)
        _check_sizes(num_frames, num_mels, patch_size, audio=(audio_width, audio_heads), text=(text_width, text_heads))
        self.mel = MelFrontEnd(MelSettings(sample_rate, n_fft, hop_length, num_mels, 0.0, sample_rate / 2))
        self.audio_tower = ASTModel(
            ASTConfig(
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
        )
        self.text_tower = BertModel(
            BertConfig(
                vocab_size=FIRST_BYTE + 256,
                hidden_size=text_width,
                num_hidden_layers=text_layers,
                num_attention_heads=text_heads,
                intermediate_size=4 * text_width,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                max_position_embeddings=max_text_bytes + 1,
                type_vocab_size=1,
                pad_token_id=PAD,
            ),
            add_pooling_layer=False,
        )
        self.audio_projection = nn.Linear(audio_width, width)
        self.text_projection = nn.Linear(text_width, width)

    @property
    def pass_module(self) -> nn.Module:
        """The text tower, which is what a pipeline calls."""
        return self.text_tower

    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        return mean_of_windows(self._embed_window, waveform, self.window, self.stride)

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        refuse_empty(texts)
        self.warn_of_cut(max(len(text.encode("utf-8", "replace")) for text in texts))
        tokens = byte_tokens(texts, self.max_text_bytes).to(self.text_projection.weight.device)
        real = tokens != PAD
        hidden = self.text_tower(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        return F.normalize(self.text_projection(mean_of_tokens(hidden, real)).float(), dim=-1)

    def _embed_window(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        mel = (self.mel(fit_length(waveform, self.window)) - MEL_MEAN) / MEL_SPREAD
        hidden = self.audio_tower(mel.to(self.audio_projection.weight.dtype)).pooler_output
        return F.normalize(self.audio_projection(hidden).float(), dim=-1)


def _check_sizes(num_frames: int, num_mels: int, patch_size: int, **towers: tuple[int, int]) -> None:
    if min(num_frames, num_mels) < patch_size:
        raise ValueError(
            f"a window of {num_frames} frames and {num_mels} mel bins holds no patch of {patch_size} x {patch_size}; "
            "make patch_size smaller or the window longer"
        )
    for name, (width, heads) in towers.items():
        if width % heads:
            raise ValueError(f"{name}_width {width} must be a multiple of {name}_heads {heads}")
