import json
import os
import re
import shutil

import numpy as np
import pytest
import soundfile
import yaml

from melody_cm.cli.main import main
from melody_cm.data import FolderCorpus, ManifestCorpus, SyntheticCorpus, audio_info, open_corpus
from melody_cm.data.manifest import hashed_split, manifest_lines


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_manifest(folder, *rows):
    path = folder / "manifest.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def row(**fields):
    return {
        "id": "a",
        "audio": "audio/a.wav",
        "start": 1.5,
        "duration": 2.0,
        "split": "train",
        "caption": "One.",
    } | fields


def test_a_row_becomes_a_clip(tmp_path):
    path = write_manifest(tmp_path, "", row(alt_captions=["Two.", "three"], piece="p", genre="folk"))
    (clip,) = ManifestCorpus(path).clips()
    assert (clip.id, clip.start, clip.duration, clip.split, clip.piece) == ("a", 1.5, 2.0, "train", "p")
    assert clip.audio == tmp_path / "audio/a.wav"
    assert clip.captions == ["One.", "Two.", "three"]
    assert clip.fields["genre"] == "folk"
    assert clip.where == f"{path}, row 2"


def test_rows_without_audio_split_or_duration(tmp_path):
    bare = {"id": 7, "audio": "b.wav", "caption": None}
    path = write_manifest(tmp_path, row(audio=None), bare)
    (clip,) = ManifestCorpus(path, default_split="test").clips()
    assert (clip.id, clip.start, clip.duration, clip.split, clip.captions) == ("7", 0.0, None, "test", [])


def test_beside_a_midi_file_the_start_is_not_a_place_in_the_audio(tmp_path):
    (clip,) = ManifestCorpus(write_manifest(tmp_path, row(midi="a.mid", start=20.0))).clips()
    assert clip.start == 0.0
    assert clip.fields["start"] == 20.0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"id": "a", ', "not JSON"),
        ("[1]", "JSON object"),
        ({"id": "a", "caption": "x"}, "'audio' is missing"),
        ({"id": "a", "audio": "a.wav", "captoin": "x"}, "is 'captoin' a misspelling"),
        (row(split="validated"), "split is 'validated'; use one of train, valid, test"),
        (row(start=-1.0), "start is -1.0"),
        (row(duration="ten"), "duration is 'ten'"),
        (row(duration=0), "duration is 0"),
        (row(caption=3), "caption is 3; a text, or null, is needed"),
        (row(alt_captions="Two."), "alt_captions is 'Two.'; a list of texts is needed"),
        (row(audio=5), "audio is 5"),
        (row(audio="../secret.wav"), "lies outside"),
        (row(audio="/etc/secret.wav"), "lies outside"),
        (row(audio="audio/../../secret.wav"), "lies outside"),
    ],
)
def test_a_bad_row_is_named_with_file_and_number(tmp_path, bad, message):
    path = write_manifest(tmp_path, row(), bad)
    with pytest.raises(ValueError, match=r"manifest\.jsonl, row 2: ") as error:
        ManifestCorpus(path).clips()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_piece_in_two_splits_is_refused(tmp_path):
    path = write_manifest(tmp_path, row(piece="song"), row(id="b", audio="b.wav", piece="song", split="test"))
    with pytest.raises(ValueError, match=r"row 2: piece 'song' is in test here and in train at .*row 1"):
        ManifestCorpus(path).clips()


def test_one_sound_file_in_two_splits_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"audio/a.wav"):
        ManifestCorpus(write_manifest(tmp_path, row(), row(id="b", split="test"))).clips()


def test_a_row_without_end_is_named_before_it_fills_the_memory(tmp_path):
    with (tmp_path / "manifest.jsonl").open("wb") as file:
        file.write(json.dumps(row()).encode() + b"\n")
        file.truncate(2**33)
    said = r"manifest\.jsonl, line 2: longer than 16 MiB, which no row is"
    with pytest.raises(ValueError, match=said):
        ManifestCorpus(str(tmp_path)).clips()
    with pytest.raises(ValueError, match=said):
        list(manifest_lines(tmp_path / "manifest.jsonl"))


def test_rows_that_are_not_utf8_are_named(tmp_path):
    line = json.dumps(row()).encode() + b"\n"
    (tmp_path / "manifest.jsonl").write_bytes(line + line.replace(b"One", b"caf\xe9"))
    with pytest.raises(ValueError, match=r"manifest\.jsonl, row 2: not UTF-8 text"):
        ManifestCorpus(str(tmp_path)).clips()
    assert [where[-5:] for where, _ in manifest_lines(tmp_path / "manifest.jsonl")] == ["row 1", "row 2"]


def test_files_outside_the_folder_can_be_allowed(tmp_path):
    path = write_manifest(tmp_path, row(audio="../music/a.wav"))
    with pytest.raises(ValueError, match="allow_outside"):
        ManifestCorpus(path).clips()
    (clip,) = ManifestCorpus(path, allow_outside=True).clips()
    assert clip.audio == tmp_path.parent / "music/a.wav"


def sound(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(round(8000 * seconds)), 8000)


def test_a_folder_reads_captions_beside_its_files(tmp_path):
    sound(tmp_path / "x" / "a.wav")
    sound(tmp_path / "b.flac")
    sound(tmp_path / "c.wav")
    (tmp_path / "x" / "a.txt").write_text("A calm piece.\n\nCalm, slow\n")
    (tmp_path / "b.json").write_text(json.dumps({"caption": "B.", "split": "test", "license": "CC0-1.0"}))
    (tmp_path / "c.json").write_text(json.dumps({"split": None}))
    clips = {clip.id: clip for clip in FolderCorpus(str(tmp_path)).clips()}
    assert set(clips) == {"x/a.wav", "b.flac", "c.wav"}
    assert clips["x/a.wav"].captions == ["A calm piece.", "Calm, slow"]
    assert clips["b.flac"].captions == ["B."]
    assert clips["b.flac"].split == "test"
    assert clips["b.flac"].fields["license"] == "CC0-1.0"
    assert clips["c.wav"].captions == []
    assert clips["c.wav"].split == hashed_split("c")


def test_links_to_folders_are_followed_and_hidden_places_left_out(tmp_path):
    sound(tmp_path / "store" / "a.wav")
    sound(tmp_path / "songs" / "b.wav")
    sound(tmp_path / "songs" / ".trash" / "c.wav")
    (tmp_path / "songs" / "d.wav").mkdir()
    (tmp_path / "songs" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "up").symlink_to(tmp_path / "songs")
    assert [clip.id for clip in FolderCorpus(str(tmp_path / "songs")).clips()] == ["b.wav", "linked/a.wav"]


@pytest.fixture
def full_of_things(tmp_path):
    for name in ("a.wav", "sub/b.WAV", ".hidden.wav", "c.partial.wav", ".Trash-1000/files/d.wav"):
        sound(tmp_path / name)
    for name in ("e.m4a", "sub/F.M4A", "g.webm", "notes.txt", "sub/.h.m4a"):
        (tmp_path / name).touch()
    (tmp_path / "again").symlink_to(tmp_path / "sub")
    return tmp_path


def test_what_is_not_taken_of_a_folder_is_said_with_counts(full_of_things, caplog, capsys):
    corpus = FolderCorpus(str(full_of_things))
    assert [clip.id for clip in corpus.clips()] == ["a.wav", "sub/b.WAV"]
    said = "2 .m4a, 1 .webm, 1 hidden file, 1 hidden folder, 1 unfinished .partial.wav"
    assert corpus.left_out() == said
    corpus.splits()
    assert caplog.text.count(said) == 1
    assert main(["data", "check", str(full_of_things)]) == 0
    assert f"left out: {said}\nproblems: 0" in capsys.readouterr().out


def test_a_folder_that_cannot_be_read_costs_no_other_its_place(full_of_things, monkeypatch):
    scan = os.scandir

    def refused(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("melody_cm.data.folders.os.scandir", refused)
    corpus = FolderCorpus(str(full_of_things))
    assert [clip.id for clip in corpus.clips()] == ["a.wav"]
    assert f"1 unreadable folder {full_of_things}/sub (Permission denied)" in corpus.left_out()


def test_folders_that_link_to_each_other_are_entered_once(tmp_path):
    folders = [tmp_path / f"{number:02d}" for number in range(12)]
    for folder in folders:
        sound(folder / "a.wav")
        for other in folders:
            (folder / f"to{other.name}").symlink_to(other)
    assert len(FolderCorpus(str(tmp_path)).clips()) == 12


BOM = "\ufeff"


def test_a_byte_order_mark_is_no_part_of_any_text(tmp_path, cache):
    for name in ("a.wav", "b.wav", "c.wav"):
        sound(tmp_path / name)
    (tmp_path / "a.txt").write_text(BOM + "calm\r\nslow\rlow\u2028end\n")
    (tmp_path / "b.json").write_text(BOM + '{"caption": "loud"}')
    clips = {clip.id: clip for clip in FolderCorpus(str(tmp_path)).clips()}
    assert clips["a.wav"].captions == ["calm", "slow", "low\u2028end"]
    assert clips["b.wav"].captions == ["loud"]
    rows = [json.dumps({"id": name, "audio": f"{name}.wav", "caption": name}) for name in "abc"]
    (tmp_path / "m.jsonl").write_text(BOM + rows[0] + "\n" + rows[1] + "\n" + BOM + rows[2] + "\n")
    corpus = ManifestCorpus(str(tmp_path / "m.jsonl"))
    assert [clip.captions for clip in corpus.clips()] == [["a"], ["b"], ["c"]]
    assert len(corpus.clips().audio_files()) == 3


def test_names_that_are_not_utf8_are_taken_and_can_be_printed(tmp_path, cache):
    sound(tmp_path / "plain.wav")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9t\xe9.wav")
    os.rename(tmp_path / "plain.wav", odd)
    corpus = FolderCorpus(str(tmp_path))
    (clip,) = corpus.clips()
    assert (clip.id, clip.where) == (r"\xe9t\xe9.wav", rf"{tmp_path}/\xe9t\xe9.wav")
    assert audio_info(clip.audio).seconds == 1.0
    assert corpus.fingerprint()


def test_a_byte_order_mark_is_no_part_of_a_caption(tmp_path):
    for name, text in (("a", "\ufeffCalm."), ("b", '\ufeff{"caption": "Calm."}')):
        sound(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.{'txt' if name == 'a' else 'json'}").write_text(text, encoding="utf-8")
    assert [clip.captions for clip in FolderCorpus(str(tmp_path)).clips()] == [["Calm."], ["Calm."]]


def test_splits_of_a_folder_depend_on_names_alone(tmp_path):
    for number in range(300):
        (tmp_path / f"{number}.wav").touch()
    corpus = FolderCorpus(str(tmp_path))
    before = {clip.id: clip.split for clip in corpus.clips()}
    shares = [sum(split == name for split in before.values()) / 300 for name in ("train", "valid", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.06)
    for number in range(0, 300, 2):
        (tmp_path / f"{number}.wav").unlink()
    assert {clip.id: clip.split for clip in corpus.clips()}.items() <= before.items()


def test_fingerprints_follow_the_content(tmp_path, cache):
    sound(tmp_path / "audio" / "a.wav")
    path = write_manifest(tmp_path, row())
    manifest, folder = ManifestCorpus(path), FolderCorpus(str(tmp_path))
    before = manifest.fingerprint(), folder.fingerprint()
    assert before == (ManifestCorpus(str(tmp_path)).fingerprint(), FolderCorpus(str(tmp_path)).fingerprint())
    sound(tmp_path / "audio" / "a.wav", seconds=1.1)
    longer = manifest.fingerprint(), folder.fingerprint()
    assert longer[0] != before[0]
    assert longer[1] != before[1]
    write_manifest(tmp_path, row(caption="Other."))
    (tmp_path / "audio" / "a.txt").write_text("Other.")
    assert manifest.fingerprint() != longer[0]
    assert folder.fingerprint() != longer[1]


def both_fingerprints(folder):
    return ManifestCorpus(str(folder)).fingerprint(), FolderCorpus(str(folder)).fingerprint()


def test_fingerprints_notice_an_edit_of_equal_size(tmp_path, cache):
    sound(tmp_path / "audio" / "a.wav")
    write_manifest(tmp_path, row())
    before = both_fingerprints(tmp_path)
    with (tmp_path / "audio" / "a.wav").open("r+b") as file:
        file.seek(4000)
        file.write(b"\x01")
    after = both_fingerprints(tmp_path)
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_fingerprints_of_a_copy_are_equal(tmp_path, cache):
    sound(tmp_path / "here" / "audio" / "a.wav")
    write_manifest(tmp_path / "here", row())
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / "audio" / "a.wav").touch()
    assert both_fingerprints(tmp_path / "here") == both_fingerprints(tmp_path / "there")


def test_fingerprints_say_whether_a_file_is_there(tmp_path, cache):
    path = write_manifest(tmp_path, row())
    before = ManifestCorpus(path).fingerprint()
    sound(tmp_path / "audio" / "a.wav")
    assert ManifestCorpus(path).fingerprint() != before
    assert ManifestCorpus(path, default_split="test").fingerprint() != ManifestCorpus(path).fingerprint()


def test_open_corpus_tells_manifests_from_folders(tmp_path):
    assert isinstance(open_corpus(str(tmp_path)), FolderCorpus)
    path = write_manifest(tmp_path, row())
    assert isinstance(open_corpus(str(tmp_path)), ManifestCorpus)
    assert isinstance(open_corpus(path), ManifestCorpus)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_corpus(str(tmp_path / "nowhere"))
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"a\.csv: not a \.jsonl"):
        open_corpus(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_a_yaml_file_describes_any_corpus(tmp_path, suffix):
    slot = {"class_path": "melody_cm.data.SyntheticCorpus", "init_args": {"num_clips": 7, "seconds": 2.0}}
    file = tmp_path / f"mine.{suffix}"
    file.write_text(yaml.safe_dump(slot))
    corpus = open_corpus(str(file))
    assert isinstance(corpus, SyntheticCorpus)
    assert corpus.init_arguments == {"num_clips": 7, "seconds": 2.0, "seed": 0, "sample_rate": 24000}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "mine.yaml is not valid YAML"),
        ("just words", "mine.yaml must hold keys and values"),
        ("{data: {corpus: 1}}", "mine.yaml describes no Corpus; it needs class_path"),
        ("class_path: melody_cm.data.FolderCorpse", "mine.yaml: class_path: there is no class"),
        ("class_path: melody_cm.data.FolderCorpus\ninit_args: {path: a, pth: b}", "mine.yaml: init_args.pth"),
        ("class_path: melody_cm.data.SyntheticCorpus\ninit_args: {num_clips: 1, seconds: 2.0}", "num_clips is 1"),
        ("class_path: melody_cm.diffusion.LinearAngles", "LinearAngles is no Corpus"),
    ],
)
def test_a_yaml_file_without_a_corpus_is_refused(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        open_corpus(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(error.value)


def test_real_music_opens(shared_data):
    clips = open_corpus(str(shared_data / "realmusic")).clips()
    assert len(clips) == 395
    assert all(clip.audio.is_file() and clip.captions for clip in clips)
    late = next(clip for clip in clips if clip.fields["start"] > 0)
    assert audio_info(late.audio).seconds >= late.start + late.duration
