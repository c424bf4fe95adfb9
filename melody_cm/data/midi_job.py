"""One MIDI file that is played once, and the clips that are cut out of it."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from melody_cm.data.audio_files import write_audio
from melody_cm.data.fluidsynth import SAMPLE_RATE, FluidSynth, MidiProblem, cut_out


@dataclass
class Cut:
    """A part of a MIDI file's sound.

    Attributes:
        where: the first row that wants it, for messages.
        start, duration: seconds; a duration of None reaches to the end.
        rows: all rows that want it.
        made: whether it was made now.
    """

    where: str
    start: float
    duration: float | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    made: bool = False


@dataclass
class MidiJob:
    """What is to be made of one MIDI file.

    Attributes:
        midi: the file.
        cuts: by the name of the sound file to make.
        played: whether the MIDI file had to be played.
        problems: by the name of a sound file that could not be made; one cause is one line, however many it stops.
    """

    midi: Path
    cuts: dict[str, Cut] = field(default_factory=dict)
    played: bool = False
    problems: dict[str, str] = field(default_factory=dict)

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
            line = f"{next(iter(missing.values())).where}: {problem}"
            self.problems = dict.fromkeys(missing, line)
            return
        for name, cut in missing.items():
            try:
                samples = cut_out(waveform, cut.start, cut.duration, SAMPLE_RATE)
            except MidiProblem as problem:
                self.problems[name] = f"{cut.where}: {self.midi}: {problem}"
                continue
            write_audio(folder / name, torch.from_numpy(samples), SAMPLE_RATE)
            cut.made = True
