"""CLAP from a tiny folder of the same layout as the public ones: nothing random, windows, texts."""

import shutil

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from public_folders import CLAP_RATE as SAMPLE_RATE
from public_folders import write_clap
from transformers import BertConfig, BertModel, ClapFeatureExtractor, ClapModel, ClapProcessor

from melody_cm.cli.main import main
from melody_cm.evaluation.embeddings import ClapEmbedding
from melody_cm.storage import hash_weights, read_json


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("clap")
    write_clap(parent / "plain")
    write_clap(parent / "fused", fusion=True)
    return parent


@pytest.fixture(params=["plain", "fused"])
def embedding(folders, request):
    return ClapEmbedding(str(folders / request.param))


def music(seconds, rows=2):
    return 0.3 * torch.randn(rows, 1, round(seconds * SAMPLE_RATE))


@torch.no_grad()
@pytest.mark.parametrize(("name", "truncation"), [("plain", "rand_trunc"), ("fused", "fusion")])
def test_the_vectors_are_those_of_transformers_window_by_window(folders, name, truncation):
    embedding = ClapEmbedding(str(folders / name))
    waveform = music(3.0)
    found = embedding(waveform)
    assert found.shape == (2, 3, 8)
    model = ClapModel.from_pretrained(folders / name).eval()
    processor = ClapProcessor.from_pretrained(folders / name)
    windows = list(waveform.view(6, SAMPLE_RATE).numpy())
    mels = processor.feature_extractor(windows, sampling_rate=SAMPLE_RATE, truncation=truncation, return_tensors="pt")
    text = processor.tokenizer(["abc"] * 6, return_tensors="pt")
    short = torch.zeros(6, 1, dtype=torch.bool)
    expected = model(text["input_ids"], mels["input_features"].float(), is_longer=short)
    torch.testing.assert_close(found.flatten(0, 1), expected.audio_embeds)
    torch.testing.assert_close(embedding.embed_text(["abc"] * 6), expected.text_embeds)


@torch.no_grad()
def test_nothing_is_random_and_no_global_number_is_drawn(embedding):
    waveform = music(2.6)
    np.random.seed(1)
    first = embedding(waveform)
    np.random.seed(2)
    assert torch.equal(embedding(waveform), first)
    torch.testing.assert_close(embedding(waveform[1:]), first[1:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_unit_vectors_of_windows_clips_and_texts(embedding):
    waveform = music(2.6)
    windows = embedding(waveform)
    clips, texts = embedding.embed_audio(waveform), embedding.embed_text(["a slow waltz", "techno"])
    for vectors in (windows, clips, texts):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))
    assert clips.shape == texts.shape == (2, 8)
    torch.testing.assert_close(clips, F.normalize(windows.sum(1), dim=-1))
    torch.testing.assert_close(embedding.embed_audio(waveform[..., :SAMPLE_RATE]), windows[:, 0])


@torch.no_grad()
def test_a_text_does_not_depend_on_its_company_and_long_ones_are_cut(embedding):
    texts = ["waltz", "a" * 100, "b" * 100]
    together = embedding.embed_text(texts)
    torch.testing.assert_close(embedding.embed_text(texts[:1]), together[:1])
    torch.testing.assert_close(embedding.embed_text(["a" * 22]), together[1:2])
    assert not torch.allclose(together[1], together[2])
    last_letter_counts = embedding.embed_text(["a" * 21 + "b"])
    assert not torch.allclose(together[1:2], last_letter_counts)


@torch.no_grad()
def test_short_audio_is_repeated_to_a_window(folders):
    embedding = ClapEmbedding(str(folders / "plain"))
    waveform = music(0.5)
    torch.testing.assert_close(embedding(waveform), embedding(torch.cat([waveform, waveform], dim=-1)))


def test_the_identity_is_of_weights_and_settings(embedding, folders, tmp_path):
    identity = embedding.identity
    assert (identity.name, identity.sample_rate, identity.width) == ("clap", SAMPLE_RATE, 8)
    assert (identity.window, identity.trained) == ("1 s windows, evenly spread", True)
    assert identity.weights == hash_weights(embedding.network.model)
    write_clap(tmp_path / "other", seed=1)
    assert ClapEmbedding(str(tmp_path / "other")).identity.weights != identity.weights
    shutil.copytree(folders / "plain", tmp_path / "padded")
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=SAMPLE_RATE, hop_length=960, max_length_s=1, padding="pad"
    ).save_pretrained(tmp_path / "padded")
    (tmp_path / "padded/processor_config.json").unlink()
    padded, plain = ClapEmbedding(str(tmp_path / "padded")).identity, ClapEmbedding(str(folders / "plain")).identity
    assert padded.weights == plain.weights
    assert padded.version != plain.version


def test_it_is_frozen_in_fp32(embedding):
    embedding.train()
    assert not any(module.training for module in embedding.modules())
    assert {(p.dtype, p.requires_grad) for p in embedding.parameters()} == {(torch.float32, False)}
    assert torch.nn.ModuleList([embedding]).state_dict() == {}


def test_half_precision_weights_are_used_in_fp32(folders, tmp_path):
    shutil.copytree(folders / "plain", tmp_path / "half")
    ClapModel.from_pretrained(folders / "plain", dtype=torch.float16).save_pretrained(tmp_path / "half")
    assert next(ClapEmbedding(str(tmp_path / "half")).parameters()).dtype == torch.float32


def test_wrong_folders_are_one_clear_error(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"clap needs weights: hf download laion/clap-htsat-unfused"):
        ClapEmbedding(None)
    with pytest.raises(FileNotFoundError, match="there is no folder /no/such/clap"):
        ClapEmbedding("/no/such/clap")
    with pytest.raises(ValueError, match="gives no ClapProcessor for clap"):
        ClapEmbedding(str(tmp_path))
    shutil.copytree(folders / "plain", tmp_path / "bert")
    tiny = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(tiny).save_pretrained(tmp_path / "weights_of_bert")
    shutil.copy(tmp_path / "weights_of_bert/model.safetensors", tmp_path / "bert")
    with pytest.raises(ValueError, match=r"is no complete ClapModel: \d+ weights are missing, the first"):
        ClapEmbedding(str(tmp_path / "bert"))


def test_distance_and_score_of_a_folder_against_another_are_one_command(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    for side in ("made", "real"):
        (tmp_path / side).mkdir()
        for index in range(20):
            soundfile.write(tmp_path / side / f"{index}.wav", music(1.0, 1)[0, 0].clamp(-1, 1).numpy(), SAMPLE_RATE)
    (tmp_path / "prompts.txt").write_text("".join(f"prompt {index}\n" for index in range(20)))
    words = ["evaluate", "--generated", tmp_path / "made", "--reference", tmp_path / "real"]
    words += ["--embedding", f"clap_music:{folders / 'plain'}", "--prompts", tmp_path / "prompts.txt"]
    assert main([str(word) for word in [*words, "--out", tmp_path / "results.json"]]) == 0
    metrics = read_json(tmp_path / "results.json")["rows"][0]["metrics"]
    assert metrics["fad_clap"]["low"] < metrics["fad_clap"]["corrected"] < metrics["fad_clap"]["high"]
    assert metrics["text_correlation_clap"]["low"] < metrics["text_correlation_clap"]["high"]
