"""`melody-cm data encode` on the recipes themselves: networks of tiny size, untrained, as finished stages of a run."""

from pathlib import Path

import pytest
import torch
from melody_cm.cli.encode import Options, encode_all, frozen_slots

from melody_cm.cli.main import main
from melody_cm.cli.plan import Setting
from melody_cm.cli.training import StageCLI, read_encoded
from melody_cm.data import write_corpus
from melody_cm.interfaces import Tokenizer
from melody_cm.storage import build, find_class, read_json, save_network, write_json

REPOSITORY = Path(__file__).resolve().parents[2]
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


def setting(music, *overrides):
    return Setting("tiny", "cpu", str(music), list(overrides))


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music") / "corpus"
    write_corpus(folder, 40, seconds=2.56, sample_rate=16000)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, music):
    """A run whose stages are finished, but for their training."""
    folder = tmp_path_factory.mktemp("runs") / "r"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELODY_CM_RUN", str(folder))
        for stage, slots in FINISHED.items():
            torch.manual_seed(0)
            model = setting(music).compose(REPOSITORY / f"recipes/{stage}.yaml").config["model"]["init_args"]
            for slot in slots:
                network = build(model[slot])
                if isinstance(network, Tokenizer):
                    width = {"LogMelKMeans": 32, "ResidualKMeans": 64}[type(network).__name__]
                    network.fit(torch.randn(256, width) - 5 * (width == 32), seed=0)
                save_network(network, folder / stage / "export" / slot)
            write_json(folder / stage / "finished.json", {})
        recipes = [setting(music).compose(REPOSITORY / f"recipes/{stage}.yaml") for stage in STAGES]
        encode_all(recipes, folder, Options(processes=1), skip_unfinished=False)
        yield folder


def stage_cli(stage, music, run, *overrides):
    recipe = setting(music, *overrides).compose(REPOSITORY / f"recipes/{stage}.yaml")
    return StageCLI(recipe, run / stage)


@torch.no_grad()
def validation_losses(cli):
    cli.model.eval()
    return [cli.model.losses(cli.model.averaged, batch) for batch in cli.datamodule.val_dataloader()]


@pytest.mark.parametrize("stage", STAGES)
def test_losses_of_validation_are_those_of_encoding_on_the_fly(run, music, monkeypatch, capsys, stage):
    monkeypatch.setenv("MELODY_CM_RUN", str(run))
    cli = stage_cli(stage, music, run)
    heard = validation_losses(cli)
    read_encoded(cli)
    assert f"{stage}: reads encoded " in capsys.readouterr().out
    assert not cli.datamodule.encoded.reads_waveform
    cached = validation_losses(cli)
    assert len(heard) == len(cached) > 0
    for mine, theirs in zip(cached, heard, strict=True):
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-6)


def test_stages_of_one_corpus_rate_and_length_share_a_cache(run, music, monkeypatch, capsys):
    monkeypatch.setenv("MELODY_CM_RUN", str(run))
    (folder,) = (run / "encoded").iterdir()
    names = {index.parent.relative_to(folder).as_posix() for index in folder.rglob("index.json")}
    assert names == {
        "shared/1_joint_embedding/text_embedding",
        "musiccm/1_mel_vae/posterior",
        "melody/2_semantic_tokenizer/codes",
        "melody/3_joint_tokenizer/codes",
        "melody/5_audio_vae_gan/posterior",
    }
    cli = stage_cli("musiccm/3_teacher", music, run, "--data.seconds", "1.28")
    read_encoded(cli)
    assert cli.datamodule.encoded is None, "another length is another cache"
    assert "nothing whole is encoded for its encoders, corpus, rate and length" in capsys.readouterr().out


def test_the_command_skips_what_is_there_and_leaves_out_what_cannot_be(run, music, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("MELODY_CM_RUN", str(run))
    options = ["--size", "tiny", "--run", "r", "--runs", str(run.parent), "--corpus", str(music)]
    assert main(["data", "encode", "recipes/musiccm", *options]) == 0
    out = capsys.readouterr().out
    assert "musiccm/1_mel_vae: has no frozen encoder, nothing to encode" in out
    assert "musiccm/3_teacher: musiccm/1_mel_vae/posterior encoded before, skipped" in out
    assert main(["data", "encode", "recipes/musiccm/3_teacher.yaml", *options[:2], "--run", "none"]) == 2
    assert "train it first" in capsys.readouterr().err
    assert main(["data", "encode", "recipes/musiccm", *options[2:]]) == 2
    assert "--size must be said" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "encode", "recipes/musiccm", *options, "--processes", "0"])


def test_a_training_refuses_a_stale_cache_before_it_begins(run, music, monkeypatch, tmp_path):
    monkeypatch.setenv("MELODY_CM_RUN", str(run))
    index = next((run / "encoded").glob("*/musiccm/1_mel_vae/posterior/index.json"))
    whole = index.read_bytes()
    try:
        write_json(index, {**read_json(index), "weights": {"musiccm/1_mel_vae": "0"}})
        with pytest.raises(
            ValueError, match=r"^musiccm/3_teacher: .*weights of musiccm/1_mel_vae: 0 -> \w+; run .*again"
        ):
            read_encoded(stage_cli("musiccm/3_teacher", music, run))
    finally:
        index.write_bytes(whole)


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_parts_that_encode_are_built(run, music, monkeypatch, stage):
    monkeypatch.setenv("MELODY_CM_RUN", str(run))
    recipe = setting(music).compose(REPOSITORY / f"recipes/{stage}.yaml")
    classes = {find_class(slot["class_path"]).__name__ for slot in frozen_slots(recipe)}
    assert classes <= {
        "FrozenAutoencoder",
        "FrozenTokenizer",
        "FrozenConditioner",
        "TextConditioner",
        "SemanticConditioner",
    }
