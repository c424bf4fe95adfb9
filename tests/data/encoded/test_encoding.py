import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from encoded_runs import CROP, Model, datamodule, encode, encoding_of, files, folder_of, found
from encoded_toys import HOP, RATE, SECONDS, SmoothAutoencoder, make_music, make_parts

from melody_cm.data import ManifestCorpus, read_audio
from melody_cm.data.encoded import Encoding, FrozenOutput, frozen_outputs, prepare
from melody_cm.data.encoded.cache import Crop, EncodedOutput, clip_file
from melody_cm.data.encoded.encoding import available
from melody_cm.data.encoded.outputs import frame_windows, value_windows
from melody_cm.encoders import ResidualKMeans
from melody_cm.storage import read_json, write_json

POSTERIOR = "toy/1_autoencoder/posterior"


@pytest.mark.parametrize("clip", [CROP + 1, 2 * CROP, 5 * CROP + 333, 100 * CROP])
@pytest.mark.parametrize("frame", [1, 80, 300])
def test_windows_keep_every_frame_once_and_hear_context(clip, frame):
    windows = frame_windows(clip, CROP, frame, RATE)
    assert [window.end for window in windows[:-1]] == [window.begin for window in windows[1:]]
    assert (windows[0].begin, windows[-1].end) == (0, clip)
    for window in windows:
        assert window.begin % frame == window.first % frame == 0
        assert window.first == 0 or window.begin - window.first >= CROP // 4
        assert window.last == clip or window.last - window.end >= CROP // 4
        assert window.last - window.first <= 3.5 * CROP + 4 * frame, "no encoder hears more, however long the clip is"


def test_a_clip_that_fits_into_a_crop_is_heard_as_a_crop():
    for clip in (1, CROP - 1, CROP):
        (window,) = frame_windows(clip, CROP, 80, RATE)
        assert (window.first, window.last) == (0, CROP)
        assert value_windows(clip, CROP) == [0]


def test_value_windows_begin_every_half_crop_and_the_last_ends_with_the_clip():
    assert value_windows(25, 10) == [0, 5, 10, 15]
    assert value_windows(27, 10) == [0, 5, 10, 15, 17]
    for start, nearest in ((0, 0), (2, 0), (3, 1), (12, 2), (13, 3), (16, 3), (17, 4)):
        assert Crop(start, 10, 27).nearest_window() == nearest
    assert Crop(0, 100, 100).frames(16) == slice(0, 7)
    assert Crop(160, 100, 1000).frames(16) == slice(10, 17)


def posteriors(tmp_path, manifest, network=None):
    """Mean and standard deviation of each training clip, read back, and what was bad."""
    network = network or make_parts()["autoencoder"]
    folder, count = encode(tmp_path / "run", manifest, Model(autoencoder=network))
    output = EncodedOutput(folder / POSTERIOR)
    items = [item for item in range(count) if f"train/{item}" not in output.bad]
    opened = [output.open("train", item) for item in items]
    return [(file.get_tensor("latent_mean"), file.get_tensor("latent_std")) for file in opened], output.bad


def test_windows_give_what_encoding_the_whole_clip_gives(tmp_path):
    """A long stretch of silence is music; a clip that is silent from beginning to end is bad."""
    manifest = make_music(tmp_path / "music", [0.3, SECONDS, 0.7, 3.1234, 9.0, 1.0], silent=5, pause=4)
    encoded, bad = posteriors(tmp_path, manifest)
    assert list(bad) == ["train/5"]
    assert "silent" in bad["train/5"]
    for clip, (mean, std) in zip(ManifestCorpus(str(manifest)).clips()[:5], encoded, strict=True):
        waveform = read_audio(clip.audio, 0.0, None, RATE)[None, None]
        padded = torch.nn.functional.pad(waveform, (0, max(0, CROP - waveform.shape[-1])))
        expected = make_parts()["autoencoder"].posterior(padded)
        assert mean.dtype == torch.float16
        torch.testing.assert_close(mean, expected[0][0].half(), rtol=2e-3, atol=1e-4)
        torch.testing.assert_close(std, expected[1][0].half(), rtol=2e-3, atol=1e-4)


def test_numbers_that_are_not_finite_are_never_kept(tmp_path):
    manifest = make_music(tmp_path / "music", [0.4])
    for spoilt in (float("nan"), 1e6):
        network = make_parts()["autoencoder"]
        network.second.bias[0] = spoilt
        with pytest.raises(ValueError, match=f"^{POSTERIOR} gives numbers that are not finite"):
            posteriors(tmp_path, manifest, network)


def test_an_encoder_with_other_frames_than_it_says_is_refused(tmp_path):
    data = datamodule(make_music(tmp_path / "music", [0.4]))
    output = FrozenOutput("posterior", make_parts()["autoencoder"], 2 * HOP)
    prepare(tmp_path / output.name, output, "data", "fp32", again=False)
    encoding = Encoding(tmp_path, [output], data.corpus.splits(), RATE, SECONDS)
    with pytest.raises(ValueError, match="does not give one frame every 32 samples of 4096"):
        list(encoding.run(1))


def other_weights():
    """The toys, of which the autoencoder was trained on."""
    network = make_parts()["autoencoder"]
    network.first.weight.mul_(1.1)
    return Model("target", autoencoder=network)


def test_what_was_made_by_other_weights_is_refused_and_replaced(copied):
    run, manifest, folder = copied
    changed = r"weights of toy/1_autoencoder: \w+ -> \w+"
    for read in (lambda: found(folder, manifest, other_weights()), lambda: encode(run, manifest, other_weights())):
        with pytest.raises(ValueError, match=f"{changed}; run .melody-cm data encode.*--again"):
            read()
    encode(run, manifest, other_weights(), again=True)
    assert found(folder, manifest, other_weights()).encoded is not None


def test_the_weights_inside_a_frozen_encoder_count_too():
    outer = ResidualKMeans(width=4, num_codebooks=1, codebook_size=2, embedding=make_parts()["hearing"].joint_embedding)
    (output,) = frozen_outputs(Model(prompt=outer.freeze("toy/5_outer", "stage:toy/5_outer")), RATE)
    assert set(output.weights) == {"toy/5_outer", "toy/4_joint"}


def test_other_music_and_another_version_are_refused(copied, tmp_path):
    run, manifest, folder = copied
    moved = shutil.copytree(manifest.parent, tmp_path / "music") / "manifest.jsonl"
    encode(run, moved, Model("autoencoder"))
    mine = folder_of(run, moved)
    assert mine != folder
    moved.write_text(moved.read_text().replace('"a2"', '"another caption"'))
    with pytest.raises(ValueError, match=r"encoded from something else: data: \w+ -> \w+"):
        found(mine, moved)
    path = folder / POSTERIOR / "index.json"
    write_json(path, {**read_json(path), "version": 0})
    with pytest.raises(ValueError, match=f"{POSTERIOR} was encoded .*: version: 0 -> "):
        found(folder, manifest)


def test_a_cut_or_missing_file_is_refused_and_made_again(copied):
    run, manifest, folder = copied
    before = files(folder)
    cut, gone = (clip_file(folder / POSTERIOR, "train", item) for item in (1, 2))
    cut.write_bytes(cut.read_bytes()[:-7])
    gone.unlink()
    dataset = found(folder, manifest).train_dataloader().dataset
    for item in (1, 2):
        with pytest.raises(ValueError, match=rf"000000{item}.safetensors is missing or cut short; run `melody-cm data"):
            dataset[0, item]
    stamp = clip_file(folder / POSTERIOR, "train", 0).stat().st_mtime_ns
    assert encode(run, manifest)[1] == 2
    assert files(folder) == before
    assert clip_file(folder / POSTERIOR, "train", 0).stat().st_mtime_ns == stamp, "only what was wrong is made again"


def test_a_damaged_index_is_refused_and_made_again(copied):
    run, manifest, folder = copied
    before = files(folder)
    index = folder / "toy/2_tokenizer/codes/index.json"
    index.write_text(index.read_text()[:30])
    with pytest.raises(ValueError, match=r"index.json is not valid JSON"):
        found(folder, manifest)
    encode(run, manifest)
    assert files(folder) == before


def interrupt(run, manifest, model, after):
    """Encode a few clips and stop."""
    encoding = encoding_of(run, manifest, model)
    results = encoding.run(1)
    for _ in range(after):
        next(results)
    results.close()


def test_an_interrupted_encoding_goes_on_and_comes_out_the_same(made, tmp_path):
    run, manifest = tmp_path / "run", made[1]
    interrupt(run, manifest, None, after=7)
    folder = folder_of(run, manifest)
    assert found(folder, manifest).encoded is None, "what is not whole is not read"
    assert encode(run, manifest)[1] <= 12 - 7 + 1, "what was done is not done again, but for the bad clip"
    assert files(folder) == {name: content for name, content in files(made[2]).items() if name in files(folder)}
    assert encode(run, manifest)[1] == 0


def test_what_was_begun_by_other_weights_is_not_kept(made, tmp_path):
    run, manifest = tmp_path / "run", made[1]
    interrupt(run, manifest, other_weights(), after=3)
    folder, _ = encode(run, manifest)
    assert files(folder) == files(made[2])


def test_two_processes_give_the_files_of_one(made, tmp_path):
    folder, _ = encode(tmp_path / "run", made[1], processes=2)
    assert files(folder) == files(made[2])


class Killer(SmoothAutoencoder):
    """Ends its process, as the kernel does when memory is short."""

    def posterior(self, waveform):
        os.kill(os.getpid(), 9)


@pytest.mark.timeout(60)
def test_a_killed_process_is_noticed_after_a_training_too(tmp_path, made):
    encode(tmp_path / "before", made[1], processes=2)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # As Lightning leaves it.
    model = Model(autoencoder=Killer().freeze("toy/1_autoencoder", "stage:toy/1_autoencoder"))
    with pytest.raises(OSError, match=r"process that encodes was killed.*fewer --processes.*same command goes on"):
        encode(tmp_path / "run", make_music(tmp_path / "music", [0.4]), model)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(made, tmp_path, monkeypatch):
    run, manifest = tmp_path / "run", made[1]
    write = Path.write_bytes

    def nearly_full(path, content):
        if "0000002" in path.name:
            write(path, content[: len(content) // 2])
            raise OSError(28, os.strerror(28), str(path))
        write(path, content)

    monkeypatch.setattr(Path, "write_bytes", nearly_full)
    with pytest.raises(OSError, match=r"no space left for .*0000002\.safetensors"):
        encode(run, manifest)
    folder = folder_of(run, manifest)
    assert files(folder)
    assert not list(folder.rglob("*.part"))
    assert found(folder, manifest).encoded is None
    monkeypatch.undo()
    encode(run, manifest)
    assert files(folder) == files(made[2])


def test_processes_are_one_a_core():
    assert 1 <= available(torch.device("cpu")) <= (os.cpu_count() or 1)
    assert available(torch.device("cuda", 0)) == 1


def test_what_was_encoded_in_another_precision_is_refused(tmp_path):
    output = FrozenOutput("posterior", make_parts()["autoencoder"], 2 * HOP)
    folder = tmp_path / output.name
    prepare(folder, output, "data", "fp32", again=False)
    write_json(folder / "index.json", {**read_json(folder / "index.json"), "bad": {}})
    prepare(folder, output, "data", "fp32", again=False)
    with pytest.raises(ValueError, match="precision: fp32 -> bf16"):
        prepare(folder, output, "data", "bf16", again=False)
