"""Every way in that docs/data.md shows is read by the command that it shows."""

import json
import re
from pathlib import Path

import yaml
from format_toys import sound, write_csv

from melody_cm.cli.main import main

PAGE = Path(__file__).resolve().parents[3] / "docs" / "data.md"


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


def renamed(name):
    path = sound(Path(f"{name}.wav"))
    path.rename(path.with_suffix(""))


def song_describer():
    renamed("sdd_audio/01/1.2min.mp3")
    header = ["caption_id", "track_id", "caption", "is_valid_subset", "path"]
    write_csv(Path("song_describer.csv"), header, [1, 1, "x", "True", "01/1.mp3"])


def fma():
    renamed("fma_small/000/000002.mp3")
    upper, lower = ["", "set", "set", "track", "track", "artist"], ["", "split", "subset", "genre_top", "title", "name"]
    row = [2, "training", "small", "Rock", "x", "y"]
    write_csv(Path("fma_metadata/tracks.csv"), upper, lower, ["track_id"] + [""] * 5, row)


def jamendo():
    Path("split-0").mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        renamed(f"jamendo/0{number}/{number}.mp3")
        row = f"track_{number}\tartist_{number}\talbum_1\t0{number}/{number}.mp3\t1.0\tgenre---rock\n"
        header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
        Path(f"split-0/autotagging-{split}.tsv").write_text(header + row)


LAYOUTS = {
    "CsvCorpus": (songs, 1),
    "AudioCraftCorpus": (audiocraft, 2),
    "MusicCapsCorpus": (musiccaps, 1),
    "SongDescriberCorpus": (song_describer, 1),
    "FmaCorpus": (fma, 1),
    "JamendoCorpus": (jamendo, 3),
}


def test_every_corpus_of_the_page_is_checked_by_its_command(tmp_path, monkeypatch, capsys):
    page = PAGE.read_text(encoding="utf-8")
    section = page.split("## Ways in\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
    assert "melody-cm data check songs.yaml" in section
    names = [yaml.safe_load(block)["class_path"].rpartition(".")[2] for block in blocks]
    assert names == list(LAYOUTS)
    for name, block in zip(names, blocks, strict=True):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        make, count = LAYOUTS[name]
        make()
        Path("songs.yaml").write_text(block)
        assert main(["data", "check", "songs.yaml", "--strict"]) == 0
        printed = capsys.readouterr().out
        assert sum(int(found) for found in re.findall(r"(\d+) clips ", printed)) == count, name
