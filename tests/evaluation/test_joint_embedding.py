"""Our own joint embedding as a judge: from a run's stage, a stage's folder or an export."""

import pytest
import torch

from melody_cm.encoders import TwoTowerEmbedding
from melody_cm.evaluation.embeddings import JointAudioEmbedding, LogMelEmbedding
from melody_cm.interfaces import AudioEmbedding, JointEmbedding
from melody_cm.storage import enter_run, hash_weights, save_network, write_json

STAGE = "shared/1_joint_embedding"


def tiny():
    return TwoTowerEmbedding(
        sample_rate=8000, window_seconds=1.0, width=8, num_mels=16, n_fft=256, hop_length=80, audio_layers=1,
        audio_width=16, audio_heads=2, text_layers=1, text_width=16, text_heads=2, max_text_bytes=32,
    )  # fmt: skip


@pytest.fixture
def network():
    return tiny().eval()


@pytest.fixture
def stage(network, tmp_path):
    folder = tmp_path / "demo" / STAGE
    save_network(network, folder / "export/joint_embedding")
    write_json(folder / "finished.json", {})
    return folder


def test_a_stage_of_the_run_its_folder_and_its_export_are_the_same(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_RUN", "")
    enter_run(tmp_path / "demo")
    sources = [STAGE, str(stage), str(stage / "export"), str(stage / "export/joint_embedding")]
    assert len({JointAudioEmbedding(source).identity for source in sources}) == 1
    assert JointAudioEmbedding().identity == JointAudioEmbedding(STAGE).identity


@torch.no_grad()
def test_vectors_of_windows_clips_and_texts_are_the_networks(stage, network):
    embedding = JointAudioEmbedding(str(stage))
    waveform = 0.3 * torch.randn(2, 1, 24000)
    expected = torch.stack([network.embed_audio(waveform[..., i : i + 8000]) for i in (0, 8000, 16000)], dim=1)
    torch.testing.assert_close(embedding(waveform), expected)
    torch.testing.assert_close(embedding.embed_audio(waveform), network.embed_audio(waveform))
    torch.testing.assert_close(embedding.embed_text(["a", "bc"]), network.embed_text(["a", "bc"]))
    assert embedding(waveform[..., :4000]).shape == (2, 1, 8)


def test_it_is_an_audio_embedding_and_a_joint_one_with_an_identity(stage, network):
    embedding = JointAudioEmbedding(str(stage))
    assert isinstance(embedding, AudioEmbedding)
    assert isinstance(embedding, JointEmbedding)
    assert (embedding.name, embedding.sample_rate, embedding.width, embedding.window_seconds) == ("joint", 8000, 8, 1.0)
    assert embedding.identity.weights == hash_weights(network)
    assert "joint/1" in str(embedding.identity)


def test_other_weights_are_another_identity(stage, tmp_path):
    save_network(tiny(), tmp_path / "other")
    assert JointAudioEmbedding(str(tmp_path / "other")).identity != JointAudioEmbedding(str(stage)).identity


def test_it_is_frozen(stage):
    embedding = JointAudioEmbedding(str(stage)).train()
    assert not any(module.training for module in embedding.modules())
    assert not any(parameter.requires_grad for parameter in embedding.parameters())


def test_what_is_missing_or_no_joint_embedding_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_RUN", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"train recipes/shared/1_joint_embedding\.yaml; or .*joint:runs/NAME/"):
        JointAudioEmbedding()
    with pytest.raises(FileNotFoundError, match="holds no exported joint embedding"):
        JointAudioEmbedding(str(tmp_path))
    for path in ("/no/such/stage", "./shared/1_joint_embedding", "runs/demo/shared/1_joint_embedding"):
        with pytest.raises(FileNotFoundError, match=r"does not exist; give the folder of a finished stage"):
            JointAudioEmbedding(path)
    save_network(LogMelEmbedding(), tmp_path / "logmel")
    with pytest.raises(ValueError, match="holds a LogMelEmbedding; joint needs a joint text-audio embedding"):
        JointAudioEmbedding(str(tmp_path / "logmel"))
