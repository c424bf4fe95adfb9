"""A reproduced table as a page: the paper's figures on the left, ours on the right, verdicts below."""

from collections.abc import Iterator

from melody_cm.benchmark.reproduce.claims import COUNTED, find
from melody_cm.benchmark.reproduce.experiments import Experiment
from melody_cm.evaluation.results import Results
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.tables import Sheet

QUOTED = (
    "The columns **paper** quote the authors' figures. The columns **here** are what this command measured on\n"
    "other data, at another size and by other measures: the figures of a line do not compare, only orders do."
)


def markdown(experiment: Experiment, results: Results) -> str:
    """The content of NAME.md."""
    facts = results.metadata.items()
    about = ", ".join(f"{name} {value}" for name, value in facts if isinstance(value, str | int | float))
    headings = ["", "paper: quantity", "paper: figure", "here: quantity", "here: value [95 % interval]", "here: n"]
    findings = [claim.judge(results) for claim in experiment.claims]
    claims = [[finding.claim, f"**{finding.verdict}**", finding.because] for finding in findings]
    parts = [
        f"# {experiment.title}\n",
        f"- **The paper**: {experiment.source}. {experiment.setting}.\n- **Here**: {about}.\n",
        f"{QUOTED}\n",
        Sheet(headings, list(_lines(experiment, results)), []).markdown().rstrip() + "\n",
        Sheet(["claim of the paper", "verdict here", "by"], claims, _notes(experiment)).markdown(),
    ]
    return "\n".join(parts)


def _lines(experiment: Experiment, results: Results) -> Iterator[list[str]]:
    """A line for each figure of the paper with its counterpart, then one for each of our numbers that has none."""
    shown = set()
    for figure in experiment.published:
        key, score = (figure.ours and find(results, figure.row, figure.ours)) or (None, None)
        shown.add((figure.row, key))
        yield [figure.row, figure.quantity, f"{figure.value:g}", *_cells(results, figure.row, key, score)]
    for row in results.rows:
        for key, score in row.metrics.items():
            if (row.title, key) not in shown:
                yield [row.title, "-", "-", *_cells(results, row.title, key, score)]


def _cells(results: Results, title: str, key: str | None, score: Score | None) -> list[str]:
    if key is None or score is None:
        return ["not measured", "-", "-"]
    if score.method == COUNTED:
        return [key, f"{score.value:.6g}", COUNTED]
    samples = next(row.samples.get(key) for row in results.rows if row.title == title)
    return [key, score.cell(), str(len(samples) if samples else score.n_generated)]


def _notes(experiment: Experiment) -> list[str]:
    return [
        "A verdict needs intervals: holds or does not hold where they part (or where that of the paired difference "
        "leaves out 0), else not distinguishable; too few clips (†) have none. Counted numbers need none.",
        "times_real_time: in brackets the range of its repetitions.",
        *([experiment.not_measured] if experiment.not_measured else []),
    ]
