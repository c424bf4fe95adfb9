import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from melody_cm.data import AudioProblem, Clip, MusicDataset, collate
from melody_cm.data import dataset as dataset_module

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


def rest(tmp_path: Path, silent: float, seconds: float, name: str = "a.wav", **fields) -> Clip:
    """A clip that begins with silence."""
    clip = ramp(tmp_path, seconds, name, **fields)
    samples = 0.1 + np.arange(round(seconds * RATE)) / 80000
    samples[: round(silent * RATE)] = 0
    soundfile.write(clip.audio, samples, RATE, subtype="FLOAT")
    return clip


@pytest.mark.parametrize(
    ("silent", "start", "heard"), [(0.5, 0.0, 0), (2.5, 0.0, 16000), (2.5, 0.25, 18000), (4.5, 0.25, 32000)]
)
def test_evaluation_hears_the_first_crop_with_sound(tmp_path, silent, start, heard):
    data = dataset([rest(tmp_path, silent, 5.0, start=start)], random_crop=False)
    (item,) = data.readable([0])
    samples = data[-1, item].waveform[0, 0].numpy()
    expected = 0.1 + np.arange(heard, heard + RATE) / 80000
    expected[: max(0, round(silent * RATE) - heard)] = 0
    assert np.allclose(samples, expected.astype("f4"), atol=1e-7)


def test_a_clip_that_is_all_silence_is_bad_in_evaluation(tmp_path, caplog):
    data = dataset([rest(tmp_path, 5.0, 5.0), rest(tmp_path, 1.0, 5.0, "b.wav", duration=1.0)], random_crop=False)
    assert data.readable([0, 1]) == []
    assert caplog.text.count("silent") == 2


def test_a_crop_in_a_rest_is_replaced_and_its_clip_not_called_bad(tmp_path, caplog):
    data = dataset([rest(tmp_path, 4.0, 5.0), ramp(tmp_path, 5.0, "b.wav")])
    items = [int(data[epoch, 0].item) for epoch in range(40)]
    assert {0, 1} == set(items)
    assert not caplog.text
    assert not data.bad.any()


def test_a_file_of_which_no_part_can_serve_is_opened_once(tmp_path, monkeypatch):
    broken = bad(tmp_path, 0)
    data, opened = dataset([broken, ramp(tmp_path, 5.0, "b.wav")]), []
    audio_info = dataset_module.audio_info
    monkeypatch.setattr(dataset_module, "audio_info", lambda path: opened.append(path) or audio_info(path))
    assert [int(data[epoch, 0].item) for epoch in range(10)] == [1] * 10
    assert opened.count(broken.audio) == 1
