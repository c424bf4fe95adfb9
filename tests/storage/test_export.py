import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from melody_cm.diffusion import LinearAngles
from melody_cm.interfaces import Network
from melody_cm.storage import build, describe, hash_weights, load_network, save_network, write_json


class Affine(Network):
    """A toy network for these tests."""

    def __init__(self, width: int, scale: float = 2.0, inner: Network | None = None):
        super().__init__()
        self.scale = scale
        self.inner = inner
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        x = x if self.inner is None else self.inner(x)
        return self.scale * self.linear(x)


def test_a_network_describes_its_constructor_with_defaults_and_parts():
    config = describe(Affine(3, inner=Affine(width=3, scale=1.0)))
    assert config["init_args"]["width"] == 3
    assert config["init_args"]["scale"] == 2.0
    assert config["init_args"]["inner"]["init_args"] == {"width": 3, "scale": 1.0, "inner": None}
    json.dumps(config)


def test_a_class_is_named_by_the_room_that_offers_it():
    assert describe(LinearAngles())["class_path"] == "melody_cm.diffusion.LinearAngles"
    assert describe(Affine(3))["class_path"].endswith("test_export.Affine")


def test_saved_and_loaded_networks_are_bit_equal(tmp_path):
    network = Affine(4, inner=Affine(4)).double()
    network = network.float()
    save_network(network, tmp_path / "net")
    again = load_network(tmp_path / "net")
    x = torch.randn(2, 4)
    assert torch.equal(network(x), again(x))
    assert not again.training
    assert hash_weights(again) == hash_weights(network)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net"], "nothing is left beside the export"


def test_the_weight_hash_sees_one_changed_bit():
    network = Affine(4)
    before = hash_weights(network)
    with torch.no_grad():
        network.linear.bias[0] += 1e-6
    assert hash_weights(network) != before


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    save_network(Affine(4), tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    config["init_args"]["width"] = 5
    write_json(tmp_path / "net/config.json", config)
    with pytest.raises(ValueError, match=r"linear.* is \(4,.*expected \(5,"):
        load_network(tmp_path / "net")


def test_an_empty_folder_is_no_export(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json is missing"):
        load_network(tmp_path)


@pytest.mark.parametrize("class_path", ["os.system", "builtins.dict", "no.such.Thing", "melody_cm.storage.find_class"])
def test_nothing_but_configurable_classes_is_built_from_a_file(class_path):
    with pytest.raises(ValueError, match="class"):
        build({"class_path": class_path, "init_args": {}})


def test_a_failed_export_leaves_the_old_one_untouched(tmp_path, monkeypatch):
    save_network(Affine(4), tmp_path / "net")
    before = (tmp_path / "net/model.safetensors").read_bytes()
    monkeypatch.setattr("melody_cm.storage.export.write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_network(Affine(4), tmp_path / "net")
    assert (tmp_path / "net/model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net"]


def test_weights_that_config_does_not_describe_are_refused(tmp_path):
    save_network(Affine(4), tmp_path / "net")
    weights = load_file(tmp_path / "net/model.safetensors")
    weights["linear.bias"] += 1
    save_file(weights, tmp_path / "net/model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors is not what config.json describes"):
        load_network(tmp_path / "net")
