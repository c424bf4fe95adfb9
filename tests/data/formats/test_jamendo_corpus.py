import pytest
from format_toys import by_id, sound

from melody_cm.data import JamendoCorpus, check_corpus

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"


def row(number, artist, *tags):
    return "\t".join([f"track_{number:07}", artist, "album_1", f"{number % 100:02}/{number}.mp3", "212.7", *tags])


def split_file(tmp_path, name, *rows):
    path = tmp_path / f"autotagging-{name}.tsv"
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def audio(tmp_path):
    for name in ("34/786434.mp3", "12/112.low.mp3", "13/113.mp3"):
        path = sound(tmp_path / "audio" / (name + ".wav"))
        path.rename(path.with_suffix(""))
    return str(tmp_path / "audio")


def test_any_number_of_tags(tmp_path, audio):
    tags = ["genre---rock", 'genre---"quoted', "instrument---piano", "mood/theme---happy"]
    train = split_file(tmp_path, "train", row(786434, "artist_1", *tags), row(113, "artist_3"))
    test = split_file(tmp_path, "test", row(112, "artist_2", "mood/theme---deep"))
    clips = by_id(JamendoCorpus(audio, train=train, test=test))
    first = clips["track_0786434"]
    assert first.captions == ['happy, rock, "quoted, piano']
    assert first.fields["genres"] == ["rock", '"quoted']
    assert (first.fields["instruments"], first.fields["moods"]) == (["piano"], ["happy"])
    assert (first.fields["caption_from"], first.fields["listed_seconds"]) == ("tags", 212.7)
    assert (first.piece, first.split, first.duration) == ("track_0786434", "train", None)
    assert clips["track_0000113"].captions == []
    assert clips["track_0000112"].split == "test"
    assert clips["track_0000112"].audio == tmp_path / "audio/12/112.low.mp3"


def test_an_artist_in_two_splits_is_refused(tmp_path, audio):
    train = split_file(tmp_path, "train", row(786434, "artist_1"))
    test = split_file(tmp_path, "test", row(112, "artist_1"), row(113, "artist_1"))
    with pytest.raises(ValueError, match=r"test\.tsv, row 2: artist_1 is in test here and in train at .*train\.tsv"):
        JamendoCorpus(audio, train=train, test=test).clips()
    report = check_corpus(JamendoCorpus(audio, train=train, test=test))
    assert (len(report.problems), report.clips) == (1, {"train": 1, "test": 2})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(112, "artist_2", "rock"), "tag 'rock'"),
        (row(112, "artist_2", '"genre---rock'), "tag '\"genre---rock'"),
        (row(112, "artist_2", "colour---red"), "tag 'colour---red'"),
        ("track_1\tartist_1", "2 cells; at least 5"),
        (row(112, "artist_2").replace("212.7", "long"), "DURATION is 'long'"),
    ],
)
def test_bad_rows_are_one_line_each(tmp_path, audio, bad, message):
    path = split_file(tmp_path, "train", row(786434, "artist_1"), bad, row(113, "artist_3"))
    with pytest.raises(ValueError, match=r"train\.tsv, row 3: ") as error:
        JamendoCorpus(audio, train=path).clips()
    assert message in str(error.value)
    assert check_corpus(JamendoCorpus(audio, train=path)).clips == {"train": 2}


def test_another_table_is_refused(tmp_path, audio):
    (tmp_path / "a.tsv").write_text("TRACK\tTAGS\n")
    with pytest.raises(ValueError, match="not a file of MTG-Jamendo"):
        JamendoCorpus(audio, train=str(tmp_path / "a.tsv")).clips()
    with pytest.raises(ValueError, match="at least one of train, valid, test"):
        JamendoCorpus(audio)
