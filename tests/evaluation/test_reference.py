"""Reference statistics are computed once for one content, and again when anything that decides them changes."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from melody_cm.data import Clip
from melody_cm.evaluation import EmbeddingStatistics, Gaussian, cached_statistics
from melody_cm.evaluation.reference import FadtkFile, load_statistics, save_statistics
from melody_cm.interfaces import EmbeddingIdentity

IDENTITY = EmbeddingIdentity("test", "1", "abc", 16000, "any", 4, True)


@pytest.fixture
def clips(tmp_path):
    made = []
    for index in range(3):
        file = tmp_path / "music" / f"{index}.wav"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes([index]) * 100)
        made.append(Clip(file.name, file, 0.0, 5.0, "test", [], file.name, ""))
    return made


class Computation:
    """Counts how often it was needed."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        statistics = EmbeddingStatistics.empty(4)
        statistics.add(torch.randn(5, 2, 4), [f"clip{index}" for index in range(5)])
        return statistics


@pytest.fixture
def ask(clips, tmp_path):
    compute = Computation()

    def ask(identity=IDENTITY, clips=clips):
        before = compute.calls
        statistics = cached_statistics(identity, clips, compute, tmp_path / "cache")
        return statistics, compute.calls > before

    return ask


def test_the_second_time_nothing_is_computed(ask):
    first, computed = ask()
    assert computed
    second, computed = ask()
    assert not computed
    assert torch.equal(first.outer, second.outer)


@pytest.mark.parametrize(
    "change",
    [{"version": "2"}, {"weights": "abd"}, {"resampler": "other"}, {"window": "1 s"}, {"sample_rate": 8000}],
)
def test_another_embedding_is_another_reference(ask, change):
    ask()
    assert ask(replace(IDENTITY, **change))[1]
    assert not ask()[1]


def test_another_content_place_or_name_is_another_reference(ask, clips):
    ask()
    assert ask(clips=clips[:2])[1]
    assert ask(clips=[*clips[:2], replace(clips[2], start=1.0)])[1]
    assert ask(clips=[*clips[:2], replace(clips[2], duration=4.0)])[1]
    assert ask(clips=[*clips[:2], replace(clips[2], id="x")])[1]
    assert ask(clips=[*clips[:2], replace(clips[2], piece="x")])[1]
    assert not ask(clips=clips[::-1])[1]
    clips[0].audio.write_bytes(bytes([9]) * 100)  # The same size and name.
    assert ask()[1]
    clips[0].audio.unlink()
    assert ask()[1]


def test_the_folder_may_move(ask, clips):
    ask()
    moved = clips[0].audio.parent.rename(clips[0].audio.parent.with_name("moved"))
    assert not ask(clips=[replace(clip, audio=moved / clip.id) for clip in clips])[1]


def test_a_damaged_file_is_computed_again_with_one_line_of_warning(ask, tmp_path, caplog):
    ask()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        statistics, computed = ask()
    assert computed
    assert len(caplog.records) == 1
    assert "\n" not in caplog.text.strip()
    assert "computed again" in caplog.text
    assert not ask()[1]
    assert statistics.num_clips == 5


def test_a_folder_that_cannot_be_written_is_done_without(clips, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    compute = Computation()
    with caplog.at_level(logging.WARNING):
        statistics = cached_statistics(IDENTITY, clips, compute, tmp_path / "cache")
    assert statistics.num_clips == 5
    assert "not kept" in caplog.text


def statistics(width=4, clips=30):
    made = EmbeddingStatistics.empty(width, max_clips=16)
    made.add(torch.randn(clips, 3, width), [f"clip{index}" for index in range(clips)])
    made.drop("silent", "a.wav: silent")
    return made


def test_a_file_gives_back_what_was_saved(tmp_path):
    made, path = statistics(), tmp_path / "s.safetensors"
    save_statistics(made, path)
    read = load_statistics(path)
    for name in ("clips", "frames", "sum", "outer", "sample"):
        assert torch.equal(getattr(read, name), getattr(made, name))
    assert read.dropped == {"silent": ["a.wav: silent"]}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_cut_missing_or_something_else_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    save_statistics(statistics(), path)
    whole = path.read_bytes()
    save_file({"clips": torch.zeros(2)}, tmp_path / "other")
    for content in (whole[:-200], b"not tensors", b"", (tmp_path / "other").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"s\.safetensors: no embedding statistics .*; remove it") as refusal:
            load_statistics(path)
        assert "\n" not in str(refusal.value)
    with pytest.raises(FileNotFoundError):
        load_statistics(tmp_path / "none.safetensors")


def test_a_fadtk_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("these are not statistics")
    np.savez(tmp_path / "pickle.npz", **{"vggish.mu": np.array([{"a": 1}], dtype=object)})
    for name in ("text.npz", "pickle.npz"):
        with pytest.raises(ValueError, match=r"no readable (\.npz file|mu and cov)"):
            FadtkFile(tmp_path / name).gaussian("vggish")


def gaussian(width=4):
    frames = torch.randn(50, width, dtype=torch.float64)
    return Gaussian(frames.mean(0), torch.cov(frames.T))


def test_the_only_model_of_a_fadtk_file_needs_no_name(tmp_path):
    made = gaussian()
    np.savez(tmp_path / "one.npz", **{"vggish.mu": made.mean.float(), "vggish.cov": made.cov.float()})
    read = FadtkFile(tmp_path / "one.npz").gaussian("vggish")
    torch.testing.assert_close(read.cov, made.cov, rtol=1e-5, atol=1e-6)
    assert read.mean.dtype == torch.float64


@pytest.mark.parametrize(
    ("mean", "cov", "problem"),
    [
        (np.zeros(3), np.eye(4), "must be finite"),
        (np.zeros(4), np.full((4, 4), np.nan), "must be finite"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.1, 1.0]]), "a symmetric"),
        (np.zeros(2), np.array([[1.0, 5.0], [5.0, 1.0]]), "variances from -4 to 6 along"),
        (np.zeros(2), np.zeros((2, 2)), "which no music of several frames has"),
    ],
)
def test_a_damaged_fadtk_file_is_refused(tmp_path, mean, cov, problem):
    np.savez(tmp_path / "bad.npz", **{"vggish.mu": mean, "vggish.cov": cov})
    with pytest.raises(ValueError, match=problem):
        FadtkFile(tmp_path / "bad.npz").gaussian("vggish")


def test_a_half_of_the_statistics_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", **{"vggish.mu": np.zeros(3)})
    with pytest.raises(ValueError, match="no readable mu and cov of vggish"):
        FadtkFile(tmp_path / "other.npz").gaussian("vggish")


@pytest.fixture
def packed(tmp_path):
    """A file of several models, as fadtk writes it; the mean of each is its place."""
    names = ("vggish", "encodec-emb", "clap-laion-audio", "clap-laion-music", "mine-v2")
    parts = {f"{name}.mu": np.full(4, float(place)) for place, name in enumerate(names)}
    np.savez(tmp_path / "many.npz", **parts, **{f"{name}.cov": np.eye(4) for name in names})
    return tmp_path / "many.npz"


@pytest.mark.parametrize(
    ("embedding", "model", "place"),
    [
        ("vggish", None, 0), ("official_vggish", None, 0), ("encodec", None, 1), ("clap", "clap-laion-music", 3),
        ("mine", "mine-v2", 4), ("mine-v2", None, 4),
    ],
)  # fmt: skip
def test_of_several_models_the_embeddings_own_is_taken(packed, embedding, model, place):
    assert FadtkFile(packed, model).gaussian(embedding).mean.tolist() == [place] * 4


@pytest.mark.parametrize(
    ("embedding", "model", "message"),
    [
        ("logmel", None, "none of the embedding logmel"),
        ("logmel", "vggish", "none as vggish of the embedding logmel"),
        ("vggish", "encodec-emb", "none as encodec-emb of the embedding vggish"),
        ("clap", None, r"say which is meant: .*many\.npz:clap-laion-audio"),
        ("mine", None, "none of the embedding mine"),
        ("mine", "theirs", "none as theirs"),
    ],
)
def test_another_models_statistics_are_never_taken_for_an_embeddings(packed, embedding, model, message):
    with pytest.raises(ValueError, match=message):
        FadtkFile(packed, model).gaussian(embedding)


def test_what_stands_after_the_colon_is_the_model():
    assert FadtkFile.parse("a:b/c.npz:clap-laion-music") == (Path("a:b/c.npz"), "clap-laion-music")
    assert FadtkFile.parse("a.npz") == (Path("a.npz"), None)
    assert FadtkFile.parse("music/a.jsonl") is FadtkFile.parse("a.npz:") is None


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("melody_cm.evaluation.reference.MAX_ARRAY_BYTES", 1 << 20)
    parts = {"vggish.mu": np.zeros(512), "vggish.cov": np.zeros((512, 512))}
    np.savez_compressed(tmp_path / "bomb.npz", **parts)
    with pytest.raises(ValueError, match=r"an array of 2097\d+ bytes"):
        FadtkFile(tmp_path / "bomb.npz").gaussian("vggish")
