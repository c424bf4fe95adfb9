"""k-means: choosing centroids, finding the nearest, and tokens made of them (MeLoDy, arXiv 2305.15719, B.2-B.3)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from melody_cm.interfaces import Tokenizer


def fit_centroids(points: Float[Tensor, "n d"], count: int, seed: int) -> Float[Tensor, "k d"]:
    """k = `count` centroids of n points, deterministic in `seed`.

    Mini-batch k-means of scikit-learn, then one exact step: each centroid becomes the mean of its points, which
    guarantees that subtracting the nearest centroid leaves no more than there was.

    Raises:
        ValueError: fewer points than centroids.
    """
    if len(points) < count:
        raise ValueError(
            f"{len(points)} feature vectors are too few for a codebook of {count}; fit on more batches "
            "(trainer.limit_train_batches) or make codebook_size smaller"
        )
    points = points.detach().cpu().float()
    kmeans = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=max(1024, 4 * count))
    centroids = torch.from_numpy(kmeans.fit(points.numpy()).cluster_centers_).to(points)
    return _cluster_means(points, nearest(points, centroids), centroids)


def nearest(points: Float[Tensor, "*rows d"], centroids: Float[Tensor, "k d"]) -> Int[Tensor, "*rows"]:
    """The index of the centroid at the smallest Euclidean distance, in fp32."""
    with torch.autocast(points.device.type, enabled=False):
        points, centroids = points.float(), centroids.float()
        # |x - c|^2 without |x|^2, which is the same for all centroids.
        return (centroids.square().sum(-1) - 2 * F.linear(points, centroids)).argmin(-1)


def share_left(left: Float[Tensor, "n d"], points: Float[Tensor, "n d"]) -> float:
    """What quantization leaves of points, as a share of their variance; above 1 where their mean would do better."""
    return float(left.square().sum() / (points - points.mean(0)).square().sum())


def perplexity(shares: Float[Tensor, "*levels k"]) -> Float[Tensor, "*levels"]:
    """How many codes are used, counted as equally likely ones: exp of the entropy of their shares, 1 .. k."""
    return torch.special.entr(shares).sum(-1).exp()


def _cluster_means(
    points: Float[Tensor, "n d"], members: Int[Tensor, " n"], centroids: Float[Tensor, "k d"]
) -> Float[Tensor, "k d"]:
    """The mean of each cluster's points; empty clusters keep their centroid."""
    sizes = torch.bincount(members, minlength=len(centroids))[:, None]
    sums = torch.zeros_like(centroids).index_add(0, members, points)
    return torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids)


class KMeansTokenizer(Tokenizer):
    """One code a frame: the nearest of k centroids of z-normalized features; subclasses say what the features are.

    Args:
        codebook_size: k.
        width: d of the features.
    """

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
    if not tokenizer.fitted:
        raise ValueError(
            f"{type(tokenizer).__name__} has no codebooks yet; call fit, or train its recipe and load the result"
        )
