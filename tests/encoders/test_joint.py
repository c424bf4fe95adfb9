import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from melody_cm.encoders import TwoTowerEmbedding
from melody_cm.evaluation.retrieval import recall
from melody_cm.losses.contrastive import ContrastiveLoss
from melody_cm.nn.texts import ByteTokens
from melody_cm.signal.windows import window_starts
from melody_cm.storage import build, load_network, save_network

SAMPLE_RATE = 8000


def tiny(**arguments) -> TwoTowerEmbedding:
    sizes = {
        "audio_layers": 1,
        "audio_width": 32,
        "audio_heads": 2,
        "text_layers": 1,
        "text_width": 32,
        "text_heads": 2,
    }
    window = {"sample_rate": SAMPLE_RATE, "window_seconds": 0.64, "window_stride_seconds": 0.32}
    mel = {"num_mels": 32, "n_fft": 512, "hop_length": 80, "patch_size": 16, "patch_stride": 16}
    return TwoTowerEmbedding(**{"width": 24, "max_text_bytes": 64, **sizes, **window, **mel, **arguments})


def test_the_preset_has_the_size_of_two_base_towers():
    preset = Path(__file__).resolve().parents[2] / "configs/joint_embedding/two_tower.yaml"
    with torch.device("meta"):
        embedding = build(yaml.safe_load(preset.read_text()))
    layer = 4 * 768**2 + 8 * 768**2 + (4 + 1 + 4 + 4) * 768
    patches = ((128 - 16) // 10 + 1) * ((1000 - 16) // 10 + 1)
    audio = 12 * layer + (patches + 4) * 768 + 16 * 16 * 768 + 768 + 2 * 768
    text = 12 * layer + (258 + 513 + 1 + 2) * 768
    assert sum(p.numel() for p in embedding.parameters()) == audio + text + 2 * (768 + 1) * 128


def test_embeddings_are_unit_vectors_of_the_shared_width():
    embedding = tiny()
    audio, text = embedding.embed_audio(torch.randn(3, 1, 5120)), embedding.embed_text(["a", "b c", "d" * 70])
    for vectors in (audio, text):
        assert vectors.shape == (3, 24)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_texts_are_read_to_the_limit_and_no_further():
    embedding = tiny()
    base = "y" * 63
    one, two, three = embedding.embed_text([base + "aX", base + "aY", base + "bX"]).detach()
    assert torch.equal(one, two)
    assert not torch.allclose(one, three)


def test_byte_tokens_tell_all_bytes_from_padding():
    tokens, mask = ByteTokens(10)(["é\x00", ""])
    assert tokens.tolist() == [[1, 0xC3 + 2, 0xA9 + 2, 2], [1, 0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


def test_a_text_alone_is_the_text_in_a_batch():
    embedding = tiny()
    texts = ["slow", "a much longer description of fast music", "x"]
    together = embedding.embed_text(texts)
    for row, text in enumerate(texts):
        torch.testing.assert_close(embedding.embed_text([text])[0], together[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("length", "starts"), [(3, [0]), (10, [0]), (11, [0, 1]), (14, [0, 4]), (20, [0, 4, 8, 10]), (22, [0, 4, 8, 12])]
)
def test_windows_cover_all_of_the_audio(length, starts):
    assert window_starts(length, window=10, stride=4) == starts


def test_long_audio_is_the_normalized_mean_of_its_windows():
    embedding = tiny()
    waveform = torch.randn(2, 1, 5120 + 3000)
    windows = [embedding.embed_audio(waveform[..., start : start + 5120]) for start in (0, 2560, 3000)]
    expected = F.normalize(sum(windows) / 3, dim=-1)
    torch.testing.assert_close(embedding.embed_audio(waveform), expected)


def test_short_audio_is_padded_with_silence():
    embedding = tiny()
    waveform = torch.randn(2, 1, 1000)
    torch.testing.assert_close(embedding.embed_audio(waveform), embedding.embed_audio(F.pad(waveform, (0, 4120))))


def test_training_and_evaluation_see_the_same_embedding():
    embedding = tiny()
    waveform = torch.randn(2, 1, 5120)
    assert torch.equal(embedding.train().embed_audio(waveform), embedding.eval().embed_audio(waveform))
    assert torch.equal(embedding.train().embed_text(["a"]), embedding.eval().embed_text(["a"]))


def test_an_exported_embedding_comes_back_the_same(tmp_path):
    embedding = tiny().eval()
    save_network(embedding, tmp_path / "joint_embedding")
    again = load_network(tmp_path / "joint_embedding")
    waveform = torch.randn(2, 1, 5120)
    assert torch.equal(again.embed_audio(waveform), embedding.embed_audio(waveform))


def test_an_embedding_of_text_alone_embeds_texts_as_before_and_refuses_sound(tmp_path):
    embedding = tiny()
    save_network(embedding.text_only(), tmp_path / "joint")
    small = load_network(tmp_path / "joint")
    torch.testing.assert_close(small.embed_text(["a harp", "b"]), embedding.embed_text(["a harp", "b"]))
    towers = [sum(p.numel() for p in each.parameters()) for each in (embedding.text_tower, embedding.text_projection)]
    assert sum(p.numel() for p in small.parameters()) == sum(towers)
    with pytest.raises(ValueError, match="without its audio tower"):
        small.embed_audio(torch.randn(1, 1, 5120))


def test_sizes_that_do_not_fit_are_refused_with_numbers():
    with pytest.raises(ValueError, match="8 frames and 32 mel bins holds no patch of 16 x 16"):
        tiny(window_seconds=0.08)
    with pytest.raises(ValueError, match="text_width 32 must be a multiple of text_heads 3"):
        tiny(text_heads=3)
    with pytest.raises(ValueError, match="window_stride_seconds 0 must be above 0"):
        tiny(window_stride_seconds=0.0)


def tones(per_pitch: int) -> tuple[torch.Tensor, list[str]]:
    time = torch.arange(5120) / SAMPLE_RATE
    names = {"low bass": 150.0, "warm cello": 400.0, "flute": 1000.0, "high bells": 2600.0}
    captions = [name for name in names for _ in range(per_pitch)]
    pitches = torch.tensor([names[name] for name in captions])[:, None] * (1 + 0.02 * torch.randn(len(captions), 1))
    phases = torch.rand(len(captions), 1)
    return 0.5 * torch.sin(2 * math.pi * (pitches * time + phases))[:, None], captions


def test_training_finds_unseen_tones_by_their_description():
    embedding, loss = tiny(), ContrastiveLoss()
    optimizer = torch.optim.AdamW([*embedding.parameters(), *loss.parameters()], lr=2e-3)
    for _ in range(40):
        waveform, captions = tones(1)
        optimizer.zero_grad()
        loss(embedding.embed_audio(waveform), embedding.embed_text(captions)).backward()
        optimizer.step()
    waveform, captions = tones(1)
    with torch.no_grad():
        audio, text = embedding.eval().embed_audio(waveform), embedding.embed_text(captions)
    assert recall(text, audio, torch.arange(4), [1]) == [1.0]
    assert recall(audio, text, torch.arange(4), [1]) == [1.0]
