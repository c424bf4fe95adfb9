"""An ablation from recipes to report with toys: variants that differ only in sampling share a training."""

import pytest
import torch
import yaml
from torch import nn

from melody_cm.comparison import ablate
from melody_cm.evaluation.results import Results
from melody_cm.interfaces import Denoiser
from melody_cm.runs import Run, Setting


class Scaled(Denoiser):
    """Velocity is the noisy latent times one number."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.1))

    def forward(self, noisy_latent, angle, conditioning):
        return self.factor * noisy_latent


def recipe(schedule):
    slots = {
        "autoencoder": {"class_path": "test_stage_measures.Identity"},
        "conditioner": {"class_path": "test_stage_measures.Nothing"},
        "denoiser": {"class_path": "test_ablation_run.Scaled"},
        "objective": {
            "class_path": "melody_cm.diffusion.DenoisingObjective",
            "init_args": {"schedule": {"class_path": "melody_cm.diffusion.LinearAngles"}},
        },
        "schedule": {"class_path": f"melody_cm.diffusion.{schedule}"},
        "sampler": {"class_path": "melody_cm.diffusion.DDIMSampler"},
        "optimization": {"learning_rate": 0.01},
        "guidance_scale": 1.0,
    }
    corpus = {"num_clips": 40, "seconds": 1.0, "sample_rate": 16000}
    return {
        "seed_everything": 0,
        "model": {"class_path": "melody_cm.training.LatentDiffusion", "init_args": slots},
        "data": {
            "corpus": {"class_path": "melody_cm.data.SyntheticCorpus", "init_args": corpus},
            **{"sample_rate": 16000, "seconds": 1.0, "batch_size": 2},
        },
        "trainer": {"max_steps": 2, "enable_progress_bar": False},
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "recipes/ablations/schedule"
    folder.mkdir(parents=True)
    for name, schedule in (("linear", "LinearAngles"), ("uniform", "UniformAngles")):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe(schedule)))
    return folder


def test_schedules_are_trained_once_measured_and_tabled(folder, tmp_path, capsys):
    def run():
        asked = {"seeds": (0, 1), "steps": (2, 4), "clips": 4}
        return ablate(folder, Setting("paper"), Run(tmp_path / "runs/toy"), tmp_path / "out", **asked)

    results = run()
    assert capsys.readouterr().out.count("after 2 steps") == 2
    assert [row.title for row in results.rows] == [
        "linear", "linear, 2 steps", "linear, 4 steps", "uniform", "uniform, 2 steps", "uniform, 4 steps"
    ]  # fmt: skip
    assert set(results.rows[0].metrics) == {"velocity_mse", "si_snri", "si_snri_median"}
    assert set(results.rows[1].metrics) == {"fad_logmel", "kad_logmel", "sampling_error"}
    assert set(results.rows[1].samples["fad_logmel"]) == {"seed 0", "seed 1"}
    same = [one for one in results.differences if one.metric == "velocity_mse"]
    assert [(one.difference, one.verdict) for one in same] == [(0, "not distinguishable")]
    assert {one.n for one in results.differences} == {2}
    again = run()
    assert capsys.readouterr().out.count("finished before, skipped") == 2
    assert again.rows == results.rows
    assert Results.read(tmp_path / "out/results.json", "ablate").rows == results.rows
    assert (tmp_path / "out/report.html").is_file()
