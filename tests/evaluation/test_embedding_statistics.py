"""Embedding statistics survive the disk unchanged; what is not theirs is refused in one line."""

import json

import numpy as np
import pytest
import torch

from melody_cm.evaluation import EmbeddingStatistics, Gaussian, read_fadtk, write_fadtk


def statistics(width=4, clips=30, prefix="clip"):
    made = EmbeddingStatistics.empty(width, max_clips=16)
    made.add(torch.randn(clips, 3, width), [f"{prefix}{index}" for index in range(clips)])
    made.drop("silent", "a.wav: silent")
    return made


def test_a_file_gives_back_what_was_saved(tmp_path):
    made = statistics()
    made.save(tmp_path / "s.npz", "key")
    read = EmbeddingStatistics.load(tmp_path / "s.npz", 4, "key")
    for name in ("clips", "frames", "sum", "outer"):
        assert torch.equal(getattr(read.sums, name), getattr(made.sums, name))
    assert torch.equal(read.sample.rows, made.sample.rows)
    assert (read.dropped, read.problems) == ({"silent": 1}, ["a.wav: silent"])
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


def test_clips_that_are_not_finite_are_counted_and_change_nothing():
    clips = torch.randn(10, 3, 4)
    names = [f"clip{index}" for index in range(12)]
    clean, broken = EmbeddingStatistics.empty(4), EmbeddingStatistics.empty(4)
    clean.add(clips, names[:10])
    broken.add(torch.cat([clips, torch.full((2, 3, 4), torch.nan)]), names)
    assert torch.equal(broken.sums.outer, clean.sums.outer)
    assert torch.equal(broken.sample.rows, clean.sample.rows)
    assert (broken.num_clips, broken.dropped) == (10, {"not finite": 2})
    broken.add(torch.empty(1, 0, 4), ["nothing"])
    assert (broken.num_clips, broken.dropped["empty"]) == (10, 1)


def test_statistics_add_up():
    first, second = statistics(), statistics(prefix="other")
    both = first + second
    assert torch.equal(both.sample.rows, (first.sample + second.sample).rows)
    assert not torch.equal(both.sample.vectors()[0], first.sample.vectors()[0])
    assert both.num_clips == 60
    assert both.dropped == {"silent": 2}
    assert len(both.problems) == 2
    torch.testing.assert_close(both.sums.outer, first.sums.outer + second.sums.outer)


def rewrite(path, **changes):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})


def asymmetric(arrays):
    arrays = arrays.clone()
    arrays[0, 0, 1] += 1
    return arrays.numpy()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda made: {"outer": made.sums.outer.numpy() * np.nan}, "not finite"),
        (lambda made: {"outer": asymmetric(made.sums.outer)}, "not symmetric"),
        (lambda made: {"sum": made.sums.sum.numpy()[:, :3]}, "do not fit width 4"),
        (lambda made: {"clips": -made.sums.clips.numpy()}, "counts are impossible"),
        (lambda made: {"frames": made.sums.clips.numpy() // 2}, "counts are impossible"),
        (lambda made: {"sample": None}, "no embedding statistics"),
        (lambda made: {"notes": np.array("not json")}, "no embedding statistics"),
        (lambda made: {"notes": np.array(json.dumps({"key": "key", "dropped": {}, "problems": []}))}, "KeyError"),
        (lambda made: {"sum": made.sums.sum.float().numpy()}, "other types"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, problem):
    made, path = statistics(), tmp_path / "s.npz"
    made.save(path, "key")
    rewrite(path, **change(made))
    with pytest.raises(ValueError, match=problem) as refusal:
        EmbeddingStatistics.load(path, 4, "key")
    assert "\n" not in str(refusal.value)
    assert "s.npz" in str(refusal.value)


def test_another_key_width_or_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "s.npz"
    statistics().save(path, "key")
    with pytest.raises(ValueError, match="statistics of 'key', but those of 'other' are needed"):
        EmbeddingStatistics.load(path, 4, "other")
    with pytest.raises(ValueError, match="do not fit width 5"):
        EmbeddingStatistics.load(path, 5, "key")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"not a readable \.npz file"):
        EmbeddingStatistics.load(path, 4, "key")
    with pytest.raises(FileNotFoundError):
        EmbeddingStatistics.load(tmp_path / "none.npz", 4, "key")


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "s.npz", notes=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="not a readable"):
        EmbeddingStatistics.load(tmp_path / "s.npz", 4, "key")


def gaussian(width=4):
    frames = torch.randn(50, width, dtype=torch.float64)
    return Gaussian(frames.mean(0), torch.cov(frames.T))


def test_the_format_of_fadtk_goes_both_ways(tmp_path):
    path, first, second = tmp_path / "fma_pop.npz", gaussian(), gaussian(8)
    write_fadtk(path, {"vggish": first, "clap-laion-music": second})
    with np.load(path) as file:
        assert sorted(file.files) == ["clap-laion-music.cov", "clap-laion-music.mu", "vggish.cov", "vggish.mu"]
        assert np.array_equal(file["vggish.cov"], first.cov.numpy())
    read = read_fadtk(path, "clap-laion-music")
    assert torch.equal(read.mean, second.mean)
    assert torch.equal(read.cov, second.cov)
    with pytest.raises(ValueError, match="no statistics of None; name one of its models: clap-laion-music, vggish"):
        read_fadtk(path)


def test_the_only_model_of_a_fadtk_file_needs_no_name(tmp_path):
    made = gaussian()
    np.savez(tmp_path / "one.npz", **{"vggish.mu": made.mean.float(), "vggish.cov": made.cov.float()})
    read = read_fadtk(tmp_path / "one.npz")
    torch.testing.assert_close(read.cov, made.cov, rtol=1e-5, atol=1e-6)
    assert read.mean.dtype == torch.float64


@pytest.mark.parametrize(
    ("mean", "cov", "problem"),
    [
        (np.zeros(3), np.eye(4), "shape"),
        (np.zeros(4), np.full((4, 4), np.nan), "not finite"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.1, 1.0]]), "not symmetric"),
    ],
)
def test_a_damaged_fadtk_file_is_refused(tmp_path, mean, cov, problem):
    np.savez(tmp_path / "bad.npz", **{"vggish.mu": mean, "vggish.cov": cov})
    with pytest.raises(ValueError, match=problem):
        read_fadtk(tmp_path / "bad.npz", "vggish")


def test_a_mean_without_its_covariance_is_refused(tmp_path):
    np.savez(tmp_path / "half.npz", **{"vggish.mu": np.zeros(3)})
    with pytest.raises(ValueError, match="no statistics of 'vggish'"):
        read_fadtk(tmp_path / "half.npz")
