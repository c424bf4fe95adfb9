import os
import pickle
import queue
import shutil
from types import SimpleNamespace

import pytest
import torch
from encoded_runs import Model, datamodule, encode, files, found, of_slots
from encoded_toys import RATE, SECONDS, SLOTS, frozen

from melody_cm.data.encoded import EncodedOutput, cache_folder, frozen_outputs
from melody_cm.data.encoded.processes import _next, _plain, devices
from melody_cm.data.encoded.shards import plan_shards, read_report
from melody_cm.data.encoded.windows import Crop
from melody_cm.storage import build, describe, read_json, save_network, write_json


def test_what_was_made_by_other_weights_is_refused_and_replaced(copied):
    run, manifest, folder = copied
    network = build(SLOTS["autoencoder"]).network
    with torch.no_grad():
        network.first.weight.mul_(1.1)
    save_network(network, run / "toy/1_autoencoder/export/autoencoder")
    with pytest.raises(
        ValueError, match=r"weights of toy/1_autoencoder: \w+ -> \w+; run .melody-cm data encode.*--again"
    ):
        found(folder, manifest)
    with pytest.raises(ValueError, match=r"weights of toy/1_autoencoder: .*replace it with --again"):
        encode(run, manifest)
    encode(run, manifest, again=True)
    assert found(folder, manifest).encoded is not None


def test_the_weights_inside_a_frozen_encoder_count_too(run, copied):
    run, _, _ = copied
    config = {"class_path": "melody_cm.encoders.ResidualKMeans", "init_args": {"width": 4, "num_codebooks": 1}}
    config["init_args"] |= {"codebook_size": 2, "embedding": SLOTS["hearing"]["init_args"]["joint_embedding"]}
    save_network(build(config), run / "toy/5_outer/export/tokenizer")
    write_json(run / "toy/5_outer/finished.json", {})
    (output,) = frozen_outputs(Model({"prompt": frozen("Tokenizer", "toy/5_outer")}), RATE)
    assert set(output.weights) == {"toy/5_outer", "toy/4_joint"}


def test_other_music_and_another_version_are_refused(copied, tmp_path):
    run, manifest, folder = copied
    moved = tmp_path / "music"
    shutil.copytree(manifest.parent, moved)
    encode(run, moved / "manifest.jsonl")
    data = datamodule(moved / "manifest.jsonl")
    mine = cache_folder(run, {"corpus": describe(data.corpus), "sample_rate": RATE, "seconds": SECONDS})
    assert mine != folder
    rows = (moved / "manifest.jsonl").read_text().replace('"a2"', '"another caption"')
    (moved / "manifest.jsonl").write_text(rows)
    with pytest.raises(ValueError, match=r"encoded from something else: data: \w+ -> \w+"):
        found(mine, moved / "manifest.jsonl")
    path = folder / "toy/1_autoencoder/posterior/index.json"
    write_json(path, {**read_json(path), "version": 0})
    with pytest.raises(ValueError, match=r"toy/1_autoencoder/posterior was encoded .*: version: 0 -> 1"):
        found(folder, manifest)


def test_a_cut_or_missing_shard_is_refused_and_made_again(copied):
    run, manifest, folder = copied
    before = files(folder)
    cut = folder / "toy/2_tokenizer/codes/00001.safetensors"
    cut.write_bytes(cut.read_bytes()[:-7])
    kept = folder / "toy/2_tokenizer/codes/00000.safetensors"
    stamp = kept.stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"00001.safetensors is missing or cut short; run `melody-cm data encode`"):
        found(folder, manifest)
    assert read_report(cut) is None
    encode(run, manifest)
    assert files(folder) == before
    assert kept.stat().st_mtime_ns == stamp, "only what was cut was made again"
    cut.unlink()
    with pytest.raises(ValueError, match="missing or cut short"):
        EncodedOutput(folder / "toy/2_tokenizer/codes")


def test_damage_that_keeps_the_length_is_refused_when_it_is_read_and_made_again(copied):
    run, manifest, folder = copied
    before = files(folder)
    shard = folder / "toy/1_autoencoder/posterior/00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-40:] = bytes(40)
    shard.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"00000.safetensors is damaged; run `melody-cm data encode`"):
        EncodedOutput(shard.parent).fields("train", 0, Crop(0, 64, 64), 0)
    encode(run, manifest)
    assert files(folder) == before


def test_a_damaged_index_is_refused_and_made_again(copied):
    run, manifest, folder = copied
    before = files(folder)
    index = folder / "toy/2_tokenizer/codes/index.json"
    index.write_text(index.read_text()[:300])
    with pytest.raises(ValueError, match=r"index.json is damaged; run `melody-cm data encode`"):
        found(folder, manifest)
    encode(run, manifest)
    assert files(folder) == before


def test_an_interrupted_encoding_goes_on_and_comes_out_the_same(made, copied):
    run, manifest, folder = copied
    shutil.rmtree(folder)

    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(run, manifest, on_progress=stop)
    assert not list(folder.rglob("index.json"))
    assert found(folder, manifest).encoded is None, "what is not whole is not read"
    (folder / "toy/1_autoencoder/posterior/.00002.safetensors.99.part").write_bytes(b"killed here")
    steps = []
    encode(run, manifest, on_progress=lambda done, total: steps.append((done, total)))
    assert 6 < steps[0][0] < steps[-1][0] == steps[-1][1] == 12, "what was done is not done again"
    assert files(folder) == files(made[2])


def test_shards_begun_from_something_else_are_not_kept(made, copied):
    run, manifest, folder = copied
    shutil.rmtree(folder)

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(run, manifest, on_progress=stop)
    network = build(SLOTS["autoencoder"]).network
    network.first.weight.mul_(2.0)
    save_network(network, run / "toy/1_autoencoder/export/autoencoder")
    encode(run, manifest)
    name = "toy/1_autoencoder/posterior/00000.safetensors"
    assert (folder / name).read_bytes() != (made[2] / name).read_bytes()
    assert (folder / "toy/2_tokenizer/codes/00000.safetensors").read_bytes() == (
        made[2] / "toy/2_tokenizer/codes/00000.safetensors"
    ).read_bytes()


def test_two_processes_give_the_bytes_of_one(made, copied):
    run, manifest, folder = copied
    shutil.rmtree(folder)
    slots = of_slots("autoencoder", "target", "prompt")  # The others would spend this test on importing transformers.
    encode(run, manifest, slots, processes=2)
    assert files(folder / "toy/1_autoencoder") == files(made[2] / "toy/1_autoencoder")
    assert files(folder / "toy/3_clip_tokenizer") == files(made[2] / "toy/3_clip_tokenizer")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("not finite"), ValueError, "not finite"),
        (OSError(28, "No space", "x"), OSError, "No space"),
        (KeyError("slot"), RuntimeError, "KeyError: 'slot'"),
    ],
)
def test_what_fails_in_a_process_is_raised_by_the_first(error, kind, message):
    reports = queue.Queue()
    reports.put(pickle.loads(pickle.dumps(_plain(error))))
    with pytest.raises(kind, match=message) as caught:
        _next(reports, [])
    assert getattr(caught.value, "errno", None) == getattr(error, "errno", None)


def test_a_killed_process_is_noticed(monkeypatch):
    monkeypatch.setattr("melody_cm.data.encoded.processes.POLL_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match=r"exit code -9.*fewer --processes"):
        _next(queue.Queue(), [SimpleNamespace(exitcode=None), SimpleNamespace(exitcode=-9)])


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(made, copied, monkeypatch):
    run, manifest, folder = copied
    shutil.rmtree(folder)
    written = []

    def nearly_full(path, content):
        if len(written) == 7:
            with path.open("wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError(28, os.strerror(28), str(path))
        written.append(path)
        path.open("wb").write(content)

    monkeypatch.setattr("melody_cm.data.encoded.shards._write_bytes", nearly_full)
    with pytest.raises(OSError, match=r"No space left on device; the shards .* are kept .* the same command goes on"):
        encode(run, manifest)
    assert len(list(folder.rglob("*.safetensors"))) == 7
    assert not list(folder.rglob("*.part"))
    assert found(folder, manifest).encoded is None
    monkeypatch.undo()
    monkeypatch.setenv("MELODY_CM_RUN", str(run))
    monkeypatch.setattr("melody_cm.data.encoded.shards.CLIPS_PER_SHARD", 3)
    encode(run, manifest)
    assert files(folder) == files(made[2])


def test_shards_hold_an_hour_at_most_unless_one_clip_is_longer(made, monkeypatch):
    clips = datamodule(made[1]).corpus.clips()
    monkeypatch.setattr("melody_cm.data.encoded.shards.SECONDS_PER_SHARD", 3.0)
    shards = plan_shards({"train": clips[:8]}, SECONDS)
    assert [(shard.first, shard.last) for shard in shards] == [(0, 3), (3, 4), (4, 7), (7, 8)]
    assert [shard.number for shard in shards] == list(range(4))


def test_processes_are_one_a_core_and_never_more_than_shards():
    assert devices("cpu", 3, 10) == ["cpu"] * 3
    assert devices("cpu", 3, 2) == ["cpu"] * 2
    assert 1 <= len(devices("cpu", None, 1000)) <= (os.cpu_count() or 1)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="there is no GPU here"):
            devices("cuda", None, 4)
