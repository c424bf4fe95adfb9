import gzip
import json

import pytest
from format_toys import imported, sound, write_csv

from melody_cm.data import import_corpus


def manifest(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"amplitude": None, "weight": None, "info_path": None} | row) for row in rows]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


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
    sources = (f"train={train}", f"valid={folder / 'egs/valid'}")
    _, clips = imported(folder, "audiocraft", *sources, audio=folder)
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
    _, clips = imported(folder, "audiocraft", f"train={path}")
    assert clips["music/a.wav"].captions == ["From elsewhere."]
    assert clips["music/b.wav"].captions == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"path": "../outside.wav"}, "lies outside"),
        ({"path": "/etc/outside.wav"}, "lies outside"),
        ({"path": None}, "path is None"),
        ({"path": "music/a.wav", "info_path": 3}, "info_path is 3"),
        ({"path": "music.zip:a.wav"}, "unpack it"),
    ],
)
def test_rows_of_audiocraft_that_cannot_be_are_one_line_each(folder, bad, message):
    path = manifest(folder / "data.jsonl", bad, {"path": "music/a.wav"})
    report, clips = imported(folder, "audiocraft", f"train={path}")
    (problem,) = report.problems
    assert "data.jsonl, row 1: " in problem
    assert message in problem
    assert list(clips) == ["music/a.wav"]


def test_absolute_paths_are_taken(folder):
    path = manifest(folder / "egs/data.jsonl", {"path": str(folder / "music/a.wav")})
    _, clips = imported(folder, "audiocraft", f"train={path}")
    assert [clip.captions for clip in clips.values()] == [["A calm piano."]]


def test_text_that_is_not_utf8_costs_its_row_only(folder):
    (folder / "music/b.json").write_bytes(b'{"description": "caf\xe9"}')
    path = manifest(folder / "data.jsonl", {"path": "music/a.wav"}, {"path": "music/b.wav"})
    with path.open("ab") as file:
        file.write(b'{"path": "caf\xe9.wav"}\n')
    first, second = imported(folder, "audiocraft", f"train={path}")[0].problems
    assert "b.json: not UTF-8" in first
    assert "data.jsonl, row 3: not UTF-8" in second


def test_a_gz_file_that_was_cut_short_is_named(folder):
    rows = [{"path": f"music/{number}.wav"} for number in range(1000)]
    path = manifest(folder / "data.jsonl.gz", *rows)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"data\.jsonl\.gz: not a whole"):
        imported(folder, "audiocraft", f"train={path}")


@pytest.mark.parametrize("form", ["audiocraft", "jamendo"])
@pytest.mark.parametrize("source", ["data.jsonl", "trained=data.jsonl", "train="])
def test_a_file_of_no_split_is_refused(tmp_path, form, source):
    with pytest.raises(ValueError, match=r"names no split; give train=FILE, valid=FILE, test=FILE"):
        imported(tmp_path, form, source, audio=tmp_path)


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        imported(tmp_path, "audiocraft", "test=nowhere.jsonl", audio=tmp_path)


# Two rows of names and one that names the first column, as in fma_metadata/tracks.csv.
UPPER = ["", "album", "artist", "set", "set", "track", "track", "track", "track"]
LOWER = ["", "title", "name", "split", "subset", "genre_top", "license", "tags", "title"]
INDEX = ["track_id", "", "", "", "", "", "", "", ""]


def track(number, split="training", subset="small", genre="Hip-Hop", tags="[]", title="Food", artist="AWOL"):
    return [number, "AWOL - A Way Of Life", artist, split, subset, genre, "CC BY", tags, title]


def fma(tmp_path, *rows, **options):
    path = write_csv(tmp_path / "tracks.csv", UPPER, LOWER, INDEX, *rows)
    return imported(tmp_path, "fma", path, audio=tmp_path / "audio", **options)


def audio(tmp_path, *names):
    for name in names:
        sound(tmp_path / "audio" / f"{name}.mp3")


def test_tracks_become_clips(tmp_path):
    audio(tmp_path, "000/000002", "148/148123", "000/000005")
    rows = [
        track(2), track(148123, "validation", tags="['rap', 'loud']", title="", genre=""),
        track(5, "test", title="", artist="", genre=""),
    ]  # fmt: skip
    _, clips = fma(tmp_path, *rows)
    assert [clip.split for clip in clips.values()] == ["train", "valid", "test"]
    assert clips["2"].audio == tmp_path / "audio/000/000002.mp3"
    assert clips["148123"].audio == tmp_path / "audio/148/148123.mp3"
    assert clips["2"].captions == ['Hip-Hop, "Food" by AWOL', "Hip-Hop"]
    assert clips["148123"].captions == ["AWOL", "rap, loud"]
    assert clips["5"].captions == []
    assert clips["2"].fields["caption_from"] == "tags"
    expected = {"genre": "Hip-Hop", "title": "Food", "artist": "AWOL", "license": "CC BY"}
    assert expected.items() <= clips["2"].fields.items()
    assert clips["148123"].fields["tags"] == ["rap", "loud"]


def test_a_subset_holds_the_smaller_ones_and_misses_no_other(tmp_path):
    audio(tmp_path, "000/000002", "000/000003")
    rows = (track(2), track(3, subset="medium"), track(4, subset="large"))
    report, clips = fma(tmp_path, *rows, subset="medium")
    assert list(clips) == ["2", "3"]
    assert report.missing == []
    assert len(fma(tmp_path, *rows)[0].missing) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (track("x"), "track_id is 'x'"),
        (track(3, split="dev"), "split 'dev'"),
        (track(3, tags="rap"), "track.tags is 'rap'"),
        (track(3)[:-1], "8 cells, but 9 columns"),
    ],
)
def test_bad_rows_of_fma_are_one_line_each(tmp_path, bad, message):
    audio(tmp_path, "000/000002")
    report, clips = fma(tmp_path, bad, track(2))
    (problem,) = report.problems
    assert "tracks.csv, row 4: " in problem
    assert message in problem
    assert list(clips) == ["2"]


def test_another_table_than_fma_s_is_refused(tmp_path):
    path = write_csv(tmp_path / "genres.csv", ["genre_id", "title"], ["1", "Rock"])
    with pytest.raises(ValueError, match=r"genres\.csv: no column 'set\.split'"):
        imported(tmp_path, "fma", path)


HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"


def listed(number, artist, *tags):
    return "\t".join([f"track_{number:07}", artist, "album_1", f"{number % 100:02}/{number}.mp3", "212.7", *tags])


def split_file(tmp_path, name, *rows):
    path = tmp_path / f"autotagging-{name}.tsv"
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return f"{name}={path}"


def jamendo(tmp_path, *sources):
    for name in ("34/786434", "12/112.low", "13/113"):
        audio(tmp_path, name)
    return imported(tmp_path, "jamendo", *sources, audio=tmp_path / "audio")


def test_any_number_of_tags(tmp_path):
    tags = ["genre---rock", 'genre---"quoted', "instrument---piano", "mood/theme---happy"]
    train = split_file(tmp_path, "train", listed(786434, "artist_1", *tags), listed(113, "artist_3"))
    test = split_file(tmp_path, "test", listed(112, "artist_2", "mood/theme---deep"))
    _, clips = jamendo(tmp_path, train, test)
    first = clips["track_0786434"]
    assert first.captions == ['happy, rock, "quoted, piano']
    assert first.fields["genres"] == ["rock", '"quoted']
    assert (first.fields["instruments"], first.fields["moods"]) == (["piano"], ["happy"])
    assert (first.fields["caption_from"], first.fields["listed_seconds"]) == ("tags", 212.7)
    assert (first.piece, first.split, first.duration) == ("track_0786434", "train", None)
    assert clips["track_0000113"].captions == []
    assert clips["track_0000112"].split == "test"
    assert clips["track_0000112"].audio == tmp_path / "audio/12/112.low.mp3"


def test_tracks_of_an_artist_in_another_split_are_left_out(tmp_path):
    train = split_file(tmp_path, "train", listed(786434, "artist_1"))
    test = split_file(tmp_path, "test", listed(112, "artist_1"), listed(113, "artist_2"))
    report, clips = jamendo(tmp_path, train, test)
    (problem,) = report.problems
    assert "test.tsv, row 2: artist_1 is in test here and in train before; take files of one and the same" in problem
    assert list(clips) == ["track_0786434", "track_0000113"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (listed(112, "artist_2", "rock"), "tag 'rock'"),
        (listed(112, "artist_2", '"genre---rock'), "tag '\"genre---rock'"),
        (listed(112, "artist_2", "colour---red"), "tag 'colour---red'"),
        ("track_1\tartist_1", "2 cells; at least 5"),
        (listed(112, "artist_2").replace("212.7", "long"), "DURATION is 'long'"),
    ],
)
def test_bad_rows_of_jamendo_are_one_line_each(tmp_path, bad, message):
    train = split_file(tmp_path, "train", listed(786434, "artist_1"), bad, listed(113, "artist_3"))
    report, clips = jamendo(tmp_path, train)
    (problem,) = report.problems
    assert "train.tsv, row 3: " in problem
    assert message in problem
    assert len(clips) == 2


def test_another_table_than_jamendo_s_is_refused(tmp_path):
    (tmp_path / "a.tsv").write_text("TRACK\tTAGS\n")
    with pytest.raises(ValueError, match="not a file of MTG-Jamendo"):
        imported(tmp_path, "jamendo", f"train={tmp_path / 'a.tsv'}")


@pytest.mark.parametrize("line", [b"\0" * 5000, b"\n" * 5000])
def test_a_list_that_unpacks_without_end_is_refused(tmp_path, monkeypatch, line):
    monkeypatch.setattr("melody_cm.data.formats.tagged.MANY_BYTES", 1 << 16)
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(line * 1000))
    with pytest.raises(ValueError, match=r"data\.jsonl\.gz: unpacks to over .* MiB"):
        import_corpus("audiocraft", [f"train={tmp_path}"], tmp_path / "m.jsonl", tmp_path)
