"""Unpack the wheels whose packages are missing here: python benchmarks/gpu_site.py WHEELS FOLDER."""

import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

NUMBA = '''"""In the place of numba, whose compiler is too large to carry: librosa's filters need none of it."""


def _plain(*given, **settings):
    return given[0] if len(given) == 1 and callable(given[0]) and not settings else lambda function: function


jit = njit = vectorize = guvectorize = stencil = generated_jit = _plain
prange = range
'''


def main(wheels: Path, site: Path) -> None:
    site.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(wheels.glob("*.whl")):
        name = wheel.name.split("-")[0].replace("_", "-")
        try:
            version(name)
        except PackageNotFoundError:
            zipfile.ZipFile(wheel).extractall(site)
            print(f"unpacked {wheel.name}")
    if find_spec("numba") is None:
        (site / "numba.py").write_text(NUMBA)


main(Path(sys.argv[1]), Path(sys.argv[2]))
