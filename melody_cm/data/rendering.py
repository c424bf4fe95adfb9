"""A manifest whose rows have MIDI files but no sound yet, made into a corpus of its own."""

import os
import shutil
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from melody_cm.data.audio_files import AUDIO_SUFFIXES, write_audio
from melody_cm.data.clips import RowReader, load_row
from melody_cm.data.fluidsynth import SAMPLE_RATE, SOUND_FONT, FluidSynth, MidiProblem, cut_out
from melody_cm.data.jobs import cores, progress
from melody_cm.data.manifest import MANIFEST_NAME, ManifestCorpus, manifest_lines, write_manifest
from melody_cm.storage import hash_data, hash_file, located, locked, write_atomically, write_json

RECORD_NAME, LOCK_NAME = "rendering.json", ".lock"
# What says whose music it is goes wherever the music goes.
NOTICES = ("ATTRIBUTION*", "LICENSE*", "LICENCE*", "COPYING*", "NOTICE*")
# What can become of a row: rendered now or before, came with a sound file, has neither sound nor MIDI, or failed.
Outcome = Literal["rendered", "already there", "given", "without MIDI", "failed"]


@dataclass
class RenderReport:
    """What became of a manifest: rows by outcome, how many MIDI files were played, a line for each cause of failure."""

    rows: Counter[Outcome] = field(default_factory=Counter)
    midi_files: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Cut:
    """A part of a MIDI file's sound, which becomes one sound file, and the rows that want it."""

    midi: Path
    start: float  # Seconds.
    duration: float | None
    where: str  # The first of the rows.
    rows: list[dict[str, Any]] = field(default_factory=list)


def render_cuts(cuts: dict[Path, Cut], synthesizer: FluidSynth) -> list[str]:
    """Make sound files of one MIDI file; returns a line for each reason why one of them is not there."""
    first, problems = next(iter(cuts.values())), []
    try:
        waveform = synthesizer.render(first.midi)
    except MidiProblem as problem:
        return [f"{first.where}: {problem}"]
    for path, cut in cuts.items():
        try:
            samples = cut_out(waveform, cut.start, cut.duration, SAMPLE_RATE)
        except MidiProblem as problem:
            problems.append(f"{cut.where}: {cut.midi}: {problem}")
        else:
            write_audio(path, torch.from_numpy(samples), SAMPLE_RATE)
    return problems


class Rendering:
    """A folder that becomes a corpus: the rows of a manifest, the sound of their MIDI files, and all files they name.

    Sound files appear whole or not at all, and the manifest names them when all are there; until then it says of each
    row that it has no sound. A rendering that was stopped goes on with what is missing. The folder is new, empty, or an
    earlier rendering, else a ValueError.
    """

    def __init__(self, path: str, folder: Path, synthesizer: FluidSynth) -> None:
        self.source, self.folder, self.synthesizer = ManifestCorpus(path).path, folder, synthesizer
        if not self.source.is_file():
            raise FileNotFoundError(f"{self.source}: no such manifest")
        if not _may_fill(folder):
            raise ValueError(f"{folder}: neither empty nor an earlier rendering; give a new folder with --out")
        self.reader = RowReader(self.source.parent)
        self.rows: list[dict[str, Any]] = []
        self.cuts: dict[str, dict[Path, Cut]] = defaultdict(dict)  # By content of the MIDI file, then by sound file.
        self.report = RenderReport()

    def run(self, processes: int = 1) -> RenderReport:
        """Render what is missing, `processes` MIDI files at once."""
        if processes < 1:
            raise ValueError(f"processes is {processes}; at least 1 is needed")
        manifest = self.folder / MANIFEST_NAME
        with locked(self.folder / LOCK_NAME):
            write_json(self.folder / RECORD_NAME, self.synthesizer.described)
            self._read()
            if not manifest.is_file():
                write_manifest(manifest, [row | {"audio": None} for row in self.rows], force=True)
            self._play(processes)
            write_manifest(manifest, self.rows, force=True)
        return self.report

    def _read(self) -> None:
        for notice in [file for pattern in NOTICES for file in self.source.parent.glob(pattern)]:
            self._bring(notice)
        for where, line in manifest_lines(self.source):
            try:
                with located(where):
                    row = load_row(line)
                    self.rows.append(row)
                    self._plan(row, where)
            except ValueError as problem:
                self.report.rows["failed"] += 1
                self.report.problems.append(str(problem))

    def _plan(self, row: dict[str, Any], where: str) -> None:
        """Bring the files that a row names; its `audio` is null until it has some."""
        audio, midi = row.get("audio"), row.get("midi")
        row["audio"] = None
        file = self.reader.clip_of(row | {"audio": audio or midi or "none"}, where).audio
        if audio is None and not midi:
            self.report.rows["without MIDI"] += 1
            return
        if not file.is_file():
            raise ValueError(f"{file}: no such file")
        if audio is not None and file.suffix.lower() not in AUDIO_SUFFIXES:
            raise ValueError(f"{file}: not a sound file ({', '.join(AUDIO_SUFFIXES)})")
        self._bring(file)
        if audio is None:
            self._add_cut(row, file, where)
        else:
            row["audio"] = audio
            self.report.rows["given"] += 1

    def _add_cut(self, row: dict[str, Any], midi: Path, where: str) -> None:
        """The name of a sound file says what it depends on, and a MIDI file that lies there twice is played once."""
        content, start, duration = hash_file(midi), float(row.get("start") or 0), row.get("duration")
        name = f"audio/{hash_data([self.synthesizer.identity, content, start, duration])}.flac"
        cut = self.cuts[content].setdefault(self.folder / name, Cut(midi, start, duration, where))
        cut.rows.append(row)

    def _bring(self, file: Path) -> None:
        target = self.folder / os.path.relpath(file, os.path.abspath(self.source.parent))
        if not (target.is_file() and target.samefile(file)):
            write_atomically(target, lambda aside: _link(file, aside))

    def _play(self, processes: int) -> None:
        """Make what is not there yet, and put the sound files into the rows."""
        missing = [{path: cut for path, cut in cuts.items() if not path.is_file()} for cuts in self.cuts.values()]
        new = {path for cuts in missing for path in cuts}
        with ThreadPoolExecutor(processes) as pool:
            files = [pool.submit(render_cuts, cuts, self.synthesizer) for cuts in missing if cuts]
            try:
                for file in progress(as_completed(files), f"rendering {len(files)} MIDI files", len(files)):
                    file.result()
            finally:
                pool.shutdown(cancel_futures=True)
        self.report.midi_files = len(files)
        self.report.problems += [problem for file in files for problem in file.result()]
        for path, cut in [each for cuts in self.cuts.values() for each in cuts.items()]:
            audio = path.relative_to(self.folder).as_posix() if path.is_file() else None
            self.report.rows["failed" if not audio else "rendered" if path in new else "already there"] += len(cut.rows)
            for row in cut.rows:
                row["audio"] = audio


def render_manifest(
    path: str, folder: Path, sound_font: Path | None = None, processes: int | None = None
) -> RenderReport:
    """Render a manifest's MIDI files by FluidSynth; see `Rendering`.

    Args:
        path, folder: as of `Rendering`.
        sound_font: a .sf2 file; Debian's FluidR3_GM if None.
        processes: how many MIDI files are played at once; one a core if None.
    """
    synthesizer = FluidSynth(sound_font or SOUND_FONT)
    return Rendering(path, folder, synthesizer).run(processes or cores())


def _may_fill(folder: Path) -> bool:
    if not folder.exists() or (folder / RECORD_NAME).is_file():
        return True
    return folder.is_dir() and all(file.name == LOCK_NAME for file in folder.iterdir())


def _link(file: Path, aside: Path) -> None:
    """Both names for one content where the file system can do that, a copy elsewhere."""
    try:
        os.link(file.resolve(), aside)
    except OSError:
        shutil.copyfile(file, aside)
