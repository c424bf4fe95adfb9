"""MusicCM from a run whose vocoder was trained, and from a public teacher: recipe, run, export, music."""

from pathlib import Path

import pytest
import torch
from musicldm_folder import TINY, write_musicldm
from test_diffusers_export import MEL, student

from melody_cm.autoencoders import GriffinLim, HiFiGANVocoder
from melody_cm.cli.main import main
from melody_cm.pipelines import MusicCM
from melody_cm.runs import Run, Setting
from melody_cm.storage import describe, save_network, write_json

CLIPS = ["--data.corpus.num_clips", "48"]
QUICK = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"]
RECIPE = "musiccm/4_consistency_distillation"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for folder in ("recipes", "configs"):
        (tmp_path / folder).symlink_to(Path(__file__).resolve().parents[2] / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)


def write_run(run, pipeline, vocoder):
    """The finished stages of a run: the parts of a pipeline, and a vocoder."""
    stages = {
        "shared/1_joint_embedding": ("joint_embedding", pipeline.joint_embedding),
        "musiccm/1_mel_vae": ("autoencoder", pipeline.autoencoder),
        "musiccm/2_vocoder": ("vocoder", vocoder),
        "musiccm/3_teacher": ("conditioner", pipeline.conditioner),
        "musiccm/4_consistency_distillation": ("denoiser", pipeline.denoiser),
    }
    settings = {name: describe(getattr(pipeline, name)) for name in ("schedule", "sampler", "num_steps")}
    done = {"inputs": {}, "config": {"model": {"init_args": settings}, "data": {"seconds": pipeline.max_seconds}}}
    for stage, (slot, network) in stages.items():
        save_network(network, run / stage / "export" / slot)
        write_json(run / stage / "finished.json", done)


def test_a_run_with_a_trained_vocoder_is_exported_with_it(tmp_path):
    plain = student()
    vocoder = HiFiGANVocoder(
        **MEL, upsampling=[5, 4, 4], upsampling_kernels=[16, 16, 8], first_channels=16, residual_kernels=[3],
        residual_dilations=[1],
    ).eval()  # fmt: skip
    write_run(tmp_path / "runs/a", plain, vocoder)
    assert main(["export", "runs/a/musiccm_vocoder", "saved"]) == 0
    pipeline = MusicCM.from_pretrained("saved")
    latent = torch.randn(1, 3, 8, 8)
    expected = vocoder(plain.autoencoder.decode_mel(latent)).clamp(-1, 1)
    torch.testing.assert_close(pipeline.autoencoder.decode(latent), expected)
    assert pipeline.generate(["piano"], 0.64).waveform.shape == (1, 1, 5120)
    assert main(["export", "runs/a/musiccm", "griffin_lim"]) == 0
    assert isinstance(MusicCM.from_pretrained("griffin_lim").autoencoder.vocoder, GriffinLim)
    with pytest.raises(ValueError, match=r"not trained with .*musicldm_text; export the system musiccm instead"):
        Run(tmp_path / "runs/a").pipeline("musiccm_public")


def command_of_the_preset():
    """The overrides that the header of the teacher's preset tells people to type."""
    text = Path("configs/teacher/musicldm.yaml").read_text(encoding="utf-8")
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    words = " ".join(lines).split("Command:")[1].split("Then:")[0].split()
    start = [index for index, word in enumerate(words) if word.startswith("--model.")]
    return [word for index in start for word in words[index : index + 2]]


@pytest.mark.slow
def test_a_public_folder_is_distilled_by_the_recipe_and_the_student_travels(tmp_path):
    sizes = TINY | {"unet": TINY["unet"] | {"width": 512}, "text": TINY["text"] | {"projection_dim": 512}}
    folder = write_musicldm(tmp_path / "public", sizes)
    overrides = [str(folder) if word == "PATH" else word for word in command_of_the_preset()]
    light = ["--model.adversary.discriminator.width", "16", "--data.batch_size", "2", "--trainer.callbacks", "[]"]
    setting = Setting("tiny", overrides=[*CLIPS, *QUICK, *overrides, *light])
    recipe = setting.compose(RECIPE)
    Run(tmp_path / "runs/public").train([recipe])
    assert main(["export", "runs/public/musiccm_public", "saved"]) == 0
    assert str(folder) not in "".join(file.read_text() for file in (tmp_path / "saved").rglob("*.json"))
    (tmp_path / "public").rename(tmp_path / "gone")
    pipeline = MusicCM.from_pretrained("saved")
    made = pipeline.generate(["piano", "drums"], 2.56, num_steps=2).waveform
    assert made.shape == (2, 1, 40960)
    assert made.std() > 0
    assert (tmp_path / "saved/scheduler/scheduler_config.json").is_file()


def test_a_public_teacher_and_a_conditioner_of_another_size_are_refused_before_training(tmp_path):
    folder = write_musicldm(tmp_path / "public")
    overrides = [str(folder) if word == "PATH" else word for word in command_of_the_preset()]
    recipe = Setting("tiny", overrides=[*CLIPS, *QUICK, *overrides]).compose(RECIPE)
    assert recipe.needs == []
    with pytest.raises(ValueError, match="width 512 must be the joint embedding's own, 16"):
        Run(tmp_path / "runs/public").train([recipe])
