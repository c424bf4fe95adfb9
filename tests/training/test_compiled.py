"""`compile: true` compiles what a stage calls, and says so where nothing is compiled."""

import functools

import pytest
import torch
import yaml
from test_stage import fit
from torch import nn
from torch._dynamo.testing import CompileCounter
from toy_recipe import toy_recipe
from toys import ToyAutoencoder

from melody_cm.interfaces import Denoiser
from melody_cm.runs import Run, Setting, plan, training
from melody_cm.runs.fingerprint import lasting
from melody_cm.runs.training import Training
from melody_cm.storage import read_json
from melody_cm.training import Optimization, Stage
from melody_cm.training.compiled import Compiled


class ToyDenoiser(Denoiser):
    """One convolution."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(1, 1, 5, padding=2)

    def forward(self, noisy_latent, angle, conditioning):
        return self.layer(noisy_latent).tanh()


class Denoising(Stage):
    """Learns to give back what it hears; by a call, or by a method that no compiler sees."""

    def __init__(self, called=True):
        torch.manual_seed(3)
        super().__init__({"denoiser": ToyDenoiser()}, Optimization(learning_rate=1e-2), 0.9, 8000, 0)
        self.called = called

    def losses(self, networks, batch):
        denoiser = networks["denoiser"]
        made = (denoiser if self.called else denoiser.forward)(batch.waveform, None, None)
        return {"error": (made - batch.waveform).square().mean()}


class Without(Denoising):
    """A stage of an autoencoder alone."""

    def __init__(self):
        Stage.__init__(self, {"autoencoder": ToyAutoencoder()}, Optimization(), 0.9, 8000, 0)


@pytest.fixture
def counter(monkeypatch):
    """Counts what torch compiles, and compiles nothing."""
    torch._dynamo.reset()
    counting = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counting))
    return counting


def test_the_compiled_call_is_what_learns_and_weights_keep_their_names(tmp_path, counter):
    plain, compiled = Denoising(), Denoising()
    fit(plain, tmp_path, steps=3)
    assert counter.frame_count == 0
    fit(compiled, tmp_path, steps=3, callbacks=[Compiled()])
    assert counter.frame_count > 0
    assert counter.op_count >= 2, "the convolution and the tanh"
    assert compiled.averaged["denoiser"]._compiled_call_impl is None
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())


@pytest.mark.parametrize(
    ("module", "reason"),
    [(lambda: Denoising(called=False), "made no compiled call"), (Without, "denoisers and language models")],
)
def test_a_flag_without_effect_is_refused(module, reason, tmp_path, counter):
    with pytest.raises(ValueError, match=reason):
        fit(module(), tmp_path, steps=1, callbacks=[Compiled()])


@pytest.fixture
def file(tmp_path):
    """A recipe that trains in a second."""
    file = tmp_path / "recipes/toy/1_stage.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(toy_recipe(max_steps=2)))
    return file


def test_a_training_says_where_it_runs_and_lets_that_device_round_to_tf32(file, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(training, "allow_tf32", asked.append)
    run = Run(tmp_path / "runs/a")
    run.train(plan(file, Setting("tiny")))
    assert asked == [torch.device("cpu")]
    expected = {"device": "cpu", "precision": "32-true", "tf32": False}
    states = [read_json(run.folder("toy/1_stage") / name) for name in ("begun.json", "finished.json")]
    assert [states[0]["placement"], states[1]["outcome"]["placement"]] == [expected, expected]


def test_a_recipe_has_the_flag_and_is_the_same_training_with_it(file, tmp_path):
    plain, flagged = (Setting("tiny", overrides=each).compose(file) for each in ([], ["--compile=true"]))
    kinds = [{type(each) for each in Training(recipe, tmp_path).trainer.callbacks} for recipe in (plain, flagged)]
    assert [Compiled in each for each in kinds] == [False, True]
    assert lasting(plain.config) == lasting(flagged.config)
    with pytest.raises(ValueError, match="neither true nor false"):
        Setting("tiny", overrides=["--compile=fast"]).compose(file)
