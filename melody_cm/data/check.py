"""Reads a whole corpus once to tell what is in it and what is wrong with it."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from melody_cm.data.audio_files import AudioInfo, AudioProblem, scan_audio
from melody_cm.data.clips import Clip, Conflicts
from melody_cm.data.jobs import cores, progress
from melody_cm.data.manifest import Corpus, Entry, open_corpus

# Manifests round durations; a file that lacks less than this is not short.
TOLERANCE_SECONDS = 0.05
MAX_WORKERS = 8
# Clips that the threads share out at a time, so that memory does not grow with the corpus.
AT_ONCE = 256

Read = AudioInfo | AudioProblem


@dataclass
class CorpusReport:
    """What a corpus holds."""

    clips: Counter[str] = field(default_factory=Counter)  # Good clips by split, and their length.
    seconds: Counter[str] = field(default_factory=Counter)
    sample_rates: Counter[int] = field(default_factory=Counter)  # Good clips by sample rate (Hz), and by licence.
    licenses: Counter[str] = field(default_factory=Counter)
    without_audio: int = 0  # Rows whose audio is null.
    without_caption: int = 0  # Good clips that nobody described.
    problems: list[str] = field(default_factory=list)  # One line each, with file and row, in order of the rows.
    remarks: list[str] = field(default_factory=list)  # One line each on clips that are good, but not taken as they are.
    left_out: str = ""  # What lies in a folder and is no clip, with counts.
    # Problems by `AudioProblem.reason`, "bad row", "id twice", "piece in two splits".
    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, reason: str, problem: str) -> None:
        self.problems.append(problem)
        self.reasons[reason] += 1

    def add(self, clip: Clip, read: Read) -> None:
        """Count a clip that was read through, or note what is wrong with it."""
        if isinstance(read, AudioProblem):
            self.note(read.reason, f"{clip.where}: {read}")
            return
        self.clips[clip.split] += 1
        self.seconds[clip.split] += read.seconds - clip.start if clip.duration is None else clip.duration
        self.sample_rates[read.sample_rate] += 1
        license = clip.fields.get("license")
        self.licenses[license if isinstance(license, str) and license else "not said"] += 1
        self.without_caption += not clip.captions


def check_corpus(corpus: str | Corpus) -> CorpusReport:
    """Everything that can be said about a corpus, or the one at a path (see `open_corpus`).

    Every clip is read through, on all cores; memory grows by some hundred bytes a row. A FileNotFoundError or
    ValueError if there is no corpus at the path, or no row of it can be told from another.
    """
    corpus, report, conflicts = open_corpus(corpus) if isinstance(corpus, str) else corpus, CorpusReport(), Conflicts()
    report.left_out = corpus.left_out()
    for entry, read in progress(_read(corpus.entries(), report.remarks.append), "reading clips"):
        if entry is None:
            report.without_audio += 1
        elif isinstance(entry, ValueError):
            report.note("bad row", str(entry))
        else:
            for reason, problem in conflicts.of(entry):
                report.note(reason, problem)
            report.add(entry, read)
    return report


def _read(entries: Iterator[Entry], remark: Callable[[str], object]) -> Iterator[tuple[Entry, Read | None]]:
    """Every entry in order with what reading it says: decoding releases Python's lock, so threads use all cores."""
    with ThreadPoolExecutor(min(cores(), MAX_WORKERS)) as pool:
        for part in iter(lambda: list(islice(entries, AT_ONCE)), []):
            yield from zip(part, pool.map(partial(_read_through, remark), part), strict=True)


def _read_through(remark: Callable[[str], object], entry: Entry) -> Read | None:
    if not isinstance(entry, Clip):
        return None
    try:
        info = scan_audio(entry.audio, entry.start, entry.duration, remark)
    except AudioProblem as problem:
        return problem
    seconds = info.seconds - entry.start
    if entry.duration is not None and seconds < entry.duration - TOLERANCE_SECONDS:
        message = f"{entry.audio}: too short, {seconds:.2f} s of {entry.duration:g} s"
        return AudioProblem(message, "too short")
    return info
