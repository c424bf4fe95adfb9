"""`melody-cm data render`: the sound of a manifest's MIDI files."""

import os
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

OK, INCOMPLETE = 0, 2


def add_command(commands: Any) -> None:
    """Register the subcommand below `data`."""
    render = commands.add_parser("render", help="make a corpus of a manifest's MIDI files", description=__doc__)
    render.add_argument("manifest", metavar="MANIFEST", help="a .jsonl manifest, or a folder with one")
    render.add_argument("--out", type=Path, required=True, metavar="DIR", help="new, empty, or begun before")
    render.add_argument("--processes", type=_positive, help="FluidSynths that play at once; default: one a core")
    render.add_argument("--sound-font", type=Path, metavar="FILE", help="default: Debian's FluidR3_GM.sf2")
    render.set_defaults(handler=render_manifest)


def render_manifest(arguments: Namespace) -> int:
    """Render what is missing and tell what there is; 2 if some rows could not get their sound."""
    import time

    from melody_cm.data.fluidsynth import SOUND_FONT, FluidSynth
    from melody_cm.data.rendering import Rendering

    started = time.monotonic()
    rendering = Rendering(arguments.manifest, arguments.out, FluidSynth(arguments.sound_font or SOUND_FONT))
    report = rendering.run(arguments.processes or len(os.sched_getaffinity(0)))
    seconds = time.monotonic() - started
    for problem in report.problems:
        print(problem)
    rate = f" in {seconds:.1f} s ({report.rendered / seconds:.1f} clips/s)" if report.rendered else ""
    print(f"rendered: {report.rendered} clips of {report.midi_files} MIDI files{rate}")
    print(f"there already: {report.already_there}; with a sound file of their own: {report.given}")
    print(f"without sound: {report.failed} failed, {report.without_midi} have no MIDI file")
    return INCOMPLETE if report.failed else OK


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)
