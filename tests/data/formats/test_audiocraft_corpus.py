import gzip
import json

import pytest
from format_toys import by_id, sound

from melody_cm.data import AudioCraftCorpus, check_corpus


def manifest(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"amplitude": None, "weight": None, "info_path": None} | row) for row in rows]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


def described(path, **fields):
    path.write_text(json.dumps(fields))


@pytest.fixture
def folder(tmp_path):
    sound(tmp_path / "music" / "a.wav")
    sound(tmp_path / "music" / "b.wav")
    described(
        tmp_path / "music" / "a.json",
        description="A calm piano.", key="C", bpm=90, keywords=["calm"], duration=77, split="nonsense", id="no",
    )  # fmt: skip
    described(tmp_path / "music" / "b.json", description=None, genre="Jazz", moods=["happy"], keywords=["sax", "happy"])
    return tmp_path


def test_rows_and_the_json_beside_the_sound(folder):
    train = manifest(
        folder / "egs/train/data.jsonl.gz",
        {"path": "music/a.wav", "duration": 1.0, "sample_rate": 8000, "weight": 0.5},
    )
    manifest(folder / "egs/valid/data.jsonl", {"path": "music/b.wav", "duration": 1.0, "sample_rate": 8000})
    clips = by_id(AudioCraftCorpus(train=train, valid=str(folder / "egs/valid"), audio_folder=str(folder)))
    first, second = clips["music/a.wav"], clips["music/b.wav"]
    assert (first.split, second.split) == ("train", "valid")
    assert first.captions == ["A calm piano."]
    assert (first.start, first.duration, first.audio) == (0.0, None, folder / "music/a.wav")
    expected = {"key": "C", "bpm": 90, "weight": 0.5, "sample_rate": 8000, "listed_seconds": 1.0}
    assert expected.items() <= first.fields.items()
    assert "caption_from" not in first.fields
    assert second.captions == ["Jazz, happy, sax"]
    assert second.fields["caption_from"] == "tags"


def test_metadata_may_lie_elsewhere_or_be_absent(folder):
    described(folder / "other.json", description="From elsewhere.")
    (folder / "music/b.json").unlink()
    path = manifest(folder / "data.jsonl", {"path": "music/a.wav", "info_path": "other.json"}, {"path": "music/b.wav"})
    clips = by_id(AudioCraftCorpus(train=path))
    assert clips["music/a.wav"].captions == ["From elsewhere."]
    assert clips["music/b.wav"].captions == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "../outside.wav"}, "lies outside"),
        ({"path": "/etc/outside.wav"}, "lies outside"),
        ({"path": "music/a.wav", "info_path": "../../x.json"}, "lies outside"),
        ({"path": None}, "audio is None"),
        ({"path": "music.zip:a.wav"}, "unpack it"),
    ],
)
def test_rows_that_cannot_be_are_one_line_each(folder, row, message):
    path = manifest(folder / "data.jsonl", row, {"path": "music/a.wav"})
    with pytest.raises(ValueError, match=r"data\.jsonl, row 1: ") as error:
        AudioCraftCorpus(train=path).clips()
    assert message in str(error.value)
    report = check_corpus(AudioCraftCorpus(train=path))
    assert (len(report.problems), report.clips["train"]) == (1, 1)


def test_absolute_paths_are_taken_when_allowed(folder):
    path = manifest(folder / "egs/data.jsonl", {"path": str(folder / "music/a.wav")})
    (clip,) = AudioCraftCorpus(train=path, allow_outside=True).clips()
    assert clip.captions == ["A calm piano."]


def test_text_that_is_not_utf8_costs_its_row_only(folder):
    (folder / "music/b.json").write_bytes(b'{"description": "caf\xe9"}')
    path = manifest(folder / "data.jsonl", {"path": "music/a.wav"}, {"path": "music/b.wav"})
    with open(path, "ab") as file:
        file.write(b'{"path": "caf\xe9.wav"}\n')
    first, second = check_corpus(AudioCraftCorpus(train=path)).problems
    assert "b.json: not UTF-8" in first
    assert "data.jsonl, row 3: not UTF-8" in second


def test_a_gz_file_that_was_cut_short_is_named(folder):
    rows = [{"path": f"music/{number}.wav"} for number in range(1000)]
    path = manifest(folder / "data.jsonl.gz", *rows)
    (folder / "data.jsonl.gz").write_bytes((folder / "data.jsonl.gz").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"data\.jsonl\.gz: not a whole"):
        AudioCraftCorpus(train=path).clips()


def test_no_manifest_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one of train, valid, test"):
        AudioCraftCorpus()
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        AudioCraftCorpus(test="nowhere.jsonl").clips()
