"""The papers' tables beside what is measured here, with a verdict on each of their claims.

`experiments` says what the papers report and claim, `measure` runs what stands behind it, `claims` judges; here it is
put together, on a page with the paper's figures on the left and ours on the right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from melody_cm.comparison.compare_recipe import read_compare_recipe
from melody_cm.comparison.reproduce.claims import COUNTED, find
from melody_cm.comparison.reproduce.experiments import EXPERIMENTS, Experiment
from melody_cm.comparison.reproduce.measure import Bench
from melody_cm.evaluation.provenance import provenance
from melody_cm.evaluation.results import Results
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.tables import Sheet
from melody_cm.runs import Run, Setting
from melody_cm.storage import write_text

QUOTED = (
    "The columns **paper** quote the authors' figures. The columns **here** are what this command measured on\n"
    "other data, at another size and by other measures: the figures of a line do not compare, only orders do."
)


def reproduce(
    name: str, setting: Setting, run: Run, out: Path, seeds: Sequence[int] = (0, 1, 2), clips: int = 64
) -> Results:
    """Run what stands behind one table of a paper, and judge the paper's claims; writes NAME.json and NAME.md.

    Args:
        name: a key of `EXPERIMENTS`.
        setting: size, machine and corpus.
        run: where all stages are trained.
        out: folder of the results.
        seeds: of trainings that are compared; clips: test clips that ablations are judged by.

    Returns:
        our rows and differences; `metadata` has the paper's own figures under `paper`, the verdicts under `claims`.

    Raises:
        ValueError: no such table, or too few seeds or clips, before any work.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"there is no table {name!r}; tables: {', '.join(EXPERIMENTS)}, or all")
    if len(seeds) < 2 or clips < 2:
        raise ValueError(f"seeds {list(seeds)} and {clips} clips have no spread; give at least 2 of each")
    bench = Bench(setting, run, seeds, clips, read_compare_recipe(f"recipes/compare/{setting.size}.yaml"))
    results = judged(EXPERIMENTS[name], EXPERIMENTS[name].run(bench, Path(out) / name))
    facts = {"table": name, "size": setting.size, "corpus": setting.corpus or "procedural", "run": run.name}
    facts["placement"] = setting.placement.facts()
    results.metadata = provenance(**facts, seeds=list(seeds), **results.metadata)
    results.write(Path(out) / f"{name}.json")
    write_text(Path(out) / f"{name}.md", markdown(EXPERIMENTS[name], results))
    return results


def judged(experiment: Experiment, results: Results) -> Results:
    """The results with the paper's figures and the verdict on each of its claims in their metadata."""
    told = ("title", "source", "setting", "not_measured")
    paper = {**{part: getattr(experiment, part) for part in told}, "figures": experiment.figures()}
    claims = [asdict(claim.judge(results)) for claim in experiment.claims]
    return replace(results, verb="reproduce", metadata={"paper": paper, "claims": claims})


def markdown(experiment: Experiment, results: Results) -> str:
    """The content of NAME.md."""
    facts = results.metadata.items()
    about = ", ".join(f"{name} {value}" for name, value in facts if isinstance(value, str | int | float))
    headings = ["", "paper: quantity", "paper: figure", "here: quantity", "here: value [95 % interval]", "here: n"]
    findings = [claim.judge(results) for claim in experiment.claims]
    claims = [[finding.claim, f"**{finding.verdict}**", finding.because] for finding in findings]
    notes = [
        "A verdict needs intervals: holds or does not hold where they part (or where that of the paired difference "
        "leaves out 0), else not distinguishable; too few clips (†) have none. Counted numbers need none.",
        "times_real_time: in brackets the range of its repetitions.",
        experiment.not_measured,
    ]
    parts = [
        f"# {experiment.title}\n",
        f"- **The paper**: {experiment.source}. {experiment.setting}.\n- **Here**: {about}.\n",
        f"{QUOTED}\n",
        Sheet(headings, list(_lines(experiment, results)), []).markdown().rstrip() + "\n",
        Sheet(["claim of the paper", "verdict here", "by"], claims, notes).markdown(),
    ]
    return "\n".join(parts)


def _lines(experiment: Experiment, results: Results) -> Iterator[list[str]]:
    """A line for each figure of the paper with its counterpart, then one for each of our numbers that has none."""
    shown = set()
    for figure in experiment.figures():
        row, ours = figure["row"], figure["ours"]
        key, score = find(results, row, ours) if ours else ("", None)
        shown.add((row, key))
        yield [row, figure["quantity"], f"{figure['value']:g}", *_cells(results, row, key, score)]
    for row in results.rows:
        for key, score in row.metrics.items():
            if (row.title, key) not in shown:
                yield [row.title, "-", "-", *_cells(results, row.title, key, score)]


def _cells(results: Results, title: str, key: str, score: Score | None) -> list[str]:
    if score is None:
        return ["not measured", "-", "-"]
    if score.method == COUNTED:
        return [key, f"{score.value:.6g}", COUNTED]
    samples = next(row.samples.get(key) for row in results.rows if row.title == title)
    return [key, score.cell(), str(len(samples) if samples else score.n_generated)]
