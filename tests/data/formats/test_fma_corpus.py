import pytest
from format_toys import by_id, sound, write_csv

from melody_cm.data import FmaCorpus, check_corpus

# Two rows of names and one that names the first column, as in fma_metadata/tracks.csv.
UPPER = ["", "album", "artist", "set", "set", "track", "track", "track", "track"]
LOWER = ["", "title", "name", "split", "subset", "genre_top", "license", "tags", "title"]
INDEX = ["track_id", "", "", "", "", "", "", "", ""]


def row(track, split="training", subset="small", genre="Hip-Hop", tags="[]", title="Food", artist="AWOL"):
    return [track, "AWOL - A Way Of Life", artist, split, subset, genre, "CC BY", tags, title]


def corpus(tmp_path, *rows, **arguments):
    path = write_csv(tmp_path / "tracks.csv", UPPER, LOWER, INDEX, *rows)
    return FmaCorpus(path, str(tmp_path / "audio"), **arguments)


def audio(tmp_path, *names):
    for name in names:
        path = sound(tmp_path / "audio" / f"{name}.wav")
        path.rename(path.with_suffix(".mp3"))


def test_tracks_become_clips(tmp_path):
    audio(tmp_path, "000/000002", "148/148123", "000/000005")
    rows = [
        row(2), row(148123, "validation", tags="['rap', 'loud']", title="", genre=""),
        row(5, "test", title="", artist="", genre=""),
    ]  # fmt: skip
    clips = by_id(corpus(tmp_path, *rows))
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
    built = corpus(tmp_path, row(2), row(3, subset="medium"), row(4, subset="large"), subset="medium")
    assert list(by_id(built)) == ["2", "3"]
    assert built.missing == []
    everything = corpus(tmp_path, row(2), row(3, subset="medium"), row(4, subset="large"))
    everything.clips()
    assert len(everything.missing) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("x"), "track_id is 'x'"),
        (row(3, split="dev"), "split 'dev'"),
        (row(3, tags="rap"), "track.tags is 'rap'"),
        (row(3)[:-1], "8 cells, but 9 columns"),
    ],
)
def test_bad_rows_are_one_line_each(tmp_path, bad, message):
    audio(tmp_path, "000/000002")
    built = corpus(tmp_path, bad, row(2))
    with pytest.raises(ValueError, match=r"tracks\.csv, row 4: ") as error:
        built.clips()
    assert message in str(error.value)
    report = check_corpus(built)
    assert (len(report.problems), report.clips["train"]) == (1, 1)


def test_another_table_is_refused(tmp_path):
    path = write_csv(tmp_path / "genres.csv", ["genre_id", "title"], ["1", "Rock"])
    with pytest.raises(ValueError, match=r"genres\.csv: no column 'set\.split'"):
        FmaCorpus(path, str(tmp_path)).clips()
