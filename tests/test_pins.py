"""The pins of constraints.txt, those of requirements.lock, and the ranges of pyproject.toml say the same."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = {"argcomplete", "gradio", "musicnn"}  # Pinned, but not of the set that is tested by default.


def pins(name, python):
    """The version of each package for a Python on Linux, and its hashes."""
    machine = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux",
               "platform_machine": "x86_64", "platform_python_implementation": "CPython"}  # fmt: skip
    found = {}
    for line in (ROOT / name).read_text().replace("\\\n", " ").splitlines():
        if not line or line.startswith("#"):
            continue
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line)
        pin = Requirement(re.sub(r"\s+--hash=\S+", "", line))
        if pin.marker is None or pin.marker.evaluate(machine):
            assert canonicalize_name(pin.name) not in found, f"{pin.name} is pinned twice for {python}"
            (version,) = pin.specifier
            assert version.operator == "=="
            found[canonicalize_name(pin.name)] = version.version.partition("+")[0], hashes
    return found


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_requirement_is_pinned_within_its_range_and_locked_by_hashes(python):
    pinned, locked = pins("constraints.txt", python), pins("requirements.lock", python)
    assert {name: version for name, (version, _) in pinned.items() if name not in OPTIONAL} == {
        name: version for name, (version, _) in locked.items()
    }
    assert all(hashes for _, hashes in locked.values())
    text = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("\n]")[0]
    ranges = [Requirement(each) for each in re.findall(r'^  "(.+)",', text, re.MULTILINE)]
    assert len(ranges) > 20
    for each in ranges:
        assert each.specifier.contains(locked[canonicalize_name(each.name)][0]), str(each)
