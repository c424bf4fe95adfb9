"""MusiCNN (Pons and Serra, arXiv 1909.06654): a tagger trained on real music, whose weights a small package carries.

The package's own code asks for an old TensorFlow; only its files of weights are read here, and nothing is imported.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.evaluation.embeddings.official import OptionalDependencyError
from melody_cm.evaluation.embeddings.pretrained import PretrainedEmbedding
from melody_cm.signal import MelSettings, mel_filterbank, stft_magnitude
from melody_cm.signal.windows import whole_windows
from melody_cm.storage import hash_weights

VERSION = "1"
DATA = ".data-00000-of-00001"
INSTALL = "pip install --no-deps musicnn==0.1.0"
SAMPLE_RATE, N_FFT, HOP_LENGTH, NUM_MELS = 16000, 512, 256, 96
PATCH_FRAMES = 187
PATCH_SAMPLES = (PATCH_FRAMES - 1) * HOP_LENGTH
NORM_EPSILON = 1e-3
# Bounds the memory of long audio: the first layers need 13 MB a patch.
PATCHES_AT_ONCE = 16
# The 50 tags of MagnaTagATune in the order of the network's outputs.
TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man",
    "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello", "no voice",
    "weird", "country", "metal", "female voice", "choral",
)  # fmt: skip
TIMBRAL_WIDTHS, TEMPORAL_LENGTHS = (38, 67), (128, 64, 32)  # 0.4 and 0.7 of the mels; frames.
TIMBRAL_FILTERS, TEMPORAL_FILTERS, MID_FILTERS, DENSE = 204, 51, 64, 200
FRONT = len(TIMBRAL_WIDTHS) * TIMBRAL_FILTERS + len(TEMPORAL_LENGTHS) * TEMPORAL_FILTERS
POOLED = FRONT + 3 * MID_FILTERS
WIDTHS = {"penultimate": DENSE, "tags": len(TAGS), "mean": POOLED}


class Outputs(NamedTuple):
    """What the network says of a patch: of its last layers, and the mean over time of its convolutions.

    `tags` are logits; of two exclusive tags both may be high.
    """

    penultimate: Float[Tensor, "b 200"]
    tags: Float[Tensor, "b 50"]
    mean: Float[Tensor, "b 753"]


class MusicnnFrontEnd(nn.Module):
    """Patches of samples -> log10(10000 mel + 1) of the power, 187 frames of 96 mels.

    Mels pass through half precision, as those did that the network was trained on. The logarithm is taken in single
    precision: in half, ordinary loud music overflows.
    """

    filterbank: Tensor

    def __init__(self) -> None:
        super().__init__()
        settings = MelSettings(SAMPLE_RATE, N_FFT, HOP_LENGTH, NUM_MELS, 0.0, SAMPLE_RATE / 2)
        self.register_buffer("filterbank", mel_filterbank(settings).clone(), persistent=False)

    def forward(self, patches: Float[Tensor, "b samples"]) -> Float[Tensor, "b l 96"]:
        power = stft_magnitude(patches.float(), N_FFT, HOP_LENGTH).square()
        mel = F.linear(power, self.filterbank).half().float()
        return (10000 * mel + 1).log10()


class Musicnn(nn.Module):
    """Log-mel patches -> `Outputs`.

    Two timbral convolutions see 7 frames and much of the mels, three temporal ones see one mel for long; the maximum
    over the mels of each goes through three layers of 7 frames, the last two of them residual. Maximum and mean over
    time of all four end in two linear layers. Every layer is normalized after its ReLU.
    """

    def __init__(self) -> None:
        super().__init__()
        timbral = [nn.Conv2d(1, TIMBRAL_FILTERS, (7, width)) for width in TIMBRAL_WIDTHS]
        temporal = [nn.Conv2d(1, TEMPORAL_FILTERS, (length, 1)) for length in TEMPORAL_LENGTHS]
        self.front = nn.ModuleList([*timbral, *temporal])
        self.middle = nn.ModuleList(nn.Conv1d(width, MID_FILTERS, 7, padding=3) for width in (FRONT, 64, 64))
        self.dense = nn.ModuleList([nn.Linear(2 * POOLED, DENSE), nn.Linear(DENSE, len(TAGS))])
        # In TensorFlow's order: of the input, of each convolution, before and after the first linear layer.
        widths = [1, *(layer.out_channels for layer in (*self.front, *self.middle)), 2 * POOLED, DENSE]
        self.norms = nn.ModuleList(
            (nn.BatchNorm2d if index <= len(self.front) else nn.BatchNorm1d)(width, eps=NORM_EPSILON)
            for index, width in enumerate(widths)
        )

    def forward(self, patches: Float[Tensor, "b 187 96"]) -> Outputs:
        image, norms = self.norms[0](patches[:, None]), self.norms[1:]
        layers = [torch.cat([_front(one, norm, image) for one, norm in zip(self.front, norms, strict=False)], dim=1)]
        for layer, norm in zip(self.middle, norms[len(self.front) :], strict=False):
            new = norm(F.relu(layer(layers[-1])))
            layers.append(new + layers[-1] if len(layers) > 1 else new)
        features = torch.cat(layers, dim=1)
        mean = features.mean(2)
        pooled = norms[-2](torch.stack([features.amax(2), mean], dim=2).flatten(1))
        penultimate = norms[-1](F.relu(self.dense[0](pooled)))
        return Outputs(penultimate, self.dense[1](penultimate), mean)


def _front(layer: nn.Module, norm: nn.Module, image: Float[Tensor, "b 1 l f"]) -> Float[Tensor, "b c l"]:
    """A convolution that keeps the number of frames as TensorFlow does, and its maximum over the mels.

    The maximum of what a normalization with a negative gain makes is that of the minimum: taken first, nothing but the
    convolution sees the whole image, which is a third faster.
    """
    beyond = layer.kernel_size[0] - 1
    found = layer(F.pad(image, (0, 0, beyond // 2, beyond - beyond // 2)))
    extreme = torch.where(norm.weight[:, None] < 0, found.amin(3), found.amax(3))
    return norm(F.relu(extreme)[..., None])[..., 0]


class MusicnnEmbedding(PretrainedEmbedding):
    """What MusiCNN, trained on MagnaTagATune, hears in every 3 s of music.

    It was taught tags of instruments, voices, tempo and mood by listeners, so it notices what music is made of; it
    forgives noise and missing high frequencies more than a log-mel distance does. It hears nothing above 8 kHz.

    Args:
        output: "penultimate" (d = 200), "tags" (d = 50, logits) or "mean" (d = 753).

    Raises:
        OptionalDependencyError: the package is not installed.
        ValueError: another output, damaged weights, or a waveform without a sample.
    """

    def __init__(self, output: str = "penultimate") -> None:
        super().__init__()
        if output not in WIDTHS:
            raise ValueError(f"output is {output!r}; musicnn gives {', '.join(WIDTHS)}")
        self.output = output
        self.tags = TAGS if output == "tags" else ()
        self.front_end = MusicnnFrontEnd()
        self.network = load_musicnn(_weights())
        name = "musicnn" if output == "penultimate" else f"musicnn_{output}"
        window, width = f"{PATCH_FRAMES} frames of 16 ms, evenly spread", WIDTHS[output]
        self.identify(name, VERSION, hash_weights(self.network), SAMPLE_RATE, window, width)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        return getattr(self.outputs(waveform), self.output)

    def outputs(self, waveform: Float[Tensor, "b 1 t"]) -> Outputs:
        """All outputs (b, l, d) of one pass. Music shorter than a patch is repeated, as in the network's training."""
        length = waveform.shape[-1]
        if length == 0:
            raise ValueError("a waveform without a sample; musicnn needs some music")
        if length < PATCH_SAMPLES:
            waveform = waveform.repeat(1, 1, -(-PATCH_SAMPLES // length))[..., :PATCH_SAMPLES]
        windows = whole_windows(waveform, PATCH_SAMPLES)
        parts = windows.flatten(0, 2).split(PATCHES_AT_ONCE)
        found = [self.network(self.front_end(part)) for part in parts]
        return Outputs(*(torch.cat(one).unflatten(0, windows.shape[:2]) for one in zip(*found, strict=True)))


def load_musicnn(folder: Path) -> Musicnn:
    """The network with the weights of the package's checkpoint.

    Its data file holds nothing but the variables in order of their names, those that were trained with two more of the
    same size that only their optimizer needed.

    Raises:
        FileNotFoundError: no checkpoint there; ValueError: another one.
    """
    numbers, network = torch.from_numpy(np.fromfile(folder / DATA, "<f4")), Musicnn()
    targets = sorted(_variables(network).items())
    sizes = [one.numel() * (1 if name.startswith("beta") or "moving" in name else 3) for name, one in targets]
    if sum(sizes) != len(numbers):
        raise ValueError(f"{folder / DATA} holds {len(numbers)} numbers, not {sum(sizes)}; install it again: {INSTALL}")
    with torch.no_grad():
        for (_, target), part in zip(targets, numbers.split(sizes), strict=True):
            _copy(part[: target.numel()], target)
    return network.eval().requires_grad_(False)


def _variables(network: Musicnn) -> dict[str, Tensor]:
    """By TensorFlow's names, in which the first layer of a kind has no number."""
    found = {"beta1_power": torch.empty(1), "beta2_power": torch.empty(1)}  # Of the optimizer too.
    for index, norm in enumerate(network.norms):
        name = f"batch_normalization_{index}" if index else "batch_normalization"
        found |= {f"{name}/gamma": norm.weight, f"{name}/beta": norm.bias}
        found |= {f"{name}/moving_mean": norm.running_mean, f"{name}/moving_variance": norm.running_var}
    for kind, layers in (("conv2d", [*network.front, *network.middle]), ("dense", network.dense)):
        for index, layer in enumerate(layers):
            name = f"{kind}_{index}" if index else kind
            found |= {f"{name}/kernel": layer.weight, f"{name}/bias": layer.bias}
    return found


def _copy(numbers: Float[Tensor, " n"], target: Tensor) -> None:
    """TensorFlow's last two axes are inputs and outputs, ours the first two in the other order."""
    value = numbers.reshape(*target.shape[2:], *target.shape[1::-1])
    target.copy_(value.movedim((-1, -2), (0, 1)) if target.dim() > 1 else value)


def _weights() -> Path:
    """The folder of the checkpoint in the installed package, which is found but not imported."""
    package = find_spec("musicnn")
    if package is None or package.origin is None:
        raise OptionalDependencyError(f"musicnn needs the weights of its package; get them: {INSTALL}")
    return Path(package.origin).parent / "MTT_musicnn"
