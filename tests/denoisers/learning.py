"""A denoiser learns a few sines by heart, and is asked for more than any predictor that sees one number at a time."""

import torch
import torch.nn.functional as F


def assert_beats_the_best_predictor_of_single_numbers(net, clips):
    """That predictor's loss is the latent's standard deviation."""
    generator = torch.Generator().manual_seed(0)
    time = torch.linspace(0, 12, 48)
    latent = torch.stack([torch.sin(time * (1 + i / 3) + c) for i in range(8) for c in range(3)]).view(8, 3, 48)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    ratios = []
    for _ in range(60):
        angle = torch.rand(8, 1, 1, generator=generator) * torch.pi / 2
        noise = torch.randn(latent.shape, generator=generator)
        velocity = angle.cos() * noise - angle.sin() * latent
        predicted = net(angle.cos() * latent + angle.sin() * noise, angle.flatten(), clips)
        loss = F.mse_loss(predicted, velocity)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ratios.append(float(loss.detach() / velocity.square().mean()))
    variance = latent.square().mean()
    assert sum(ratios[-10:]) / 10 < variance.sqrt() / ((1 + variance) / 2) - 0.1
