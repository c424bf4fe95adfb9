import pytest
from format_toys import by_id, sound, write_csv

from melody_cm.data import SongDescriberCorpus

HEADER = [
    "caption_id",
    "track_id",
    "caption",
    "is_valid_subset",
    "familiarity",
    "artist_id",
    "album_id",
    "path",
    "duration",
]


def row(caption_id, track, caption, valid="True"):
    return [caption_id, track, caption, valid, 0, 7578, 117757, f"{track[-2:]}/{track}.mp3", 192.2]


@pytest.fixture
def table(tmp_path):
    rows = [row(1, "1004034", "Slow."), row(2, "555", "Fast!", "False"), row(3, "1004034", "Calm, slow. ", "False")]
    return write_csv(tmp_path / "song_describer.csv", HEADER, *rows)


def audio(tmp_path, *names):
    for name in names:
        path = sound(tmp_path / "audio" / (name + ".wav"))
        path.rename(path.with_suffix(""))
    return str(tmp_path / "audio")


def test_a_track_is_a_clip_with_all_its_captions(tmp_path, table):
    folder = audio(tmp_path, "34/1004034.2min.mp3", "55/555.mp3")
    clips = by_id(SongDescriberCorpus(table, folder))
    first = clips["1004034"]
    assert list(clips) == ["1004034", "555"]
    assert first.captions == ["Slow.", "Calm, slow."]
    assert first.fields["caption_ids"] == ["1", "3"]
    assert (first.split, first.start, first.duration) == ("test", 0.0, None)  # 192.2 s is the whole track's length
    assert first.audio == tmp_path / "audio/34/1004034.2min.mp3"
    assert clips["555"].audio == tmp_path / "audio/55/555.mp3"
    assert first.fields["artist_id"] == "7578"


def test_captions_outside_the_valid_subset_can_be_left_out(tmp_path, table):
    folder = audio(tmp_path, "34/1004034.2min.mp3", "55/555.2min.mp3")
    (clip,) = SongDescriberCorpus(table, folder, valid_subset=True).clips()
    assert (clip.id, clip.captions) == ("1004034", ["Slow."])


def test_missing_tracks_are_listed_under_the_name_they_are_distributed_with(tmp_path, table):
    corpus = SongDescriberCorpus(table, audio(tmp_path, "55/555.2min.mp3"))
    assert list(by_id(corpus)) == ["555"]
    assert corpus.missing == [f"{table}, row 2: {tmp_path / 'audio/34/1004034.2min.mp3'}"]
