import json

import numpy as np
import pytest
import soundfile
import torch

from melody_cm.data import ManifestCorpus, read_audio, write_corpus
from melody_cm.data.duplicates import FRAME_SECONDS, MAX_SHIFT, WINDOW, find_duplicates, loudness_windows, similarity

RATE = 24000


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Twenty clips of ten pieces, 10 s each."""
    folder = tmp_path_factory.mktemp("music")
    write_corpus(folder, 20, seed=2, sample_rate=RATE)
    return folder


def plant(folder, out, changes):
    """The clips of `folder` in train, and in test a changed copy of some."""
    out.mkdir()
    rows = []
    for number, line in enumerate((folder / "manifest.jsonl").read_text().splitlines()):
        row = json.loads(line)
        (out / f"{number}.flac").hardlink_to(folder / row["audio"])
        rows.append({"id": f"{number}", "audio": f"{number}.flac", "caption": None, "split": "train"})
        if number in changes:
            waveform = read_audio(folder / row["audio"], 0.0, None, RATE).numpy()
            name, options = changes[number](waveform)
            soundfile.write(out / name, *options["data"], **options["format"])
            rows.append({"id": name, "audio": name, "caption": None, "split": "test"})
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ManifestCorpus(str(out))


def as_flac(name, samples, rate=RATE):
    return f"{name}.flac", {"data": (samples.astype(np.float32), rate), "format": {}}


def as_opus(name, samples):
    options = {"format": "OGG", "subtype": "OPUS", "compression_level": 0.95}
    return f"{name}.opus", {"data": (samples.astype(np.float32), RATE), "format": options}


def later(samples, seconds):
    return np.concatenate([np.zeros(round(seconds * RATE)), samples])[: len(samples)]


CHANGES = {
    0: lambda samples: as_flac("copy", samples),
    1: lambda samples: as_opus("opus", samples),
    2: lambda samples: as_flac("gain", 0.05 * samples),
    3: lambda samples: as_flac("late", later(samples, 0.3)),
    4: lambda samples: as_flac("early", samples[round(2.4 * RATE) :]),
    5: lambda samples: as_opus("all", 0.4 * later(samples, 0.3)),
    6: lambda samples: as_flac("noise", samples + 0.01 * np.random.default_rng(0).standard_normal(len(samples))),
    7: lambda samples: as_flac("slow", samples[::2], RATE // 2),
}


def test_planted_copies_are_found_and_nothing_else(music, tmp_path):
    report = find_duplicates(plant(music, tmp_path / "planted", CHANGES))
    found = {pair.second.id: pair for pair in report.found}
    names = ["copy", "opus", "gain", "late", "early", "all", "noise", "slow"]
    assert {name.split(".")[0]: pair.first.id for name, pair in found.items()} == {
        name: str(number) for number, name in enumerate(names)
    }
    assert len(report.found) == len(names)
    assert (report.compared, report.problems) == (28, [])
    assert [pair.similarity for pair in report.found] == sorted((p.similarity for p in report.found), reverse=True)
    offsets = {name.split(".")[0]: pair.offset for name, pair in found.items()}
    assert offsets["copy"] == offsets["gain"] == 0
    for name, seconds in (("late", 0.3), ("all", 0.3), ("early", -2.4)):
        assert offsets[name] == pytest.approx(seconds, abs=FRAME_SECONDS)


def test_different_music_and_one_split_are_silent(music, tmp_path):
    assert find_duplicates(ManifestCorpus(str(music))).found == []
    corpus = plant(music, tmp_path / "planted", {0: CHANGES[0]})
    text = corpus.path.read_text().replace('"test"', '"train"')
    corpus.path.write_text(text)
    assert find_duplicates(ManifestCorpus(str(corpus.path))).found == []


def test_a_part_of_a_long_file_is_found(music, tmp_path):
    clips = [read_audio(music / f"audio/{number:06d}.flac", 0.0, None, RATE).numpy() for number in range(4)]
    song = np.concatenate(clips)
    soundfile.write(tmp_path / "song.flac", song, RATE)
    soundfile.write(tmp_path / "part.flac", song[round(17.3 * RATE) : round(27.3 * RATE)], RATE)
    rows = [
        {"id": "part", "audio": "part.flac", "caption": None, "split": "test"},
        {"id": "song", "audio": "song.flac", "caption": None, "split": "train"},
        {"id": "gone", "audio": "gone.flac", "caption": None, "split": "train"},
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = find_duplicates(ManifestCorpus(str(tmp_path)))
    assert [(pair.first.id, pair.second.id) for pair in report.found] == [("song", "part")]
    assert report.found[0].offset == pytest.approx(-17.3, abs=FRAME_SECONDS)
    assert report.compared == 2
    assert "row 3: " in report.problems[0]


def test_similarity_is_the_best_correlation_of_what_two_windows_share():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(3, WINDOW, 4, generator=generator) for _ in range(2))
    other[1, 12:] = one[2, :-12]
    one, other = (x / x.norm(dim=(1, 2), keepdim=True) for x in (one, other))
    values, shifts = similarity(one, other)
    for i in range(3):
        for j in range(3):
            best = (-1.0, 0)
            for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
                pairs = [(one[i, t], other[j, t + shift]) for t in range(WINDOW) if 0 <= t + shift < WINDOW]
                a, b = (torch.stack(part) for part in zip(*pairs, strict=True))
                a, b = ((x - x.mean(dim=0)).flatten() for x in (a, b))
                best = max(best, (float(a @ b / a.norm() / b.norm()), shift))
            assert float(values[i, j]) == pytest.approx(best[0], abs=1e-5)
            assert int(shifts[i, j]) == best[1]
    assert (float(values[2, 1]), int(shifts[2, 1])) == (pytest.approx(1.0, abs=1e-5), 12)


def test_a_quiet_end_alone_does_not_match():
    generator = torch.Generator().manual_seed(0)
    quiet = 1e-3 * torch.randn(WINDOW - MAX_SHIFT, 4, generator=generator)
    begin, end = torch.randn(2, MAX_SHIFT, 4, generator=generator)
    one, other = torch.cat([begin, quiet]), torch.cat([quiet, end])
    value, _ = similarity(one[None] / one.norm(), other[None] / other.norm())
    assert float(value) < 0.5


def test_windows_are_of_unit_norm_and_cover_everything():
    waveform = torch.randn(8000 * 27, generator=torch.Generator().manual_seed(0))
    for seconds, windows in ((3, 1), (10, 1), (10.5, 2), (15, 2), (15.5, 3), (27, 5)):
        found = loudness_windows(waveform[: round(8000 * seconds)])
        assert found.shape == (windows, 160, 32)
        torch.testing.assert_close(found.norm(dim=(1, 2)), torch.ones(windows))
    assert torch.isfinite(loudness_windows(torch.full((8000,), 0.5))).all()
    torch.testing.assert_close(loudness_windows(1e-6 * waveform), loudness_windows(waveform), atol=1e-5, rtol=1e-4)


def test_thresholds(music):
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="threshold is"):
            find_duplicates(ManifestCorpus(str(music)), threshold)
