"""VGGish: the front end against a slow computation, the network by the layout of its public weights."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from melody_cm.evaluation.embeddings.vggish import VGGishEmbedding, VGGishFrontEnd
from melody_cm.storage import hash_weights

LAYOUT = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}


def random_state():
    """A state dict of torchvggish's names and shapes whose network neither dies nor explodes."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in LAYOUT.items():
        fan_in = math.prod(shape[1:])
        state[f"{name}.weight"] = (torch.rand(shape, generator=generator) - 0.5) * math.sqrt(24 / fan_in)
        state[f"{name}.bias"] = 0.1 * torch.rand(shape[0], generator=generator)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("vggish") / "vggish-10086976.pth"
    torch.save(random_state(), path)
    yield str(path)
    path.unlink()


@pytest.fixture(scope="module")
def embedding(weights):
    return VGGishEmbedding(weights)


def slow_log_mel(signal):
    """Frame by frame and band by band, after the published description (arXiv 1609.09430), in float64."""

    def mel(hertz):
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    rows = []
    for start in range(0, len(signal) - 400 + 1, 160):
        windowed = [signal[start + i] * (0.5 - 0.5 * math.cos(2 * math.pi * i / 400)) for i in range(400)]
        magnitudes = np.abs(np.fft.fft(windowed, 512))[:257]
        row = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            total = 0.0
            for k in range(1, 257):
                position = mel(k * 16000 / 512)
                total += (
                    max(0.0, min((position - low) / (centre - low), (high - position) / (high - centre)))
                    * (magnitudes[k])
                )
            row.append(math.log(total + 0.01))
        rows.append(row)
    return np.array(rows)


def test_the_front_end_equals_a_slow_computation():
    waveform = 0.3 * torch.randn(1, 1, 15600 + 900) + 0.3 * torch.sin(torch.arange(16500) / 7.0)
    expected = slow_log_mel(waveform[0, 0].double().numpy())[:96]
    np.testing.assert_allclose(VGGishFrontEnd()(waveform)[0, 0].numpy(), expected, atol=2e-4)


@pytest.mark.parametrize(("samples", "patches"), [(15600, 1), (30959, 1), (30960, 2), (96000, 6), (160000, 10)])
def test_patches_of_96_by_64_without_overlap(samples, patches):
    assert VGGishFrontEnd()(torch.randn(2, 1, samples)).shape == (2, patches, 96, 64)


def test_each_patch_is_its_own_stretch_of_audio():
    waveform = torch.randn(1, 1, 48000)
    whole = VGGishFrontEnd()(waveform)
    torch.testing.assert_close(whole[:, 1:2], VGGishFrontEnd()(waveform[..., 15360 : 15360 + 15600]))


@pytest.mark.parametrize("samples", [0, 15359, 15599])
def test_audio_shorter_than_a_patch_is_an_error(samples):
    with pytest.raises(ValueError, match=r"s of audio; vggish needs at least 0\.975 s"):
        VGGishFrontEnd()(torch.zeros(1, 1, samples))


def test_the_network_has_the_layout_of_the_public_weights(embedding):
    shapes = {name: tuple(value.shape) for name, value in embedding.network.state_dict().items()}
    weights = {f"{name}.weight": shape for name, shape in LAYOUT.items()}
    assert shapes == {**weights, **{f"{name}.bias": (shape[0],) for name, shape in LAYOUT.items()}}
    assert sum(value.numel() for value in embedding.network.state_dict().values()) == 72_141_184


def by_hand(patches, state, last_relu):
    """The network as a list of operations on the state dict; a linear layer reads time, then mel, then channels."""
    x = patches[:, None]
    for index, layer in enumerate((0, 3, 6, 8, 11, 13)):
        x = F.relu(F.conv2d(x, state[f"features.{layer}.weight"], state[f"features.{layer}.bias"], padding=1))
        x = F.max_pool2d(x, 2) if index in (0, 1, 3, 5) else x
    x = torch.stack([torch.cat([x[i, :, time, mel] for time in range(6) for mel in range(4)]) for i in range(len(x))])
    for layer in (0, 2, 4):
        x = x @ state[f"embeddings.{layer}.weight"].T + state[f"embeddings.{layer}.bias"]
        x = F.relu(x) if layer < 4 or last_relu else x
    return x


@torch.no_grad()
def test_the_embedding_equals_the_network_by_hand(embedding):
    waveform = 0.1 * torch.randn(2, 1, 32000)
    found = embedding(waveform)
    assert found.shape == (2, 2, 128)
    expected = by_hand(VGGishFrontEnd()(waveform).flatten(0, 1), random_state(), last_relu=False)
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    assert (found < 0).any()
    assert found.std() > 0.01


@torch.no_grad()
def test_the_last_relu_is_another_metric_and_says_so(embedding, weights):
    rectified = VGGishEmbedding(weights, last_relu=True)
    waveform = 0.1 * torch.randn(1, 1, 16000)
    torch.testing.assert_close(rectified(waveform), F.relu(embedding(waveform)))
    assert rectified.identity != embedding.identity
    assert (embedding.identity.version, rectified.identity.version) == ("1-linear", "1-relu")


def test_the_identity_is_of_the_weights_that_were_loaded(embedding, tmp_path):
    zeros = {name: torch.zeros(1).expand(value.shape) for name, value in embedding.network.state_dict().items()}
    torch.save(zeros, tmp_path / "other.pth")
    other = VGGishEmbedding(str(tmp_path / "other.pth"))
    assert embedding.identity.weights == hash_weights(embedding.network) != other.identity.weights
    assert (embedding.name, embedding.sample_rate, embedding.width) == ("vggish", 16000, 128)


@torch.no_grad()
def test_long_audio_in_parts_equals_patches_one_by_one(embedding, monkeypatch):
    waveform = 0.1 * torch.randn(1, 1, 48000)
    whole = embedding(waveform)
    monkeypatch.setattr("melody_cm.evaluation.embeddings.vggish.PATCHES_AT_ONCE", 2)
    torch.testing.assert_close(embedding(waveform), whole)


def test_it_never_trains_and_stays_out_of_checkpoints(embedding):
    owner = torch.nn.ModuleDict({"judge": embedding}).train()
    assert not any(module.training for module in embedding.modules())
    assert not [parameter for parameter in owner.parameters() if parameter.requires_grad]
    assert owner.state_dict() == {}


def test_missing_or_wrong_weights_are_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vggish needs weights; get them: curl -LO https://.*vggish:PATH"):
        VGGishEmbedding(None)
    with pytest.raises(FileNotFoundError, match=r"weights /no/such\.pth do not exist; get them: curl"):
        VGGishEmbedding("/no/such.pth")
    (tmp_path / "text.pth").write_text("these are not weights")
    with pytest.raises(ValueError, match=r"text\.pth is not a torch state dict or is damaged; get them"):
        VGGishEmbedding(str(tmp_path / "text.pth"))
    (tmp_path / "empty.pth").touch()
    with pytest.raises(ValueError, match=r"empty\.pth is not a torch state dict or is damaged"):
        VGGishEmbedding(str(tmp_path / "empty.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth is not a state dict of tensors"):
        VGGishEmbedding(str(tmp_path / "list.pth"))
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth holds another network: embeddings\.0\.bias is missing from it"):
        VGGishEmbedding(str(tmp_path / "other.pth"))


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "harmed"), "w"))

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="is not a torch state dict"):
        VGGishEmbedding(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "harmed").exists()
