import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from melody_cm.diffusion import LinearAngles
from melody_cm.interfaces import Network
from melody_cm.storage import (
    build,
    describe,
    hash_tensors,
    hash_weights,
    load_network,
    save_network,
    trust_module,
    write_json,
)


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


@pytest.mark.parametrize("content", ["import not_there", "1 / 0"])
def test_a_module_that_cannot_be_imported_is_not_taken_for_a_misspelt_class(tmp_path, monkeypatch, content):
    (tmp_path / "my_networks.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"importing my_networks fails: .*(not_there|division)"):
        build({"class_path": "my_networks.Mine", "init_args": {}})


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


@pytest.fixture
def stray(tmp_path, monkeypatch):
    """A module that can be imported, that says so, and that was not."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path/stray_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.setattr("melody_cm.storage.description._trusted", set())
    return "stray_module.Network"


@pytest.mark.parametrize("place", ["class_path", "inner", "deep"])
def test_an_export_imports_no_module_that_is_not_trusted(tmp_path, stray, place):
    save_network(Affine(4, inner=Affine(4)), tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    part = {"class_path": stray, "init_args": {}}
    if place == "class_path":
        config["class_path"] = stray
    elif place == "inner":
        config["init_args"]["inner"] = part
    else:
        config["init_args"]["inner"] = [{"a": [part]}]
    write_json(tmp_path / "net/config.json", config)
    with pytest.raises(ValueError, match=r"config.json names stray_module.Network, .*--trust-module stray_module"):
        load_network(tmp_path / "net")
    trust_module("stray_module")
    with pytest.raises(SystemExit, match="imported"):
        load_network(tmp_path / "net")


@pytest.mark.parametrize("way", ["a function", "a stage"])
@pytest.mark.parametrize("place", ["whole", "inner"])
def test_an_export_reads_no_further_network_whose_module_could_be_anything(tmp_path, stray, monkeypatch, place, way):
    monkeypatch.setenv("MELODY_CM_RUN", str(tmp_path / "net"))
    save_network(Affine(4, inner=Affine(4)), tmp_path / "net")
    own = tmp_path / "net/evil/stage/export/net"
    save_network(Affine(4), own)
    write_json(own.parents[1] / "finished.json", {})
    config = json.loads((tmp_path / "net/config.json").read_text())
    write_json(own / "config.json", {**config, "class_path": stray})
    function = {"class_path": "melody_cm.storage.load_network", "init_args": {"folder": str(own), "own": True}}
    if place == "whole" and way == "a function":
        config |= function
    else:
        config["init_args"]["inner"] = function if way == "a function" else "stage:evil/stage"
    write_json(tmp_path / "net/config.json", config)
    with pytest.raises(ValueError, match=r"config.json (names .*load_network, which is no class|wants stage:evil)"):
        load_network(tmp_path / "net")


def test_another_class_than_the_place_takes_is_not_built(tmp_path):
    save_network(Affine(4, inner=Affine(4)), tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    config["init_args"]["inner"] = {"class_path": "melody_cm.data.FolderCorpus", "init_args": {"path": str(tmp_path)}}
    write_json(tmp_path / "net/config.json", config)
    with pytest.raises(ValueError, match="a FolderCorpus is no Network"):
        load_network(tmp_path / "net")


@pytest.mark.parametrize("name", [None, 3, ["a"], {}])
def test_a_class_path_that_is_no_text_is_one_line(tmp_path, name):
    save_network(Affine(4), tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    write_json(tmp_path / "net/config.json", {**config, "class_path": name})
    with pytest.raises(ValueError, match=r"config.json: class_path is .*, no name of a class"):
        load_network(tmp_path / "net")


def test_an_export_never_asks_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.ClapModel.from_pretrained", lambda *_, **__: pytest.fail("it was asked"))
    save_network(Affine(4), tmp_path / "net")
    described = {"class_path": "melody_cm.encoders.ClapJointEmbedding", "init_args": {"source": "someone/evil"}}
    write_json(tmp_path / "net/config.json", {**described, "weights": "0" * 16})
    with pytest.raises(FileNotFoundError, match=r"config.json wants someone/evil of the model hub, .*never asks it"):
        load_network(tmp_path / "net")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 37, 99])
def test_weights_that_are_not_finite_are_refused(tmp_path, value, place):
    network = Affine(100)
    with torch.no_grad():
        network.linear.bias[place] = value
    save_network(network, tmp_path / "net")
    with pytest.raises(ValueError, match=r"linear.bias holds numbers that are not finite"):
        load_network(tmp_path / "net")


class Drawn(Network):
    """Modules of which each draws its first weights in a way of its own, and numbers that are no weights."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(3, 3), nn.Embedding(3, 3), nn.LSTM(3, 3), nn.Conv1d(3, 3, 3)])
        self.own = nn.Parameter(nn.init.trunc_normal_(torch.empty(3, 3)))
        seeded = torch.Generator().manual_seed(5)
        self.register_buffer("known", torch.empty(3).normal_(generator=seeded), persistent=False)


def test_loading_draws_no_random_numbers(tmp_path):
    """Those would be thrown away, and take longer than all else."""
    network = Drawn()
    save_network(network, tmp_path / "net")
    before = torch.get_rng_state()
    again = load_network(tmp_path / "net")
    assert torch.equal(torch.get_rng_state(), before)
    assert hash_weights(again) == hash_weights(network)
    assert torch.equal(again.known, network.known), "what is drawn from a generator of its own is drawn"


class Deep(Network):
    """As many layers as a file says."""

    def __init__(self, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(layers))


def test_sizes_are_those_of_the_weights_before_anything_is_allocated(tmp_path):
    save_network(Affine(4), tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    width = 2**20  # A square of 4 TiB, which no machine has.
    write_json(tmp_path / "net/config.json", {**config, "init_args": {**config["init_args"], "width": width}})
    with pytest.raises(ValueError, match=rf"net holds another network: linear.\w+ is \(4,.*expected \({width},"):
        load_network(tmp_path / "net")


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.int64, torch.complex64])
def test_weights_of_another_type_are_refused(tmp_path, kind):
    """But for fp16, in which an export may store its weights."""
    save_network(Affine(4), tmp_path / "net")
    weights = {name: value.to(kind) for name, value in load_file(tmp_path / "net/model.safetensors").items()}
    save_file(weights, tmp_path / "net/model.safetensors")
    config = json.loads((tmp_path / "net/config.json").read_text())
    write_json(tmp_path / "net/config.json", {**config, "weights": hash_tensors(weights)})
    with pytest.raises(ValueError, match=r"linear.\w+ is torch\.\w+, not the torch.float32"):
        load_network(tmp_path / "net")


@pytest.mark.parametrize(
    ("layers", "reason"), [(1_000_000, "larger network than it holds"), (10**12, "no size of a network")]
)
def test_more_layers_than_there_are_weights_for_are_not_built(tmp_path, layers, reason):
    save_network(Deep(2), tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    write_json(tmp_path / "net/config.json", {**config, "init_args": {"layers": layers}})
    with pytest.raises(ValueError, match=reason):
        load_network(tmp_path / "net")
