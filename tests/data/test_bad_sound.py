"""Sound files as they should not be, and as they may be: none stops the others, each is told in one line."""

import json
import pickle
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from melody_cm.data import AudioProblem, ManifestCorpus, audio_info, check_corpus, read_audio
from melody_cm.data.audio_files import BLOCK_SAMPLES, scan_audio
from melody_cm.data.headers import ogg_problem
from melody_cm.data.mpeg import first_frame, header, quiet

CODECS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
DATA_SIZE = 40  # Where a plain WAV header says how many bytes of samples follow.
FLAC_TOTAL = 21  # Where a FLAC header holds the number of samples: half a byte and four.


def noise(rate, seconds, channels=1):
    return 0.1 * np.random.default_rng(0).standard_normal((round(rate * seconds), channels)).clip(-5, 5)


def written(path, seconds=6.0, rate=24000):
    container, codec = CODECS[path.suffix]
    soundfile.write(path, noise(rate, seconds), rate, format=container, subtype=codec)
    return path


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def problem_of(read, *arguments):
    with pytest.raises(AudioProblem) as raised:
        read(*arguments)
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("share", [0.97, 0.6, 0.2])
@pytest.mark.parametrize("suffix", CODECS)
def test_a_file_whose_end_is_missing_is_never_taken_for_a_whole_one(tmp_path, suffix, share):
    path = written(tmp_path / f"a{suffix}")
    assert scan_audio(path, 0.0, None) == (24000, 1, 6.0)
    assert len(read_audio(path, 0.0, None, 24000)) == 144000
    cut(path, share)
    for problem in (problem_of(scan_audio, path, 0.0, None), problem_of(read_audio, path, 0.0, None, 24000)):
        assert problem.reason == "truncated"
        assert str(problem).startswith(f"{path}: truncated")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_what_is_left_of_it_can_be_read(tmp_path, suffix):
    path = written(tmp_path / f"a{suffix}")
    before = read_audio(path, 0.5, 1.0, 24000)
    cut(path, 0.6)
    assert torch.equal(read_audio(path, 0.5, 1.0, 24000), before)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_a_crop_out_of_the_missing_end_is_truncated_too(tmp_path, suffix):
    path = cut(written(tmp_path / f"a{suffix}"), 0.6)
    assert audio_info(path).seconds == 6.0
    assert problem_of(read_audio, path, 4.8, 1.0, 24000).reason == "truncated"
    assert problem_of(scan_audio, path, 4.8, 1.0).reason == "truncated"


def test_a_file_cut_inside_its_header_is_unreadable(tmp_path):
    for suffix in CODECS:
        path = written(tmp_path / f"a{suffix}")
        path.write_bytes(path.read_bytes()[:30])
        assert problem_of(audio_info, path).reason == ("truncated" if "OGG" in CODECS[suffix] else "unreadable")


def test_damage_in_the_middle_is_not_called_a_missing_end(tmp_path):
    path = written(tmp_path / "a.flac")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    assert problem_of(scan_audio, path, 0.0, None).reason == "unreadable"


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB])
def test_a_wav_written_to_a_pipe_knows_no_length_and_is_good(tmp_path, size):
    path = written(tmp_path / "a.wav", 2.0)
    expected = read_audio(path, 0.0, None, 24000)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, DATA_SIZE, size)
    path.write_bytes(data)
    assert torch.equal(read_audio(path, 0.0, None, 24000), expected)
    assert scan_audio(path, 0.0, None).seconds == 2.0


@pytest.mark.parametrize("size", [0, 8, 36, 0xFFFFFFFF])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_wav_that_was_never_closed_is_good(tmp_path, size, channels):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(24000, 2.0, channels), 24000)
    expected = read_audio(path, 0.5, 1.0, 16000)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 4, size)
    struct.pack_into("<I", data, DATA_SIZE, 0)
    path.write_bytes(data)
    assert torch.equal(read_audio(path, 0.5, 1.0, 16000), expected)
    assert scan_audio(path, 0.0, None) == (24000, channels, 2.0)


def test_a_wav_that_holds_nothing_stays_empty(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), 24000)
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 80000) + bytes(80000))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 4, len(data) - 8)
    path.write_bytes(data)
    assert problem_of(read_audio, path, 0.0, None, 24000).reason == "too short"


def test_other_chunks_around_the_samples_do_not_matter(tmp_path):
    path = written(tmp_path / "a.wav", 2.0)
    data = path.read_bytes()
    extra = b"LIST" + struct.pack("<I", 5) + b"abcde\0"
    path.write_bytes(data[:12] + extra + data[12:] + extra)
    assert scan_audio(path, 0.0, None).seconds == 2.0
    path.write_bytes(data[:12] + extra + data[12:-48000])
    assert problem_of(scan_audio, path, 0.0, None).reason == "truncated"


@pytest.mark.parametrize(("container", "seconds"), [("RF64", 2.0), ("WAVEX", 2.0)])
def test_the_other_kinds_of_wav(tmp_path, container, seconds):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(24000, seconds, 2), 24000, format=container, subtype="PCM_24")
    assert scan_audio(path, 0.0, None).seconds == seconds
    assert problem_of(scan_audio, cut(path, 0.5), 0.0, None).reason == "truncated"


def test_big_endian_wav(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(24000, 2.0), 24000, format="WAV", subtype="PCM_16", endian="BIG")
    assert path.read_bytes()[:4] == b"RIFX"
    assert scan_audio(path, 0.0, None).seconds == 2.0
    assert problem_of(scan_audio, cut(path, 0.5), 0.0, None).reason == "truncated"


@pytest.mark.parametrize("claimed", [2**36 - 1, 10**9, 300_000])
def test_a_flac_that_claims_more_than_it_holds_neither_passes_nor_fills_the_memory(tmp_path, claimed):
    path = written(tmp_path / "a.flac")
    data = bytearray(path.read_bytes())
    data[FLAC_TOTAL] = (data[FLAC_TOTAL] & 0xF0) | (claimed >> 32)
    struct.pack_into(">I", data, FLAC_TOTAL + 1, claimed & 0xFFFFFFFF)
    path.write_bytes(data)
    assert len(read_audio(path, 1.0, 1.0, 24000)) == 24000
    assert problem_of(read_audio, path, 0.0, None, 24000).reason == "truncated"
    assert problem_of(scan_audio, path, 0.0, None).reason == "truncated"


def test_a_flac_of_unknown_length_is_told(tmp_path):
    path = written(tmp_path / "a.flac")
    data = bytearray(path.read_bytes())
    data[FLAC_TOTAL] &= 0xF0
    struct.pack_into(">I", data, FLAC_TOTAL + 1, 0)
    path.write_bytes(data)
    assert "does not say how long it is" in str(problem_of(audio_info, path))


@pytest.mark.parametrize("rate", [1, 10**9])
def test_impossible_sample_rates_are_told(tmp_path, rate):
    path = written(tmp_path / "a.wav", 2.0)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 24, rate)
    path.write_bytes(data)
    problem = problem_of(read_audio, path, 0.0, None, 24000)
    assert problem.reason == "unreadable"
    assert f"{rate} Hz" in str(problem)


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
def test_the_last_ogg_page_is_found_wherever_the_file_stops(tmp_path, suffix):
    path = written(tmp_path / f"a{suffix}")
    assert not ogg_problem(path)
    data = path.read_bytes()
    last_page = data.rfind(b"OggS")
    for size in (len(data) - 1, len(data) - 30, last_page + 20, len(data) // 2, 100):
        path.write_bytes(data[:size])
        assert ogg_problem(path), size
    path.write_bytes(data + b"TAG" + bytes(125))
    assert not ogg_problem(path)


@pytest.mark.parametrize("rate", [8000, 24000, 192000])
def test_one_sample_is_too_short(tmp_path, rate):
    for suffix in (".wav", ".flac"):
        soundfile.write(tmp_path / f"a{suffix}", np.array([0.5]), rate)
        for read in ((read_audio, 0.0, None, 24000), (read_audio, 0.0, 1.0, 24000), (scan_audio, 0.0, None)):
            assert problem_of(read[0], tmp_path / f"a{suffix}", *read[1:]).reason == "too short"


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-22), ("PCM_32", 1e-7), ("FLOAT", 1e-7), ("DOUBLE", 1e-7)],
)
def test_all_sample_formats(tmp_path, subtype, tolerance):
    samples = noise(24000, 1.0)
    soundfile.write(tmp_path / "a.wav", samples, 24000, subtype=subtype)
    assert np.abs(read_audio(tmp_path / "a.wav", 0.0, None, 24000).numpy() - samples[:, 0]).max() <= tolerance


def test_32_channels_are_averaged(tmp_path):
    samples = noise(24000, 1.0, 32)
    soundfile.write(tmp_path / "a.wav", samples, 24000, subtype="FLOAT")
    crop = read_audio(tmp_path / "a.wav", 0.25, 0.5, 24000).numpy()
    assert np.allclose(crop, samples[6000:18000].mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 96000, 176400, 192000])
def test_all_sample_rates(tmp_path, rate):
    time = np.arange(3 * rate) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate, subtype="FLOAT")
    crop = read_audio(tmp_path / "a.wav", 1.0, 1.0, 24000).numpy()
    expected = 0.5 * np.sin(2 * np.pi * 440 * (1 + np.arange(24000) / 24000))
    assert np.abs(crop - expected).max() < 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_no_numbers_are_told_wherever_they_are(tmp_path, value):
    samples = noise(24000, 3.0, 2)
    samples[-100, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 24000, subtype="DOUBLE")
    assert problem_of(read_audio, tmp_path / "a.wav", 0.0, None, 24000).reason == "not finite"
    assert "1 samples are NaN or infinite" in str(problem_of(scan_audio, tmp_path / "a.wav", 0.0, None))
    assert len(read_audio(tmp_path / "a.wav", 0.0, 1.0, 24000)) == 24000


def test_reading_in_blocks_changes_nothing(tmp_path, monkeypatch):
    samples = noise(24000, 2.0, 2)
    soundfile.write(tmp_path / "a.wav", samples, 24000, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav", 0.5, 1.0, 16000)
    monkeypatch.setattr("melody_cm.data.audio_files.BLOCK_SAMPLES", 999)
    assert torch.equal(read_audio(tmp_path / "a.wav", 0.5, 1.0, 16000), whole)
    samples[[20000, 40000], 1] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 24000, subtype="FLOAT")
    assert "2 samples are NaN" in str(problem_of(scan_audio, tmp_path / "a.wav", 0.0, None))


def sparse_hour(path, rate=16000):
    """An hour of stereo that takes no room on disk, with noise in its last second."""
    frames = 3600 * rate
    soundfile.write(path, noise(rate, 0.01, 2), rate, subtype="PCM_16")
    header = bytearray(path.read_bytes()[:44])
    struct.pack_into("<I", header, DATA_SIZE, frames * 4)
    loud = (noise(rate, 1.0, 2) * 32767).astype("<i2").tobytes()
    with path.open("wb") as file:
        file.write(header)
        file.truncate(44 + frames * 4)
        file.seek(44 + frames * 4 - len(loud))
        file.write(loud)
    return path


def test_a_crop_of_an_hour_reads_a_crop_only(tmp_path, monkeypatch):
    path = sparse_hour(tmp_path / "hour.wav")
    asked = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **more: asked.append(n) or read(self, n, **more))
    assert len(read_audio(path, 3599.0, 1.0, 24000)) == 24000
    assert asked
    assert sum(asked) <= 2 * 16000
    assert problem_of(read_audio, path, 1800.0, 10.0, 24000).reason == "silent"
    assert sum(asked) <= 14 * 16000
    asked.clear()
    assert scan_audio(path, 0.0, None).seconds == 3600.0
    assert sum(asked) == 3600 * 16000
    assert max(asked) <= BLOCK_SAMPLES


def test_reading_an_hour_through_keeps_memory_flat(tmp_path):
    path = sparse_hour(tmp_path / "hour.wav")
    tracemalloc.start()
    scan_audio(path, 0.0, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 1_000_000 < peak < 40_000_000  # bytes; the samples take 461 MB as floats


def test_problems_cross_process_borders_with_their_reason():
    problem = pickle.loads(pickle.dumps(AudioProblem("a.wav: silent", "silent")))
    assert (str(problem), problem.reason) == ("a.wav: silent", "silent")
    assert AudioProblem("told anew from the message alone").reason == "unreadable"


def test_check_counts_every_kind_and_goes_on(tmp_path):
    kinds = {"truncated.wav": 0.5, "truncated.ogg": 0.5, "truncated.mp3": 0.5, "truncated.flac": 0.5}
    for name, share in kinds.items():
        cut(written(tmp_path / name), share)
    written(tmp_path / "good.wav")
    soundfile.write(tmp_path / "one.wav", np.ones(1), 24000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "nothing.wav").write_bytes(b"nothing" * 99)
    soundfile.write(tmp_path / "nan.wav", np.full(24000, np.nan), 24000, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(24000), 24000)
    (tmp_path / "good.txt").write_bytes(b"fine")
    (tmp_path / "caf.txt").write_bytes(b"caf\xe9")
    written(tmp_path / "caf.wav")
    (tmp_path / "json.json").write_bytes(b'{"caption": "caf\xe9"}')
    written(tmp_path / "json.wav")
    report = check_corpus(str(tmp_path))
    assert sum(report.clips.values()) == 1
    assert report.reasons == {
        "truncated": 4, "too short": 1, "empty": 1, "unreadable": 1, "not finite": 1, "silent": 1, "bad row": 2,
    }  # fmt: skip
    assert len(report.problems) == sum(report.reasons.values())
    assert any("caf.txt: not UTF-8" in problem for problem in report.problems)
    assert any("json.json: not UTF-8" in problem for problem in report.problems)


def test_check_names_rows_of_a_manifest_that_are_not_utf8_climb_or_share_an_id(tmp_path):
    (tmp_path / "in").mkdir()
    written(tmp_path / "in" / "a.wav")
    written(tmp_path / "b.wav")
    rows = [
        json.dumps({"id": "a", "audio": "a.wav", "caption": "x"}).encode(),
        b'{"id": "b", "audio": "a.wav", "caption": "caf\xe9"}',
        json.dumps({"id": "c", "audio": "../b.wav", "caption": "x"}).encode(),
        json.dumps({"id": "a", "audio": "a.wav", "caption": "x"}).encode(),
        json.dumps({"id": "d", "audio": "gone.wav", "caption": "x"}).encode(),
    ]
    (tmp_path / "in" / "manifest.jsonl").write_bytes(b"\n".join(rows))
    report = check_corpus(str(tmp_path / "in"))
    for number, words in {2: "not UTF-8", 3: "allow_outside", 4: "id 'a' is that of", 5: "no such file"}.items():
        assert any(f"manifest.jsonl, row {number}: " in line and words in line for line in report.problems), number
    assert report.reasons == {"bad row": 2, "id twice": 1, "missing": 1}
    assert report.clips == {"train": 2}


def tag(size):
    """An ID3 tag with so many bytes of a picture, some of which look like frames."""
    sizes = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + sizes + (b"\xff\xfb\x90\x44" * size)[:size]


@pytest.mark.parametrize("settings", [{}, {"bitrate_mode": "VARIABLE"}, {"bitrate_mode": "AVERAGE"}])
@pytest.mark.parametrize(
    ("before", "behind"), [(b"", b""), (tag(200_000), b"TAG".ljust(128, b"\0")), (bytes(5000), b"")]
)
def test_an_mp3_that_does_not_count_its_frames_is_heard_whole(tmp_path, settings, before, behind):
    path = tmp_path / "a.mp3"
    loud, quiet = noise(24000, 3.0), 1e-3 * noise(24000, 3.0)
    for parts in ((loud, quiet), (quiet, loud)):
        soundfile.write(path, np.concatenate(parts), 24000, format="MP3", subtype="MPEG_LAYER_III", **settings)
        data = path.read_bytes()
        first = first_frame(data)
        path.write_bytes(before + data[first + header(data[first : first + 4]).length :] + behind)
        seconds = scan_audio(path, 0.0, None).seconds
        assert seconds == pytest.approx(6.0, abs=0.1)
        whole = read_audio(path, 0.0, None, 24000)
        assert len(whole) == round(seconds * 24000)
        assert whole[: 24000 * 2].std() / whole[24000 * 4 :].std() == pytest.approx(
            1e3 if parts[0] is loud else 1e-3, rel=0.2
        )
        torch.testing.assert_close(read_audio(path, 4.0, 1.0, 24000), whole[96000:120000], rtol=0, atol=1e-6)


def test_an_mp3_that_counts_too_few_frames_is_heard_whole(tmp_path):
    one, two = written(tmp_path / "a.mp3", 3.0), written(tmp_path / "b.mp3", 4.0)
    one.write_bytes(one.read_bytes() + two.read_bytes())
    assert scan_audio(one, 0.0, None).seconds == pytest.approx(7.0, abs=0.2)


def test_an_mp3_with_a_hole_is_damaged_and_not_truncated(tmp_path):
    path = written(tmp_path / "a.mp3")
    data, middle = path.read_bytes(), path.stat().st_size // 2
    path.write_bytes(data[:middle] + np.random.default_rng(0).bytes(3000) + data[middle:])
    with pytest.raises(AudioProblem, match="unreadable at") as raised:
        scan_audio(path, 0.0, None)
    assert raised.value.reason == "unreadable"


def test_a_coding_that_cannot_be_sought_in_is_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(16000, 1.0), 16000, subtype="GSM610")
    with pytest.raises(AudioProblem, match=r"a\.wav: GSM 6.10 cannot be read from any place; write it again as FLAC"):
        audio_info(tmp_path / "a.wav")


def test_nothing_is_printed_of_damaged_mp3_files(tmp_path, capfd):
    path = written(tmp_path / "a.mp3")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 900] = bytes(900)
    path.write_bytes(data)
    cut(written(tmp_path / "b.mp3"), 0.3)
    (tmp_path / "c.mp3").write_bytes(tag(50_000) + bytes(4000) + data[300:])
    check_corpus(str(tmp_path))
    assert capfd.readouterr().err == ""
    with soundfile.SoundFile(tmp_path / "c.mp3") as file, quiet():
        file.read()
        print("still heard", file=sys.stderr)
    assert capfd.readouterr().err.endswith("still heard\n")


@pytest.mark.parametrize("share", [0.97, 0.6, 0.25, 0.05])
@pytest.mark.parametrize(
    ("suffix", "container", "codec"),
    [
        (".aiff", "AIFF", "PCM_16"), (".aif", "AIFF", "PCM_24"), (".aifc", "AIFF", "FLOAT"), (".au", "AU", "PCM_16"),
        (".caf", "CAF", "PCM_16"), (".w64", "W64", "PCM_16"), (".AIFF", "AIFF", "PCM_U8"),
    ],
)  # fmt: skip
def test_the_other_containers_are_read_and_their_cut_ends_known(tmp_path, share, suffix, container, codec):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, noise(24000, 2.0, 2), 24000, format=container, subtype=codec)
    assert scan_audio(path, 0.0, None) == (24000, 2, 2.0)
    assert check_corpus(str(tmp_path)).clips
    if container == "CAF":  # Its writer makes room of 4 kB before the samples.
        share = max(share, 0.06)
    cut(path, share)
    assert problem_of(scan_audio, path, 0.0, None).reason == "truncated"


def test_an_ogg_that_does_not_mark_its_end_is_good_and_one_with_another_hung_on_is_told(tmp_path):
    path = written(tmp_path / "a.ogg")
    data = path.read_bytes()
    last = data.rfind(b"OggS")
    path.write_bytes(data[:last])
    assert scan_audio(path, 0.0, None).seconds > 5.0
    path.write_bytes(data + written(tmp_path / "b.ogg", 3.0).read_bytes())
    assert "several streams one after another" in str(problem_of(scan_audio, path, 0.0, None))


def test_channels_that_cancel_are_not_silence(tmp_path):
    side = 0.5 * noise(24000, 2.0)
    for name, samples in (("a", np.hstack([side, -side])), ("b", np.hstack([side, 0 * side]))):
        soundfile.write(tmp_path / f"{name}.wav", samples, 24000, subtype="FLOAT")
    crop = read_audio(tmp_path / "a.wav", 0.5, 1.0, 24000).numpy()
    assert np.allclose(np.abs(crop), np.abs(side[12000:36000, 0]), atol=1e-6)
    assert np.allclose(read_audio(tmp_path / "b.wav", 0.5, 1.0, 24000), side[12000:36000, 0] / 2, atol=1e-6)
    report = check_corpus(str(tmp_path))
    assert report.clips.total() == 2
    (remark,) = report.remarks
    assert "a.wav: channels cancel in mono" in remark


@pytest.mark.parametrize(("scale", "reason"), [(32767, "out of range"), (1e30, "out of range"), (5, None), (0.1, None)])
def test_another_range_than_that_of_sound_is_told(tmp_path, scale, reason):
    samples = scale * noise(24000, 2.0)
    soundfile.write(tmp_path / "a.wav", samples, 24000, subtype="FLOAT")
    if reason:
        assert problem_of(read_audio, tmp_path / "a.wav", 0.5, 1.0, 16000).reason == reason
    report = check_corpus(str(tmp_path))
    assert list(report.reasons) == ([reason] if reason else [])
    assert len(report.remarks) == (scale == 5)
    assert all("clipped, samples up to 2." in remark for remark in report.remarks)


@pytest.mark.parametrize("rate", [8000, 24000])
def test_a_constant_is_silence(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.full(48000, 0.3), 24000)
    assert "silent, every sample is 0.3" in str(problem_of(read_audio, tmp_path / "a.wav", 0.0, None, rate))
    assert problem_of(scan_audio, tmp_path / "a.wav", 0.0, None).reason == "silent"


@pytest.mark.parametrize("head", [b"", b"\xff", b"RIFF", b"ID3\x04\0\0\x7f\x7f\x7f\x7f", b"\xff\xfb"])
def test_zeros_are_refused_at_once(tmp_path, head):
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(1 << 30)
    begun = time.monotonic()
    assert problem_of(scan_audio, path, 0.0, None).reason == "unreadable"
    assert time.monotonic() - begun < 2


def test_a_small_file_that_would_take_hours_to_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("melody_cm.data.audio_files.MANY_SAMPLES", 1 << 20)
    soundfile.write(tmp_path / "a.flac", np.full((1 << 22, 2), 0.25), 24000)
    assert "no music does" in str(problem_of(scan_audio, tmp_path / "a.flac", 0.0, None))
    assert len(read_audio(sparse_hour(tmp_path / "hour.wav"), 3599.0, 1.0, 16000)) == 16000


@pytest.mark.parametrize("start", [float("inf"), float("nan"), 1e300])
def test_a_place_beyond_all_files_is_too_short(tmp_path, start):
    path = written(tmp_path / "a.wav")
    assert problem_of(read_audio, path, start, 1.0, 24000).reason == "too short"
    assert problem_of(scan_audio, path, start, None).reason == "too short"


def test_a_path_that_is_spelled_otherwise_is_told(tmp_path):
    (tmp_path / "sub").mkdir()
    written(tmp_path / "sub" / "Caf\u00e9.wav")
    for name in ("sub/caf\u00e9.wav", "sub/Cafe\u0301.wav", "sub/CAF\u00c9.WAV"):
        assert "is there, spelled otherwise" in str(problem_of(audio_info, tmp_path / name))
    assert "write / where it has" in str(problem_of(audio_info, tmp_path / "sub\\Caf\u00e9.wav"))
    assert str(problem_of(audio_info, tmp_path / "sub" / "other.wav")).endswith("no such file")


def test_hostile_rows_cost_no_other_row_its_place(tmp_path):
    for name in "ab":
        written(tmp_path / f"{name}.wav", 1.0)
    rows = [
        '{"id": "z", "audio": "b.wav", "caption": "x", "license": ' + "[" * 9000 + "]" * 9000 + "}",
        '{"id": "z", "audio": "b.wav", "caption": "x", "license": ' + "[" * 300 + "]" * 300 + "}",
        '{"id": "y", "audio": "b.wav", "caption": "x", "duration": 1' + "0" * 400 + "}",
        '{"id": "x", "audio": "b.wav", "caption": "x", "start": 1' + "0" * 5000 + "}",
        '{"id": "w", "audio": "b.wav", "caption": "x", "start": Infinity}',
        '{"id": "v", "audio": "b\\u0000.wav", "caption": "x"}',
        '{"id": "u", "audio": "b.wav", "caption": "\\ud83d"}',
        '{"id": 1e999, "audio": "b.wav", "caption": "x", "duration": "1"}',
        '{"id": "good", "audio": "a.wav", "caption": "x"}',
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    report = check_corpus(str(tmp_path / "m.jsonl"))
    assert report.clips == {"train": 2}
    assert len(report.problems) == 7
    assert all(any(f"row {number}: " in line for line in report.problems) for number in (1, 3, 4, 5, 6, 7, 8))


def test_a_flac_behind_an_id3_tag_is_heard(tmp_path):
    whole, tagged = written(tmp_path / "a.flac", 1.0), tmp_path / "tagged.flac"
    tagged.write_bytes(b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + (tmp_path / "a.flac").read_bytes())
    assert audio_info(tagged).seconds == 1.0
    assert torch.equal(read_audio(tagged, 0.0, None, 16000), read_audio(tmp_path / "a.flac", 0.0, None, 16000)), whole
    tagged.write_bytes(tagged.read_bytes()[:-2000])
    assert "truncated" in str(problem_of(scan_audio, tagged, 0.0, None))


@pytest.mark.parametrize("target", ["loop.wav", "nowhere.wav", "/dev/zero"])
def test_a_link_that_leads_nowhere_is_called_so(tmp_path, target):
    (tmp_path / "loop.wav").symlink_to(target)
    assert "no such file; it is a link that leads to none" in str(problem_of(audio_info, tmp_path / "loop.wav"))


def leak(tmp_path, **second):
    written(tmp_path / "a.wav", 3.0)
    first = {"id": "1", "audio": "a.wav", "caption": "x", "piece": "p", "split": "train", "start": 0, "duration": 2}
    rows = [first, first | {"id": "2", "piece": "q", "split": "test"} | second]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return ManifestCorpus(str(tmp_path / "m.jsonl"))


@pytest.mark.parametrize("second", [{}, {"start": 1.5, "duration": None}, {"audio": "./x/../a.wav"}])
def test_one_sound_in_two_splits_under_two_names_is_seen(tmp_path, second):
    corpus = leak(tmp_path, **second)
    assert check_corpus(corpus).reasons["sound in two splits"] == 1
    with pytest.raises(ValueError, match=r"is in test here and in train at .*row 1"):
        corpus.clips()


def test_parts_of_one_file_that_do_not_overlap_may_be_pieces_of_two_splits(tmp_path):
    corpus = leak(tmp_path, start=2.0, duration=1.0)
    assert len(corpus.clips()) == 2
    assert not check_corpus(corpus).reasons
