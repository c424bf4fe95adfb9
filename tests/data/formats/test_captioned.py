import csv

import pytest
from format_toys import imported, sound, write_csv

from melody_cm.data import ManifestCorpus, check_corpus, import_corpus
from melody_cm.data.manifest import hashed_split

HEADER = ["id", "audio", "caption", "alt_captions", "start", "duration", "split", "piece", "genre"]


def row(**cells):
    full = {"id": "a", "audio": "a.wav", "caption": "One, two."} | cells
    return [full.get(name, "") for name in HEADER]


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "c"):
        sound(tmp_path / f"{name}.wav")
    return tmp_path


def test_columns_are_the_fields_of_a_manifest(folder):
    path = write_csv(
        folder / "songs.csv",
        HEADER,
        row(start="0.25", duration="0.5", split="test", piece="p", genre="folk", alt_captions="Two.| three |"),
        row(id="007", audio="b.wav", caption='Line one\nand "two"', alt_captions='["x | y", "z"]'),
        row(id="c", audio="c.wav", caption=""),
        row(id="no sound yet", audio=""),
    )
    report, clips = imported(folder, "csv", path, default_split="valid")
    first = clips["a"]
    assert (first.start, first.duration, first.split, first.piece, first.audio) == (
        0.25, 0.5, "test", "p", folder / "a.wav",
    )  # fmt: skip
    assert first.captions == ["One, two.", "Two.", "three"]
    assert first.fields["genre"] == "folk"
    assert clips["007"].captions == ['Line one\nand "two"', "x | y", "z"]
    assert (clips["007"].split, clips["007"].start, clips["007"].duration) == ("valid", 0.0, None)
    assert clips["c"].captions == []
    assert "genre" not in clips["c"].fields
    assert (report.clips, report.without_audio) == ({"test": 1, "valid": 2}, 1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(start="soon"), "start is 'soon'"),
        (row(duration="-1"), "duration is -1.0"),
        (row(duration="inf"), "duration is inf"),
        (row(split="devil"), "split is 'devil'"),
        (row(split="devil", audio=""), "split is 'devil'"),
        (row(id=" "), "the id is empty"),
        (row(alt_captions="[1]"), "alt_captions is '[1]'"),
        (row(alt_captions='["open'), "list of texts"),
        (row(audio="../a.wav"), "lies outside"),
        (["a", "b"], "2 cells, but 9 columns"),
    ],
)
def test_a_bad_row_is_one_line_and_the_rest_goes_on(folder, bad, message):
    path = write_csv(folder / "songs.csv", HEADER, row(id="b", audio="b.wav", piece="b"), bad, row(id="c"))
    report, clips = imported(folder, "csv", path)
    (problem,) = report.problems
    assert problem.startswith(f"{path}, row 3: ")
    assert message in problem
    assert "\n" not in problem
    assert list(clips) == ["b", "c"]


def test_tables_without_the_needed_columns_or_rows_are_refused(folder):
    with pytest.raises(ValueError, match=r"songs\.csv: no column 'caption'; it has id, audio"):
        imported(folder, "csv", write_csv(folder / "songs.csv", ["id", "audio"]))
    (folder / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"empty\.csv: empty"):
        imported(folder, "csv", folder / "empty.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file"):
        imported(folder, "csv", folder / "none.csv")
    with pytest.raises(ValueError, match="2 files are given; this format is one table"):
        imported(folder, "csv", folder / "empty.csv", folder / "empty.csv")


def test_a_byte_order_mark_is_no_part_of_a_name_and_bad_text_costs_its_row_only(folder):
    (folder / "songs.csv").write_bytes(b"\xef\xbb\xbfid,audio,caption\na,a.wav,caf\xe9\nb,b.wav,caf\xc3\xa9\n")
    report, clips = imported(folder, "csv", folder / "songs.csv")
    (problem,) = report.problems
    assert "songs.csv, row 2: not UTF-8" in problem
    assert clips["b"].captions == ["café"]


MUSICCAPS = [
    "ytid", "start_s", "end_s", "audioset_positive_labels", "aspect_list", "caption", "author_id",
    "is_balanced_subset", "is_audioset_eval",
]  # fmt: skip
IDS = ("-0Gj8-vB1q4", "_abcdefghij", "abc_def-300", "12345678901", "zzzzzzzzzzz", "yyyyyyyyyyy")


def video(ytid, start=30, end=40, aspects="['calm', \"it's slow\"]", evaluation="True"):
    return [ytid, start, end, "/m/04rlf", aspects, f"Caption of {ytid}.", 9, "False", evaluation]


def musiccaps(folder, *rows):
    table = write_csv(folder / "musiccaps-public.csv", MUSICCAPS, *rows)
    return imported(folder, "musiccaps", table, audio=folder / "audio")


def place(clip):
    return clip.audio.name, clip.start, clip.duration


def test_musiccaps_as_whole_videos_and_cut_clips(tmp_path):
    audio = tmp_path / "audio"
    sound(audio / f"{IDS[0]}.wav", 60)  # a whole video
    sound(audio / f"{IDS[1]}.wav", 10)  # cut, under the video's name
    sound(audio / f"{IDS[2]}_30.wav", 10)
    sound(audio / "below" / f"[{IDS[3]}]-[30-40].wav", 10)
    sound(audio / f"{IDS[4]}_30000_40000.wav", 10)
    sound(audio / f"{IDS[5]}.wav", 35)  # a whole video that ends early
    _, clips = musiccaps(tmp_path, *[video(ytid) for ytid in IDS])
    assert place(clips[IDS[0]]) == (f"{IDS[0]}.wav", 30.0, 10.0)
    assert place(clips[IDS[1]]) == (f"{IDS[1]}.wav", 0.0, None)
    assert place(clips[IDS[2]]) == (f"{IDS[2]}_30.wav", 0.0, None)
    assert place(clips[IDS[3]]) == (f"[{IDS[3]}]-[30-40].wav", 0.0, None)
    assert place(clips[IDS[4]]) == (f"{IDS[4]}_30000_40000.wav", 0.0, None)
    assert place(clips[IDS[5]]) == (f"{IDS[5]}.wav", 30.0, 5.0)
    clip = clips[IDS[0]]
    assert clip.captions == [f"Caption of {IDS[0]}.", "calm, it's slow"]
    assert clip.fields["aspects"] == ["calm", "it's slow"]
    assert clip.fields["audioset_positive_labels"] == "/m/04rlf"
    assert clip.piece == IDS[0]


def test_a_clip_cut_elsewhere_is_not_this_one_and_a_cut_one_comes_before_the_video(tmp_path):
    sound(tmp_path / "audio" / f"{IDS[0]}_50.wav", 10)
    sound(tmp_path / "audio" / f"{IDS[1]}.wav", 60)
    sound(tmp_path / "audio" / f"{IDS[1]}_30.wav", 10)
    report, clips = musiccaps(tmp_path, video(IDS[0]), video(IDS[1]))
    assert [place(clip) for clip in clips.values()] == [(f"{IDS[1]}_30.wav", 0.0, None)]
    (missing,) = report.missing
    assert missing.endswith(f"row 2: {tmp_path / 'audio' / IDS[0]}.*")


def test_a_video_too_short_for_its_clip_and_one_that_cannot_be_read_are_told_by_the_check(tmp_path):
    sound(tmp_path / "audio" / f"{IDS[0]}.wav", 20)
    (tmp_path / "audio" / f"{IDS[1]}.wav").write_bytes(b"no sound")
    sound(tmp_path / "audio" / f"{IDS[2]}.wav", 60)
    musiccaps(tmp_path, video(IDS[0]), video(IDS[1]), video(IDS[2]))
    report = check_corpus(str(tmp_path))
    assert report.reasons == {"too short": 1, "unreadable": 1}
    assert report.seconds == {"test": 10.0}


def test_the_official_evaluation_part_is_the_test_split(tmp_path):
    ids = [f"id_{number:08}" for number in range(60)]
    (tmp_path / "audio").mkdir()
    for ytid in ids:
        (tmp_path / "audio" / f"{ytid}_30.wav").touch()
    _, found = musiccaps(tmp_path, *[video(ytid, evaluation=str(place < 10)) for place, ytid in enumerate(ids)])
    clips = list(found.values())
    assert [clip.split for clip in clips[:10]] == ["test"] * 10
    for clip in clips[10:]:
        assert clip.split == ("valid" if hashed_split(clip.id) == "valid" else "train")
    assert {clip.split for clip in clips[10:]} == {"train", "valid"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (video(IDS[1], aspects="__import__('os').getcwd()"), "aspect_list is"),
        (video(IDS[1], aspects="['open"), "aspect_list is"),
        (video(IDS[1], aspects="[1, 2]"), "aspect_list is"),
        (video(IDS[1], aspects="[" * 5000), "aspect_list is"),
        (video(IDS[1], start="x"), "start_s is 'x'"),
        (video(IDS[1], start=40, end=30), "must end after it begins"),
    ],
)
def test_bad_rows_of_musiccaps(tmp_path, bad, message):
    sound(tmp_path / "audio" / f"{IDS[0]}_30.wav", 10)
    report, clips = musiccaps(tmp_path, bad, video(IDS[0]))
    (problem,) = report.problems
    assert "public.csv, row 2: " in problem
    assert message in problem
    assert len(problem) < 400
    assert list(clips) == [IDS[0]]


def test_the_real_table(shared_data, tmp_path):
    table = shared_data / "prompts" / "musiccaps_sample.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / "audio").mkdir()
    for cells in rows:
        (tmp_path / "audio" / f"{cells['ytid']}_{cells['start_s']}.wav").touch()
    _, clips = imported(tmp_path, "musiccaps", table, audio=tmp_path / "audio")
    assert len(clips) == len(rows) == 160
    assert all(clips[cells["ytid"]].captions[0] == cells["caption"].strip() for cells in rows)
    assert all(clip.fields["aspects"] for clip in clips.values())
    assert any(ytid.startswith("-") for ytid in clips)


DESCRIBER = [
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


def described(caption_id, track, caption, valid="True"):
    return [caption_id, track, caption, valid, 0, 7578, 117757, f"{track[-2:]}/{track}.mp3", 192.2]


@pytest.fixture
def table(tmp_path):
    rows = [
        described(1, "1004034", "Slow."),
        described(2, "555", "Fast!", "False"),
        described(3, "1004034", "Calm, slow. ", "False"),
    ]
    return write_csv(tmp_path / "song_describer.csv", DESCRIBER, *rows)


def describer(tmp_path, table, *names, **options):
    for name in names:
        sound(tmp_path / "audio" / name)
    return imported(tmp_path, "song-describer", table, audio=tmp_path / "audio", **options)


def test_a_track_is_a_clip_with_all_its_captions(tmp_path, table):
    _, clips = describer(tmp_path, table, "34/1004034.2min.mp3", "55/555.mp3")
    first = clips["1004034"]
    assert list(clips) == ["1004034", "555"]
    assert first.captions == ["Slow.", "Calm, slow."]
    assert first.fields["caption_ids"] == ["1", "3"]
    assert (first.split, first.start, first.duration) == ("test", 0.0, None)  # 192.2 s is the whole track's length
    assert first.audio == tmp_path / "audio/34/1004034.2min.mp3"
    assert clips["555"].audio == tmp_path / "audio/55/555.mp3"
    assert first.fields["artist_id"] == "7578"


def test_captions_outside_the_valid_subset_can_be_left_out(tmp_path, table):
    files = ("34/1004034.2min.mp3", "55/555.2min.mp3")
    _, clips = describer(tmp_path, table, *files, valid_subset=True)
    assert [(clip.id, clip.captions) for clip in clips.values()] == [("1004034", ["Slow."])]


def test_missing_tracks_are_listed_under_the_name_they_are_distributed_with(tmp_path, table):
    report, clips = describer(tmp_path, table, "55/555.2min.mp3")
    assert list(clips) == ["555"]
    assert report.missing == [f"{table}, row 2: {tmp_path / 'audio/34/1004034.2min.mp3'}"]


def test_a_table_in_utf16_is_named(tmp_path):
    (tmp_path / "songs.csv").write_text("id,audio,caption\na,a.wav,calm\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"songs\.csv: its names of columns are not UTF-8 text; save it as UTF-8"):
        import_corpus("csv", [str(tmp_path / "songs.csv")], tmp_path / "manifest.jsonl")


def test_cells_beyond_128_kb_and_the_separators_of_windows_are_read(tmp_path):
    (tmp_path / "sub").mkdir()
    sound(tmp_path / "sub" / "a.wav", 1)
    table = "id,audio,caption,lyrics\na,sub\\a.wav,calm," + "la " * 70_000 + "\n"
    (tmp_path / "songs.csv").write_text("\ufeff" + table)
    report = import_corpus("csv", [str(tmp_path / "songs.csv")], tmp_path / "manifest.jsonl")
    assert (report.problems, report.missing) == ([], [])
    (clip,) = ManifestCorpus(str(tmp_path)).clips()
    assert clip.audio == tmp_path / "sub" / "a.wav"
    assert len(clip.fields["lyrics"]) > 200_000
