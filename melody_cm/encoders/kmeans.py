"""Tokens by k-means: of log-mels, or of a middle layer of a self-supervised encoder (MeLoDy, arXiv 2305.15719, B.2)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import SemanticEncoder, Tokenizer
from melody_cm.placement import in_fp32
from melody_cm.signal.frames import pad_to_multiple
from melody_cm.signal.mel import MelFrontEnd, MelSettings
from melody_cm.signal.windows import window_starts


def fit_centroids(points: Float[Tensor, "n d"], count: int, seed: int) -> Float[Tensor, "k d"]:
    """k = `count` centroids of n points, deterministic in `seed`.

    Mini-batch k-means of scikit-learn, then one exact step: each centroid becomes the mean of its points, if it has
    any, which guarantees that subtracting the nearest centroid leaves no more than there was.

    Raises:
        ValueError: fewer points than centroids.
    """
    from sklearn.cluster import MiniBatchKMeans  # Half a second, which making music need not wait for.

    if len(points) < count:
        raise ValueError(
            f"{len(points)} feature vectors are too few for a codebook of {count}; fit on more batches "
            "(trainer.limit_train_batches) or make codebook_size smaller"
        )
    points = points.detach().cpu().float()
    kmeans = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=max(1024, 4 * count))
    centroids = torch.from_numpy(kmeans.fit(points.numpy()).cluster_centers_).to(points)
    members = nearest(points, centroids)
    sizes = torch.bincount(members, minlength=count)[:, None]
    sums = torch.zeros_like(centroids).index_add(0, members, points)
    return torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids)


def nearest(points: Float[Tensor, "*rows d"], centroids: Float[Tensor, "k d"]) -> Int[Tensor, "*rows"]:
    """The index of the centroid at the smallest Euclidean distance, in fp32."""
    with in_fp32(points.device):
        points, centroids = points.float(), centroids.float()
        # |x - c|^2 without |x|^2, which is the same for all centroids.
        return (centroids.square().sum(-1) - 2 * F.linear(points, centroids)).argmin(-1)


def share_left(left: Float[Tensor, "n d"], points: Float[Tensor, "n d"]) -> float:
    """What quantization leaves of points, as a share of their variance; above 1 where their mean would do better."""
    return float(left.square().sum() / (points - points.mean(0)).square().sum())


def perplexity(shares: Float[Tensor, "*levels k"]) -> Float[Tensor, "*levels"]:
    """How many codes are used, counted as equally likely ones: exp of the entropy of their shares, 1 .. k."""
    return torch.special.entr(shares).sum(-1).exp()


class KMeansTokenizer(Tokenizer):
    """One code a frame: the nearest of k = `codebook_size` centroids of z-normalized features (d = `width`); subclasses
    say what the features are."""

    num_codebooks = 1
    mean: Tensor
    std: Tensor
    centroids: Tensor
    fitted: Tensor

    def __init__(self, codebook_size: int, width: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("centroids", torch.zeros(codebook_size, width))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, features: Float[Tensor, "n d"], seed: int) -> None:
        mean, std = features.mean(0), features.std(0).clamp(min=1e-5)
        self.centroids.copy_(fit_centroids((features - mean) / std, self.codebook_size, seed))
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.fitted.fill_(True)

    def quantize(self, features: Float[Tensor, "b l d"]) -> Int[Tensor, "b 1 l"]:
        check_fitted(self)
        return nearest((features.float() - self.mean) / self.std, self.centroids)[:, None]

    def dequantize(self, codes: Int[Tensor, "b 1 l"]) -> Float[Tensor, "b l d"]:
        check_fitted(self)
        return self.centroids[codes[:, 0]] * self.std + self.mean


def check_fitted(tokenizer: Tokenizer) -> None:
    """Refuse to use a tokenizer by k-means whose buffer `fitted` says that its codebooks were not chosen yet.

    Raises:
        ValueError: they were not.
    """
    # A frozen one comes from a finished stage; asking its buffer would wait for the GPU at every batch.
    if not tokenizer.frozen and not tokenizer.fitted:
        raise ValueError(
            f"{type(tokenizer).__name__} has no codebooks yet; call fit, or train its recipe and load the result"
        )


class LogMelKMeans(KMeansTokenizer):
    """One code a frame: the nearest of k centroids of z-normalized log-mel frames.

    Nothing is resampled: waveforms must be at `sample_rate`. A clip of t samples has ceil(t * frame_rate / sample_rate)
    frames; each is the mean of the log-mels of `mels_per_frame` shorter hops.

    Args:
        sample_rate: Hz.
        frame_rate: codes a second, Hz.
        codebook_size: k.
        num_mels: bins of the log-mel.
        n_fft: its window, samples.
        mels_per_frame: log-mel frames averaged into one.

    Raises:
        ValueError: the sample rate is no whole multiple of frame_rate * mels_per_frame.
    """

    def __init__(
        self,
        sample_rate: int = 24000,
        frame_rate: float = 25.0,
        codebook_size: int = 1024,
        num_mels: int = 64,
        n_fft: int = 1024,
        mels_per_frame: int = 4,
    ) -> None:
        super().__init__(codebook_size, num_mels)
        hop_length = sample_rate / (frame_rate * mels_per_frame)
        if hop_length != int(hop_length):
            raise ValueError(
                f"sample_rate {sample_rate} Hz is no whole multiple of frame_rate x mels_per_frame = "
                f"{frame_rate * mels_per_frame:g} Hz; change mels_per_frame or the sample rate"
            )
        self.sample_rate, self.frame_rate, self.mels_per_frame = sample_rate, frame_rate, mels_per_frame
        self.mel = MelFrontEnd(
            MelSettings(sample_rate, n_fft, int(hop_length), num_mels, f_min=0.0, f_max=sample_rate / 2)
        )

    def features(self, batch: MusicBatch) -> Float[Tensor, "b l d"]:
        """Log-mels averaged to the frame rate, natural logarithm."""
        samples_per_frame = self.mel.settings.hop_length * self.mels_per_frame
        mel = self.mel(pad_to_multiple(batch.need_waveform(), samples_per_frame))
        return rearrange(mel, "b (l p) f -> b l p f", p=self.mels_per_frame).mean(2)


class SemanticKMeans(KMeansTokenizer):
    """One code a frame: the nearest of k centroids of z-normalized hidden states.

    Long audio goes through the encoder in overlapping windows, one at a time. A frame is taken from the window that
    holds it farthest from a cut, so it always has `context_seconds` of sound around it, or all there is. Attention
    reaches farther: of five minutes of music, an encoder of size cpu with 1.28 s of context gave 98 % of the same codes
    through windows of 5.12 and of 7.5 s.

    Args:
        encoder: gives the hidden states; None where only codes are looked up (an exported pipeline).
        codebook_size: k.
        frame_rate: codes a second, Hz; the encoder's own.
        width: d of the hidden states; the encoder's own.
        depth: the layer ceil(depth x the encoder's layers) is taken.
        window_seconds: that the encoder hears at once; best what it was trained on.
        context_seconds: at each end of a window that is cut.

    Raises:
        ValueError: the encoder has another width or rate, or a window is too short for its context.
    """

    def __init__(
        self,
        encoder: SemanticEncoder | None = None,
        codebook_size: int = 1024,
        frame_rate: float = 25.0,
        width: int = 768,
        depth: float = 0.6,
        window_seconds: float = 10.0,
        context_seconds: float = 2.0,
    ) -> None:
        super().__init__(codebook_size, width)
        if not 0 < depth <= 1:
            raise ValueError(
                f"depth {depth:g} must be above 0 and at most 1, as a share of the encoder's layers; use 0.6"
            )
        self.encoder = encoder
        self.frame_rate = frame_rate
        self.window, self.overlap = round(window_seconds * frame_rate), round(2 * context_seconds * frame_rate)
        if not 0 <= self.overlap < self.window:
            raise ValueError(
                f"window_seconds {window_seconds:g} must be more than twice context_seconds {context_seconds:g}"
            )
        if encoder is not None:
            for name, own, given in (("width", encoder.width, width), ("frame_rate", encoder.frame_rate, frame_rate)):
                if own != given:
                    raise ValueError(f"{name} {given:g} must be the semantic encoder's own, {own:g}; set it to that")
            self.sample_rate = encoder.sample_rate
            self.layer = math.ceil(depth * encoder.num_layers)

    @torch.no_grad()
    def features(self, batch: MusicBatch) -> Float[Tensor, "b l d"]:
        """Hidden states of the middle layer, l = ceil(t * frame_rate / sample_rate), without gradient."""
        if self.encoder is None:
            raise ValueError("this tokenizer was exported without its semantic encoder; quantize hidden states instead")
        waveform, frame_samples = batch.need_waveform(), round(self.sample_rate / self.frame_rate)
        pieces = []
        for start, keep in window_plan(-(-waveform.shape[-1] // frame_samples), self.window, self.overlap):
            cut = waveform[..., start * frame_samples : (start + self.window) * frame_samples]
            pieces.append(self.encoder.hidden_states(cut, self.layer)[:, keep].float())
        return torch.cat(pieces, dim=1)


def window_plan(length: int, window: int, overlap: int) -> list[tuple[int, slice]]:
    """Windows of `window` frames over `length` frames: where each starts, and which of its own frames are taken.

    The frames that are taken follow each other without a gap. Neighbours share at least `overlap` frames and meet in
    the middle of what they share; the last window ends with the last frame.
    """
    starts = window_starts(length, window, window - overlap)
    meetings = [(early + window + late) // 2 for early, late in pairwise(starts)]
    edges = [0, *meetings, length]
    return [(start, slice(edges[i] - start, edges[i + 1] - start)) for i, start in enumerate(starts)]
