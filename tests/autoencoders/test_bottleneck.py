import torch
from torch.distributions import Normal, kl_divergence

from melody_cm.autoencoders import DiagonalGaussian


def test_kl_equals_torch_distributions():
    gaussian = DiagonalGaussian(torch.randn(3, 4, 5, 2), torch.rand(3, 4, 5, 2) + 0.1)
    expected = kl_divergence(Normal(gaussian.mean, gaussian.std), Normal(0.0, 1.0)).sum(1).mean((1, 2))
    torch.testing.assert_close(gaussian.kl(), expected)
    torch.testing.assert_close(DiagonalGaussian(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)).kl(), torch.zeros(1))


def test_parameters_are_mean_and_log_variance():
    mean, log_variance = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    gaussian = DiagonalGaussian.from_parameters(torch.cat([mean, log_variance], dim=1))
    assert torch.equal(gaussian.mean, mean)
    torch.testing.assert_close(gaussian.std.square().log(), log_variance)


def test_extreme_parameters_stay_finite():
    gaussian = DiagonalGaussian.from_parameters(torch.tensor([[0.0, 0.0, -1e4, 1e4]]).view(1, 4, 1))
    assert gaussian.kl().isfinite().all()
    assert gaussian.std.min() > 0


def test_samples_have_the_mean_and_std_and_pass_gradients():
    mean, std = torch.full((1, 1, 1), 3.0, requires_grad=True), torch.full((1, 1, 1), 0.5, requires_grad=True)
    sample = DiagonalGaussian(mean, std).sample(torch.randn(1, 1, 20000))
    assert abs(sample.mean().item() - 3) < 0.02
    assert abs(sample.std().item() - 0.5) < 0.02
    sample[..., 0].sum().backward()
    assert mean.grad.item() == 1
    assert std.grad.item() != 0
