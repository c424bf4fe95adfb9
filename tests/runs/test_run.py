import pytest

from melody_cm.runs import Run
from melody_cm.runs.fingerprint import check_inputs
from melody_cm.runs.run import put_back, set_aside
from melody_cm.storage import write_json


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Two finished stages, the second made from the first."""
    monkeypatch.setenv("MELODY_CM_RUN", str(tmp_path))
    for stage, inputs in (("shared/1_first", {}), ("toy/2_second", {"shared/1_first": "network:aaaa"})):
        write_json(tmp_path / stage / "export/network/config.json", {"weights": "aaaa"})
        write_json(tmp_path / stage / "finished.json", {"inputs": inputs})
    return tmp_path


def test_stages_that_belong_together_are_accepted(run):
    check_inputs("toy/2_second")


def test_a_stage_made_from_an_earlier_version_of_another_is_refused(run):
    write_json(run / "shared/1_first/export/network/config.json", {"weights": "bbbb"})
    with pytest.raises(ValueError, match=r"toy/2_second was trained on an earlier shared/1_first; .*--retrain"):
        check_inputs("toy/2_second")


def test_a_replaced_stage_comes_back_if_its_successor_came_to_nothing(run):
    folder = run / "toy/2_second"
    old = set_aside(folder)
    assert not folder.exists()
    write_json(folder / "begun.json", {})
    put_back(folder, old)
    assert (folder / "finished.json").is_file()
    assert not old.exists()


def test_a_successor_with_a_checkpoint_is_kept(run):
    folder = run / "toy/2_second"
    old = set_aside(folder)
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(b"")
    put_back(folder, old)
    assert (folder / "last.ckpt").is_file()
    assert (old / "finished.json").is_file(), "and so is what it was to replace"


@pytest.mark.parametrize(("name", "value"), [("inputs", []), ("config", None), ("outcome", "done")])
def test_a_state_whose_parts_are_no_keys_and_values_is_damaged(run, name, value):
    write_json(run / "shared/1_first/finished.json", {"inputs": {}, name: value})
    with pytest.raises(ValueError, match=rf"1_first/finished.json is damaged \({name} holds no .*--retrain"):
        Run(run).finished("shared/1_first")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a b"])
def test_a_run_is_named_by_a_plain_word(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a run"):
        Run(tmp_path / name if name else "")


def test_two_commands_do_not_train_one_run_at_once(tmp_path):
    run = Run(tmp_path / "run")
    with run.training_alone():
        with (
            pytest.raises(ValueError, match="is being trained by another command"),
            Run(tmp_path / "run").training_alone(),
        ):
            pass
        with Run(tmp_path / "other").training_alone():
            pass
    with run.training_alone():
        pass
