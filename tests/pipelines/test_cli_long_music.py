"""`melody-cm generate` with long music, given music and audio prompts: files that keep what they were given."""

import json
import wave

import numpy as np
import pytest
import soundfile
import torch
from long_toys import FADE, music, tiny_melody
from test_cli_generate import run
from toy_systems import SAMPLE_RATE, toy_melody, toy_musiccm

from melody_cm.pipelines import AudioPrompt, MeLoDy, Request
from melody_cm.pipelines.growing_wav import GrowingWav, check_size


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    tiny_melody().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _files_at_the_toys_rate_can_be_read(monkeypatch):
    monkeypatch.setattr("melody_cm.data.audio_files.SAMPLE_RATES", range(SAMPLE_RATE, 48001))


@pytest.fixture
def given(tmp_path):
    """Two seconds of 16-bit music."""
    return write(tmp_path / "given.wav", music(2.0), "PCM_16")


def write(path, waveform, subtype, sample_rate=SAMPLE_RATE):
    soundfile.write(path, waveform[0, 0].numpy(), sample_rate, subtype=subtype)
    return path


def integers(path):
    return soundfile.read(path, dtype="int32")[0]


def only(folder, end="wav"):
    (path,) = folder.glob(f"*.{end}")
    return path


def test_long_music_is_written_as_it_is_generated(saved, tmp_path):
    words = ("--prompt", "calm", "--prompt", "loud", "--seconds", 1.6, "--seed", 3, "--batch-size", 1)
    run(saved, *words, "--out", tmp_path / "out")
    expected = tiny_melody().generate(["calm", "loud"], 1.6, seed=3).waveform
    for stem, waveform in zip(("000_calm_seed3", "001_loud_seed3"), expected, strict=True):
        samples = soundfile.read(tmp_path / "out" / f"{stem}.wav", dtype="float32")[0]
        torch.testing.assert_close(torch.from_numpy(samples), waveform[0], rtol=0, atol=1.2e-4)
        made = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
        assert made["seconds"] == 1.6
        assert made["timings"]["denoiser"] > 0
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".json", ".json", ".wav", ".wav"]


def test_a_continued_file_keeps_its_samples(saved, given, tmp_path):
    run(saved, "--continue-from", given, "--seconds", 3.3, "--out", tmp_path / "out")
    out = only(tmp_path / "out")
    assert out.name == "000_given_seed0.wav"
    assert soundfile.info(out).subtype == "PCM_16"
    before, after = integers(given), integers(out)
    seam = len(before) - FADE
    assert len(after) == round(3.3 * SAMPLE_RATE)
    assert np.array_equal(after[:seam], before[:seam])
    waveform = torch.from_numpy(soundfile.read(given, dtype="float32")[0])[None, None]
    expected = tiny_melody().continue_from(waveform, SAMPLE_RATE, Request(seconds=3.3)).waveform[0, 0]
    torch.testing.assert_close(torch.from_numpy(after / 2**31).float(), expected, rtol=0, atol=1e-4)
    made = json.loads(only(tmp_path / "out", "json").read_text())
    assert made["prompt"] is None
    assert made["continued_from"] == str(given)
    assert made["seconds"] == 3.3


def test_a_long_file_is_read_in_blocks_and_only_its_end_is_heard(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("melody_cm.data.audio_files.BLOCK_SAMPLES", 300)
    path, read = write(tmp_path / "given.wav", music(9.0), "PCM_16"), []
    stream = MeLoDy.stream_continuation

    def recorded(self, waveform, *rest, **more):
        read.append(waveform.shape[-1])
        return stream(self, waveform, *rest, **more)

    monkeypatch.setattr(MeLoDy, "stream_continuation", recorded)
    run(saved, "--continue-from", path, "--seconds", 10, "--prompt", "a", "--prompt", "b", "--out", tmp_path / "out")
    assert max(read) <= SAMPLE_RATE + FADE + 1
    one, other = (integers(tmp_path / "out" / name) for name in ("000_a_seed0.wav", "001_b_seed0.wav"))
    before = integers(path)
    assert np.array_equal(one[: len(before) - FADE], before[:-FADE])
    assert len(one) == 10 * SAMPLE_RATE
    assert not np.array_equal(one, other)
    waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None, None].expand(2, 1, -1)
    expected = tiny_melody().continue_from(waveform, SAMPLE_RATE, Request(["a", "b"], 10.0)).waveform[1, 0]
    torch.testing.assert_close(torch.from_numpy(other / 2**31).float(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_an_inpainted_file_keeps_its_samples_outside_the_hole(saved, tmp_path, subtype):
    path = write(tmp_path / "given.wav", music(4.0).clamp(-1, 0.999), subtype)
    run(saved, "--inpaint", path, "--from", 1.5, "--to", 1.9, "--prompt", "calm", "--out", tmp_path / "out")
    out = only(tmp_path / "out")
    assert soundfile.info(out).subtype == ("PCM_16" if subtype == "PCM_16" else "PCM_24")
    before, after = (soundfile.read(file, dtype="float64")[0] for file in (path, out))
    outside = np.ones(len(before), dtype=bool)
    outside[1200 - FADE : 1520 + FADE] = False
    assert len(after) == len(before)
    assert np.abs(after - before)[outside].max() <= (2**-24 if subtype == "FLOAT" else 0)
    expected = tiny_melody().inpaint(
        torch.from_numpy(before).float()[None, None], SAMPLE_RATE, 1.5, 1.9, Request(["calm"])
    )
    np.testing.assert_allclose(after, expected.waveform[0, 0].numpy().clip(-1, 1), rtol=0, atol=1e-4)
    assert json.loads(only(tmp_path / "out", "json").read_text())["inpainted"] == {
        "file": str(path),
        "from": 1.5,
        "to": 1.9,
    }


@pytest.mark.parametrize(
    ("block", "begin", "end"),
    [(100, 0.0, 0.2), (100, 3.8, 4.0), (333, 1.5, 1.9), (1 << 21, 0.0, 0.2), (1 << 21, 1.5, 1.9)],
)
def test_a_hole_in_any_block_of_the_file(saved, tmp_path, monkeypatch, block, begin, end):
    path = write(tmp_path / "given.wav", music(4.0), "PCM_16")
    monkeypatch.setattr("melody_cm.data.audio_files.BLOCK_SAMPLES", block)
    run(saved, "--inpaint", path, "--from", begin, "--to", end, "--steps", 1, "--out", tmp_path / "out")
    waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None, None]
    expected = tiny_melody().inpaint(waveform, SAMPLE_RATE, begin, end, Request(num_steps=1)).waveform[0, 0].numpy()
    after = soundfile.read(only(tmp_path / "out"), dtype="float32")[0]
    np.testing.assert_allclose(after, expected, rtol=0, atol=5e-5)


def test_a_file_at_another_rate_is_resampled_as_a_whole(saved, tmp_path):
    path = write(tmp_path / "given.flac", music(6.0), "PCM_16", 2 * SAMPLE_RATE + 100)
    run(saved, "--continue-from", path, "--seconds", 4, "--out", tmp_path / "out")
    after = torch.from_numpy(soundfile.read(only(tmp_path / "out"), dtype="float32")[0])
    waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None, None]
    expected = tiny_melody().continue_from(waveform, 2 * SAMPLE_RATE + 100, Request(seconds=4.0)).waveform[0, 0]
    assert len(after) == 4 * SAMPLE_RATE
    torch.testing.assert_close(after[:2200], expected[:2200].clamp(-1, 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("make", [tiny_melody, toy_musiccm])
def test_an_audio_prompt_takes_the_place_of_a_text(given, tmp_path, make):
    make().save_pretrained(tmp_path / "system")
    run(tmp_path / "system", "--audio-prompt", given, "--seconds", 0.5, "--out", tmp_path / "out")
    heard = torch.from_numpy(soundfile.read(given, dtype="float32")[0])[None, None]
    expected = make().generate([AudioPrompt(heard, SAMPLE_RATE)], 0.5).waveform[0, 0].numpy()
    np.testing.assert_allclose(soundfile.read(only(tmp_path / "out"), dtype="float32")[0], expected, rtol=0, atol=5e-5)
    made = json.loads((tmp_path / "out" / "000_given_seed0.json").read_text())
    assert made["audio_prompt"] == str(given)
    assert made["prompt"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prompt", "a"), "Give --seconds"),
        (("--prompt", "a", "--audio-prompt", "GIVEN", "--seconds", 1), "not both"),
        (("--continue-from", "GIVEN", "--inpaint", "GIVEN"), "either continued or inpainted"),
        (("--continue-from", "GIVEN", "--seconds", 2), "ask for more"),
        (("--continue-from", "GIVEN", "--seconds", 3, "--steps", 0), "1 to 1000 steps"),
        (("--continue-from", "GIVEN", "--seconds", 1e5), "at most 43200 seconds"),
        (("--continue-from", "GIVEN", "--seconds", 3, "--from", 1), "give --inpaint SOUND"),
        (("--continue-from", "SHORT", "--seconds", 3), r"has 0\.26 s, but .* one chunk of 0\.25 s"),
        (("--continue-from", "SILENT", "--seconds", 3), r"silent\.wav: silent"),
        (("--continue-from", "BROKEN", "--seconds", 3), r"broken\.wav: not a readable sound file"),
        (("--continue-from", "nowhere.wav", "--seconds", 3), r"nowhere\.wav: no such file"),
        (("--continue-from", "GIVEN", "--seconds", 3, *["--prompt", "a"] * 9), "8 times at once"),
        (("--inpaint", "GIVEN", "--from", 1), "give --from SECONDS and --to SECONDS"),
        (("--inpaint", "GIVEN", "--from", 1, "--to", 1), "--from must be below --to"),
        (("--inpaint", "GIVEN", "--from", -1, "--to", 1), "no part of any music"),
        (("--inpaint", "GIVEN", "--from", 1, "--to", 1.2, "--seconds", 2), "leave --seconds out"),
        (("--inpaint", "GIVEN", "--from", 1, "--to", 2.5), "does not lie in music of 2 s"),
        (("--inpaint", "GIVEN", "--from", 0.5, "--to", 1.5), r"the hole may have 0\.71 s"),
        (("--inpaint", "GIVEN", "--from", 1, "--to", 1.2, "--steps", 0), "1 to 1000 steps"),
        (("--inpaint", "SILENT", "--from", 1, "--to", 1.2), "silent"),
        (("--audio-prompt", "SILENT", "--seconds", 1), "silent"),
        (("--audio-prompt", "LONG", "--seconds", 1), r"601\.0 s .* at most 600 s"),
        (("--prompt", "a", "--seconds", 1e7), "a WAV file at 800 Hz holds"),
    ],
)
def test_wrong_requests_write_nothing(saved, given, tmp_path, words, message):
    write(tmp_path / "short.wav", music(0.26), "PCM_16")
    write(tmp_path / "silent.wav", torch.zeros(1, 1, 1600), "PCM_16")
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    if "LONG" in words:
        write(tmp_path / "long.wav", torch.full((1, 1, 601 * SAMPLE_RATE), 0.1), "PCM_16")
    words = [tmp_path / f"{word.lower()}.wav" if str(word).isupper() else word for word in words]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        run(saved, *words, "--out", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "message"), [(toy_melody, "per_frame_angles is False"), (toy_musiccm, "MusicCM cannot continue")]
)
def test_systems_that_cannot_continue_say_so(make, message, given, tmp_path):
    make().save_pretrained(tmp_path / "system")
    for words in (("--continue-from", given, "--seconds", 3), ("--inpaint", given, "--from", 1, "--to", 1.1)):
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "system", *words, "--out", tmp_path / "out")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_written_before_an_interruption_stays_and_can_be_heard(saved, tmp_path, monkeypatch, error):
    stream, count = GrowingWav.write, []

    def interrupted(self, waveform):
        count.append(1)
        if len(count) == 4:
            raise error
        stream(self, waveform)

    monkeypatch.setattr(GrowingWav, "write", interrupted)
    with pytest.raises(error):
        run(saved, "--prompt", "calm", "--seconds", 3, "--steps", 1, "--out", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000_calm_seed0.partial.wav"]
    samples = soundfile.read(tmp_path / "out" / "000_calm_seed0.partial.wav", dtype="float32")[0]
    expected = tiny_melody().generate(["calm"], 3.0, num_steps=1).waveform[0, 0].numpy()
    assert SAMPLE_RATE < len(samples) < 2 * SAMPLE_RATE
    np.testing.assert_allclose(samples, expected[: len(samples)], rtol=0, atol=5e-5)


@pytest.mark.parametrize("sample_bytes", [2, 3])
def test_a_growing_wav_is_whole_after_every_block(tmp_path, sample_bytes):
    waveform, path = 2 * torch.rand(1, 300) - 1, tmp_path / "a.wav"
    with GrowingWav(path, 800, sample_bytes) as file:
        blocks = waveform.split([100, 100, 0, 100], dim=-1)
        for length, block in zip((100, 200, 200, 300), blocks, strict=True):
            file.write(block)
            with wave.open(str(tmp_path / "a.partial.wav")) as written:
                assert written.getparams()[:4] == (1, sample_bytes, 800, length)
            samples = soundfile.read(tmp_path / "a.partial.wav", dtype="float64")[0]
            assert len(samples) == length
            assert np.abs(samples - waveform[0, :length].numpy()).max() <= 2.0 ** (-8 * sample_bytes)
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
    assert len(soundfile.read(path)[0]) == 300


def test_samples_read_from_a_file_are_written_back_as_they_were(tmp_path):
    every = np.arange(-(2**15), 2**15).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", every, 800, subtype="PCM_16")
    samples = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32")[0])
    with GrowingWav(tmp_path / "b.wav", 800) as file:
        file.write(samples[None])
    assert np.array_equal(soundfile.read(tmp_path / "b.wav", dtype="int16")[0], every)


def test_the_loudest_sample_stays_within_the_file(tmp_path):
    with GrowingWav(tmp_path / "b.wav", 800) as file:
        file.write(torch.tensor([[1.0, -1.0]]))
    assert soundfile.read(tmp_path / "b.wav", dtype="int16")[0].tolist() == [32767, -32768]


def test_an_interruption_before_the_first_block_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), GrowingWav(tmp_path / "a.wav", 800):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_wav_file_ends_at_4_gib():
    check_size(43200.0, 24000)
    with pytest.raises(ValueError, match="holds 59652 s"):
        check_size(60000.0, 24000)
