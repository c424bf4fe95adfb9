"""Prepare music for training: check, import, render, caption, split and encode it."""

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

import melody_cm
from melody_cm.cli.options import add_placement, add_setting, chosen_placement, chosen_run

OK, FOUND = 0, 2
CORPUS = "a .jsonl manifest, a folder, or a .yaml of a corpus"
MANIFEST = "a .jsonl manifest, or a folder with one"


def add_arguments(parser: ArgumentParser) -> None:
    """The subcommands, each with its arguments."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, handler: Any, text: str, **more: Any) -> ArgumentParser:
        new = commands.add_parser(name, help=text, description=handler.__doc__, **more)
        new.set_defaults(command=handler)
        return new

    new = command("import", import_table, "write a manifest from the table of another collection")
    new.add_argument("format", metavar="FORMAT", help="csv, audiocraft, musiccaps, song-describer, fma or jamendo")
    new.add_argument("sources", nargs="+", metavar="SOURCE", help="the table; audiocraft, jamendo: train=FILE, ...")
    new.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the manifest to write, in a folder above the sound files",
    )
    new.add_argument(
        "--audio", type=Path, metavar="DIR", help="folder that the table's paths start from; default: its own"
    )
    new.add_argument("--allow-outside", action="store_true", help="take sound files outside the manifest's folder")
    new.add_argument("--force", action="store_true", help="replace FILE if it holds something else")
    new.add_argument(
        "--default-split", choices=("train", "valid", "test"), help="csv: split of rows that name none; default: train"
    )
    new.add_argument("--subset", choices=("small", "medium", "large", "full"), help="fma: which subset was downloaded")
    new.add_argument(
        "--valid-subset", action="store_const", const=True, help="song-describer: only the captions marked valid"
    )

    new = command("check", check, "read every clip and report hours and problems")
    new.add_argument("path", metavar="PATH", help=CORPUS)
    new.add_argument("--strict", action="store_true", help=f"exit with {FOUND} if anything is wrong")

    new = command("render", render, "play MIDI files by FluidSynth and write a corpus")
    new.add_argument("manifest", metavar="MANIFEST", help=MANIFEST)
    new.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a new or empty folder, or one to go on with"
    )
    new.add_argument("--processes", type=_positive, help="default: one a core")
    new.add_argument("--sound-font", type=Path, metavar="FILE", help="default: Debian's FluidR3_GM.sf2")

    new = command("make-synthetic", make_synthetic, "write procedural music as FLAC files with a manifest")
    new.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder, or one to go on with")
    new.add_argument("--clips", type=int, required=True, help="number of clips")
    new.add_argument("--seed", type=int, required=True, help="seed of the music")
    new.add_argument("--seconds", type=float, default=10.0, help="length of a clip; default: %(default)s")
    new.add_argument("--sample-rate", type=int, default=24000, help="Hz; default: %(default)s")

    new = command("split", split, "divide a manifest into train, valid and test by piece")
    new.add_argument("manifest", metavar="MANIFEST", help=MANIFEST)
    new.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new manifest, in the same folder")
    new.add_argument(
        "--ratios", type=_numbers, default=[80.0, 10.0, 10.0], help="shares of train,valid,test; default: 80,10,10"
    )
    new.add_argument("--seed", type=int, default=0, help="seed of the split; default: 0")
    new.add_argument("--force", action="store_true", help="replace FILE if it holds something else")

    new = command("duplicates", duplicates, "find clips of different splits that sound the same")
    new.add_argument("path", metavar="PATH", help=CORPUS)
    new.add_argument("--threshold", type=float, default=0.8, help="least similarity, 0 to 1; default: %(default)s")
    new.add_argument("--strict", action="store_true", help=f"exit with {FOUND} if there are any")

    new = command("caption", caption, "caption sound files by a music tagger")
    new.add_argument("folder", metavar="FOLDER", help="sound files without a manifest; one is written there")
    new.add_argument("--force", action="store_true", help="replace a manifest that is there")

    new = command(
        "encode", encode, "compute once what the frozen encoders of a recipe make of the music", allow_abbrev=False
    )
    new.set_defaults(takes_overrides=True)
    new.add_argument("recipe", help="recipes/SYSTEM, recipes/SYSTEM/STAGE.yaml, or a recipe of your own")
    add_setting(new)
    new.add_argument("--run", required=True, help="name of the run whose finished stages encode")
    new.add_argument("--processes", type=_positive, help="default: one a core, or one a GPU")
    add_placement(new, "the encoders")
    new.add_argument("--again", action="store_true", help="replace what was encoded before")


def run(arguments: Namespace) -> int:
    """Run the chosen subcommand."""
    return arguments.command(arguments)


def import_table(arguments: Namespace) -> int:
    """Write the manifest of a collection; exit with 2 if rows were left out because they cannot be read."""
    names = ("default_split", "subset", "valid_subset")
    options = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    options |= {"audio": arguments.audio, "allow_outside": arguments.allow_outside, "force": arguments.force}
    report = melody_cm.import_corpus(arguments.format, arguments.sources, arguments.out, **options)
    _print_lines([*report.problems, *(f"{missing}: no such file" for missing in report.missing)])
    clips = ", ".join(f"{count} {name}" for name, count in report.clips.items()) or "none"
    print(f"{arguments.out}: clips: {clips}; rows without audio: {report.without_audio}")
    print(f"left out, no such file: {len(report.missing)}; problems: {len(report.problems)}")
    return FOUND if report.problems else OK


def check(arguments: Namespace) -> int:
    """Print the report on a corpus; exit with 2 if no clip can be read or, with --strict, if anything is wrong."""
    report = melody_cm.check_corpus(arguments.path)
    _print_lines([*report.problems, *report.remarks])
    for name, count in report.clips.items():
        print(f"{name:6} {count:7} clips {report.seconds[name] / 3600:8.3f} hours")
    print("sample rates: " + _counts(report.sample_rates, " Hz"))
    print("licences: " + _counts(report.licenses))
    print(f"rows without audio, left out: {report.without_audio}; clips without a caption: {report.without_caption}")
    _print_lines([f"left out: {report.left_out}"] if report.left_out else [])
    reasons = f" ({_counts(report.reasons)})" if report.reasons else ""
    print(f"problems: {len(report.problems)}{reasons}")
    if not report.clips:
        print("nothing usable: no clip can be read")
    return FOUND if not report.clips or (arguments.strict and report.problems) else OK


def render(arguments: Namespace) -> int:
    """Render what is missing; exit with 2 if some rows could not be rendered."""
    started = time.monotonic()
    report = melody_cm.render_manifest(arguments.manifest, arguments.out, arguments.sound_font, arguments.processes)
    seconds = time.monotonic() - started
    _print_lines(report.problems)
    rows = report.rows
    rate = f" in {seconds:.1f} s ({rows['rendered'] / seconds:.1f} clips/s)" if rows["rendered"] else ""
    print(f"rendered: {rows['rendered']} clips of {report.midi_files} MIDI files{rate}")
    print(f"there already: {rows['already there']}; with a sound file of their own: {rows['given']}")
    print(f"without sound: {rows['failed']} failed, {rows['without MIDI']} have no MIDI file")
    return FOUND if rows["failed"] else OK


def make_synthetic(arguments: Namespace) -> int:
    """Write the procedural corpus, unless it is there already."""
    folder, clips, seconds = arguments.folder, arguments.clips, arguments.seconds
    melody_cm.write_corpus(folder, clips, arguments.seed, seconds, arguments.sample_rate)
    print(f"{folder}: {clips} clips of {seconds:g} s, {clips * seconds / 3600:.3f} hours")
    return OK


def split(arguments: Namespace) -> int:
    """Write a manifest with new splits, and print what each holds; clips of a piece stay together."""
    settings = (arguments.ratios, arguments.seed, arguments.force)
    report = melody_cm.split_manifest(arguments.manifest, arguments.out, *settings)
    for name, pieces in report.pieces.items():
        hours = report.seconds[name] / 3600
        print(f"{name:6} {report.clips[name]:7} clips {hours:8.3f} hours {len(pieces):7} pieces")
    if report.unknown:
        print(f"clips of unknown length, not in the hours: {report.unknown}")
    for name in report.empty:
        print(f"no piece fell into {name}: take another --seed or more pieces")
    return OK


def duplicates(arguments: Namespace) -> int:
    """Print the pairs that sound the same; exit with 2 if no clip can be read or, with --strict, if there are any."""
    report = melody_cm.find_duplicates(arguments.path, arguments.threshold)
    _print_lines(report.problems)
    for pair in report.found:
        first, second = pair.first, pair.second
        print(f"{pair.similarity:.3f} {first.split} {first.id} = {second.split} {second.id} ({pair.offset:+.2f} s)")
    print(f"clips compared: {report.compared}; not readable: {len(report.problems)}")
    print(f"near duplicates across splits: {len(report.found)}")
    return FOUND if not report.compared or (arguments.strict and report.found) else OK


def caption(arguments: Namespace) -> int:
    """Write a manifest with captions by the tagger musicnn, marked as such; exit with 2 if a file cannot be read."""
    report = melody_cm.caption_folder(arguments.folder, arguments.force, show_progress=True)
    _print_lines(report.problems)
    print(f"captions by machine: {report.captioned}; kept: {report.kept}; not readable: {len(report.problems)}")
    print("tags: " + _counts(report.tags))
    return FOUND if report.problems else OK


def encode(arguments: Namespace) -> int:
    """Encode for one stage, or for the stages of a folder whose frozen parts are finished. Options: those of train."""
    setting = melody_cm.Setting(arguments.size, arguments.machine, arguments.corpus, arguments.overrides)
    recipes, folder = melody_cm.plan(arguments.recipe, setting), chosen_run(arguments, arguments.run)
    placement = chosen_placement(arguments)
    options = {"processes": arguments.processes, "placement": placement, "again": arguments.again}
    melody_cm.encode(recipes, folder, skip_unfinished=len(recipes) > 1, **options)
    return OK


def _print_lines(lines: list[str]) -> None:
    """Print lines that may hold names from elsewhere: what a terminal would obey, or cannot show, is written out."""
    for line in lines:
        print("".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line))


def _counts(counts: Any, unit: str = "") -> str:
    return ", ".join(f"{name}{unit} ({count})" for name, count in counts.most_common()) or "none"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not three numbers with commas between, as in 80,10,10") from error
