import json

import numpy as np
import pytest
import soundfile

from melody_cm.data import ManifestCorpus, SyntheticCorpus, read_audio, write_audio, write_corpus
from melody_cm.data.composition import draw_piece, perform, piece_captions, piece_fields
from melody_cm.data.styles import DRUMS, INSTRUMENTS, KEYS, MOODS, SCALES, STYLES
from melody_cm.data.synthesis import drum_sound, note_sound, synthesize

RATE = 16000


@pytest.fixture(scope="module")
def examples():
    """Four pieces of each style, 5 s each."""
    pieces = [draw_piece(3, index) for index in range(4 * len(STYLES))]
    return [(piece, synthesize(perform(piece, 5.0, 3, i, 0), 5.0, RATE)) for i, piece in enumerate(pieces)]


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_notes_have_their_pitch_and_do_not_click(name):
    note = note_sound(INSTRUMENTS[name], 57, 1.0, 24000)
    spectrum = np.abs(np.fft.rfft(note, 1 << 17))
    frequencies = np.fft.rfftfreq(1 << 17, 1 / 24000)
    near = [spectrum[np.abs(frequencies - 220 * 2 ** (shift / 12)) < 6].max() for shift in (-2, -1, 0, 1, 2)]
    assert np.argmax(near) == 2
    assert abs(note[0]) < 1e-3
    assert abs(note[-1]) < 1e-3
    assert np.isfinite(note).all()


@pytest.mark.parametrize("kit", sorted(DRUMS))
def test_drums_sound_and_do_not_click(kit):
    for drum in DRUMS[kit]:
        stroke = drum_sound(kit, drum, 24000)
        assert 0.03 < np.abs(stroke).max() < 1.0
        assert abs(stroke[0]) < 1e-3
        assert abs(stroke[-1]) < 1e-3


def test_high_notes_do_not_alias():
    note = note_sound(INSTRUMENTS["square lead"], 93, 1.0, 16000)
    spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note)))) ** 2
    frequencies = np.fft.rfftfreq(len(note), 1 / 16000)
    between = np.abs((frequencies / 1760 + 0.5) % 1 - 0.5) > 0.1
    assert spectrum[between].sum() < 1e-4 * spectrum.sum()


def test_levels(examples):
    for piece, waveform in examples:
        frames = np.sqrt(np.square(waveform.reshape(-1, RATE // 4)).mean(axis=1))
        assert waveform.dtype == np.float32
        assert len(waveform) == 5 * RATE
        assert np.sqrt(np.square(waveform).mean()) == pytest.approx(0.1, abs=0.02), piece
        assert np.abs(waveform).max() <= 0.951
        assert abs(waveform.mean()) < 1e-3
        assert frames.min() > 0.01, piece


def test_the_key_can_be_heard(examples):
    frequencies = np.fft.rfftfreq(5 * RATE, 1 / RATE)
    heard = (frequencies > 100) & (frequencies < 1000)
    pitch_class = np.round(12 * np.log2(frequencies[heard] / 440) + 9).astype(int) % 12
    right = 0
    for piece, waveform in examples:
        power = np.abs(np.fft.rfft(waveform))[heard] ** 2
        chroma = np.bincount(pitch_class, weights=power, minlength=12)
        fits = {(t, m): sum(chroma[(t + s) % 12] for s in SCALES[m]) for t in range(12) for m in SCALES}
        right += fits[piece.tonic, piece.mode] > 0.98 * max(fits.values())
    assert right > 0.9 * len(examples)


def pulse(onsets, tempo):
    """How much a beat of `tempo` repeats in the onsets, sampled at 125 Hz: autocorrelation at one to eight beats."""
    autocorrelation = np.correlate(onsets, onsets, "full")[len(onsets) - 1 :]
    lags = 60 / tempo * 125 * np.arange(1, 9)
    return np.interp(lags, np.arange(len(autocorrelation)), autocorrelation / np.arange(len(onsets), 0, -1)).mean()


def test_the_tempo_can_be_heard():
    right = 0
    for index in range(45):
        piece = draw_piece(0, index)
        if piece.style == "ambient":  # no beat to hear
            right += 1
            continue
        waveform = synthesize(perform(piece, 8.0, 0, index, 0), 8.0, RATE)
        frames = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::128] * np.hanning(512)
        flux = np.maximum(np.diff(np.log(np.abs(np.fft.rfft(frames)) + 1e-2), axis=0), 0).sum(axis=1)
        onsets = flux - flux.mean()
        others = [pulse(onsets, piece.tempo * factor) for factor in (0.86, 0.9, 0.95, 1.05, 1.1, 1.16)]
        right += pulse(onsets, piece.tempo) > max(others)
    assert right >= 40


def features(waveform):
    frames = waveform[: len(waveform) // 512 * 512].reshape(-1, 512) * np.hanning(512)
    spectrum = np.log(np.abs(np.fft.rfft(frames)) + 1e-3)
    bands = np.stack([band.mean(axis=1) for band in np.array_split(spectrum[:, 1:], 24, axis=1)], axis=1)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0), np.abs(np.diff(bands, axis=0)).mean(axis=0)])


def test_the_style_can_be_heard(examples):
    heard = np.stack([features(waveform) for _, waveform in examples])
    heard = (heard - heard.mean(axis=0)) / heard.std(axis=0)
    distances = np.square(heard[:, None] - heard[None]).sum(axis=2) + 1e9 * np.eye(len(heard))
    styles = [piece.style for piece, _ in examples]
    right = [styles[nearest] == style for style, nearest in zip(styles, distances.argmin(axis=1), strict=True)]
    assert np.mean(right) > 0.75  # chance is 1 in 9


def test_captions_are_true():
    for index in range(60):
        piece = draw_piece(1, index)
        sentence, other, tags = piece_captions(piece, 1, index, 0)
        for text in (sentence, other, tags):
            assert piece.style in text
            assert piece.mood in text
            assert piece.key in text
            assert all(instrument in text.lower() for instrument in piece.instruments)
        assert sentence != other
        assert piece_fields(piece)["tempo_bpm"] == piece.tempo
        assert 60 <= piece.tempo <= 160
        assert {note.instrument for note in perform(piece, 5.0, 1, index, 0).notes} == set(piece.instruments)


def test_tables_fit_together():
    assert len(KEYS) == 12
    for style in STYLES.values():
        steps = 4 * style.beats
        patterns = [style.chord_pattern, style.bass_pattern, *style.melodies, *style.drums.values()]
        assert {len(pattern) for pattern in patterns} == {steps}
        assert set(style.leads + style.chords + style.basses) <= set(INSTRUMENTS)
        assert set(style.moods) <= set(MOODS)
        assert all(drum in DRUMS[style.drum_kit] for drum in style.drums)


def test_the_cache_is_filled_once_and_read_like_a_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path))
    corpus = SyntheticCorpus(num_clips=30, seconds=1.0, seed=5, sample_rate=16000)
    clips = corpus.clips()
    assert len(clips) == len({clip.id for clip in clips}) == 30
    assert {clip.audio.parent for clip in clips} == {corpus.folder / "audio"}
    assert soundfile.info(clips[0].audio).samplerate == 16000
    assert len(read_audio(clips[0].audio, 0.0, None, 16000)) == 16000
    by_split = {name: {clip.piece for clip in clips if clip.split == name} for name in ("train", "valid", "test")}
    assert [len(pieces) for pieces in by_split.values()] == [11, 2, 2]
    stamp = clips[0].audio.stat().st_mtime_ns
    assert [clip.id for clip in SyntheticCorpus(30, 1.0, 5, 16000).clips()] == [clip.id for clip in clips]
    assert clips[0].audio.stat().st_mtime_ns == stamp
    assert SyntheticCorpus(30, 1.0, 6, 16000).folder != corpus.folder
    assert SyntheticCorpus(30, 1.0, 6, 16000).fingerprint() != corpus.fingerprint()


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_rendering_is_deterministic_and_seeded(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_corpus(tmp_path / name, 4, seed=seed, seconds=1.0, sample_rate=16000)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in a)
    rows = [json.loads(line) for line in a["manifest.jsonl"].decode().splitlines()]
    assert rows[0]["piece"] == rows[3]["piece"]
    assert a["000000.flac"] != a["000003.flac"]
    assert {row["split"] for row in rows} == {"train", "valid", "test"}


def test_a_stopped_rendering_goes_on_and_is_no_corpus_before(tmp_path, monkeypatch):
    folder, made = tmp_path / "a", []

    def fail_at_third(path, waveform, sample_rate):
        if len(made) == 2:
            raise OSError("disk full")
        made.append(path)
        write_audio(path, waveform, sample_rate)

    with monkeypatch.context() as patch:
        patch.setattr("melody_cm.data.synthetic.write_audio", fail_at_third)
        with pytest.raises(OSError, match="disk full"):
            write_corpus(folder, 4, seconds=1.0)
    assert not folder.exists()
    other = tmp_path / f".a.{'0' * 16}.part"
    for path in (other, tmp_path / f".a.b.{'0' * 16}.part"):  # Begun with other arguments; of another corpus.
        path.mkdir()
    stamps = [path.stat().st_mtime_ns for path in made]
    write_corpus(folder, 4, seconds=1.0)
    assert [(folder / "audio" / path.name).stat().st_mtime_ns for path in made] == stamps
    write_corpus(tmp_path / "b", 4, seconds=1.0)
    assert contents(folder) == contents(tmp_path / "b")
    assert [path.name for path in tmp_path.glob(".*.part")] == [f".a.b.{'0' * 16}.part"]


def test_what_lies_in_the_folder_is_kept(tmp_path):
    folder = tmp_path / "a"
    write_corpus(folder, 3, seconds=0.5)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    write_corpus(folder, 3, seconds=0.5)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    for arguments in ({"seed": 1}, {"sample_rate": 16000}):
        with pytest.raises(ValueError, match="holds something else"):
            write_corpus(folder, 3, seconds=0.5, **arguments)
    (folder / "audio" / "000001.flac").unlink()
    with pytest.raises(ValueError, match="holds something else"):
        write_corpus(folder, 3, seconds=0.5)
    (tmp_path / "empty").mkdir()
    write_corpus(tmp_path / "empty", 3, seconds=0.5)
    assert len(ManifestCorpus(str(tmp_path / "empty")).clips()) == 3


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="num_clips is 2"):
        SyntheticCorpus(2, 10.0)
    with pytest.raises(ValueError, match=r"seconds is 0\.1"):
        SyntheticCorpus(10, 0.1)
    with pytest.raises(ValueError, match="seconds is nan"):
        SyntheticCorpus(10, float("nan"))
    with pytest.raises(ValueError, match="sample_rate is 0"):
        SyntheticCorpus(10, 1.0, sample_rate=0)


def test_a_manifest_of_it_elsewhere_opens(tmp_path):
    write_corpus(tmp_path / "deep" / "music", 3, seconds=0.5, sample_rate=8000)
    assert len(ManifestCorpus(str(tmp_path / "deep" / "music")).clips()) == 3


def test_a_home_that_cannot_be_written_is_told_from_the_music(monkeypatch):
    def refused(corpus, folder):
        raise PermissionError(13, "Permission denied", "/nonexistent")

    monkeypatch.setenv("MELODY_CM_CACHE", "/nonexistent")
    monkeypatch.setattr(SyntheticCorpus, "write", refused)
    with pytest.raises(PermissionError, match="Permission denied; set MELODY_CM_CACHE"):
        SyntheticCorpus(3, 1.0).clips()


@pytest.mark.parametrize("damage", ["cut", "deleted", "edited"])
def test_the_fingerprint_is_that_of_the_arguments_until_a_file_is_damaged(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path))
    corpus = SyntheticCorpus(4, 0.5, sample_rate=8000)
    plain = corpus.fingerprint()
    assert not corpus.folder.exists()
    (clip, *_) = corpus.clips()
    assert corpus.fingerprint() == plain
    data = clip.audio.read_bytes()
    if damage == "deleted":
        clip.audio.unlink()
    else:
        clip.audio.write_bytes(data[:-100] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    assert corpus.fingerprint() != plain
    clip.audio.write_bytes(data)
    assert corpus.fingerprint() == plain
