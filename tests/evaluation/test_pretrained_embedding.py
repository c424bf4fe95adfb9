"""Windows of long audio, and where weights may come from."""

import pytest
import torch

from melody_cm.signal.windows import whole_windows
from melody_cm.storage.pretrained import is_hub_id, load_pretrained


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (4, [0]),
        (10, [0]),
        (14, [0]),
        (15, [0, 5]),
        (20, [0, 10]),
        (24, [0, 14]),
        (25, [0, 7, 15]),
        (30, [0, 10, 20]),
    ],
)
def test_windows_are_evenly_spread_from_the_first_sample_to_the_last(length, starts):
    waveform = torch.arange(2.0 * length).view(2, 1, length)
    windows = whole_windows(waveform, 10)
    assert windows.shape == (2, len(starts), 1, min(length, 10))
    assert windows[0, :, 0, 0].tolist() == starts
    assert torch.equal(windows[1, -1], waveform[1, :, starts[-1] : starts[-1] + 10])


@pytest.mark.parametrize("length", range(1, 60))
def test_windows_leave_out_little_and_overlap_little(length):
    windows = whole_windows(torch.arange(float(length))[None, None], 10)[0, :, 0]
    heard = {int(sample) for sample in windows.flatten()}
    steps = windows[:, 0].diff()
    assert len(heard) > length - 5
    assert (steps >= 5).all()


class Asked:
    """Stands for a class of transformers, and tells how it was asked."""

    @classmethod
    def from_pretrained(cls, place, **options):
        return place, options


class Failing:
    """A class that cannot find anything."""

    @classmethod
    def from_pretrained(cls, place, **options):
        raise KeyError(f"{place}\n is odd")


def test_a_folder_is_read_offline_and_only_a_hub_id_asks_the_hub(tmp_path):
    assert load_pretrained(Asked, str(tmp_path), "clap", "a/b") == (str(tmp_path), {"local_files_only": True})
    assert load_pretrained(Asked, "owner/name", "clap", "a/b") == ("owner/name", {"local_files_only": False})


@pytest.mark.parametrize(
    "path", ["/no/such/folder", "./owner/name", "../name", "name", "models/a/b", "~/clap", "a/x y"]
)
def test_a_path_that_does_not_exist_is_never_a_hub_id(path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .* get them: hf download a/b --local-dir FOLDER"):
        load_pretrained(Asked, path, "clap", "a/b")


def test_a_relative_path_into_a_folder_that_exists_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("models/clap")
    (tmp_path / "models").mkdir()
    assert not is_hub_id("models/clap")
    with pytest.raises(FileNotFoundError, match="there is no folder models/clap"):
        load_pretrained(Asked, "models/clap", "clap", "a/b")


def test_no_source_and_a_failing_source_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"clap needs weights: hf download a/b .* then give clap:FOLDER"):
        load_pretrained(Asked, None, "clap", "a/b")
    with pytest.raises(FileNotFoundError, match=r"o/n gives no Failing for clap .*get one: hf download a/b"):
        load_pretrained(Failing, "o/n", "clap", "a/b")
    with pytest.raises(ValueError, match=r"gives no Failing for clap \(.* is odd'\)") as caught:
        load_pretrained(Failing, str(tmp_path), "clap", "a/b")
    assert isinstance(caught.value.__cause__, KeyError)
