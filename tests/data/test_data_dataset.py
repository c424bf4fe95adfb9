import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from melody_cm.data import AudioProblem, Clip, MusicDataset, collate

RATE = 8000


def ramp(tmp_path: Path, seconds: float, name: str = "a.wav", **fields) -> Clip:
    """A clip whose samples tell their own place: sample i is i / 80000."""
    path = tmp_path / name
    soundfile.write(path, np.arange(round(seconds * RATE)) / 80000, RATE, subtype="FLOAT")
    known = {"start": 0.0, "duration": None, "captions": ["One.", "Two.", "three"]} | fields
    return Clip(id=name, audio=path, split="train", piece=name, where=f"m.jsonl, row {name}", **known)


def dataset(clips, random_crop=True, seed=0, seconds=1.0, **options):
    return MusicDataset(clips, RATE, seconds, seed, random_crop, **options)


def place(batch) -> int:
    return round(float(batch.waveform[0, 0, 0]) * 80000)


def test_random_crops_fill_the_clip_and_stay_inside(tmp_path):
    for clip, first, last in (
        (ramp(tmp_path, 5.0), 0, 32000),
        (ramp(tmp_path, 5.0, start=1.0, duration=3.0), 8000, 24000),
        (ramp(tmp_path, 5.0, start=2.0), 16000, 32000),
    ):
        places = [place(dataset([clip])[epoch, 0]) for epoch in range(60)]
        assert first <= min(places) < first + 0.15 * (last - first)
        assert last - 0.15 * (last - first) < max(places) <= last
        assert place(dataset([clip], random_crop=False)[0, 0]) == first


def test_keys_alone_decide(tmp_path):
    data = dataset([ramp(tmp_path, 5.0), ramp(tmp_path, 5.0, "b.wav")])
    forwards = [(place(data[epoch, item]), data[epoch, item].captions) for epoch in range(8) for item in (0, 1)]
    backwards = [
        (place(data[epoch, item]), data[epoch, item].captions) for epoch in reversed(range(8)) for item in (1, 0)
    ]
    assert forwards == backwards[::-1]
    assert len({start for start, _ in forwards}) == 16
    other = dataset(data.clips, seed=1)
    assert place(other[0, 0]) != place(data[0, 0])


def test_captions_are_drawn_in_training_and_the_first_in_evaluation(tmp_path):
    clip = ramp(tmp_path, 2.0)
    drawn = [dataset([clip])[epoch, 0].captions[0] for epoch in range(60)]
    assert {caption: drawn.count(caption) > 8 for caption in drawn} == {"One.": True, "Two.": True, "three": True}
    assert {dataset([clip], random_crop=False)[epoch, 0].captions[0] for epoch in range(10)} == {"One."}
    clip.captions = []
    assert dataset([clip])[0, 0].captions == [""]


def test_short_clips_are_padded_and_masked(tmp_path):
    for random_crop in (True, False):
        batch = dataset([ramp(tmp_path, 0.75)], random_crop)[3, 0]
        assert batch.waveform.shape == (1, 1, 8000)
        assert batch.frame_mask.sum() == 6000
        assert batch.frame_mask[0, :6000].all()
        assert batch.waveform[0, 0, 6000:].abs().max() == 0
    assert dataset([ramp(tmp_path, 2.0, duration=0.5)])[0, 0].frame_mask.sum() == 4000


def test_collate_joins_along_the_batch(tmp_path):
    data = dataset([ramp(tmp_path, 2.0), ramp(tmp_path, 2.0, "b.wav", captions=["B."])], random_crop=False)
    batch = collate([data[2, 1], data[5, 0]])
    assert batch.item.tolist() == [1, 0]
    assert batch.epoch.tolist() == [2, 5]
    assert batch.captions == ["B.", "One."]
    assert batch.waveform.shape == (2, 1, 8000)
    assert batch.waveform.dtype == torch.float32
    assert batch.frame_mask.dtype == torch.bool
    assert batch.latent_mean is None
    assert batch.codes == {}


def bad(tmp_path: Path, number: int) -> Clip:
    clip = ramp(tmp_path, 2.0, f"bad{number}.wav")
    clip.audio.write_bytes(b"not sound")
    return clip


def test_bad_clips_are_replaced_by_a_rule_and_reported_once(tmp_path, caplog):
    clips = [ramp(tmp_path, 3.0, f"{number}.wav") for number in range(6)] + [bad(tmp_path, 6), bad(tmp_path, 7)]
    data = dataset(clips)
    with caplog.at_level(logging.WARNING):
        chosen = [int(data[epoch, 6].item) for epoch in range(30)]
    assert set(chosen) == set(range(6))
    again = dataset(clips)
    assert [int(again[epoch, 6].item) for epoch in reversed(range(30))] == chosen[::-1]
    assert int(data[4, 6].epoch) == 4
    messages = [record.getMessage() for record in caplog.records if "bad6.wav" in record.getMessage()]
    assert len(messages) == 2  # one a data set
    assert "m.jsonl, row bad6.wav: " in messages[0]
    assert int(data.bad.sum()) == 2


def test_strict_and_evaluation_raise_with_file_and_row(tmp_path):
    clips = [ramp(tmp_path, 3.0), bad(tmp_path, 1)]
    for data in (dataset(clips, strict=True), dataset(clips, random_crop=False)):
        with pytest.raises(AudioProblem, match=r"^m\.jsonl, row bad1\.wav: .*bad1\.wav: not a readable"):
            data[0, 1]
    assert dataset(clips, random_crop=False).readable([0, 1]) == [0]
    with pytest.raises(AudioProblem, match="row bad1"):
        dataset(clips, random_crop=False, strict=True).readable([0, 1])


def test_nothing_but_bad_clips_is_an_error(tmp_path):
    with pytest.raises(AudioProblem, match="melody-cm data check"):
        dataset([bad(tmp_path, 0)])[0, 0]
