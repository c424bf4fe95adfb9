"""The corpus that the demo systems were trained on, made from public scores and Debian's packages alone.

    apt-get install fluidsynth fluid-soundfont-gm musescore-general-soundfont-small freedoom
    pip install mido
    python recipes/demo/corpus.py --out ../demo-corpus

706 excerpts of real compositions (scores.tar.xz; licences in its ATTRIBUTION.txt) and the 67 pieces of the game
Freedoom (BSD-3-Clause), each played with two sound fonts (both MIT). Pieces for training are played three times: as
written, and twice in another key and at another tempo; pieces held out once, as written. About an hour on one core, 23
hours of music, 3 GB. A run that was stopped goes on.
"""

import argparse
import hashlib
import json
import random
import shutil
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mido

from melody_cm.data.manifest import MANIFEST_NAME, write_manifest
from melody_cm.data.rendering import render_manifest

HERE = Path(__file__).parent
SCORES = HERE / "scores.tar.xz"
WADS = [Path("/usr/share/games/doom") / name for name in ("freedoom1.wad", "freedoom2.wad")]
FREEDOOM_LICENCE = Path("/usr/share/doc/freedoom/copyright")
FONTS = {
    "fluid": Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    "musescore": Path("/usr/share/sounds/sf3/MuseScore_General_Lite.sf3"),
}
# Sound font and whether key and tempo are changed, of each time that a piece is played.
TAKES = [("fluid", False), ("musescore", True), ("fluid", True)]
CLIP_SECONDS = 10.0
KEYS = ["C", "D flat", "D", "E flat", "E", "F", "G flat", "G", "A flat", "A", "B flat", "B"]
SPELLINGS = {"C sharp": "D flat", "D sharp": "E flat", "F sharp": "G flat", "G sharp": "A flat", "A sharp": "B flat"}
DRUM_CHANNEL = 9
# What people call an instrument beside its exact name.
PLAIN_NAMES = {
    "steel-string acoustic guitar": ["acoustic guitar", "guitar"],
    "nylon-string guitar": ["classical guitar", "guitar", "plucked guitar"],
    "clean electric guitar": ["electric guitar"],
    "distorted electric guitar": ["electric guitar", "distorted guitar"],
    "overdriven electric guitar": ["electric guitar", "distorted guitar"],
    "muted electric guitar": ["electric guitar"],
    "warm synth pad": ["synth pad", "pads"],
    "sweep pad": ["synth pad", "pads"],
    "choir pad": ["choir", "pads"],
    "saw lead synth": ["synth lead", "synthesizer"],
    "square-wave lead synth": ["square-wave synth", "synthesizer"],
    "bass-and-lead synth": ["synth lead", "synthesizer"],
    "polysynth": ["synthesizer"],
    "string section": ["strings"],
    "brass section": ["brass"],
    "drawbar organ": ["organ"],
    "honky-tonk piano": ["piano"],
    "electric bass": ["bass guitar", "bass"],
    "picked electric bass": ["bass guitar", "bass"],
    "upright bass": ["double bass", "bass"],
    "tenor saxophone": ["saxophone"],
    "alto saxophone": ["saxophone"],
    "fiddle": ["violin"],
}
# General MIDI programs, eight a family, in words; Freedoom's scores say no more.
FAMILIES = ["piano", "bells", "organ", "guitar", "bass", "strings", "string section", "brass"]
FAMILIES += [
    "woodwinds",
    "flute",
    "synth lead",
    "synth pad",
    "synth effects",
    "folk instruments",
    "percussion",
    "effects",
]


def main() -> None:
    """Write OUT/manifest.jsonl and the sound that it names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--processes", type=int, default=1, help="MIDI files played at once")
    out, processes = (arguments := parser.parse_args()).out, arguments.processes
    scores = out / "scores"
    if not (scores / "realmusic").is_dir():
        with tarfile.open(SCORES) as archive:
            archive.extractall(scores, filter="data")
    pieces = list(written_rows(scores / "realmusic")) + list(freedoom_rows(scores / "freedoom"))
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(scores / "realmusic" / "ATTRIBUTION.txt", out / "ATTRIBUTION.txt")
    shutil.copyfile(FREEDOOM_LICENCE, out / "LICENSE.freedoom.txt")
    rows = []
    for number, (font, changed) in enumerate(TAKES):
        take = out / f"take{number}_{font}"
        planned = [take_row(row, number, take) for row in pieces if not changed or row["split"] == "train"]
        write_manifest(take / "planned" / MANIFEST_NAME, planned, force=True)
        report = render_manifest(str(take / "planned"), take / "played", FONTS[font], processes)
        print(take.name, dict(report.rows), *report.problems[:3], sep="\n")
        for line in (take / "played" / MANIFEST_NAME).read_text().splitlines():
            row = json.loads(line)
            if row["audio"]:
                rows.append(row | {"audio": f"{take.name}/played/{row['audio']}", "midi": None, "start": 0.0})
    write_manifest(out / MANIFEST_NAME, rows, force=True)


def written_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The excerpts of scores.tar.xz; `midi` is a full path."""
    for line in (folder / MANIFEST_NAME).read_text().splitlines():
        row = json.loads(line)
        yield row | {"midi": str(folder / row["midi"])}


def freedoom_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Ten-second cuts of the first two minutes of each piece in Freedoom's WAD files; all of them are for training."""
    folder.mkdir(parents=True, exist_ok=True)
    for wad in WADS:
        for name, content in midi_lumps(wad):
            midi = folder / f"{wad.stem}_{name.lower()}.mid"
            midi.write_bytes(content)
            try:
                score = mido.MidiFile(midi, clip=True)
                length, row = score.length, freedoom_fields(score)
            except (OSError, ValueError, KeyError, EOFError):
                continue  # mido is stricter than FluidSynth; the few that it cannot read are left out.
            for index in range(int(min(length, 120.0) // CLIP_SECONDS)):
                place = {"id": f"{midi.stem}_{index}", "start": index * CLIP_SECONDS, "duration": CLIP_SECONDS}
                whose = {"piece": f"freedoom:{midi.stem}", "license": "BSD-3-Clause", "source": "Freedoom"}
                yield row | place | whose | {"midi": str(midi), "split": "train"}


def midi_lumps(wad: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each MIDI file in a WAD: a header with the place of a table of (offset, size, name)."""
    data = wad.read_bytes()
    count, table = struct.unpack("<ii", data[4:12])
    for offset, size, name in struct.iter_unpack("<ii8s", data[table : table + 16 * count]):
        if data[offset : offset + 4] == b"MThd":
            yield name.rstrip(b"\0").decode(), data[offset : offset + size]


def freedoom_fields(score: mido.MidiFile) -> dict[str, Any]:
    """What can be said of a score by its own events: instruments, drums, tempo."""
    messages = [message for track in score.tracks for message in track]
    programs = {m.channel: m.program for m in messages if m.type == "program_change"}
    played = {m.channel for m in messages if m.type == "note_on" and m.velocity}
    names = [FAMILIES[programs.get(channel, 0) // 8] for channel in sorted(played - {DRUM_CHANNEL})]
    tempo = next((m.tempo for m in messages if m.type == "set_tempo"), 500000)
    drums = ["drums"] if DRUM_CHANNEL in played else []
    instruments = [*dict.fromkeys(names), *drums]
    return {
        "genre": "video game music",
        "mood": None,
        "tempo_bpm": round(mido.tempo2bpm(tempo)),
        "instruments": instruments,
    }


def take_row(row: dict[str, Any], number: int, folder: Path) -> dict[str, Any]:
    """The row as it is played the number-th time, with captions that are true of that."""
    written = Path(row["midi"])
    row = row | {"id": f"{row['id']}_take{number}", "audio": None, "midi": written.name}
    semitones, speed = 0, 1.0
    if TAKES[number][1]:
        draw = random.Random(f"{written.name}/{number}")
        semitones, speed = draw.choice([-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]), draw.uniform(0.85, 1.15)
        row |= {"start": row["start"] / speed, "tempo_bpm": round(row["tempo_bpm"] * speed)}
        row["key"] = transposed(row.get("key"), semitones)
    midi = folder / "planned" / written.name
    if not midi.is_file():
        midi.parent.mkdir(parents=True, exist_ok=True)
        changed_score(written, semitones, speed).save(midi) if TAKES[number][1] else shutil.copyfile(written, midi)
    draw = random.Random(hashlib.sha256(row["id"].encode()).digest())
    wordings = [wording(row, draw) for _ in range(8)]
    if TAKES[number][1] or not row.get("caption"):
        row |= {"caption": wordings[0], "alt_captions": wordings[1:]}
    else:
        row["alt_captions"] = [*row["alt_captions"], *wordings]
    return row


def changed_score(midi: Path, semitones: int, speed: float) -> mido.MidiFile:
    """The score with every pitched note moved and every tempo multiplied by `speed`."""
    score = mido.MidiFile(midi, clip=True)
    if not any(message.type == "set_tempo" for track in score.tracks for message in track):
        score.tracks[0].insert(0, mido.MetaMessage("set_tempo", tempo=500000))
    for track in score.tracks:
        for message in track:
            if message.type == "set_tempo":
                message.tempo = min(round(message.tempo / speed), 0xFFFFFF)
            elif message.type in ("note_on", "note_off") and message.channel != DRUM_CHANNEL:
                message.note = min(max(message.note + semitones, 0), 127)
    return score


def transposed(key: str | None, semitones: int) -> str | None:
    """`E flat minor` moved by semitones; None of None."""
    if not key:
        return None
    tonic, mode = key.rsplit(" ", 1)
    tonic = SPELLINGS.get(tonic, tonic)
    return f"{KEYS[(KEYS.index(tonic) + semitones) % 12]} {mode}" if tonic in KEYS else None


def tempo_word(bpm: float) -> str:
    """Slow below 80 beats a minute, fast from 120 on."""
    return "slow" if bpm < 80 else "fast" if bpm >= 120 else "moderate"


def wording(row: dict[str, Any], draw: random.Random) -> str:
    """One way to describe a clip, by what its fields say; each call draws which of them, and in what words."""
    names = [draw.choice([name, *PLAIN_NAMES.get(name, [])]) for name in row["instruments"] if name != "drums"]
    names = list(dict.fromkeys(names))
    draw.shuffle(names)
    drums, genre, mood = "drums" in row["instruments"], row["genre"], row.get("mood") or ""
    some = names[: draw.randint(1, 4)] or ["drums"]
    listed = some[0] if len(some) == 1 else f"{', '.join(some[:-1])} and {some[-1]}"
    beat = (
        draw.choice([" and drums", " with drums", " with a drum beat", ""])
        if drums
        else draw.choice(["", "", " without drums"])
    )
    tempo, mode = tempo_word(row["tempo_bpm"]), (row.get("key") or "").rsplit(" ", 1)[-1]
    tempo = draw.choice([tempo, ""]) if tempo == "moderate" else tempo
    solo = "solo " if len(row["instruments"]) == 1 else ""
    key = f" in a {mode} key" if mode in ("major", "minor") else ""
    forms = [
        f"{tempo} {mood} {genre} with {listed}{beat}",
        f"{solo}{listed}{beat}, {mood}, {tempo_word(row['tempo_bpm'])} tempo",
        f"{tempo} {solo}{listed}{key}",
        f"a {mood} {genre} piece for {solo}{listed}{beat}",
        f"{genre}, {mood}, {', '.join(some)}{', drums' if drums else ''}",
        f"{mood} music played on {solo}{listed}{key}",
        f"{genre} at {row['tempo_bpm']} BPM with {listed}",
        f"{solo}{listed}",
        f"{genre}",
    ]
    text = " ".join(draw.choice(forms).split()).replace(" ,", ",").replace(", ,", ",").strip(", ")
    return text if draw.random() < 0.5 else text[0].upper() + text[1:]


if __name__ == "__main__":
    main()
