"""A cache of toy encoders' outputs, made once, and copies of it to be spoilt."""

import shutil

import pytest
from encoded_runs import BAD, LENGTHS, SPLITS, encode
from encoded_toys import make_music, make_run


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr("melody_cm.data.encoded.shards.CLIPS_PER_SHARD", 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, a manifest with one bad clip, and its cache."""
    root = tmp_path_factory.mktemp("encoded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELODY_CM_RUN", str(root / "run"))
        patch.setattr("melody_cm.data.encoded.shards.CLIPS_PER_SHARD", 3)
        run, manifest = make_run(root / "run"), make_music(root / "music", LENGTHS, SPLITS)
        (root / f"music/{BAD}.wav").write_bytes(b"not sound")
        yield run, manifest, encode(run, manifest)


@pytest.fixture
def copied(made, tmp_path, monkeypatch):
    """The same, to be spoilt."""
    run, manifest, folder = made
    shutil.copytree(run, tmp_path / "run")
    monkeypatch.setenv("MELODY_CM_RUN", str(tmp_path / "run"))
    return tmp_path / "run", manifest, tmp_path / "run" / folder.relative_to(run)


@pytest.fixture
def run(made, monkeypatch):
    monkeypatch.setenv("MELODY_CM_RUN", str(made[0]))
    return made
