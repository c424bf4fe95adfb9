"""A manifest whose rows have MIDI files but no sound yet, made into a corpus of its own."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from melody_cm.data.audio_files import AUDIO_SUFFIXES
from melody_cm.data.clips import load_row, make_clip
from melody_cm.data.fluidsynth import FluidSynth
from melody_cm.data.locking import locked
from melody_cm.data.manifest import MANIFEST_NAME, ManifestCorpus, manifest_lines
from melody_cm.data.midi_job import Cut, MidiJob
from melody_cm.storage import hash_data, hash_file, write_atomically, write_json, write_text

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
        self.rows: list[dict[str, Any]] = []
        self.jobs: dict[str, MidiJob] = {}
        self.report = RenderReport()

    def run(self, processes: int = 1) -> RenderReport:
        """Render what is missing, `processes` MIDI files at once."""
        if processes < 1:
            raise ValueError(f"processes is {processes}; at least 1 is needed")
        with locked(self.folder / LOCK_NAME):
            write_json(self.folder / RECORD_NAME, self.synthesizer.described)
            self._read()
            if not (self.folder / MANIFEST_NAME).is_file():
                self._write([row | {"audio": None} for row in self.rows])
            self._play(processes)
            self._write(self.rows)
        return self.report

    def _read(self) -> None:
        for notice in [file for pattern in NOTICES for file in self.source.parent.glob(pattern)]:
            self._bring(notice)
        for where, line in manifest_lines(self.source):
            try:
                row = load_row(line, where)
                self.rows.append(row)
                self._plan(row, where)
            except ValueError as problem:
                self.report.failed += 1
                self.report.problems.append(str(problem))

    def _plan(self, row: dict[str, Any], where: str) -> None:
        """Bring the files that a row names; its `audio` is null until it has some."""
        audio, midi = row.get("audio"), row.get("midi")
        row["audio"] = None
        clip = make_clip(row | {"audio": audio or midi or "none"}, self.source.parent, where, "train")
        if audio is None and not midi:
            self.report.without_midi += 1
            return
        if not clip.audio.is_file():
            raise ValueError(f"{where}: {clip.audio}: no such file")
        if audio is not None and clip.audio.suffix.lower() not in AUDIO_SUFFIXES:
            raise ValueError(f"{where}: {clip.audio}: not a sound file ({', '.join(AUDIO_SUFFIXES)})")
        self._bring(clip.audio)
        if audio is None:
            self._add_cut(row, clip.audio, where)
        else:
            row["audio"] = audio
            self.report.given += 1

    def _add_cut(self, row: dict[str, Any], midi: Path, where: str) -> None:
        """The name of a sound file says what it depends on, and a MIDI file that lies there twice is played once."""
        content, start, duration = hash_file(midi), row.get("start") or 0, row.get("duration")
        name = f"audio/{hash_data([self.synthesizer.identity, content, float(start), duration])}.flac"
        job = self.jobs.setdefault(content, MidiJob(midi))
        job.cuts.setdefault(name, Cut(where, float(start), duration)).rows.append(row)

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
        for name, cut in job.cuts.items():
            failed = name in job.problems
            self.report.failed += failed * len(cut.rows)
            self.report.rendered += (cut.made and not failed) * len(cut.rows)
            self.report.already_there += (not cut.made and not failed) * len(cut.rows)
            for row in cut.rows:
                row["audio"] = None if failed else name
        self.report.problems.extend(dict.fromkeys(job.problems.values()))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(self.folder / MANIFEST_NAME, "".join(lines))


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
