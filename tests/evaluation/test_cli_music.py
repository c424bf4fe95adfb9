"""`melody-cm evaluate` with measures of music, pairs, tags and equal loudness."""

import json
import math

import pytest
import soundfile
import torch
from test_cli_evaluate import run

from melody_cm.evaluation.music import music_measures, pair_measures
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


def test_all_of_them_in_one_command(folders, capsys):
    words = ["--generated", folders / "made", "--reference", folders / "real", "--out", folders / "r.json"]
    words += ["--embedding", folders / "tagger.yaml", "--prompts", folders / "prompts.txt"]
    assert run(*words, "--music", "--paired", "--level-matched") == 0
    (row,) = read_json(folders / "r.json")["rows"]
    metrics = row["metrics"]
    assert metrics["prompt_auc_guitar_tagger"]["value"] == 1.0
    assert {"fad_tagger", "fad_tagger_level", "kl_tagger", "kl_sigmoid_tagger", "inception_tagger"} <= metrics.keys()
    level = metrics["level_dbfs"]
    sounds = {
        side: [torch.from_numpy(soundfile.read(folders / side / f"{i:02}.wav", dtype="float32")[0]) for i in range(12)]
        for side in ("made", "real")
    }
    expected = music_measures(sounds["made"][3], RATE) | pair_measures(sounds["made"][3], sounds["real"][3], RATE)
    for name, value in expected.items():
        assert row["samples"][name]["03.wav"] == pytest.approx(value, rel=1e-3)
        assert metrics[name]["value"] == pytest.approx(sum(row["samples"][name].values()) / 12)
    assert level["details"]["inside"] == 0.0
    assert level["value"] + 9 < level["details"]["real_low"]
    # Two prompts share the twelve clips, so the interval is that of two numbers: 12.7 standard errors.
    assert level["n_generated"] == 12
    halves = [list(row["samples"]["level_dbfs"].values())[start::2] for start in (0, 1)]
    apart = abs(sum(halves[0]) - sum(halves[1])) / 6
    assert level["high"] - level["low"] == pytest.approx(2 * 12.706 * apart / 2, rel=1e-3)
    made, real = (
        torch.stack([TaggerEmbedding()(_at_16k(one)).mean(1)[0] for one in sounds[side]]) for side in ("made", "real")
    )
    divergence = tag_divergence(made, real, TaggerEmbedding().identity)["kl_tagger"]
    assert metrics["kl_tagger"]["value"] == pytest.approx(divergence.value, rel=1e-3)
    printed = capsys.readouterr().out
    assert "middle half of the reference" in printed


def _at_16k(sound):
    return resample(sound[None, None], RATE, 16000)


def test_a_file_without_its_pair_and_statistics_without_clips_are_told_before_any_work(folders):
    (folders / "made" / "more.wav").write_bytes((folders / "made/00.wav").read_bytes())
    words = ["--generated", folders / "made", "--out", folders / "r.json"]
    with pytest.raises(ValueError, match="no reference clip is named 'more', as --paired needs"):
        run(*words, "--reference", folders / "real", "--paired")
    (folders / "statistics.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="holds statistics, no clips"):
        run(*words, "--reference", folders / "statistics.npz", "--music")
    with pytest.raises(ValueError, match=r"takes no --music, --level-matched; leave it out"):
        run("--selftest", "--music", "--level-matched")


def test_pairs_may_differ_in_suffix_and_come_from_manifests(folders):
    rows = [{"id": f"{i:02}", "audio": f"{i:02}.wav", "caption": "a", "split": "test"} for i in range(12)]
    (folders / "real/manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["--generated", folders / "made", "--reference", folders / "real", "--out", folders / "r.json"]
    assert run(*words, "--paired") == 0
    assert read_json(folders / "r.json")["rows"][0]["metrics"]["chroma_correlation"]["value"] > 0.9
