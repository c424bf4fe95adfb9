"""Reading a whole corpus once to tell what is in it and what is wrong with it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track

from melody_cm.data.audio_files import AudioProblem, audio_info, read_audio
from melody_cm.data.clips import Clip, find_leaks, parse_row
from melody_cm.data.manifest import FolderCorpus, ManifestCorpus, folder_files, manifest_lines, open_corpus

# Manifests round durations; a file that lacks less than this is not short.
TOLERANCE_SECONDS = 0.05


@dataclass
class CorpusReport:
    """What a corpus holds.

    Attributes:
        clips: good clips by split; seconds: their length by split.
        sample_rates, licenses: good clips by sample rate (Hz) and by licence.
        without_audio: rows whose audio is null; without_caption: good clips that nobody described.
        problems: one line each, with file and row.
    """

    clips: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    sample_rates: Counter[int] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    without_audio: int = 0
    without_caption: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, clip: Clip) -> None:
        """Read a clip through and count it, or note what is wrong."""
        try:
            sample_rate, seconds = _read_through(clip)
        except AudioProblem as problem:
            self.problems.append(f"{clip.where}: {problem}")
            return
        self.clips[clip.split] += 1
        self.seconds[clip.split] += seconds
        self.sample_rates[sample_rate] += 1
        self.licenses[str(clip.fields.get("license") or "not said")] += 1
        self.without_caption += not clip.captions


def check_corpus(path: str) -> CorpusReport:
    """Everything that can be said about the manifest or folder at `path`.

    Raises:
        FileNotFoundError, ValueError: there is no corpus at `path`.
    """
    corpus, report = open_corpus(path), CorpusReport()
    rows = _manifest_clips(corpus, report) if isinstance(corpus, ManifestCorpus) else _folder_clips(corpus, report)
    clips = list(rows)
    first: dict[str, Clip] = {}
    for clip in clips:
        other = first.setdefault(clip.id, clip)
        if other is not clip:
            report.problems.append(f"{clip.where}: id '{clip.id}' is that of {other.where} too")
    report.problems.extend(find_leaks(clips))
    console = Console(stderr=True)
    for clip in track(clips, f"reading {len(clips)} clips", console=console, disable=not console.is_terminal):
        report.add(clip)
    return report


def _manifest_clips(corpus: ManifestCorpus, report: CorpusReport) -> Iterator[Clip]:
    for where, line in manifest_lines(corpus.path):
        try:
            clip = parse_row(line, corpus.path.parent, where, corpus.default_split)
        except ValueError as error:
            report.problems.append(str(error))
            continue
        if clip is None:
            report.without_audio += 1
        else:
            yield clip


def _folder_clips(corpus: FolderCorpus, report: CorpusReport) -> Iterator[Clip]:
    for audio in folder_files(corpus.path):
        try:
            yield corpus.clip(audio)
        except ValueError as error:
            report.problems.append(str(error))


def _read_through(clip: Clip) -> tuple[int, float]:
    info = audio_info(clip.audio)
    seconds = info.seconds - clip.start
    if clip.duration is not None:
        if seconds < clip.duration - TOLERANCE_SECONDS:
            raise AudioProblem(f"{Path(clip.audio)}: too short, {max(seconds, 0.0):.2f} s of {clip.duration:g} s")
        seconds = clip.duration
    read_audio(clip.audio, clip.start, seconds, info.sample_rate)
    return info.sample_rate, seconds
