"""The worked examples of docs/extending.md: its files are written to a folder, and its commands are run there."""

import math
import re
import shlex
from pathlib import Path

import pytest
import torch

from melody_cm.cli.main import main
from melody_cm.data import write_corpus
from melody_cm.interfaces import Conditioning
from melody_cm.storage import build, read_json

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = {name: text for text, name in re.findall(r"```(?:python|yaml)\n(# (\S+)\n.*?)```", PAGE, flags=re.DOTALL)}
PLACES = {"path/to/music": "music", "path/to/clips": "music"}


def commands() -> list[list[str]]:
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)).replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines]
    return [[PLACES.get(word, word) for word in line[1:]] for line in words if line and line[0] == "melody-cm"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files of the page, from which Python imports."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)
    return tmp_path


def test_the_page_has_three_examples():
    assert set(FILES) == {
        f"my_{name}.{kind}" for name in ("denoiser", "angles", "embedding") for kind in ("py", "yaml")
    }


@pytest.mark.slow
def test_every_command_runs(folder):
    for name in ("recipes", "configs"):
        (folder / name).symlink_to(REPOSITORY / name)
    write_corpus(folder / "music", 48, seconds=2.56, sample_rate=16000)
    few_steps = ["--corpus", "music", "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
    for command in commands():
        assert main(command + (few_steps if command[0] == "train" else [])) == 0, command
    stage = folder / "runs/own/melody/6_dual_path_diffusion"
    assert read_json(stage / "export/denoiser/config.json")["class_path"] == "my_denoiser.DilatedDenoiser"
    trained = read_json(stage / "finished.json")["config"]["model"]["init_args"]
    assert trained["schedule"]["class_path"] == "my_angles.CosineAngles"
    scores = read_json(folder / "chroma.json")["rows"][0]["metrics"]
    assert scores["fad_chroma"]["value"] == pytest.approx(0, abs=1e-6), "music against itself"


def test_the_denoiser_keeps_its_promises(folder):
    denoiser = build({"class_path": "my_denoiser.DilatedDenoiser", "init_args": sizes()})
    noisy, pooled = torch.randn(2, 8, 30), torch.randn(2, 48)
    conditioning = Conditioning(None, pooled, None, torch.tensor([False, True]))
    angles = torch.tensor([0.3, 1.2])
    velocity = denoiser(noisy, angles, conditioning)
    assert velocity.shape == noisy.shape
    torch.testing.assert_close(denoiser(noisy, angles[:, None].expand(-1, 30), conditioning), velocity)
    otherwise = denoiser(noisy, angles, Conditioning(None, -pooled, None, conditioning.dropped))
    assert not torch.equal(otherwise[0], velocity[0])
    assert torch.equal(otherwise[1], velocity[1]), "a dropped clip does not know its condition"
    alone = denoiser(noisy[:1], angles[:1], Conditioning(None, pooled[:1], None, conditioning.dropped[:1]))
    torch.testing.assert_close(alone[0], velocity[0])


def sizes() -> dict[str, int]:
    return {"latent_channels": 8, "condition_width": 48, "channels": 16, "num_layers": 3}


def test_the_schedule_keeps_its_contract(folder):
    schedule = build({"class_path": "my_angles.CosineAngles"})
    for num_steps in (1, 2, 5, 100):
        angles = schedule.angles(num_steps)
        assert angles.dtype == torch.float64
        assert len(angles) == num_steps + 1
        assert angles[0] == math.pi / 2
        assert angles[-1] == 0
        assert (angles.diff() < 0).all()
    with pytest.raises(ValueError, match="at least 1 step"):
        schedule.angles(0)


def test_the_schedule_enters_a_pipeline_that_is_there(folder):
    class Pipeline:
        schedule = None

    found = {}
    snippets = [text for text in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if not text.startswith("#")]
    for text in snippets:
        exec(text, found)
    pipeline = found["sampled_otherwise"](Pipeline())
    assert type(pipeline.schedule).__name__ == "CosineAngles"


def test_the_embedding_hears_pitch_classes(folder):
    embedding = build({"class_path": "my_embedding.ChromaEmbedding", "init_args": {"seconds": 1.0}})
    time = torch.arange(2 * 16000) / 16000
    a_then_c = torch.cat([torch.sin(2 * math.pi * hertz * time) for hertz in (440.0, 261.63)])
    vectors = embedding(a_then_c[None, None])
    assert vectors.shape == (1, 4, embedding.width)
    assert vectors[0].argmax(1).tolist() == [9, 9, 0, 0]
    torch.testing.assert_close(vectors.sum(-1), torch.ones(1, 4))
    assert embedding(torch.zeros(1, 1, 16000)).isfinite().all()
    with pytest.raises(ValueError, match="at least 16000"):
        embedding(a_then_c[None, None, :100])
