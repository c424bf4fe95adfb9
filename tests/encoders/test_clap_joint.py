"""CLAP as the joint embedding of a run: a tiny folder of the public layout."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from public_folders import CLAP_RATE, write_clap
from transformers import ClapModel, ClapProcessor

from melody_cm.encoders import ClapJointEmbedding, ResidualKMeans, TextConditioner
from melody_cm.signal import resample
from melody_cm.storage import load_network, save_network
from melody_cm.training.ema import averaged_copy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clap")
    write_clap(folder)
    return folder


def music(seconds, rate=CLAP_RATE):
    return 0.3 * torch.randn(2, 1, round(seconds * rate))


@torch.no_grad()
def test_the_vectors_are_those_of_transformers(folder):
    embedding, waveform = ClapJointEmbedding(str(folder)), music(2.0)
    model, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
    windows = list(waveform.view(4, CLAP_RATE).numpy())
    extracted = processor.feature_extractor(
        windows, sampling_rate=CLAP_RATE, truncation="rand_trunc", return_tensors="pt"
    )
    texts = processor.tokenizer(["abc", "z"], padding=True, return_tensors="pt")
    short = torch.zeros(4, 1, dtype=torch.bool)
    expected = model(texts["input_ids"], extracted["input_features"].float(), short, texts["attention_mask"])
    clips = F.normalize(expected.audio_embeds.view(2, 2, 8).mean(1), dim=-1)
    torch.testing.assert_close(embedding.embed_audio(waveform), clips)
    torch.testing.assert_close(embedding.embed_text(["abc", "z"]), expected.text_embeds)
    assert (embedding.width, embedding.window_seconds, embedding.sample_rate) == (8, 1.0, CLAP_RATE)


def test_other_rates_are_brought_to_clap_s(folder):
    waveform = music(1.0, 24000)
    expected = ClapJointEmbedding(str(folder)).embed_audio(resample(waveform, 24000, CLAP_RATE))
    torch.testing.assert_close(ClapJointEmbedding(str(folder), 24000).embed_audio(waveform), expected)


def test_an_export_holds_it_whole_and_needs_no_source(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "clap")
    embedding = ClapJointEmbedding(str(tmp_path / "clap"), 24000)
    save_network(averaged_copy(embedding), tmp_path / "export")
    shutil.rmtree(tmp_path / "clap")
    again = load_network(tmp_path / "export")
    assert again.sample_rate == 24000
    waveform = music(1.7, 24000)
    assert torch.equal(again.embed_audio(waveform), embedding.embed_audio(waveform))
    assert torch.equal(again.embed_text(["waltz"]), embedding.embed_text(["waltz"]))


def test_it_is_frozen_and_stays_in_evaluation_mode(folder):
    embedding = ClapJointEmbedding(str(folder)).train()
    assert not any(module.training for module in embedding.modules())
    assert not any(parameter.requires_grad for parameter in embedding.parameters())


def test_it_conditions_and_is_tokenized_like_our_own(folder):
    embedding = ClapJointEmbedding(str(folder))
    assert TextConditioner(embedding, width=8).joint_embedding is embedding
    tokenizer = ResidualKMeans(embedding, num_codebooks=2, codebook_size=2, width=8)
    texts = ["waltz", "techno", "ambient"]
    torch.testing.assert_close(tokenizer.text_features(texts)[:, 0], embedding.embed_text(texts))
    with pytest.raises(ValueError, match="width 128 must be the joint embedding's own, 8"):
        TextConditioner(embedding)


def test_what_cannot_be_had_is_one_clear_error(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="clap needs weights: hf download laion/clap-htsat-unfused"):
        ClapJointEmbedding(None)
    with pytest.raises(FileNotFoundError, match="there is no folder /no/such/clap"):
        ClapJointEmbedding("/no/such/clap")
    with pytest.raises(ValueError, match="gives no ClapProcessor for clap"):
        ClapJointEmbedding(str(tmp_path))
