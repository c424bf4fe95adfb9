"""`melody-cm data encode` on the recipes themselves: networks of tiny size, untrained, as finished stages of a run."""

import pytest
import torch

from melody_cm.data import write_corpus
from melody_cm.data.encoded import encoded_folder
from melody_cm.interfaces import Autoencoder, Conditioner, Tokenizer
from melody_cm.runs import Run, Setting
from melody_cm.runs.encode import encode, encoders
from melody_cm.runs.training import Training
from melody_cm.storage import build, read_json, save_network, write_json

FINISHED = {
    "shared/1_joint_embedding": ["joint_embedding"],
    "musiccm/1_mel_vae": ["autoencoder"],
    "melody/2_semantic_tokenizer": ["tokenizer"],
    "melody/3_joint_tokenizer": ["tokenizer"],
    "melody/5_audio_vae_gan": ["autoencoder"],
    "musiccm/3_teacher": ["denoiser", "conditioner"],
}
STAGES = [
    "musiccm/3_teacher",
    "musiccm/4_consistency_distillation",
    "melody/4_semantic_lm",
    "melody/6_dual_path_diffusion",
]


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music") / "corpus"
    write_corpus(folder, 40, seconds=2.56, sample_rate=16000)
    return folder


def recipe_of(stage, music, *overrides):
    return Setting("tiny", "cpu", str(music), list(overrides)).compose(stage)


@pytest.fixture(scope="module")
def run(tmp_path_factory, music):
    """A run whose stages are finished, but for their training, and encoded."""
    folder = tmp_path_factory.mktemp("runs") / "r"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELODY_CM_RUN", str(folder))
        for stage, slots in FINISHED.items():
            torch.manual_seed(0)
            model = recipe_of(stage, music).config["model"]["init_args"]
            for slot in slots:
                network = build(model[slot])
                if isinstance(network, Tokenizer):
                    width = {"LogMelKMeans": 32, "ResidualKMeans": 64}[type(network).__name__]
                    network.fit(torch.randn(256, width) - 5 * (width == 32), seed=0)
                save_network(network, folder / stage / "export" / slot)
            write_json(folder / stage / "finished.json", {})
        encode([recipe_of(stage, music) for stage in STAGES], Run(folder), processes=1)
        yield folder


@pytest.fixture(autouse=True)
def _entered(run, monkeypatch):
    monkeypatch.setenv("MELODY_CM_RUN", str(run))


def training_of(stage, music, run, *overrides):
    return Training(recipe_of(stage, music, *overrides), run / stage)


@torch.no_grad()
def validation_losses(training):
    training.module.eval()
    return [training.module.losses(training.module.averaged, batch) for batch in training.data.val_dataloader()]


@pytest.mark.parametrize("stage", STAGES)
def test_losses_of_validation_are_those_of_encoding_on_the_fly(run, music, capsys, stage):
    training = training_of(stage, music, run)
    heard = validation_losses(training)
    training._read_encoded()
    assert f"{stage}: reads encoded " in capsys.readouterr().out
    assert not training.data.encoded.reads_waveform
    cached = validation_losses(training)
    assert len(heard) == len(cached) > 0
    for mine, theirs in zip(cached, heard, strict=True):
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-6)


def test_stages_of_one_corpus_rate_and_length_share_a_cache(run, music, capsys):
    folder = encoded_folder(run, recipe_of("musiccm/3_teacher", music).config["data"])
    names = {index.parent.relative_to(folder).as_posix() for index in folder.rglob("index.json")}
    assert names == {
        "shared/1_joint_embedding/text_embedding",
        "musiccm/1_mel_vae/posterior",
        "melody/2_semantic_tokenizer/codes",
        "melody/3_joint_tokenizer/codes",
        "melody/5_audio_vae_gan/posterior",
    }
    training = training_of("musiccm/3_teacher", music, run, "--data.seconds", "1.28")
    training._read_encoded()
    assert training.data.encoded is None, "another length is another cache"


@pytest.mark.parametrize(
    ("stage", "steps", "times"), [("3_teacher", 32, "8"), ("3_teacher", 12, ""), ("1_mel_vae", 99, "")]
)
def test_a_training_that_hears_each_clip_often_says_that_once_is_enough(run, music, capsys, stage, steps, times):
    options = ["--data.seconds", "1.28", "--trainer.max_steps", str(steps), "--data.batch_size", "8"]
    training = training_of(f"musiccm/{stage}", music, run, *options)
    assert len(training.data.split_clips("train")) == 32
    training._read_encoded()
    said = capsys.readouterr().out
    assert (f"work on each clip about {times} times; once is enough after `melody-cm data encode`" in said) == bool(
        times
    )


def test_what_is_there_is_skipped_and_what_cannot_be_encoded_left_out(run, music, capsys, tmp_path):
    recipes = [recipe_of(stage, music) for stage in ("musiccm/1_mel_vae", "musiccm/3_teacher")]
    encode(recipes, Run(run))
    out = capsys.readouterr().out
    assert "musiccm/1_mel_vae: has no frozen encoder, nothing to encode" in out
    assert "musiccm/3_teacher: musiccm/1_mel_vae/posterior encoded before, skipped" in out
    encode(recipes, Run(tmp_path / "none"), skip_unfinished=True)
    assert "musiccm/3_teacher: left out, stage " in capsys.readouterr().out
    for finished, skip in ((recipes, False), (recipes[1:], True)):
        with pytest.raises(FileNotFoundError, match="train it first"):
            encode(finished, Run(tmp_path / "none"), skip_unfinished=skip)


def test_again_replaces_what_is_there_once(run, music, capsys):
    stages = ("musiccm/3_teacher", "musiccm/4_consistency_distillation")
    encode([recipe_of(stage, music) for stage in stages], Run(run), processes=2, again=True)
    out = capsys.readouterr().out
    assert "musiccm/3_teacher: encoded 40 clips in " in out
    assert "musiccm/4_consistency_distillation: musiccm/1_mel_vae/posterior encoded before, skipped" in out


def test_bad_clips_are_named_and_counted(run, tmp_path, capsys):
    write_corpus(tmp_path / "music", 12, seconds=1.0, sample_rate=16000)
    next((tmp_path / "music").rglob("*.flac")).write_bytes(b"not sound")
    encode([recipe_of("melody/6_dual_path_diffusion", tmp_path / "music")], Run(run), processes=1)
    out = capsys.readouterr().out
    assert "left out a bad clip: " in out
    assert "encoded 11 clips in " in out
    assert "; 1 bad clips left out, see `melody-cm data check`" in out


def test_a_training_refuses_a_stale_cache_before_it_begins(run, music):
    index = next((run / "encoded").glob("*/musiccm/1_mel_vae/posterior/index.json"))
    whole = index.read_bytes()
    try:
        write_json(index, {**read_json(index), "weights": {"musiccm/1_mel_vae": "0"}})
        with pytest.raises(
            ValueError, match=r"^musiccm/3_teacher: .*weights of musiccm/1_mel_vae: 0 -> \w+; run .*again"
        ):
            training_of("musiccm/3_teacher", music, run)._read_encoded()
    finally:
        index.write_bytes(whole)


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_parts_that_encode_are_built(run, music, stage):
    assert all(isinstance(part, Autoencoder | Tokenizer | Conditioner) for part in encoders(recipe_of(stage, music)))
