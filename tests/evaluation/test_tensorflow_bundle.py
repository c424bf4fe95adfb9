"""The reader of TensorFlow checkpoints, on files written after the published formats."""

import numpy as np
import pytest
from musicnn_checkpoint import write_checkpoint

from melody_cm.evaluation.embeddings.tensorflow_bundle import read_bundle

VARIABLES = {
    f"layer_{width:03}/kernel": np.arange(3 * width, dtype="<f4").reshape(3, width) for width in range(1, 200, 11)
}
VARIABLES["scalar"] = np.array(2.5, dtype="<f4")


@pytest.mark.parametrize("per_block", [1, 4, 100])
def test_every_variable_comes_back_and_nothing_else(tmp_path, per_block):
    write_checkpoint(tmp_path / "bundle", VARIABLES, per_block)
    found = read_bundle(tmp_path / "bundle")
    assert found.keys() == VARIABLES.keys()
    for name, value in VARIABLES.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_file_that_is_no_bundle_is_refused(tmp_path):
    write_checkpoint(tmp_path / "bundle", VARIABLES)
    index, data = tmp_path / "bundle/.index", tmp_path / "bundle/.data-00000-of-00001"
    table = index.read_bytes()
    index.write_bytes(table[:-1])
    with pytest.raises(ValueError, match="not a LevelDB table; install the package again"):
        read_bundle(tmp_path / "bundle")
    index.write_bytes(table)
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ValueError, match="install the package again"):
        read_bundle(tmp_path / "bundle")
    data.unlink()
    with pytest.raises(FileNotFoundError):
        read_bundle(tmp_path / "bundle")


def test_compressed_blocks_are_refused(tmp_path):
    write_checkpoint(tmp_path / "bundle", {"scalar": VARIABLES["scalar"]})
    index = tmp_path / "bundle/.index"
    table = index.read_bytes()
    index.write_bytes(table.replace(b"\0crc?", b"\1crc?"))
    with pytest.raises(ValueError, match="compressed"):
        read_bundle(tmp_path / "bundle")
