"""`melody-cm evaluate` with measures of music, pairs, tags and equal loudness."""

import json
import math

import pytest
import soundfile
import torch
from test_cli_evaluate import run

from melody_cm.evaluation.music import music_measures, pair_measures
from melody_cm.evaluation.music_scores import _means
from melody_cm.evaluation.tags import tag_divergence
from melody_cm.interfaces import AudioEmbedding, EmbeddingIdentity
from melody_cm.signal import resample
from melody_cm.storage import read_json

RATE = 24000


class TaggerEmbedding(AudioEmbedding):
    """Hears a guitar below 1 kHz and a flute above it."""

    tags = ("guitar", "flute")

    def __init__(self) -> None:
        super().__init__()
        self.identity = EmbeddingIdentity("tagger", "1", "abc", 16000, "1 s", 2, True)

    def forward(self, waveform):
        spectrum = torch.fft.rfft(waveform[:, 0, :32000].unflatten(-1, (2, 16000))).abs()
        return torch.stack([spectrum[..., :1000].sum(-1), spectrum[..., 1000:].sum(-1)], -1).log()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("melody_cm.evaluation.judge.find_spec", lambda package: None)


def write(file, hertz, amplitude=0.3):
    time = torch.arange(2 * RATE) / RATE
    sound = amplitude * torch.sin(2 * math.pi * hertz * time) * (1 - time % 0.5)
    soundfile.write(file, (sound + 1e-3 * torch.randn(2 * RATE)).numpy(), RATE, subtype="FLOAT")


@pytest.fixture
def folders(tmp_path):
    for side, amplitude in (("made", 0.1), ("real", 0.3)):
        (tmp_path / side).mkdir()
        for index in range(12):
            write(tmp_path / side / f"{index:02}.wav", 300 + 10 * index + 2000 * (index % 2), amplitude)
    (tmp_path / "tagger.yaml").write_text("class_path: test_cli_music.TaggerEmbedding\ninit_args: {}\n")
    lines = "".join("a guitar\n" if index % 2 == 0 else "a flute\n" for index in range(12))
    (tmp_path / "prompts.txt").write_text(lines)
    return tmp_path


def sounds_of(folder):
    return [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in sorted(folder.glob("*.wav"))]


def test_a_tagger_judges_prompts_pairs_and_equal_loudness(folders):
    words = ["--generated", folders / "made", "--reference", folders / "real", "--out", folders / "r.json"]
    words += ["--embedding", folders / "tagger.yaml", "--prompts", folders / "prompts.txt"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("melody_cm.evaluation.folders.pair_scores", lambda *_: ({}, {}))
        assert run(*words, "--paired", "--level-matched") == 0
    metrics = read_json(folders / "r.json")["rows"][0]["metrics"]
    assert metrics["prompt_auc_guitar_tagger"]["value"] == 1.0
    assert {"fad_tagger", "fad_tagger_level", "kl_sigmoid_tagger", "inception_tagger_level"} <= metrics.keys()
    sides = [
        torch.stack([TaggerEmbedding()(resample(one[None, None], RATE, 16000)).mean(1)[0] for one in sounds_of(folder)])
        for folder in (folders / "made", folders / "real")
    ]
    alone = [str(place) for place in range(len(sides[0]))]
    divergence = tag_divergence(*sides, alone, TaggerEmbedding().identity)["kl_tagger"]
    assert metrics["kl_tagger"]["value"] == pytest.approx(divergence.value, rel=1e-3)


def test_music_and_pairs_beside_real_music(folders, capsys):
    for side in ("made", "real"):
        for index in range(4, 12):
            (folders / side / f"{index:02}.wav").unlink()
    words = ["--generated", folders / "made", "--reference", folders / "real", "--out", folders / "r.json"]
    assert run(*words, "--music", "--paired") == 0
    (row,) = read_json(folders / "r.json")["rows"]
    metrics, (made, real) = row["metrics"], (sounds_of(folders / side)[3] for side in ("made", "real"))
    for name, value in (music_measures(made, RATE) | pair_measures(made, real, RATE)).items():
        assert row["samples"][name]["03.wav"] == pytest.approx(value, rel=1e-3)
        assert metrics[name]["value"] == pytest.approx(sum(row["samples"][name].values()) / 4)
    level = metrics["level_dbfs"]
    assert level["details"]["inside"] == 0.0
    assert level["value"] + 9 < level["details"]["real_low"]
    assert "middle half of the reference" in capsys.readouterr().out


def test_clips_of_one_prompt_count_once_for_the_interval():
    values = {"a": {"level": 1.0}, "b": {"level": 2.0}, "c": {"level": 5.0}, "d": {"level": 6.0}}
    scores, _ = _means(values, {"a": "x", "b": "x", "c": "y", "d": "y"}, 9)
    score = scores["level"]
    assert (score.value, score.n_generated, score.n_reference) == (3.5, 4, 9)
    # Two means, 1.5 and 5.5, are sqrt(8) / sqrt(2) = 2 apart from their mean as a standard error: 12.706 of them.
    assert score.high - score.value == pytest.approx(2 * 12.706, rel=1e-3)


def test_a_file_without_its_pair_and_statistics_without_clips_are_told_before_any_work(folders):
    (folders / "made" / "more.wav").write_bytes((folders / "made/00.wav").read_bytes())
    words = ["--generated", folders / "made", "--out", folders / "r.json"]
    with pytest.raises(ValueError, match="no reference clip is named 'more', as --paired needs"):
        run(*words, "--reference", folders / "real", "--paired")
    (folders / "statistics.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="holds statistics; give sound files"):
        run(*words, "--reference", folders / "statistics.npz", "--music")
    with pytest.raises(ValueError, match=r"takes no --music, --level-matched; leave it out"):
        run("--selftest", "--music", "--level-matched")


def test_pairs_may_differ_in_suffix_and_come_from_manifests(folders):
    rows = [{"id": f"{i:02}", "audio": f"{i:02}.wav", "caption": "a", "split": "test"} for i in range(12)]
    (folders / "real/manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["--generated", folders / "made", "--reference", folders / "real", "--out", folders / "r.json"]
    assert run(*words, "--paired") == 0
    assert read_json(folders / "r.json")["rows"][0]["metrics"]["chroma_correlation"]["value"] > 0.9
