"""Machine-made captions of a folder: in words, marked, and never in place of what a person wrote."""

import json

import pytest
import torch
from musicnn_checkpoint import random_variables, write_checkpoint

from melody_cm.cli.main import main
from melody_cm.data import open_corpus, write_corpus
from melody_cm.evaluation.captions import MARK, in_words, likely_tags
from melody_cm.evaluation.embeddings import MusicnnEmbedding
from melody_cm.evaluation.embeddings.musicnn import TAGS


@pytest.mark.parametrize(
    ("likely", "words"),
    [
        (["piano", "slow", "violin", "opera", "no vocals"], "Slow opera music with piano and violin, without vocals."),
        (["guitar"], "Music with guitar."),
        (["techno", "electronic", "dance", "fast"], "Fast techno electronic music."),
        (["guitar", "drums", "piano", "synth", "rock"], "Rock music with guitar, drums and piano."),
        (["vocals", "pop", "woman"], "Pop music, female vocals."),
        (["vocal", "quiet", "choir"], "Quiet music with choir, vocals."),
        (["man", "opera", "no vocals"], "Opera music, male vocals."),
    ],
)  # fmt: skip
def test_likely_tags_in_words(likely, words):
    assert in_words({tag: 1.0 for tag in likely}) == words


def test_the_likely_tags_come_in_order_and_there_is_always_one_to_say():
    probabilities = torch.full((50,), 0.01)
    probabilities[TAGS.index("harp")] = 0.1
    probabilities[TAGS.index("slow")] = 0.5
    probabilities[TAGS.index("quiet")] = 0.6
    assert list(likely_tags(probabilities, TAGS)) == ["quiet", "slow", "harp"]
    probabilities[TAGS.index("piano")] = 0.2
    assert list(likely_tags(probabilities, TAGS)) == ["quiet", "slow", "piano"]


def test_a_folder_gets_a_manifest(tmp_path, monkeypatch, capsys):
    site = tmp_path / "site"
    write_checkpoint(site / "musicnn/MTT_musicnn", random_variables())
    (site / "musicnn/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(site))
    folder = tmp_path / "music"
    write_corpus(folder, 4, seconds=3.0, sample_rate=16000)
    (folder / "manifest.jsonl").unlink()
    files = sorted(path for path in folder.rglob("*.flac"))
    files[0].with_suffix(".txt").write_text("A person wrote this.\nand this\n")
    (folder / "broken.wav").write_bytes(b"not audio")
    assert main(["data", "caption", str(folder)]) == 2
    printed = capsys.readouterr().out
    assert "captions by machine: 3; kept: 1; not readable: 1" in printed
    assert "broken.wav" in printed
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [row["audio"] for row in rows] == [path.relative_to(folder).as_posix() for path in files]
    assert rows[0]["caption"] == "A person wrote this."
    assert "caption_from" not in rows[0]
    tagger = MusicnnEmbedding("tags")
    for row, clip in zip(rows[1:], list(open_corpus(str(folder)).clips())[1:], strict=True):
        assert row["caption_from"] == MARK
        assert clip.captions == [row["caption"]]
        assert row["caption"].endswith(".")
        assert all(0 <= value <= 1 for value in row["tags"].values())
        assert set(row["tags"]) <= set(tagger.tags)
    assert main(["data", "caption", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err
