"""A manifest whose rows have MIDI files but no sound yet, made into a corpus of its own."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track

from melody_cm.data.audio_files import AUDIO_SUFFIXES, write_audio
from melody_cm.data.clips import RowReader, load_row, located
from melody_cm.data.fluidsynth import SAMPLE_RATE, SOUND_FONT, FluidSynth, MidiProblem, cut_out
from melody_cm.data.locking import file_lock
from melody_cm.data.manifest import MANIFEST_NAME, ManifestCorpus, manifest_lines, write_manifest
from melody_cm.storage import hash_data, hash_file, write_atomically, write_json

RECORD_NAME, LOCK_NAME, SCRATCH_NAME = "rendering.json", ".lock", ".scratch"
# What says whose music it is goes wherever the music goes.
NOTICES = ("ATTRIBUTION*", "LICENSE*", "LICENCE*", "COPYING*", "NOTICE*")


@dataclass
class RenderReport:
    """What became of the rows of a manifest.

    Attributes:
        rendered: clips made now; already_there: clips found in the folder, of the same MIDI file and sound font.
        given: rows that came with a sound file; without_midi: rows that have neither sound nor MIDI.
        midi_files: MIDI files played now.
        failed: rows that could not get their sound; problems: one line for each cause.
    """

    rendered: int = 0
    already_there: int = 0
    given: int = 0
    without_midi: int = 0
    midi_files: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Cut:
    """A part of a MIDI file's sound: where it begins and how long it is in seconds, and the rows that want it."""

    start: float
    duration: float | None
    where: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    outcome: Literal["rendered", "already_there", "failed"] = "already_there"


@dataclass
class MidiJob:
    """One MIDI file that is played once, and what is cut out of it, by the name of the sound file to make."""

    midi: Path
    cuts: dict[str, Cut] = field(default_factory=dict)
    played: bool = False
    problems: list[str] = field(default_factory=list)

    def run(self, folder: Path, scratch: Path, synthesizer: FluidSynth) -> None:
        """Make the sound files that are not in `folder` yet."""
        missing = {name: cut for name, cut in self.cuts.items() if not (folder / name).is_file()}
        if not missing:
            return
        self.played = True
        try:
            with TemporaryDirectory(dir=scratch) as own:
                waveform = synthesizer.render(self.midi, Path(own))
        except MidiProblem as problem:
            self._fail(list(missing.values()), problem)
            return
        for name, cut in missing.items():
            try:
                samples = cut_out(waveform, cut.start, cut.duration, SAMPLE_RATE)
            except MidiProblem as problem:
                self._fail([cut], f"{self.midi}: {problem}")
                continue
            write_audio(folder / name, torch.from_numpy(samples), SAMPLE_RATE)
            cut.outcome = "rendered"

    def _fail(self, cuts: list[Cut], problem: object) -> None:
        """One cause is one line, however many cuts it stops."""
        self.problems.append(f"{cuts[0].where}: {problem}")
        for cut in cuts:
            cut.outcome = "failed"


class Rendering:
    """A folder that becomes a corpus: the rows of a manifest, the sound of their MIDI files, and all files they name.

    Sound files appear whole or not at all, and the manifest names them when all are there; until then it says of each
    row that it has no sound. A rendering that was stopped goes on with what is missing.

    Args:
        path: the manifest, or a folder that holds a manifest.jsonl.
        folder: new, empty, or an earlier rendering.
        synthesizer: plays the MIDI files.

    Raises:
        FileNotFoundError: no such manifest.
        ValueError: `folder` is something else.
    """

    def __init__(self, path: str, folder: Path, synthesizer: FluidSynth) -> None:
        self.source, self.folder, self.synthesizer = ManifestCorpus(path).path, folder, synthesizer
        if not self.source.is_file():
            raise FileNotFoundError(f"{self.source}: no such manifest")
        if not _may_fill(folder):
            raise ValueError(f"{folder}: neither empty nor an earlier rendering; give a new folder with --out")
        self.reader = RowReader(self.source.parent)
        self.rows: list[dict[str, Any]] = []
        self.jobs: dict[str, MidiJob] = {}
        self.report = RenderReport()

    def run(self, processes: int = 1) -> RenderReport:
        """Render what is missing, `processes` MIDI files at once."""
        if processes < 1:
            raise ValueError(f"processes is {processes}; at least 1 is needed")
        manifest = self.folder / MANIFEST_NAME
        with file_lock(self.folder / LOCK_NAME):
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
                self.report.failed += 1
                self.report.problems.append(str(problem))

    def _plan(self, row: dict[str, Any], where: str) -> None:
        """Bring the files that a row names; its `audio` is null until it has some."""
        audio, midi = row.get("audio"), row.get("midi")
        row["audio"] = None
        file = self.reader.clip_of(row | {"audio": audio or midi or "none"}, where).audio
        if audio is None and not midi:
            self.report.without_midi += 1
            return
        if not file.is_file():
            raise ValueError(f"{where}: {file}: no such file")
        if audio is not None and file.suffix.lower() not in AUDIO_SUFFIXES:
            raise ValueError(f"{where}: {file}: not a sound file ({', '.join(AUDIO_SUFFIXES)})")
        self._bring(file)
        if audio is None:
            self._add_cut(row, file, where)
        else:
            row["audio"] = audio
            self.report.given += 1

    def _add_cut(self, row: dict[str, Any], midi: Path, where: str) -> None:
        """The name of a sound file says what it depends on, and a MIDI file that lies there twice is played once."""
        content, start, duration = hash_file(midi), float(row.get("start") or 0), row.get("duration")
        name = f"audio/{hash_data([self.synthesizer.identity, content, start, duration])}.flac"
        job = self.jobs.setdefault(content, MidiJob(midi))
        job.cuts.setdefault(name, Cut(start, duration, where)).rows.append(row)

    def _bring(self, file: Path) -> None:
        target = self.folder / os.path.relpath(file, os.path.abspath(self.source.parent))
        if not (target.is_file() and target.samefile(file)):
            write_atomically(target, lambda aside: _link(file, aside))

    def _play(self, processes: int) -> None:
        jobs, console, scratch = list(self.jobs.values()), Console(stderr=True), self.folder / SCRATCH_NAME
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        with ThreadPoolExecutor(processes) as pool:
            futures = [pool.submit(job.run, self.folder, scratch, self.synthesizer) for job in jobs]
            try:
                title, quiet = f"rendering {len(jobs)} MIDI files", not console.is_terminal
                for future in track(as_completed(futures), title, len(futures), console=console, disable=quiet):
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)
                shutil.rmtree(scratch, ignore_errors=True)
        for job in jobs:
            self._count(job)

    def _count(self, job: MidiJob) -> None:
        self.report.midi_files += job.played
        self.report.problems += job.problems
        for name, cut in job.cuts.items():
            setattr(self.report, cut.outcome, getattr(self.report, cut.outcome) + len(cut.rows))
            for row in cut.rows:
                row["audio"] = None if cut.outcome == "failed" else name


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
    return Rendering(path, folder, synthesizer).run(processes or len(os.sched_getaffinity(0)))


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
