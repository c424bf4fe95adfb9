"""Two processes that share the clips of an evaluation find what one process finds, even if one of them has none."""

import pytest
from callback_toys import LOGMEL, build_house, callback, diffusion_recipe, train_in_two_processes

from melody_cm.cli.main import main
from melody_cm.data import read_audio
from melody_cm.storage import read_json

ARGUMENTS = ["train", "recipes/toy", "--size", "tiny"]
CALLBACKS = [
    callback("FrechetAudioDistanceCallback", embedding=LOGMEL, every_n_steps=2, num_clips=5),
    callback("SISNRCallback", every_n_steps=2, num_clips=3),
    callback("AudioSamplesCallback", every_n_steps=2, num_clips=1),  # None is left for the second process.
    {"class_path": "melody_cm.training.BestCheckpoint", "init_args": {"monitor": "val/si_snri", "mode": "max"}},
]


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MELODY_CM_RUN", "")
    build_house(tmp_path, diffusion_recipe(CALLBACKS, steps=3, limit_val_batches=0))
    assert main([*ARGUMENTS, "--run", "one"]) == 0
    done = train_in_two_processes(tmp_path, ARGUMENTS)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (tmp_path / "runs" / name / "toy/1_stage" for name in ("one", "two"))
    for step in (2, 3):
        for name, keys in {"fad_logmel": ["value", "n_generated"], "si_snri": ["velocity_mse", "si_snri", "n"]}.items():
            path = f"evaluations/step_{step:06d}/{name}.json"
            first, second = read_json(one / path), read_json(two / path)
            for key in keys:
                assert second[key] == pytest.approx(first[key], rel=1e-3), (path, key)
        folder = f"samples/step_{step:06d}"
        assert len(list((two / folder).glob("*.wav"))) == 1
        first, second = (read_audio(stage / folder / "00.wav", 0.0, None, 8000) for stage in (one, two))
        assert float((first - second).abs().max()) < 1e-3
    assert read_json(two / "evaluations/step_000002/fad_logmel.json")["n_generated"] == 5
    assert read_json(two / "evaluations/step_000002/si_snri.json")["n"] == 3 * 16
    assert read_json(two / "best.json")["step"] == read_json(one / "best.json")["step"]
