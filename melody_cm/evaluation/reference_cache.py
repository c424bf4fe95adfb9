"""Reference statistics that are computed once, and again only if something that decides them has changed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from melody_cm import __version__
from melody_cm.data import Clip
from melody_cm.evaluation.statistics import FORMAT, EmbeddingStatistics
from melody_cm.interfaces import EmbeddingIdentity
from melody_cm.storage import hash_data, hash_file

log = logging.getLogger(__name__)


def cached_statistics(
    identity: EmbeddingIdentity, clips: Sequence[Clip], compute: Callable[[], EmbeddingStatistics], folder: Path
) -> EmbeddingStatistics:
    """The statistics of clips in an embedding, from `folder` if they are there, else computed and put there.

    A damaged file is made again, and a folder that cannot be written is done without, with one line of warning each.
    """
    key = statistics_key(identity, clips)
    path = Path(folder) / f"{identity.name}-{key}.npz"
    if path.is_file():
        try:
            return EmbeddingStatistics.load(path, identity.width, key)
        except (ValueError, OSError) as problem:
            log.warning("reference statistics are computed again: %s", problem)
    statistics = compute()
    try:
        statistics.save(path, key)
    except OSError as problem:
        log.warning("reference statistics are not kept: %s", problem)
    return statistics


def statistics_key(identity: EmbeddingIdentity, clips: Sequence[Clip]) -> str:
    """Hash of all that decides the statistics: embedding, this code, and the clips: ids, pieces, places, content."""
    files = {str(file): _content(file) for file in {clip.audio for clip in clips}}
    rows = sorted([clip.id, clip.piece, str(clip.start), str(clip.duration), *files[str(clip.audio)]] for clip in clips)
    return hash_data([asdict(identity), FORMAT, __version__, rows])


def _content(file: Path) -> list[str]:
    """Size and hash of a file; of none, which is itself a result (the clip is dropped)."""
    return [str(file.stat().st_size), hash_file(file)] if file.is_file() else ["missing"]
