"""The results of every command that measures: rows of scores, differences between rows, verdicts, one file format.

`compare`, `ablate`, `reproduce`, `evaluate` and its selftest fill a `Results`; tables, CSV and reports are made from
it. A verdict always comes from the test of a difference, with Holm's correction for all tests of the same results.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import msgspec

from melody_cm.evaluation.score import Score, refuse_unlike
from melody_cm.evaluation.uncertainty import LEVEL, Part, holm, student, two_way
from melody_cm.interfaces import EmbeddingIdentity
from melody_cm.storage.files import read_keys, write_json

SCHEMA_VERSION = 5  # Of all results files; docs/results.schema.json describes it.
Verdict = Literal["better", "worse", "higher", "lower", "not distinguishable", "too few clips"]

# Measures by how their keys begin. Of what is in neither list, no end is the better one.
LARGER_IS_BETTER = (
    "text_correlation", "text_similarity", "excess", "prompt_auc", "inception_", "si_snr", "chroma_correlation",
    "times_real_time", "saving",
)  # fmt: skip
SMALLER_IS_BETTER = (
    "fad_", "kad_", "kl_", "log_spectral_distance", "sim_aa", "velocity_mse", "sampling_error", "student_error",
    "teacher_error", "wall_seconds",
)  # fmt: skip


def larger_is_better(metric: str) -> bool | None:
    """Whether a larger value of a measure is the better one; None for measures of which neither end is."""
    if metric.startswith(LARGER_IS_BETTER):
        return True
    return False if metric.startswith(SMALLER_IS_BETTER) else None


def arrow(metric: str) -> str:
    """The direction of a measure after its name: " ↑" larger is better, " ↓" smaller is, nothing for neither."""
    return {True: " ↑", False: " ↓", None: ""}[larger_is_better(metric)]


def side_of_zero(low: float, high: float) -> int:
    """1 for an interval above 0, -1 for one below, 0 for one that holds it, which says nothing."""
    return int(low > 0) - int(high < 0)


def verdict(metric: str, low: float | None, high: float | None) -> Verdict:
    """What the interval of the difference first - second says of the first.

    "better" or "worse" where it leaves out 0 ("higher" or "lower" for a measure without a better end), "not
    distinguishable" where it does not, "too few clips" where there is no interval.
    """
    if low is None or high is None:
        return "too few clips"
    side, wanted = side_of_zero(low, high), larger_is_better(metric)
    if side == 0:
        return "not distinguishable"
    if wanted is None:
        return "higher" if side > 0 else "lower"
    return "better" if (side > 0) == wanted else "worse"


@dataclass
class Row:
    """One line of a table.

    Attributes:
        label: of a system, a recipe or a damage.
        metrics: what was measured, by key.
        num_steps: of sampling; None where nothing was sampled.
        samples: by key, the numbers by which rows are compared pair by pair, each under the name of what it was
            measured on: {"text_similarity_joint": {"prompt 0/take 1": 0.3, ...}} or {"velocity_mse": {"seed 0": 0.31}};
            before a slash stands the group that a number belongs to (`two_way`).
        facts: everything else that is known of the row, as plain data.
    """

    label: str
    metrics: dict[str, Score]
    num_steps: int | None = None
    samples: dict[str, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """How people call the row."""
        if self.num_steps is None:
            return self.label
        return f"{self.label}, {self.num_steps} step{'' if self.num_steps == 1 else 's'}"

    def cell(self, metric: str) -> str:
        """A metric for a table; a dash where it was not measured."""
        return self.metrics[metric].cell() if metric in self.metrics else "-"


@dataclass(frozen=True)
class Difference:
    """One measure of two rows: first - second with its interval.

    Attributes:
        first, second: titles of the rows; metric: key of the measure.
        difference: mean over pairs, or difference of two scores.
        low, high: 95 % interval of this difference alone; None where it cannot be told.
        n: groups (prompts, seeds of trainings) that both rows have; None for two scores that were measured apart.
        p: of 0 being the truth; p_holm: the same, corrected for all tests of the results. None where nothing is tested.
    """

    first: str
    second: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    n: int | None = None
    p: float | None = None
    p_holm: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Of the first row; see `verdict`. After a correction the p value decides, not the interval."""
        if self.p_holm is not None and self.p_holm > 1 - LEVEL:
            return "not distinguishable"
        return verdict(self.metric, self.low, self.high)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the verdict."""
        return {**asdict(self), "verdict": self.verdict}

    def text(self) -> str:
        """The difference with its interval."""
        interval = "" if self.low is None or self.high is None else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.difference:.4g}{interval}"


@dataclass
class Results:
    """What one command measured.

    Attributes:
        verb: the command: "compare", "ablate", "reproduce", "evaluate" or "selftest".
        metadata: how it was made (`provenance`), and what was asked for.
        rows: in the order of the table.
        differences: between rows.
    """

    verb: str
    metadata: dict[str, Any]
    rows: list[Row]
    differences: list[Difference] = field(default_factory=list)

    def metrics(self) -> list[str]:
        """The keys of all metrics, in the order in which rows bring them.

        Raises:
            ValueError: rows that were measured in unlike embeddings stand under one key.
        """
        first: dict[str, Score] = {}
        for row in self.rows:
            for key, score in row.metrics.items():
                refuse_unlike(first.setdefault(key, score), score)
        return list(first)

    def embeddings(self) -> dict[str, EmbeddingIdentity]:
        """By name, the embeddings in which anything was measured."""
        scores = [score for row in self.rows for score in row.metrics.values() if score.embedding]
        return {score.embedding["name"]: EmbeddingIdentity(**score.embedding) for score in scores}

    def scores(self, key: str) -> list[Score]:
        """One metric of all rows that have it."""
        return [row.metrics[key] for row in self.rows if key in row.metrics]

    def tests(self) -> list[Difference]:
        """The family of tests: the differences that Holm's correction holds together."""
        return [one for one in self.differences if one.p_holm is not None]

    def as_dict(self) -> dict[str, Any]:
        """The content of results.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verb": self.verb,
            "metadata": self.metadata,
            "tests": len(self.tests()),
            "rows": [asdict(row) for row in self.rows],
            "differences": [difference.as_dict() for difference in self.differences],
        }

    def write(self, file: Path) -> None:
        """Write results.json."""
        write_json(file, self.as_dict())

    @classmethod
    def read(cls, file: Path, verb: str) -> "Results":
        """The results of an earlier command.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is something else, of another schema, or of another command.
        """
        if not Path(file).is_file():
            raise FileNotFoundError(f"{file}: no such file; give the results.json of an earlier `melody-cm {verb}`")
        data = read_keys(file)
        found = (data.get("schema_version"), data.get("verb"))
        if found != (SCHEMA_VERSION, verb):
            raise ValueError(
                f"{file}: results of schema {found[0]!r} and verb {found[1]!r}, but schema {SCHEMA_VERSION} of "
                f"`melody-cm {verb}` is needed; {verb} again"
            )
        try:
            results = msgspec.convert(data, cls)
            for score in (score for row in results.rows for score in row.metrics.values() if score.embedding):
                msgspec.convert(score.embedding, EmbeddingIdentity)
        except (msgspec.ValidationError, RecursionError, OverflowError) as error:
            raise ValueError(f"{file} is damaged ({error}); {verb} again") from error
        if not results.rows:
            raise ValueError(f"{file} holds no row; {verb} again")
        return results


def paired(metric: str, first: Row, second: Row) -> Difference | None:
    """The difference of two rows by a measure, group by group; None for fewer than two groups.

    Of samples: the mean of their differences, see `two_way`. Of distances: the difference of the corrected values,
    whose jackknives left out the same prompts and the same pieces of the reference.
    """
    ours, theirs = first.samples.get(metric, {}), second.samples.get(metric, {})
    if not ours:
        return _paired_distances(metric, first, second)
    shared = {name: ours[name] - theirs[name] for name in ours if name in theirs}
    value, parts = two_way(shared) if shared else (0.0, [])
    return _tested(metric, first, second, value, parts)


def _paired_distances(metric: str, first: Row, second: Row) -> Difference | None:
    one, other = first.metrics.get(metric), second.metrics.get(metric)
    if one is None or other is None or one.corrected is None or other.corrected is None or not one.deviations:
        return None
    refuse_unlike(one, other)
    if {side: set(found) for side, found in one.deviations.items()} != {
        side: set(found) for side, found in other.deviations.items()
    }:
        return None  # Prompts whose clips were all unusable: what is left is no pair.
    parts = []
    for side, groups in one.deviations.items():
        squares = [(own - other.deviations[side][group]) ** 2 for group, own in groups.items()]
        parts.append(Part(sum(squares), len(squares) - 1))
    return _tested(metric, first, second, one.corrected - other.corrected, parts, one.groups["generated"])


def _tested(
    metric: str, first: Row, second: Row, value: float, parts: Sequence[Part], groups: int | None = None
) -> Difference | None:
    if not parts:
        return None
    low, high, p = student(value, parts)
    count = parts[0].freedom + 1 if groups is None else groups
    return Difference(first.title, second.title, metric, value, low, high, count, p)


def compare_rows(rows: Sequence[Row], baseline: str | None = None, fewest: int = 2) -> list[Difference]:
    """The differences of all rows by all measures that tell them group by group, sorted by measure, with Holm's
    correction over all of them.

    A row that is the null of another (the fact `null_of`) is compared with that one alone.

    Args:
        baseline: the label of the rows that the others are compared with, at the same number of steps; None compares
            every pair of rows.
        fewest: groups, such as prompts, that a difference must have; there is none of fewer.
    """
    pairs: Sequence[tuple[Row, Row]] = list(combinations(rows, 2))
    if baseline is not None:
        known = {row.num_steps: row for row in rows if row.label == baseline}
        pairs = [(row, known[row.num_steps]) for row in rows if row.label != baseline and row.num_steps in known]
    pairs = [(first, second) for first, second in pairs if _may_meet(first, second)]
    metrics = [(dict.fromkeys([*first.samples, *first.metrics]), first, second) for first, second in pairs]
    found = [paired(metric, first, second) for keys, first, second in metrics for metric in keys]
    told = sorted((one for one in found if one is not None and one.n >= fewest), key=lambda one: one.metric)
    return [replace(one, p_holm=p) for one, p in zip(told, holm([one.p for one in told]), strict=True)]


def _may_meet(first: Row, second: Row) -> bool:
    nulls = {first.facts.get("null_of"), second.facts.get("null_of")} - {None}
    return not nulls or nulls <= {first.title, second.title}


def apart(metric: str, first: tuple[str, Score], second: tuple[str, Score]) -> Difference:
    """The difference of two scores (title, score) that were measured apart: it leaves out 0 where their intervals part.

    Raises:
        ValueError: they were measured in unlike embeddings.
    """
    (title, one), (other_title, other) = first, second
    refuse_unlike(one, other)
    difference = float("nan") if one.best is None or other.best is None else one.best - other.best
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Difference(title, other_title, metric, difference, None, None)
    return Difference(title, other_title, metric, difference, one.low - other.high, one.high - other.low)
