"""Results of earlier commands, and what is none."""

import pytest

from melody_cm.benchmark.changes import read_older
from melody_cm.benchmark.compare import SCHEMA_VERSION as COMPARE
from melody_cm.evaluation.results import SCHEMA_VERSION as EVALUATE
from melody_cm.evaluation.results import read_results
from melody_cm.storage import write_json

READERS = [(read_results, "evaluate", EVALUATE, "metrics"), (read_older, "compare", COMPARE, "rows")]


@pytest.mark.parametrize(("read", "verb", "version", "key"), READERS)
def test_each_command_reads_its_own_schema_and_says_what_else_it_was_given(tmp_path, read, verb, version, key):
    file = tmp_path / "results.json"
    with pytest.raises(FileNotFoundError, match=f"no such file; .* of an earlier `melody-cm {verb}`"):
        read(file)
    write_json(file, {"schema_version": version, key: []})
    assert read(file) == {"schema_version": version, key: []}
    for other in ({"schema_version": version + 10, key: []}, {"schema_version": version}, [], {key: []}):
        write_json(file, other)
        found = other.get("schema_version") if isinstance(other, dict) else None
        needed = f"schema {found}, but schema {version} of `melody-cm {verb}` is needed; {verb} again"
        with pytest.raises(ValueError, match=needed):
            read(file)


def test_neither_command_takes_the_results_of_the_other(tmp_path):
    write_json(tmp_path / "results.json", {"schema_version": EVALUATE, "metrics": {}})
    with pytest.raises(ValueError, match="compare again"):
        read_older(tmp_path / "results.json")
