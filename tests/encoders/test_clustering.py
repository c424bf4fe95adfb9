import math

import pytest
import torch

from melody_cm.encoders.kmeans import fit_centroids, nearest, perplexity


def test_nearest_is_the_argmin_of_distances():
    points, centroids = torch.randn(3, 50, 6), torch.randn(9, 6) * 2
    expected = [[min(range(9), key=lambda c: float((x - centroids[c]).norm())) for x in row] for row in points]
    assert nearest(points, centroids).tolist() == expected


def test_well_separated_clusters_are_found_with_their_exact_means():
    centers = torch.eye(4) * 20
    members = torch.arange(4).repeat_interleave(50)
    points = centers[members] + torch.randn(200, 4)
    found = fit_centroids(points, 4, seed=1)
    means = torch.stack([points[members == cluster].mean(0) for cluster in range(4)])
    order = torch.cdist(means, found).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(found[order], means, atol=1e-4, rtol=1e-4)


def test_subtracting_the_nearest_centroid_never_leaves_more():
    for seed in range(5):
        points = torch.randn(40, 16)
        centroids = fit_centroids(points, 30, seed)
        assert (points - centroids[nearest(points, centroids)]).square().sum() <= points.square().sum()


def test_the_seed_alone_decides():
    points = torch.randn(300, 5)
    first = fit_centroids(points, 8, seed=3)
    torch.rand(7)
    assert torch.equal(first, fit_centroids(points, 8, seed=3))
    assert not torch.equal(first, fit_centroids(points, 8, seed=4))


def test_too_few_points_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"7 feature vectors.*codebook of 8"):
        fit_centroids(torch.randn(7, 2), 8, seed=0)


def test_perplexity_is_the_product_of_shares_to_their_own_power_level_by_level():
    shares = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]], dtype=torch.double)
    expected = [math.prod(share**-share for share in level if share) for level in shares.tolist()]
    assert perplexity(shares).tolist() == pytest.approx(expected)
    assert expected == pytest.approx([2**1.5, 4.0, 1.0])
    assert float(perplexity(shares[0])) == pytest.approx(2**1.5)
