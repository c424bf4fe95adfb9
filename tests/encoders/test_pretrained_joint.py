"""The two towers from folders of the public ones' layout, against transformers' own models and preprocessors."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from public_folders import AST_RATE, write_ast, write_bert
from transformers import ASTFeatureExtractor, ASTForAudioClassification, AutoTokenizer, BertForPreTraining

from melody_cm.encoders import PretrainedTwoTowerEmbedding
from melody_cm.signal import resample
from melody_cm.storage import load_network, save_network
from melody_cm.training.ema import averaged_copy

WINDOW = 0.6


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("towers")
    write_ast(parent / "ast")
    write_bert(parent / "bert")
    return parent


def make(folders, **arguments):
    sources = {"audio_tower": str(folders / "ast"), "text_tower": str(folders / "bert")}
    sizes = {"window_seconds": WINDOW, "window_stride_seconds": 0.3, "width": 24, "max_text_tokens": 20}
    return PretrainedTwoTowerEmbedding(**{**sources, **sizes, **arguments})


def music(seconds, rows=2, rate=AST_RATE):
    return 0.3 * torch.randn(rows, 1, round(seconds * rate))


@torch.no_grad()
def test_audio_is_the_public_tower_s_state_projected(folders):
    embedding, waveform = make(folders), music(WINDOW)
    extractor = ASTFeatureExtractor.from_pretrained(folders / "ast")
    mels = extractor(list(waveform[:, 0].numpy()), sampling_rate=AST_RATE, return_tensors="pt")["input_values"]
    tower = ASTForAudioClassification.from_pretrained(folders / "ast").eval().audio_spectrogram_transformer
    expected = F.normalize(embedding.audio_projection(tower(mels).pooler_output), dim=-1)
    torch.testing.assert_close(embedding.embed_audio(waveform), expected, atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_text_is_the_mean_of_the_public_tower_s_word_pieces_projected(folders):
    embedding, texts = make(folders), ["Slow PIANO waltz", "fast drums, é"]
    tokens = AutoTokenizer.from_pretrained(folders / "bert")(texts, padding=True, return_tensors="pt")
    tower = BertForPreTraining.from_pretrained(folders / "bert").eval().bert
    hidden = tower(**tokens).last_hidden_state
    means = [hidden[row, : tokens["attention_mask"][row].sum()].mean(0) for row in range(2)]
    expected = F.normalize(embedding.text_projection(torch.stack(means)), dim=-1)
    torch.testing.assert_close(embedding.embed_text(texts), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_other_rates_are_brought_to_the_audio_tower_s(folders):
    slow, fast = make(folders), make(folders, sample_rate=24000)
    fast.load_state_dict(slow.state_dict())
    waveform = music(WINDOW, rate=24000)
    torch.testing.assert_close(
        fast.embed_audio(waveform), slow.embed_audio(resample(waveform, 24000, AST_RATE)), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_long_audio_is_the_normalized_mean_of_its_windows(folders):
    embedding, waveform = make(folders), music(1.1)
    window, stride = round(WINDOW * AST_RATE), round(0.3 * AST_RATE)
    starts = [0, stride, waveform.shape[-1] - window]
    parts = [embedding.embed_audio(waveform[..., start : start + window]) for start in starts]
    torch.testing.assert_close(embedding.embed_audio(waveform), F.normalize(sum(parts) / 3, dim=-1))


def test_it_learns_and_dropout_is_off(folders):
    embedding, waveform = make(folders).train(), music(WINDOW)
    assert torch.equal(embedding.embed_audio(waveform), embedding.embed_audio(waveform))
    assert torch.equal(embedding.embed_text(["slow"]), embedding.embed_text(["slow"]))
    (embedding.embed_audio(waveform) @ embedding.embed_text(["slow", "fast"]).T).diagonal().sum().backward()
    lazy = [name for name, parameter in embedding.named_parameters() if parameter.grad is None]
    assert lazy == []


def test_an_export_holds_both_towers_whole_and_needs_no_source(folders, tmp_path):
    copied = tmp_path / "towers"
    shutil.copytree(folders, copied)
    embedding = make(copied).eval()
    save_network(averaged_copy(embedding), tmp_path / "export")
    shutil.rmtree(copied)
    again = load_network(tmp_path / "export")
    waveform, texts = music(1.0), ["slow piano", "fast drums"]
    assert torch.equal(again.embed_audio(waveform), embedding.embed_audio(waveform))
    assert torch.equal(again.embed_text(texts), embedding.embed_text(texts))
    assert str(copied) not in json.dumps(json.loads((tmp_path / "export/config.json").read_text())["init_args"])
    save_network(again, tmp_path / "twice")
    assert torch.equal(load_network(tmp_path / "twice").embed_text(texts), embedding.embed_text(texts))


def test_a_preprocessor_that_does_not_normalize_is_believed(folders, tmp_path):
    write_ast(tmp_path / "plain", do_normalize=False)
    embedding, waveform = make(folders, audio_tower=str(tmp_path / "plain")), music(WINDOW)
    extractor = ASTFeatureExtractor.from_pretrained(tmp_path / "plain")
    mels = extractor(list(waveform[:, 0].numpy()), sampling_rate=AST_RATE, return_tensors="pt")["input_values"]
    expected = F.normalize(embedding.audio_projection(embedding.audio_tower(mels).pooler_output), dim=-1)
    torch.testing.assert_close(embedding.embed_audio(waveform), expected, atol=2e-4, rtol=1e-3)


def test_what_cannot_be_had_or_does_not_fit_is_one_clear_error(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"audio_tower needs weights: hf download MIT/ast.* set audio_tower to"):
        make(folders, audio_tower=None)
    with pytest.raises(FileNotFoundError, match="there is no folder /no/bert with the weights of text_tower"):
        make(folders, text_tower="/no/bert")
    with pytest.raises(ValueError, match="gives no ASTFeatureExtractor for audio_tower"):
        make(folders, audio_tower=str(tmp_path))
    with pytest.raises(ValueError, match=r"window_seconds 0\.7 is longer than the 0\.64 s"):
        make(folders, window_seconds=0.7)
    with pytest.raises(ValueError, match=r"max_text_tokens 25 must be within 3 \.\. 24"):
        make(folders, max_text_tokens=25)
    with pytest.raises(ValueError, match="window_stride_seconds 0 must be above 0"):
        make(folders, window_stride_seconds=0.0)
    shutil.copytree(folders / "bert", tmp_path / "bert")
    shutil.copy(folders / "ast/model.safetensors", tmp_path / "bert")
    with pytest.raises(ValueError, match=r"is no complete BertModel: \d+ weights are missing"):
        make(folders, text_tower=str(tmp_path / "bert"))
