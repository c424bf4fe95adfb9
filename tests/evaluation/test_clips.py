"""Clips from folders and manifests, read ahead in order, the unusable ones named."""

import json
import threading

import pytest
import soundfile
import torch
from toy_systems import SAMPLE_RATE, ToyEmbedding

from melody_cm.data import read_audio
from melody_cm.evaluation import clips as module
from melody_cm.evaluation.clips import embed, embed_clips, find_clips, read_ahead

FILE_RATE = 2 * SAMPLE_RATE


def write(path, scale=0.3, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = (scale * torch.randn(int(seconds * FILE_RATE))).clamp(-1, 1)
    soundfile.write(path, noise.numpy(), FILE_RATE, subtype="FLOAT")


@pytest.fixture
def folder(tmp_path):
    for name in ("b.wav", "a/z.wav", "c.wav"):
        write(tmp_path / "music" / name)
    return tmp_path / "music"


def test_a_folder_gives_its_sound_files_sorted_whatever_lies_beside_them(folder):
    (folder / "b.json").write_text("not json")
    (folder / "c.txt").write_bytes(b"\xff\xfe")
    (folder / ".hidden.wav").touch()
    clips = find_clips(str(folder))
    assert [clip.id for clip in clips] == ["a/z.wav", "b.wav", "c.wav"]
    assert {(clip.start, clip.duration) for clip in clips} == {(0.0, None)}


def test_a_manifest_gives_its_clips_or_one_split(folder):
    rows = [
        {"id": name, "audio": f"{name}.wav", "caption": "x", "split": split, "start": 0.25, "duration": 0.5}
        for name, split in (("b", "test"), ("c", "train"))
    ]
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert [clip.id for clip in find_clips(str(folder))] == ["b", "c"]
    (clip,) = find_clips(str(folder / "manifest.jsonl"), "test")
    assert (clip.id, clip.start, clip.duration) == ("b", 0.25, 0.5)
    with pytest.raises(ValueError, match="no clip of split 'valid'; it has 1 train, 0 valid, 1 test"):
        find_clips(str(folder), "valid")
    with pytest.raises(ValueError, match="no clip of split 'valid'"):
        find_clips(str(folder), "dev")
    assert [clip.id for clip in find_clips(str(folder), "evaluation")] == ["b"]
    with pytest.raises(ValueError, match="split is 'devil'; use one of train, valid, test"):
        find_clips(str(folder), "devil")


def test_wrong_places_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_clips(str(tmp_path / "nowhere"))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: no sound files"):
        find_clips(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no split 'test'"):
        find_clips(str(folder), "test")


def test_clips_come_in_order_and_equal_reading_them_one_by_one(folder):
    for index in range(30):
        write(folder / f"d{index:02d}.wav", seconds=0.2 + 0.05 * (index % 5))
    clips = find_clips(str(folder))
    read = list(read_ahead(clips, SAMPLE_RATE))
    assert [clip.id for clip, _ in read] == [clip.id for clip in clips]
    for clip, waveform in read:
        assert torch.equal(waveform, read_audio(clip.audio, 0.0, None, SAMPLE_RATE))


def test_only_a_few_clips_are_read_ahead_and_stopping_stops_the_reading(folder, monkeypatch):
    clips = find_clips(str(folder)) * 100
    begun, lock = [], threading.Lock()

    def count(clip, sample_rate, longest):
        with lock:
            begun.append(clip)
        return torch.zeros(1)

    monkeypatch.setattr(module, "_read", count)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    stream = read_ahead(clips, SAMPLE_RATE)
    next(stream)
    assert len(begun) <= module.AHEAD * 2 + 1
    stream.close()
    assert len(begun) <= module.AHEAD * 2 + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_unusable_clips_are_named_with_their_reason_and_leave_the_others_alone(folder):
    clean = [frames for _, frames in embed_clips(find_clips(str(folder)), ToyEmbedding(), pytest.fail)]
    (folder / "b-empty.wav").touch()
    (folder / "b-garbage.wav").write_bytes(b"not audio")
    write(folder / "b-silent.wav", scale=0.0)
    write(folder / "b-nan.wav", scale=float("nan"))
    dropped, seen = [], []
    kept = list(embed_clips(find_clips(str(folder)), ToyEmbedding(), dropped.append, lambda: seen.append(1)))
    assert [clip.id for clip, _ in kept] == ["a/z.wav", "b.wav", "c.wav"]
    assert all(torch.equal(frames, other) for (_, frames), other in zip(kept, clean, strict=True))
    reasons = {
        "b-empty.wav": "empty",
        "b-garbage.wav": "unreadable",
        "b-nan.wav": "not finite",
        "b-silent.wav": "silent",
    }
    assert [reason for reason, _ in dropped] == list(reasons.values())
    assert all(name in message for name, (_, message) in zip(reasons, dropped, strict=True))
    assert len(seen) == 7


class BrokenEmbedding(ToyEmbedding):
    """Not finite for the first clip it hears, refuses the second."""

    def forward(self, waveform):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 2:
            raise ValueError("refused")
        return super().forward(waveform) * (float("nan") if self.calls == 1 else 1.0)


def test_an_embedding_that_fails_on_a_clip_drops_that_clip(folder):
    dropped = []
    (kept,) = embed_clips(find_clips(str(folder)), BrokenEmbedding(), dropped.append)
    assert kept[0].id == "c.wav"
    assert [reason for reason, _ in dropped] == ["not finite", "other"]
    assert dropped[1][1] == f"{folder}/b.wav: refused"


def test_embed_brings_audio_to_the_embeddings_rate():
    tone = torch.sin(torch.arange(12000) / 24000 * 63)[None, None]
    assert embed(ToyEmbedding(), tone, 24000).shape == (1, 4, 2)


def embedded(folder):
    clips = find_clips(str(folder))
    return {clip.id: frames for clip, frames in embed_clips(clips, ToyEmbedding(), pytest.fail)}


def test_a_long_clip_is_never_held_whole(folder, monkeypatch):
    write(folder / "long.wav", seconds=9.0)
    whole = embedded(folder)["long.wav"]
    monkeypatch.setattr(module, "LONG_SECONDS", 4.0)
    monkeypatch.setattr(module, "PIECE_SECONDS", 2.0)
    asked = []
    monkeypatch.setattr(module, "read_audio", lambda *words: asked.append(words[2]) or read_audio(*words))
    pieces = embedded(folder)["long.wav"]
    assert max(second or 0.0 for second in asked) == 1.8
    assert pieces.shape[-1] == whole.shape[-1]
    assert pieces.shape[1] >= 5
    torch.testing.assert_close(pieces.mean(1), whole.mean(1), rtol=0.1, atol=0.1)


def test_silence_in_a_long_clip_is_left_out_and_a_broken_end_is_told(folder, monkeypatch):
    monkeypatch.setattr(module, "LONG_SECONDS", 4.0)
    monkeypatch.setattr(module, "PIECE_SECONDS", 2.0)
    noise = 0.1 * torch.randn(10 * FILE_RATE)
    noise[: 4 * FILE_RATE] = 0
    for name, samples in (("half.wav", noise), ("none.wav", 0 * noise)):
        soundfile.write(folder / name, samples.numpy(), FILE_RATE)
    soundfile.write(folder / "cut.wav", noise.numpy(), FILE_RATE)
    (folder / "cut.wav").write_bytes((folder / "cut.wav").read_bytes()[:-20000])
    dropped = []
    kept = {clip.id: frames for clip, frames in embed_clips(find_clips(str(folder)), ToyEmbedding(), dropped.append)}
    assert {"half.wav"} == kept.keys() - {"a/z.wav", "b.wav", "c.wav"}
    assert [reason for reason, _ in dropped] == ["truncated", "silent"]
