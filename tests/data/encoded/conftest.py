"""A cache of toy encoders' outputs, made once, and copies of it to be spoilt."""

import shutil

import pytest
from encoded_runs import BAD, LENGTHS, SPLITS, encode
from encoded_toys import make_music


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, a manifest with one bad clip, and the folder of its cache."""
    root = tmp_path_factory.mktemp("encoded")
    manifest = make_music(root / "music", LENGTHS, SPLITS)
    (root / f"music/{BAD}.wav").write_bytes(b"not sound")
    return root / "run", manifest, encode(root / "run", manifest)[0]


@pytest.fixture
def copied(made, tmp_path):
    """The same, to be spoilt."""
    run, manifest, folder = made
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run", manifest, tmp_path / "run" / folder.relative_to(run)
