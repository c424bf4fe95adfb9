"""VGGish (arXiv 1609.09430), the embedding of the original Frechet audio distance (arXiv 1812.08466)."""

from itertools import chain, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from melody_cm.evaluation.embeddings.pretrained import PretrainedEmbedding
from melody_cm.storage import hash_weights, load_weights

VERSION = "1"
SAMPLE_RATE = 16000
FRAME_LENGTH, HOP_LENGTH, N_FFT = 400, 160, 512
NUM_MELS, MEL_RANGE = 64, (125.0, 7500.0)
LOG_OFFSET = 0.01
PATCH_FRAMES = 96
# One patch needs its 96 frames whole: 95 hops and the last frame.
MIN_SAMPLES = (PATCH_FRAMES - 1) * HOP_LENGTH + FRAME_LENGTH
WIDTH = 128
# Bounds the memory of long audio: the first layer needs 1.5 MB a patch.
PATCHES_AT_ONCE = 64
URL = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"


class VGGishFrontEnd(nn.Module):
    """Waveform at 16 kHz -> log-mel patches, as VGGish was trained on them.

    Frames of 25 ms every 10 ms begin at the first sample, nothing is padded; magnitudes, not powers, are weighted with
    triangles that are straight in mels (librosa's are straight in Hz). Patches do not overlap; frames beyond the last
    whole patch are left out.

    Raises:
        ValueError: less than one patch, 0.975 s.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self) -> None:
        super().__init__()
        low, high = MEL_RANGE
        filterbank = mel_filter_bank(
            N_FFT // 2 + 1, NUM_MELS, low, high, SAMPLE_RATE, mel_scale="htk", triangularize_in_mel_space=True
        )
        self.register_buffer("window", torch.hann_window(FRAME_LENGTH, dtype=torch.float64).float(), persistent=False)
        self.register_buffer("filterbank", torch.from_numpy(filterbank).float(), persistent=False)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l 96 64"]:
        if waveform.shape[-1] < MIN_SAMPLES:
            raise ValueError(
                f"{waveform.shape[-1] / SAMPLE_RATE:.2f} s of audio; vggish needs at least "
                f"{MIN_SAMPLES / SAMPLE_RATE:g} s, one patch"
            )
        frames = waveform[:, 0].float().unfold(-1, FRAME_LENGTH, HOP_LENGTH)
        magnitude = torch.fft.rfft(frames * self.window, N_FFT).abs()
        log_mel = (magnitude @ self.filterbank + LOG_OFFSET).log()
        patches = log_mel.shape[1] // PATCH_FRAMES
        return log_mel[:, : patches * PATCH_FRAMES].unflatten(1, (patches, PATCH_FRAMES))


class VGGish(nn.Module):
    """Log-mel patches -> 128 numbers each: six convolutions, four poolings, three linear layers.

    Its parameters are named as in the torchvggish state dict.

    Args:
        last_relu: whether negative outputs become zero.
    """

    def __init__(self, last_relu: bool) -> None:
        super().__init__()
        self.last_relu = last_relu
        self.features = nn.Sequential(*_block(1, 64), *_block(64, 128), *_block(128, 256, 256), *_block(256, 512, 512))
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 6 * 4, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, WIDTH)
        )

    def forward(self, patches: Float[Tensor, "b 96 64"]) -> Float[Tensor, "b 128"]:
        features = self.features(patches[:, None])
        # The original network keeps channels last, and its linear layer counts in that order.
        vectors = self.embeddings(features.permute(0, 2, 3, 1).flatten(1))
        return F.relu(vectors) if self.last_relu else vectors


def _block(*widths: int) -> list[nn.Module]:
    """Convolutions from each width to the next, then a pooling that halves both axes."""
    layers = [(nn.Conv2d(here, there, 3, padding=1), nn.ReLU()) for here, there in pairwise(widths)]
    return [*chain(*layers), nn.MaxPool2d(2)]


class VGGishEmbedding(PretrainedEmbedding):
    """One vector of VGGish for every 0.96 s, without the PCA and the 8-bit rounding of AudioSet's release.

    Args:
        weights: path of a torchvggish state dict, `vggish-10086976.pth`.
        last_relu: False as in Frechet distances (google-research, frechet-audio-distance, fadtk); True keeps the last
            ReLU of torchvggish. The two are different metrics, and their identities say so.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another network's weights, or a waveform of less than 0.975 s.
    """

    def __init__(self, weights: str | None, last_relu: bool = False) -> None:
        super().__init__()
        self.front_end = VGGishFrontEnd()
        self.network = _load(weights, last_relu)
        version, window = f"{VERSION}-{'relu' if last_relu else 'linear'}", "0.96 s patches without overlap"
        self.identify("vggish", version, hash_weights(self.network), SAMPLE_RATE, window, WIDTH)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        patches = self.front_end(waveform)
        vectors = torch.cat([self.network(part) for part in patches.flatten(0, 1).split(PATCHES_AT_ONCE)])
        return vectors.unflatten(0, patches.shape[:2])


def _load(weights: str | None, last_relu: bool) -> VGGish:
    how = f"get them: curl -LO {URL}, then give vggish:PATH"
    if weights is None or not Path(weights).expanduser().is_file():
        missing = "needs weights" if weights is None else f"weights {weights} do not exist"
        raise FileNotFoundError(f"vggish {missing}; {how}")
    try:
        state = torch.load(Path(weights).expanduser(), map_location="cpu", weights_only=True)
    except Exception as error:  # The restricted unpickler fails in many ways on what is not its own.
        raise ValueError(f"{weights} is not a torch state dict or is damaged; {how}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{weights} is not a state dict of tensors; {how}")
    # 72 million parameters need not be drawn at random first.
    with torch.device("meta"):
        network = VGGish(last_relu)
    network.to_empty(device="cpu")
    load_weights(network, state, weights)
    return network.requires_grad_(False)
