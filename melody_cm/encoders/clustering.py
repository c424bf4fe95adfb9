"""k-means: choosing centroids, and finding the nearest one."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


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
    from sklearn.cluster import MiniBatchKMeans

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
