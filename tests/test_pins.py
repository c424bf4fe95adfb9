"""The pins of constraints.txt, those of requirements.lock, and the ranges of pyproject.toml say the same."""

import re
import sys
from importlib.metadata import requires
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


def needed(*names):
    """The packages that these need, by what is installed here."""
    seen, left = set(), [canonicalize_name(name) for name in names]
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            found = [Requirement(each) for each in requires(name) or ()]
            left += [
                canonicalize_name(each.name) for each in found if not each.marker or each.marker.evaluate({"extra": ""})
            ]
    return seen


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="a newer Python needs other packages than the one they are for")
def test_the_wheels_for_a_gpu_are_all_that_a_machine_with_torch_lacks():
    ours = [Requirement(each) for each in requires("melody_cm") if "extra ==" not in each]
    names = [each.name for each in ours] + ["pytest", "pytest-timeout", "pytest-xdist", "beartype"]
    left_out = {"numba", "llvmlite", "tensorboard-data-server"}  # Too large; a stand-in or nothing takes their place.
    lacking = needed(*names) - needed("torch", "transformers", "scikit-learn") - left_out
    collected = (ROOT / "benchmarks/gpu_wheels.sh").read_text()
    collected = collected.partition("for name in")[2].partition("; do")[0].replace("\\\n", " ")
    assert lacking - {canonicalize_name(name) for name in collected.split()} == set()
