"""What every denoiser must do; a new class in melody_cm.denoisers needs one line in CASES."""

import inspect

import pytest
import torch

import melody_cm.denoisers
from melody_cm.denoisers import DualPathDenoiser, LatentImageUNet, MusicLDMUNet, UNet1D, UNet2D
from melody_cm.diffusion import ScaledLinearBetaAngles, TimestepDenoiser
from melody_cm.interfaces import Conditioning, Denoiser, TimestepNetwork

WIDTH = 16
DUAL_PATH = {"width": WIDTH, "num_blocks": 3, "segment_length": 8, "num_heads": 2, "feedforward_width": 24}
UNET = {"condition_width": WIDTH, "channels": [16, 32], "layers_per_block": 1, "attention_levels": [1]}
PUBLIC = {
    key: value
    for key, value in UNet2D(latent_channels=4, head_width=16, **UNET).unet.config.items()
    if not key.startswith("_")
}
UNET_1D = {"channels": [8, 16, 16], "factors": [1, 2, 2], "num_blocks": 1, "num_heads": 2, "feedforward_width": 24}
IMAGE = {"channels": [16, 32, 32], "layers_per_block": 1, "head_width": 16}
# class -> (constructor arguments, latent shape of a clip)
CASES = {
    DualPathDenoiser: ({"latent_channels": 4, "angle_width": 8, **DUAL_PATH}, (4, 30)),
    LatentImageUNet: ({"latent_channels": 3, "condition_width": WIDTH, **IMAGE}, (3, 30)),
    MusicLDMUNet: ({"config": PUBLIC}, (4, 12, 4)),
    UNet1D: ({"latent_channels": 4, "condition_width": WIDTH, "angle_width": 8, **UNET_1D}, (4, 30)),
    UNet2D: ({"latent_channels": 4, "head_width": 16, **UNET}, (4, 12, 4)),
}


def networks_of_the_package():
    members = [member for _, member in inspect.getmembers(melody_cm.denoisers, inspect.isclass)]
    return {m for m in members if issubclass(m, Denoiser | TimestepNetwork) and not inspect.isabstract(m)}


def test_every_network_has_a_case():
    assert networks_of_the_package() == set(CASES)


@pytest.fixture(params=CASES, ids=lambda network: network.__name__)
def denoiser(request):
    network = request.param(**CASES[request.param][0])
    if isinstance(network, TimestepNetwork):
        return TimestepDenoiser(network, ScaledLinearBetaAngles(zero_terminal_snr=True), "velocity")
    return network


@pytest.fixture
def latent(request, denoiser):
    network = denoiser.network if isinstance(denoiser, TimestepDenoiser) else denoiser
    return torch.randn(8, *CASES[type(network)][1])


@pytest.fixture
def angle():
    return torch.linspace(0, torch.pi / 2, 8)


def conditioning(batch=8):
    tokens = torch.randn(batch, 5, WIDTH)
    return Conditioning(tokens, tokens.mean(1), None, torch.zeros(batch, dtype=torch.bool))


def rows(condition, chosen):
    return Conditioning(condition.sequence[chosen], condition.pooled[chosen], None, condition.dropped[chosen])


def test_velocity_has_the_latents_shape_and_type_and_is_finite(denoiser, latent, angle):
    velocity = denoiser(latent, angle, conditioning())
    assert velocity.shape == latent.shape
    assert velocity.dtype == latent.dtype
    assert velocity.isfinite().all()


def test_silence_gives_finite_velocity_and_gradients(denoiser, latent, angle):
    denoiser(torch.zeros_like(latent), angle, conditioning()).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in denoiser.parameters())


@pytest.mark.parametrize("dropped", ["none", "some"])
def test_every_parameter_learns_from_the_first_step(denoiser, latent, angle, dropped):
    """No layer starts at zero, so none blocks the gradient of those below it."""
    condition = conditioning().drop(torch.arange(8) < (0 if dropped == "none" else 3))
    velocity = denoiser(latent, angle, condition)
    (velocity * torch.randn_like(velocity)).sum().backward()
    still = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


def test_all_dropped_leaves_no_parameter_without_gradient(denoiser, latent, angle):
    """Data parallel training needs a gradient, if only zero, for every parameter in every process."""
    denoiser(latent, angle, conditioning().drop(torch.ones(8, dtype=torch.bool))).sum().backward()
    assert all(p.grad is not None for p in denoiser.parameters())


def test_a_clip_alone_equals_the_clip_in_a_batch(denoiser, latent, angle):
    condition = conditioning().drop(torch.arange(8) % 3 == 1)
    together = denoiser(latent, angle, condition)
    for i in range(8):
        alone = denoiser(latent[i : i + 1], angle[i : i + 1], rows(condition, slice(i, i + 1)))
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=1e-4)


def test_dropped_clips_do_not_know_the_condition(denoiser, latent, angle):
    dropped = torch.ones(8, dtype=torch.bool)
    once = denoiser(latent, angle, conditioning().drop(dropped))
    assert torch.equal(denoiser(latent, angle, conditioning().drop(dropped)), once)


def test_undropped_clips_know_the_condition(denoiser, latent, angle):
    difference = denoiser(latent, angle, conditioning()) - denoiser(latent, angle, conditioning())
    assert (difference.flatten(1).abs().amax(1) > 1e-5).all()


def test_dropped_and_undropped_clips_share_a_call(denoiser, latent, angle):
    """Guidance asks for both in one pass."""
    condition, all_rows = conditioning(), torch.ones(8, dtype=torch.bool)
    both = condition.concat(condition.drop(all_rows))
    velocity = denoiser(torch.cat([latent, latent]), torch.cat([angle, angle]), both)
    separate = [denoiser(latent, angle, condition), denoiser(latent, angle, condition.drop(all_rows))]
    torch.testing.assert_close(velocity, torch.cat(separate), atol=1e-5, rtol=1e-4)


def test_the_angle_matters(denoiser, latent, angle):
    condition = conditioning()
    difference = denoiser(latent, angle, condition) - denoiser(latent, angle.flip(0), condition)
    assert (difference.flatten(1).abs().amax(1) > 1e-5).all()


def test_one_angle_a_frame_works_where_it_is_promised(denoiser, latent, angle):
    per_frame = angle[:, None].expand(-1, latent.shape[2])
    if denoiser.per_frame_angles:
        condition = conditioning()
        expected = denoiser(latent, angle, condition)
        torch.testing.assert_close(denoiser(latent, per_frame, condition), expected, atol=1e-5, rtol=1e-4)
    else:
        with pytest.raises(ValueError, match="angle"):
            denoiser(latent, per_frame, conditioning())


def test_wrong_shapes_are_refused(denoiser, latent, angle):
    condition = conditioning()
    narrow = Conditioning(condition.sequence[..., 1:], condition.pooled[:, 1:], None, condition.dropped)
    for arguments in [(latent[:, 1:], angle, condition), (latent, angle[1:], condition), (latent, angle, narrow)]:
        with pytest.raises(ValueError, match=r"\d.*\d"):
            denoiser(*arguments)


def test_it_can_be_rebuilt_from_its_arguments(denoiser):
    rebuilt = type(denoiser)(**denoiser.init_arguments)
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
        k: v.shape for k, v in denoiser.state_dict().items()
    }
