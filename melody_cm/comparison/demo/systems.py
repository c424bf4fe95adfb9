"""Systems of any source by the names that a page shows."""

from collections.abc import Sequence

from melody_cm.pipelines import PretrainedPipeline
from melody_cm.placement import Placement
from melody_cm.runs import open_source


def open_systems(sources: Sequence[str], placement: Placement) -> dict[str, PretrainedPipeline]:
    """Each source's system, ready on a device, by the last word of the source, or all of it where two are the same.

    Args:
        sources: folders written by `melody-cm export`, RUNS/RUN/SYSTEM, demo:NAME or owner/name.

    Raises:
        FileNotFoundError, ValueError: no system there, or one that is named twice.
    """
    if len(set(sources)) < len(sources):
        raise ValueError(f"{', '.join(sources)}: a system is named twice; name each once")
    words = [source.rstrip("/").replace(":", "/").rpartition("/")[2] for source in sources]
    names = [word if words.count(word) == 1 else source for word, source in zip(words, sources, strict=True)]
    systems = {name: open_source(source) for name, source in zip(names, sources, strict=True)}
    for system in systems.values():
        system.to(placement.device, placement.dtype)
    return systems
