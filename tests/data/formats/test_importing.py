import json
import re
import shlex
from pathlib import Path

import pytest
from format_toys import imported, sound, write_csv

from melody_cm.cli.main import main
from melody_cm.data import ManifestCorpus, import_corpus
from melody_cm.data.formats import FORMATS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "data.md"
HEADER = ["id", "audio", "caption", "split", "piece"]


def table(path, *rows):
    return write_csv(path, HEADER, *([*row, *[""] * (5 - len(row))] for row in rows))


def test_missing_sound_is_left_out_and_listed(tmp_path):
    sound(tmp_path / "a.wav")
    path = table(tmp_path / "songs.csv", ["a", "a.wav"], *[[f"x{n}", f"x{n}.wav"] for n in range(5)])
    report, clips = imported(tmp_path, "csv", path)
    assert list(clips) == ["a"]
    assert report.missing[4] == f"{path}, row 7: {tmp_path / 'x4.wav'}"
    assert (len(report.missing), report.problems) == (5, [])


def test_when_nothing_is_there_the_folder_is_named_and_nothing_written(tmp_path):
    path = table(tmp_path / "songs.csv", ["a", "a.wav"])
    with pytest.raises(FileNotFoundError, match="holds none of the 1 sound files") as error:
        imported(tmp_path, "csv", path)
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert not (tmp_path / "manifest.jsonl").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", "a.wav"], ["a", "b.wav"]], r"songs\.csv, row 3: id 'a' is that of .*row 2 too"),
        (
            [["a", "a.wav", "", "train", "p"], ["b", "b.wav", "", "test", "p"]],
            r"row 3: piece 'p' is in test here and in train at",
        ),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(tmp_path, rows, message):
    for name in "ab":
        sound(tmp_path / f"{name}.wav")
    with pytest.raises(ValueError, match=message):
        imported(tmp_path, "csv", table(tmp_path / "songs.csv", *rows))


def test_the_manifest_lies_above_the_sound_unless_that_is_allowed(tmp_path):
    sound(tmp_path / "music" / "a.wav")
    path = table(tmp_path / "lists" / "songs.csv", ["a", "../music/a.wav"])
    _, clips = imported(tmp_path, "csv", path)
    assert clips["a"].audio == tmp_path / "music" / "a.wav"
    out = tmp_path / "elsewhere" / "songs.jsonl"
    with pytest.raises(ValueError, match=r"songs\.jsonl does not lie above .*lists.*--allow-outside"):
        import_corpus("csv", [path], out)
    import_corpus("csv", [path], out, allow_outside=True)
    with pytest.raises(ValueError, match="allow_outside: true"):
        ManifestCorpus(str(out)).clips()
    assert ManifestCorpus(str(out), allow_outside=True).clips()[0].audio == tmp_path / "music" / "a.wav"


def songs():
    sound(Path("songs/a.wav"))
    write_csv(Path("songs/songs.csv"), ["id", "audio", "caption"], ["a", "a.wav", "x"])


def audiocraft():
    for split in ("train", "valid"):
        sound(Path(f"music/{split}.wav"))
        Path(f"egs/{split}").mkdir(parents=True)
        Path(f"egs/{split}/data.jsonl").write_text(json.dumps({"path": f"music/{split}.wav"}))


def musiccaps():
    sound(Path("musiccaps/-0Gj8-vB1q4_30.wav"))
    header = ["ytid", "start_s", "end_s", "aspect_list", "caption", "is_audioset_eval"]
    write_csv(Path("musiccaps-public.csv"), header, ["-0Gj8-vB1q4", 30, 40, "['calm']", "x", "True"])


def song_describer():
    sound(Path("sdd_audio/01/1.2min.mp3"))
    header = ["caption_id", "track_id", "caption", "is_valid_subset", "path"]
    write_csv(Path("song_describer.csv"), header, [1, 1, "x", "True", "01/1.mp3"])


def fma():
    sound(Path("fma_small/000/000002.mp3"))
    upper, lower = ["", "set", "set", "track", "track", "artist"], ["", "split", "subset", "genre_top", "title", "name"]
    row = [2, "training", "small", "Rock", "x", "y"]
    write_csv(Path("fma_metadata/tracks.csv"), upper, lower, ["track_id"] + [""] * 5, row)


def jamendo():
    Path("split-0").mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        sound(Path(f"jamendo/0{number}/{number}.mp3"))
        row = f"track_{number}\tartist_{number}\talbum_1\t0{number}/{number}.mp3\t1.0\tgenre---rock\n"
        header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
        Path(f"split-0/autotagging-{split}.tsv").write_text(header + row)


LAYOUTS = {
    "csv": (songs, 1),
    "audiocraft": (audiocraft, 2),
    "musiccaps": (musiccaps, 1),
    "song-describer": (song_describer, 1),
    "fma": (fma, 1),
    "jamendo": (jamendo, 3),
}


def test_every_import_of_the_page_makes_a_clean_manifest(tmp_path, monkeypatch, capsys):
    section = (
        PAGE.read_text(encoding="utf-8")
        .split("## Importing other collections\n")[1]
        .split("\n## ")[0]
        .replace("\\\n", " ")
    )
    commands = [shlex.split(line)[1:] for line in re.findall(r"^melody-cm data import .*", section, flags=re.MULTILINE)]
    assert [command[2] for command in commands] == list(LAYOUTS) == list(FORMATS)
    for command in commands:
        make, count = LAYOUTS[command[2]]
        folder = tmp_path / command[2]
        folder.mkdir()
        monkeypatch.chdir(folder)
        make()
        assert main(command) == 0
        assert main(["data", "check", command[command.index("--out") + 1], "--strict"]) == 0
        printed = capsys.readouterr().out
        assert sum(int(found) for found in re.findall(r"(\d+) clips ", printed)) == count, command
