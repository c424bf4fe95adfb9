"""Evaluations while training, written into recipes and run by the real command line."""

import copy
import json
import math
import re
from pathlib import Path

import pytest
import torch
from callback_toys import LOGMEL, autoencoder_recipe, build_house, callback, diffusion_recipe
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from melody_cm.cli.main import main
from melody_cm.data import read_audio
from melody_cm.evaluation import EmbeddingStatistics, embed, frechet_score
from melody_cm.evaluation.callbacks import AudioSamplesCallback, FrechetAudioDistanceCallback, SISNRCallback
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.storage import load_network, read_json

STAGE = Path("runs/demo/toy/1_stage")
ALL = [
    callback("FrechetAudioDistanceCallback", embedding=LOGMEL, every_n_steps=3, num_clips=4),
    callback("SISNRCallback", every_n_steps=3, num_clips=3),
    callback("AudioSamplesCallback", every_n_steps=3, num_clips=2),
]
BEST = {"class_path": "melody_cm.training.BestCheckpoint", "init_args": {"monitor": "val/fad_logmel", "mode": "min"}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The music of all recipes here, rendered once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(tmp_path, monkeypatch, cache, capsys):
    """Train a recipe with the real command line; returns exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MELODY_CM_CACHE", str(cache))
    monkeypatch.setenv("MELODY_CM_RUN", "")

    def train(recipe, run="demo", *arguments):
        build_house(tmp_path, recipe)
        code = main(["train", "recipes/toy", "--size", "tiny", "--run", run, *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return train


def scalars(stage):
    """(step, value) of every scalar that TensorBoard shows."""
    events = EventAccumulator(str(stage / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def weights(run):
    return torch.load(Path("runs") / run / "toy/1_stage/last.ckpt", weights_only=True)["state_dict"]


def assert_bit_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_n_steps_and_after_the_last_values_go_to_tensorboard_and_to_files(train):
    code, printed = train(diffusion_recipe(ALL, accumulate_grad_batches=2))
    assert code == 0, printed
    shown = scalars(STAGE)
    for key in ("val/fad_logmel", "val/fad_logmel_n", "val/si_snri", "val/si_snri_median", "val/velocity_mse"):
        assert [step for step, _ in shown[key]] == [3, 6, 8], "steps of the optimizer, not micro-batches"
        assert all(math.isfinite(value) for _, value in shown[key])
    assert [value for _, value in shown["val/fad_logmel_n"]] == [4, 4, 4]
    whole = read_json(STAGE / "evaluations/step_000008/fad_logmel.json")
    assert whole["value"] == pytest.approx(shown["val/fad_logmel"][-1][1], rel=1e-6)
    assert whole["embedding"]["name"] == "logmel"
    assert (whole["step"], whole["n_generated"], whole["too_few"]) == (8, 4, True)
    curve = read_json(STAGE / "evaluations/step_000003/si_snri.json")
    assert len(curve["angles"]) == len(curve["si_snri_by_angle"]) == 16
    assert curve["n"] == 3 * 16
    assert sum(curve["si_snri_by_angle"]) / 16 == pytest.approx(curve["si_snri"])


def test_samples_can_be_heard_and_seen(train):
    assert train(diffusion_recipe([callback("AudioSamplesCallback", every_n_steps=5, num_clips=2)]))[0] == 0
    assert sorted(path.name for path in (STAGE / "samples").iterdir()) == ["held_back", "step_000005", "step_000008"]
    for folder in (STAGE / "samples").iterdir():
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["00.png", "00.wav", "01.png", "01.wav", "captions.json"]
        assert len(read_audio(folder / "01.wav", 0.0, None, 8000)) == 8192
        with Image.open(folder / "01.png") as picture:
            assert picture.size[0] > 32
            assert picture.getextrema() != ((0, 0), (0, 0), (0, 4)), "not all black"
    assert all(text for text in read_json(STAGE / "samples/held_back/captions.json").values())
    events = EventAccumulator(str(STAGE / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["audio"]) == {"samples/00", "samples/01", "held_back/00", "held_back/01"}
    assert "samples_spectrogram/01" in events.Tags()["images"]


def test_prompts_take_the_place_of_held_back_clips(train):
    prompts = ["slow piano", "a fast drum", "rain"]
    callbacks = [
        callback("AudioSamplesCallback", every_n_steps=8, prompts=prompts),
        callback("FrechetAudioDistanceCallback", embedding=LOGMEL, every_n_steps=8, prompts=list(prompts)),
    ]
    code, printed = train(diffusion_recipe(callbacks))
    assert code == 0, printed
    assert list(read_json(STAGE / "samples/step_000008/captions.json").values()) == prompts
    assert not (STAGE / "samples/held_back").exists()
    assert scalars(STAGE)["val/fad_logmel_n"] == [(8, 3)]


def test_an_autoencoder_is_judged_by_its_reconstruction(train):
    callbacks = [*ALL, {**BEST, "init_args": {"monitor": "val/si_snr", "mode": "max"}}]
    code, printed = train(autoencoder_recipe(callbacks))
    assert code == 0, printed
    shown = scalars(STAGE)["val/si_snr"]
    assert [step for step, _ in shown] == [3, 6, 8]
    assert shown[0][1] < shown[-1][1], "it learns"
    assert "val/si_snri" not in scalars(STAGE)
    hums = {tag: [value for _, value in scalars(STAGE)[tag]] for tag in ("val/comb", "val/comb_real")}
    assert len(set(hums["val/comb"])) > 1, "it changes with the weights"
    assert len(set(hums["val/comb_real"])) == 1, "that of the music does not"
    assert all(math.isfinite(value) for values in hums.values() for value in values)
    assert read_json(STAGE / "best.json")["value"] == pytest.approx(max(value for _, value in shown))


def test_evaluations_change_nothing_in_the_training(train):
    recipe = diffusion_recipe([], dropout=0.3)
    assert train(recipe, "blind")[0] == 0
    assert train({**recipe, "trainer": {**recipe["trainer"], "callbacks": ALL}}, "watched")[0] == 0
    assert_bit_equal(weights("watched"), weights("blind"))
    assert not any("embedding" in name for name in weights("watched"))


class StoppedError(Exception):
    """Stands for a machine that dies."""


def test_a_resumed_training_is_evaluated_and_ends_as_an_undisturbed_one(train, monkeypatch):
    # BestCheckpoint first: the order in the recipe does not matter.
    recipe = diffusion_recipe([BEST, *ALL], steps=12, accumulate_grad_batches=2)
    assert train(recipe, "whole")[0] == 0
    evaluate = SISNRCallback.evaluate

    def die(self, trainer, module, step):
        if step == 9:
            raise StoppedError
        return evaluate(self, trainer, module, step)

    resumed = []

    def count(self, trainer, module, step):
        resumed.append(step)
        return evaluate(self, trainer, module, step)

    monkeypatch.setattr(SISNRCallback, "evaluate", die)
    assert train(recipe, "broken")[0] != 0
    monkeypatch.setattr(SISNRCallback, "evaluate", count)
    assert torch.load("runs/broken/toy/1_stage/last.ckpt", weights_only=True)["global_step"] == 6
    assert train(recipe, "broken")[0] == 0
    assert resumed == [9, 12], "and not 6 once more, by the micro-batch after it"
    assert_bit_equal(weights("broken"), weights("whole"))
    broken, whole = Path("runs/broken/toy/1_stage"), Path("runs/whole/toy/1_stage")
    assert read_json(broken / "best.json") == read_json(whole / "best.json")
    for step in (3, 6, 9, 12):
        name = f"evaluations/step_{step:06d}/fad_logmel.json"
        assert read_json(broken / name) == read_json(whole / name), "the same clips and noise"


def test_the_best_by_a_metric_is_kept_and_exported(train, monkeypatch):
    values = iter([3.0, 1.0, 2.0, math.nan])
    monkeypatch.setattr(FrechetAudioDistanceCallback, "evaluate", lambda *arguments: {"val/fad_logmel": next(values)})
    fad = callback("FrechetAudioDistanceCallback", embedding=LOGMEL, every_n_steps=2, num_clips=2)
    code, printed = train(diffusion_recipe([fad, BEST]))
    assert code == 0, printed
    assert read_json(STAGE / "best.json") == {"monitor": "val/fad_logmel", "mode": "min", "value": 1.0, "step": 4}
    best = torch.load(STAGE / "best.ckpt", weights_only=True)
    assert best["global_step"] == 4
    exported = load_network(STAGE / "best/denoiser").state_dict()
    last = load_network(STAGE / "export/denoiser").state_dict()
    for name, value in exported.items():
        assert torch.equal(value, best["state_dict"][f"averaged.denoiser.{name}"])
    assert any(not torch.equal(exported[name], last[name]) for name in last)
    (STAGE / "export").rename(STAGE / "last")
    (STAGE / "best").rename(STAGE / "export")
    code, printed = train(diffusion_recipe([fad, BEST]))
    assert code == 0, printed
    (STAGE / "last/denoiser").rename(STAGE / "export/another")
    code, printed = train(diffusion_recipe([fad, BEST]))
    assert code != 0
    assert "is not what was written when the stage was finished" in printed


def test_a_resumed_training_remembers_what_was_best(train, monkeypatch):
    values = {2: 1.0, 4: 2.0, 8: 2.5}  # Step 6 has none: there the first attempt dies.
    monkeypatch.setattr(
        FrechetAudioDistanceCallback, "evaluate", lambda self, t, m, step: {"val/fad_logmel": values[step]}
    )
    fad = callback("FrechetAudioDistanceCallback", embedding=LOGMEL, every_n_steps=2, num_clips=2)
    assert train(diffusion_recipe([fad, BEST]))[0] != 0
    values[6] = 3.0
    assert train(diffusion_recipe([fad, BEST]))[0] == 0
    assert read_json(STAGE / "best.json")["step"] == 2
    assert torch.load(STAGE / "best.ckpt", weights_only=True)["global_step"] == 2


def test_the_validation_loss_can_be_monitored(train):
    best = {**BEST, "init_args": {"monitor": "val/loss"}}
    assert train(diffusion_recipe([best]))[0] == 0
    measured = dict(scalars(STAGE)["val/loss"])
    assert read_json(STAGE / "best.json")["value"] == pytest.approx(min(measured.values()))
    assert read_json(STAGE / "best.json")["step"] in (4, 8)


def test_lightnings_own_checkpoints_find_the_metric(train):
    arguments = {"monitor": "val/fad_logmel", "mode": "min", "every_n_train_steps": 3, "dirpath": "kept"}
    kept = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": arguments}
    code, printed = train(diffusion_recipe([ALL[0], kept]))
    assert code == 0, printed
    assert len(list(Path("kept").glob("*.ckpt"))) == 1


def test_the_distance_is_that_of_a_computation_by_hand(train, monkeypatch):
    """The same clips sampled by hand from the exported networks and compared with all held-back music."""
    made = []
    sample = FrechetAudioDistanceCallback.sample

    def remember(self, trainer, module, batch):
        waveform = sample(self, trainer, module, batch)
        assert not module.training
        torch.testing.assert_close(waveform, module.sample(batch), rtol=1e-4, atol=1e-5)
        made.append((waveform, [clip.piece for clip in trainer.datamodule.split_clips("valid")], trainer.datamodule))
        return waveform

    monkeypatch.setattr(FrechetAudioDistanceCallback, "sample", remember)
    fad = callback("FrechetAudioDistanceCallback", embedding=LOGMEL, every_n_steps=8, num_clips=3, batch_size=2)
    assert train(diffusion_recipe([fad]))[0] == 0
    embedding = LogMelEmbedding(num_bands=2)
    generated = torch.cat([waveform for waveform, _, _ in made])
    assert len(generated) == 3
    ours, theirs = EmbeddingStatistics.empty(embedding.width), EmbeddingStatistics.empty(embedding.width)
    ours.add(embed(embedding, generated, 8000), ["0", "1", "2"])
    for batch in made[0][2].batches("valid", 4):
        theirs.add(embed(embedding, batch.waveform, 8000), [str(i) for i in batch.item.tolist()])
    expected = frechet_score(ours, theirs, embedding.identity).value
    assert scalars(STAGE)["val/fad_logmel"][0][1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_reference_is_embedded_once(train, monkeypatch, cache):
    embedded = []
    embed_real = FrechetAudioDistanceCallback._embed_real
    monkeypatch.setattr(
        FrechetAudioDistanceCallback,
        "_embed_real",
        lambda self, trainer: embedded.append(1) or embed_real(self, trainer),
    )
    monkeypatch.setenv("MELODY_CM_CACHE", str(cache / "own"))
    fad = callback("FrechetAudioDistanceCallback", embedding=LOGMEL, every_n_steps=4, num_clips=2)
    assert train(diffusion_recipe([fad]), "one")[0] == 0
    assert train(diffusion_recipe([fad]), "two")[0] == 0
    assert len(embedded) == 1
    other = copy.deepcopy(fad)
    other["init_args"]["embedding"]["init_args"]["num_bands"] = 3
    assert train(diffusion_recipe([other]), "three")[0] == 0
    assert len(embedded) == 2, "another embedding has statistics of its own"


def test_silent_and_broken_samples_are_counted(train, monkeypatch):
    sample = FrechetAudioDistanceCallback.sample

    def spoil(self, trainer, module, batch):
        waveform = sample(self, trainer, module, batch)
        waveform[0], waveform[1, 0, 5] = 0.0, math.nan
        return waveform

    monkeypatch.setattr(FrechetAudioDistanceCallback, "sample", spoil)
    assert train(diffusion_recipe([ALL[0]], steps=3))[0] == 0
    shown = scalars(STAGE)
    assert (shown["val/fad_logmel_n"], shown["val/fad_logmel_dropped"]) == ([(3, 2)], [(3, 2)])
    whole = read_json(STAGE / "evaluations/step_000003/fad_logmel.json")
    assert whole["dropped"]["generated"] == {"silent": 1, "not finite": 1}


def test_a_network_that_makes_only_silence_does_not_stop_the_training(train, monkeypatch):
    monkeypatch.setattr(FrechetAudioDistanceCallback, "sample", lambda self, t, m, batch: 0 * batch.waveform)
    assert train(diffusion_recipe([ALL[0], BEST], steps=3))[0] == 0
    assert scalars(STAGE)["val/fad_logmel_n"] == [(3, 0)]
    assert not (STAGE / "best.ckpt").exists()


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([callback("SISNRCallbak", every_n_steps=1)], r"SISNRCallbak"),
        ([callback("SISNRCallback", every_n_step=1)], r"1_stage.yaml: .*every_n_step: .*nearest .* 'every_n_steps'"),
        ([callback("SISNRCallback", every_n_steps=0)], r"every_n_steps is 0; use at least 1"),
        ([callback("AudioSamplesCallback", every_n_steps=1, prompts=[])], r"prompts is empty"),
        ([{**BEST, "init_args": {"monitor": "val/fad_logmell"}}, ALL[0]], r"fad_logmell' is .* first, val/fad_logmel,"),
        ([{**BEST, "init_args": {"monitor": "val/fad_logmel", "mode": "least"}}], r"callbacks.*'least' .* 'min'"),
    ],
)  # fmt: skip
def test_mistakes_in_a_recipe_are_told_in_one_line(train, callbacks, message):
    code, printed = train(diffusion_recipe(callbacks))
    assert code == 2
    assert re.search(message, printed.strip().splitlines()[-1]), printed
    assert not (STAGE / "last.ckpt").exists()


def test_clips_too_short_for_the_embedding_are_refused_before_training(train):
    recipe = diffusion_recipe([ALL[0]])
    recipe["data"]["seconds"] = 0.512
    code, printed = train(recipe)
    assert code == 2
    assert "logmel needs at least" in printed
    assert not (STAGE / "last.ckpt").exists()


def test_prompts_are_refused_where_nothing_starts_from_captions(train):
    code, printed = train(autoencoder_recipe([callback("AudioSamplesCallback", every_n_steps=1, prompts=["rain"])]))
    assert code == 2
    assert "AudioSamplesCallback cannot evaluate AutoencoderTraining: it does not start from captions" in printed


def test_a_stage_that_makes_no_music_is_refused():
    class Deaf(LightningModule):
        steps_taken = torch.zeros(())

    audio_samples = AudioSamplesCallback(every_n_steps=1)
    for watching in (FrechetAudioDistanceCallback(LogMelEmbedding(), 1), SISNRCallback(1), audio_samples):
        with pytest.raises(ValueError, match=f"{type(watching).__name__} cannot evaluate Deaf: .*remove it"):
            watching.setup(Trainer(logger=False, enable_checkpointing=False), Deaf(), "fit")


def test_the_results_are_plain_json(train):
    assert train(diffusion_recipe(ALL[:2], steps=3))[0] == 0
    files = list(STAGE.glob("evaluations/*/*.json"))
    assert len(files) == 2
    for path in files:
        json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
