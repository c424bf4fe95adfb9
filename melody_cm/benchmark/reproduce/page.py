"""A reproduced table as JSON and as a page: the paper's figures on the left, ours on the right, verdicts below."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from melody_cm.benchmark.reproduce.claims import Measurements, Number
from melody_cm.benchmark.reproduce.experiments import Experiment

SCHEMA_VERSION = 1


def as_dict(experiment: Experiment, measured: Measurements, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of NAME.json: the paper's figures and ours in places of their own."""
    return {
        "schema_version": SCHEMA_VERSION,
        "title": experiment.title,
        "paper": {
            "source": experiment.source,
            "setting": experiment.setting,
            "figures": [asdict(figure) for figure in experiment.published],
        },
        "measured": {
            "metadata": dict(metadata),
            "numbers": [_finite(number) for number in measured.numbers],
            "differences": [asdict(difference) for difference in measured.differences],
        },
        "not_measured": experiment.not_measured,
        "claims": [asdict(claim.judge(measured)) for claim in experiment.claims],
    }


def markdown(experiment: Experiment, measured: Measurements, metadata: Mapping[str, Any]) -> str:
    """The content of NAME.md."""
    about = ", ".join(f"{name} {value}" for name, value in metadata.items() if isinstance(value, str | int | float))
    lines = [
        f"# {experiment.title}",
        "",
        f"- **The paper**: {experiment.source}. {experiment.setting}.",
        f"- **Here**: {about}.",
        "",
        "The columns **paper** quote the authors' figures. The columns **here** are what this command measured on",
        "other data, at another size and by other measures: the figures of a line do not compare, only orders do.",
        "",
        "| | paper: quantity | paper: figure | here: quantity | here: value [95 % interval] | here: n |",
        "|---|---|---:|---|---:|---:|",
        *(f"| {' | '.join(line)} |" for line in _lines(experiment, measured)),
        "",
        "| claim of the paper | verdict here | by |",
        "|---|---|---|",
    ]
    findings = [claim.judge(measured) for claim in experiment.claims]
    lines += [f"| {finding.claim} | **{finding.verdict}** | {finding.because} |" for finding in findings]
    lines += ["", *(f"- {note}" for note in _notes(experiment)), ""]
    return "\n".join(lines)


def _lines(experiment: Experiment, measured: Measurements) -> Iterator[list[str]]:
    """A line for each figure of the paper with its counterpart, then one for each number that has none."""
    shown = []
    for figure in experiment.published:
        ours = None if figure.ours is None else measured.number(figure.row, figure.ours)
        shown.append(ours)
        yield [figure.row, figure.quantity, f"{figure.value:g}", *_cells(ours)]
    for number in measured.numbers:
        if not any(number is other for other in shown):
            yield [number.row, "-", "-", *_cells(number)]


def _cells(number: Number | None) -> list[str]:
    if number is None:
        return ["not measured", "-", "-"]
    if number.n is None:
        return [number.quantity, f"{number.value:.6g}", "counted"]
    interval = "" if number.low is None or number.high is None else f" [{number.low:.4g}, {number.high:.4g}]"
    return [number.quantity, f"{number.value:.4g}{interval}", str(number.n)]


def _notes(experiment: Experiment) -> list[str]:
    return [
        "A verdict needs intervals: holds or does not hold where they part (or where that of the paired difference "
        "leaves out 0), else not distinguishable; too few clips have no interval. Counted numbers need none.",
        "times_real_time: in brackets the range of its repetitions.",
        *([experiment.not_measured] if experiment.not_measured else []),
    ]


def _finite(number: Number) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in asdict(number).items()}
