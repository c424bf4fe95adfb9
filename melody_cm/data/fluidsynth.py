"""MIDI files played by FluidSynth, always at the same level: the recipe that docs/data.md describes."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import scipy  # Which imports scipy.signal when that is first used: over half a second.
import soundfile
from jaxtyping import Float

from melody_cm.signal.levels import SILENT_PEAK
from melody_cm.storage import hash_data, hash_file

# Raise it when the same MIDI file and sound font give another sound: it is a part of the name of a rendered clip.
RECIPE_VERSION = 1
SAMPLE_RATE = 24000
SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
TARGET_RMS, MAX_PEAK = 0.1, 0.95
HIGH_PASS_HZ = 25.0
MAX_SECONDS = 1800
MAX_WAV_BYTES = MAX_SECONDS * SAMPLE_RATE * 2 * 4
INSTALL = "install the Debian packages: apt-get install fluidsynth fluid-soundfont-gm"


class MidiProblem(ValueError):
    """A MIDI file, or the part of it that was asked for, which gives no music; the message names the file."""


class FluidSynth:
    """The installed FluidSynth with one sound font (.sf2; Debian's by default); gives mono waveforms of 24000 Hz.

    `described` says what the sound depends on besides the MIDI file: versions of recipe and program, the sound font;
    `identity` is a hash of it. A FileNotFoundError names the packages to install.
    """

    def __init__(self, sound_font: Path = SOUND_FONT) -> None:
        program = shutil.which("fluidsynth")
        if program is None:
            raise FileNotFoundError(f"fluidsynth is not installed; {INSTALL}")
        _check_sound_font(sound_font)
        self.program, self.sound_font = program, sound_font.resolve()
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        self.described = {
            "recipe": RECIPE_VERSION,
            "program": (version.splitlines() or ["unknown"])[0],
            "sound_font": hash_file(sound_font),
        }
        self.identity = hash_data(self.described)

    def render(self, midi: Path) -> Float[np.ndarray, " t"]:
        """The whole MIDI file as it sounds, levelled; a MidiProblem if it is no MIDI file, damaged, silent, or longer
        than half an hour."""
        with TemporaryDirectory() as scratch:
            wav = Path(scratch) / "fluidsynth.wav"
            self._play(midi, wav)
            stereo, sample_rate = soundfile.read(wav, dtype="float64", always_2d=True)
        if np.abs(stereo).max(initial=0.0) < SILENT_PEAK:
            raise MidiProblem(f"{midi}: silent, no sample above {SILENT_PEAK:g}")
        return level(stereo.mean(axis=1), sample_rate)

    def _play(self, midi: Path, wav: Path) -> None:
        log = wav.with_suffix(".log")
        # -f: without the user's own settings; -ni: no MIDI input, no shell.
        options = ["-f", os.devnull, "-ni", "-q", "-g", "0.4", "-r", str(SAMPLE_RATE), "-T", "wav", "-O", "float"]
        command = [self.program, *options, "-F", str(wav), str(self.sound_font), str(midi.resolve())]
        with (
            log.open("wb") as messages,
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=messages) as process,
        ):
            try:
                _watch(process, midi, wav)
            finally:
                process.kill()
        # It ends with 0 after most errors, and goes on with another sound font if it cannot read the one it was given.
        errors = [line for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()]
        if errors or process.returncode or not wav.is_file():
            raise MidiProblem(f"{midi}: FluidSynth cannot play it ({errors[0] if errors else process.returncode})")


def level(waveform: Float[np.ndarray, " t"], sample_rate: int) -> Float[np.ndarray, " t"]:
    """The waveform without what lies below 25 Hz (some sounds carry DC), at RMS 0.1 or, if that clips, peak 0.95."""
    high_pass = scipy.signal.butter(2, HIGH_PASS_HZ, "highpass", fs=sample_rate, output="sos")
    filtered = scipy.signal.sosfiltfilt(high_pass, waveform)
    rms, peak = np.sqrt(np.square(filtered).mean()), np.abs(filtered).max()
    return filtered * min(TARGET_RMS / rms, MAX_PEAK / peak)


def cut_out(
    waveform: Float[np.ndarray, " t"], start: float, duration: float | None, sample_rate: int
) -> Float[np.ndarray, " n"]:
    """n = duration * sample_rate samples from `start` (seconds) on, zeros behind the end; up to the end if None. A
    MidiProblem if nothing can be heard there."""
    first = round(start * sample_rate)
    length = max(len(waveform) - first, 0) if duration is None else round(duration * sample_rate)
    found = waveform[first : first + length]
    if np.abs(found).max(initial=0.0) < SILENT_PEAK:
        raise MidiProblem(f"silent from {start:g} s on, the music ends at {len(waveform) / sample_rate:.2f} s")
    return np.pad(found, (0, length - len(found)))


def _check_sound_font(path: Path) -> None:
    if not path.is_file():
        hint = INSTALL if path == SOUND_FONT else "give another --sound-font, or leave it out"
        raise FileNotFoundError(f"{path}: no such sound font; {hint}")
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise ValueError(f"{path}: not a SoundFont 2 file; give another --sound-font")


def _watch(process: subprocess.Popen, midi: Path, wav: Path) -> None:
    """Wait for the end; a tempo or a pause that makes the music endless must not fill the disk."""
    while process.poll() is None:
        if wav.is_file() and wav.stat().st_size > MAX_WAV_BYTES:
            raise MidiProblem(f"{midi}: longer than {MAX_SECONDS} s; cut it into shorter files")
        time.sleep(0.02)
