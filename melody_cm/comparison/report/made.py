"""How results were made, in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from melody_cm.comparison.report.findings import corpus_name, count
from melody_cm.evaluation.results import Results


def made_in_words(results: Results) -> list[tuple[str, str]]:
    """How the results were made: what is told, and a sentence or two."""
    metadata = results.metadata
    told = {
        "Music": _music(metadata),
        "Clips": _clips(results),
        "Device": _device(metadata),
        "Machine": _machine(metadata.get("machine")),
        "Code": _code(metadata),
        "Speed": _probe(metadata.get("probe")),
        "Systems": _systems(metadata.get("systems")),
        "Made": metadata.get("created", "").replace("T", " ").replace("+00:00", " UTC"),
    }
    return [(name, text) for name, text in told.items() if text]


def _music(metadata: Mapping[str, Any]) -> str:
    learned = f"Everything was trained on {corpus_name(metadata['corpus'])}" if "corpus" in metadata else ""
    if "reference" in metadata:
        split = metadata["reference"]
        judged = f"its {split} split" if split in ("train", "valid", "test") else Path(split).name
        learned += (
            f" and judged against {judged}, which no training saw"
            if split == "test"
            else f" and judged against {judged}"
        )
    return f"{learned}." if learned else ""


def _clips(results: Results) -> str:
    metadata = results.metadata
    seeds = ", ".join(map(str, metadata["seeds"]))
    if results.verb == "ablate":
        return f"Every recipe was trained and sampled with the seeds {seeds}."
    return (
        f"Every system made {count(len(metadata['prompts']), 'prompt')} with the seeds {seeds}; every clip drew noise "
        "of its own. No loudness was changed before judging."
    )


def _device(metadata: Mapping[str, Any]) -> str:
    placed = metadata.get("placement")
    return f"All networks worked on {placed['device']} in {placed['precision']}." if placed else ""


def _machine(machine: Mapping[str, Any] | None) -> str:
    if not machine:
        return ""
    accelerators = ", ".join(machine["accelerators"]) or "no accelerator"
    cores = f"{count(machine['cpu_cores'], 'core')}, {count(machine['threads'], 'thread')}"
    return f"{machine['processor']} with {cores}; {accelerators}; {machine['system']}."


def _code(metadata: Mapping[str, Any]) -> str:
    versions = (metadata.get("machine") or {}).get("versions")
    if not versions:
        return ""
    revision = metadata.get("git_revision")
    at = f", revision {revision[:12]}{' with changes' if revision.endswith('+changes') else ''}" if revision else ""
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "melody_cm")
    return f"melody_cm {versions['melody_cm']}{at}; {others}."


def _probe(probe: Mapping[str, Any] | None) -> str:
    if not probe:
        return ""
    steady = "the machine was steady" if probe["steady"] else "the machine was busy, so speeds are rough"
    did = f"{probe['before']:.3g} {probe['unit']} before the timing and {probe['after']:.3g} after it"
    return f"The machine did {did}: {steady}."


def _systems(systems: Mapping[str, Any] | None) -> str:
    if not systems:
        return ""
    named = []
    for name, told in systems.items():
        weights = told.get("weights") if isinstance(told, Mapping) else None
        named.append(f"{name} ({count(len(weights), 'network')})" if isinstance(weights, Mapping) else name)
    return f"{', '.join(named)}. Their settings and the hashes of their weights are in results.json."
