import json
import pickle

import pytest

from melody_cm.data import SPLITS, ManifestCorpus, manifest_clips
from melody_cm.data.clips import RowReader
from melody_cm.data.manifest_clips import ManifestClips, open_clips


def row(number, **fields):
    split = SPLITS[number // 3 % 3]
    return {"id": f"clip {number}", "audio": f"{number}.wav", "caption": "x" * number, "split": split} | fields


def write(folder, rows, end="\n"):
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + end)
    return str(folder)


@pytest.fixture
def corpus(tmp_path):
    rows = [row(number, piece=f"song {number // 3}") for number in range(40)]
    rows[5] |= {"audio": None}
    rows[8] |= {"id": 8}
    rows[11] |= {"caption": "naïve", "audio": "./a/../11.wav"}
    rows[20:20] = ["", "   "]
    return ManifestCorpus(write(tmp_path, rows, end=""))


def slow(corpus):
    return [clip for clip in corpus.entries() if clip is not None]


def test_clips_are_those_of_the_rows(corpus):
    expected, clips = slow(corpus), corpus.clips()
    assert len(clips) == 39
    assert list(clips) == expected
    assert [clips[item] for item in range(39)] == expected
    assert clips[-1] == expected[-1]
    assert list(clips[30:2:-3]) == expected[30:2:-3]
    assert clips[4:][7] == expected[11]
    assert clips.audio_files() == [str(clip.audio) for clip in expected]
    for item in (39, -40):
        with pytest.raises(IndexError):
            clips[item]


def test_splits_keep_the_order(corpus):
    expected = slow(corpus)
    for split, clips in corpus.splits().items():
        assert isinstance(clips, ManifestClips)
        assert list(clips) == [clip for clip in expected if clip.split == split]
        assert len(clips) > 10
        assert list(clips[1:].of_split(split)) == list(clips)[1:]


def test_a_pickled_sequence_is_the_same(corpus):
    clips = corpus.splits()["valid"]
    assert list(pickle.loads(pickle.dumps(clips))) == list(clips)


def test_thirteen_bytes_a_clip_stay_in_memory(tmp_path):
    corpus = ManifestCorpus(write(tmp_path, [row(number) for number in range(500)]))
    assert corpus.clips().table.nbytes == 500 * 13


def test_a_manifest_is_read_once_until_it_changes(corpus, monkeypatch):
    opened = corpus.clips()
    assert corpus.clips() is opened
    first = opened[0]
    with corpus.path.open("a") as file:
        file.write("\n" + json.dumps(row(50)))
    with pytest.raises(ValueError, match=r"manifest\.jsonl: changed while it was in use; start again"):
        opened[0]
    assert corpus.clips()[0] == first
    assert corpus.clips()[-1].id == "clip 50"


@pytest.mark.parametrize("where", [3, 30])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "clip 1"}, r"id 'clip 1' is that of .*manifest\.jsonl, row 2 too"),
        ({"piece": "1.wav", "split": "sideways"}, "split is 'sideways'"),
        ({"piece": "p"}, r"piece 'p' is in (valid|test) here and in train at .*manifest\.jsonl, row 1;"),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(tmp_path, where, fields, message):
    rows = [row(number) for number in range(40)]
    rows[0]["piece"] = "p"
    rows[where] |= fields
    if where == 30:
        rows[where] |= {"split": fields.get("split", "test")}
    with pytest.raises(ValueError, match=rf"manifest\.jsonl, row {where + 1}: {message}"):
        ManifestCorpus(write(tmp_path, rows)).clips()


def test_equal_hashes_of_unequal_texts_are_no_conflict(tmp_path, monkeypatch):
    write(tmp_path, [row(number) for number in range(6)])
    monkeypatch.setattr(manifest_clips, "hash", lambda text: 7, raising=False)
    assert len(open_clips(tmp_path / "manifest.jsonl", RowReader(tmp_path))) == 6


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl: no such manifest"):
        ManifestCorpus(str(tmp_path / "gone.jsonl")).clips()
