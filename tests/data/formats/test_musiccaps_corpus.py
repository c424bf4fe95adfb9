import csv

import pytest
from format_toys import by_id, sound, write_csv

from melody_cm.data import MusicCapsCorpus, check_corpus
from melody_cm.data.manifest import hashed_split

HEADER = [
    "ytid", "start_s", "end_s", "audioset_positive_labels", "aspect_list", "caption", "author_id",
    "is_balanced_subset", "is_audioset_eval",
]  # fmt: skip
IDS = ("-0Gj8-vB1q4", "_abcdefghij", "abc_def-300", "12345678901", "zzzzzzzzzzz", "yyyyyyyyyyy")


def row(ytid, start=30, end=40, aspects="['calm', \"it's slow\"]", evaluation="True"):
    return [ytid, start, end, "/m/04rlf", aspects, f"Caption of {ytid}.", 9, "False", evaluation]


def corpus(folder, *rows):
    return MusicCapsCorpus(write_csv(folder / "musiccaps-public.csv", HEADER, *rows), str(folder / "audio"))


def place(clip):
    return clip.audio.name, clip.start, clip.duration


def test_whole_videos_and_cut_clips(tmp_path):
    audio = tmp_path / "audio"
    sound(audio / f"{IDS[0]}.wav", 60)  # a whole video
    sound(audio / f"{IDS[1]}.wav", 10)  # cut, under the video's name
    sound(audio / f"{IDS[2]}_30.wav", 10)
    sound(audio / "below" / f"[{IDS[3]}]-[30-40].wav", 10)
    sound(audio / f"{IDS[4]}_30000_40000.wav", 10)
    sound(audio / f"{IDS[5]}.wav", 35)  # a whole video that ends early
    clips = by_id(corpus(tmp_path, *[row(ytid) for ytid in IDS]))
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
    built = corpus(tmp_path, row(IDS[0]), row(IDS[1]))
    assert [place(clip) for clip in built.clips()] == [(f"{IDS[1]}_30.wav", 0.0, None)]
    (missing,) = built.missing
    assert missing.endswith(f"row 2: {tmp_path / 'audio' / IDS[0]}.*")


def test_a_video_too_short_for_its_clip_and_one_that_cannot_be_read_are_problems(tmp_path):
    sound(tmp_path / "audio" / f"{IDS[0]}.wav", 20)
    (tmp_path / "audio" / f"{IDS[1]}.wav").write_bytes(b"no sound")
    sound(tmp_path / "audio" / f"{IDS[2]}.wav", 60)
    report = check_corpus(corpus(tmp_path, row(IDS[0]), row(IDS[1]), row(IDS[2])))
    assert report.reasons == {"too short": 1, "unreadable": 1}
    assert report.seconds == {"test": 10.0}


def test_the_official_evaluation_part_is_the_test_split(tmp_path):
    ids = [f"id_{number:08}" for number in range(60)]
    for ytid in ids:
        (tmp_path / "audio").mkdir(exist_ok=True)
        (tmp_path / "audio" / f"{ytid}_30.wav").touch()
    clips = corpus(tmp_path, *[row(ytid, evaluation=str(place < 10)) for place, ytid in enumerate(ids)]).clips()
    assert [clip.split for clip in clips[:10]] == ["test"] * 10
    for clip in clips[10:]:
        assert clip.split == ("valid" if hashed_split(clip.id) == "valid" else "train")
    assert {clip.split for clip in clips[10:]} == {"train", "valid"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(IDS[1], aspects="__import__('os').getcwd()"), "aspect_list is"),
        (row(IDS[1], aspects="['open"), "aspect_list is"),
        (row(IDS[1], aspects="[1, 2]"), "aspect_list is"),
        (row(IDS[1], aspects="[" * 5000), "aspect_list is"),
        (row(IDS[1], start="x"), "start_s is 'x'"),
        (row(IDS[1], start=40, end=30), "must end after it begins"),
    ],
)
def test_bad_rows_are_one_line_each(tmp_path, bad, message):
    sound(tmp_path / "audio" / f"{IDS[0]}_30.wav", 10)
    with pytest.raises(ValueError, match=r"public\.csv, row 2: ") as error:
        corpus(tmp_path, bad, row(IDS[0])).clips()
    assert message in str(error.value)
    assert len(str(error.value)) < 400
    assert check_corpus(corpus(tmp_path, bad, row(IDS[0]))).clips == {"test": 1}


def test_the_real_table(shared_data, tmp_path):
    table = shared_data / "prompts" / "musiccaps_sample.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / "audio").mkdir()
    for cells in rows:
        (tmp_path / "audio" / f"{cells['ytid']}_{cells['start_s']}.wav").touch()
    clips = by_id(MusicCapsCorpus(str(table), str(tmp_path / "audio")))
    assert len(clips) == len(rows) == 160
    assert all(clips[cells["ytid"]].captions[0] == cells["caption"].strip() for cells in rows)
    assert all(clip.fields["aspects"] for clip in clips.values())
    assert any(ytid.startswith("-") for ytid in clips)
