"""Hostile inputs of every kind that melody_cm reads, from a fixed seed, each with what may be made of it.

What is read must be sound: numbers that are finite, no more music than there is, weights that were exported, texts that
can be written. An input that was spoilt and yet gives just that is harmless; anything else is taken for good.
"""

import contextlib
import gzip
import io
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from mutations import PAYLOAD, WORDS, flip, hostile_value, spoil_bytes, spoil_tree, to_json
from safetensors.torch import load_file, save_file
from sandbox import Taken

import melody_cm
from melody_cm.configuration import shipped
from melody_cm.data import MusicDataset, audio_info, read_audio, scan_audio
from melody_cm.data.encoded.cache import EncodedOutput, is_whole, read_index
from melody_cm.data.manifest import open_corpus
from melody_cm.evaluation.clips import find_clips, read_clip_prompts
from melody_cm.evaluation.reference import FadtkFile, load_statistics
from melody_cm.evaluation.results import Difference, Row
from melody_cm.evaluation.score import Score
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.runs.fingerprint import check_finished
from melody_cm.runs.run import is_done, refuse_other
from melody_cm.storage import hash_tensors
from melody_cm.storage.build import read_weights
from melody_cm.training.lifecycle import AtomicCheckpointIO

RATE = 16000
SECONDS = 2.56
SUFFIXES = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III", "aiff": "PCM_16"}
SYSTEMS = ("musiccm", "melody", "musiclm")
STAGE = "musiccm/1_mel_vae"


class Case(NamedTuple):
    """One input: how to lay it into an empty folder, and what reads it there."""

    kind: str
    lay: Callable[[Path], object]
    read: Callable[[Path], object]


@dataclass
class House:
    """Good files of every kind.

    Attributes:
        folder: of them; run: with all stages at size tiny.
    """

    folder: Path
    run: Path

    @classmethod
    def built(cls, folder: Path, run: Path) -> "House":
        """Write what is not written yet."""
        house = cls(folder, run)
        if (folder / "whole").exists():
            return house
        for system in SYSTEMS:
            melody_cm.Run(run).pipeline(system).save_pretrained(folder / system)
        _write_music(folder / "music")
        _results().write(folder / "results.json")
        _write_statistics(folder)
        (folder / "whole").touch()
        return house


def case(house: House, number: int, seed: int) -> Case:
    """The input of a number; each kind has its turn."""
    kinds = [sounds, manifests, folders, texts, tables, recipes, systems, networks, weights, checkpoints, states,
             results, statistics, encoded, command_lines]  # fmt: skip
    kind = kinds[number % len(kinds)]
    return kind(house, Random(f"{seed}/{kind.__name__}/{number}"))


def sounds(house: House, rng: Random) -> Case:
    suffix = rng.choice(list(SUFFIXES))
    whole = (house.folder / f"music/a.{suffix}").read_bytes()
    is_cut = rng.random() < 0.3
    # What is lost of a WAV's last bytes can be padding; an MP3 without a count of frames promises no length.
    data = whole[: int(len(whole) * rng.uniform(0.02, 0.97))] if is_cut else spoil_bytes(whole, rng)
    if rng.random() < 0.1:
        data = rng.choice([bytes(10**6), rng.randbytes(10**4), whole[:100] + bytes(2**22), b"RIFF", b"", whole * 3])

    def read(folder: Path) -> None:
        path = folder / f"a.{suffix}"
        audio_info(path)
        info = scan_audio(path, 0.0, None)
        if is_cut and suffix != "mp3" and data == whole[: len(data)]:
            raise Taken(f"{len(data)} of {len(whole)} bytes of .{suffix} are a whole file")
        _sound(read_audio(path, 0.0, None, RATE), info.seconds)

    return Case("sound files", lambda folder: (folder / f"a.{suffix}").write_bytes(data), read)


def manifests(house: House, rng: Random) -> Case:
    rows = [json.loads(line) for line in (house.folder / "music/manifest.jsonl").read_text().splitlines()]
    lines = [to_json(spoil_tree(row, rng)) if rng.random() < 0.6 else to_json(row) for row in rows]
    if rng.random() < 0.2:
        place = rng.randrange(len(lines))
        lines[place] = spoil_bytes(lines[place], rng)

    def lay(folder: Path) -> None:
        _link_music(house, folder)
        (folder / "manifest.jsonl").write_bytes(b"\n".join(lines))

    return Case("manifests", lay, lambda folder: _checked(folder / "manifest.jsonl"))


def folders(house: House, rng: Random) -> Case:
    text = rng.choice([*WORDS, "good", "\r\n\r\n", "é"]).encode("utf-8", "surrogatepass")
    beside = rng.choice([text, spoil_bytes(text, rng), to_json(spoil_tree({"caption": "a", "split": "train"}, rng))])

    def lay(folder: Path) -> None:
        _link_music(house, folder)
        way = rng.randrange(7)
        (folder / f"a.{rng.choice(['txt', 'json'])}").write_bytes(beside)
        if way == 0:
            (folder / "loop").symlink_to(folder)
        elif way == 1:
            (folder / "b.wav").symlink_to("/dev/zero")
        elif way == 2:
            os.mkfifo(folder / "c.flac")
        elif way == 3:
            Path(os.fsdecode(os.fsencode(folder) + b"/\xe9\x1b[2J.wav")).write_bytes((folder / "a.wav").read_bytes())
        elif way == 4:
            (folder / "d.wav").mkdir()
        elif way == 5:
            (folder / "e.ogg").symlink_to("nowhere")
        else:
            (folder / "f.aiff").write_bytes(spoil_bytes((folder / "a.aiff").read_bytes(), rng))

    return Case("folders of music", lay, _checked)


def texts(house: House, rng: Random) -> Case:
    lines = [rng.choice([*WORDS, "a calm piece", "# remark", "drums"]) for _ in range(rng.choice([0, 1, 5]))]
    data = "\n".join(lines).encode(rng.choice(["utf-8", "utf-16", "utf-32"]), "surrogatepass")
    data = rng.choice([data, spoil_bytes(data, rng), rng.randbytes(200), b"\xef\xbb\xbf" + data])
    suffix = rng.choice(["txt", "jsonl", "csv"])

    def lay(folder: Path) -> None:
        _link_music(house, folder)
        (folder / f"prompts.{suffix}").write_bytes(data)
        (folder / "a.json").write_bytes(to_json(spoil_tree({"prompt": "drums", "seed": 0, "clip_index": 0}, rng)))

    def read(folder: Path) -> None:
        found = melody_cm.read_prompts(folder / f"prompts.{suffix}") if suffix == "txt" else []
        for text in [*found, *read_clip_prompts(folder / f"prompts.{suffix}", find_clips(folder)).values()]:
            if not text.strip() or text.encode() is None:
                raise Taken(f"the prompt {text!r}")

    return Case("prompts", lay, read)


def tables(house: House, rng: Random) -> Case:
    form = rng.choice(["csv", "musiccaps", "audiocraft"])
    row = {"path": "a.wav", "duration": 3.0, "sample_rate": RATE, "amplitude": None, "weight": None, "info_path": None}
    if form == "audiocraft":
        data = b"\n".join(to_json(spoil_tree(row, rng)) for _ in range(3))
        data = gzip.compress(data)
        data = rng.choice([data, spoil_bytes(data, rng), gzip.compress(bytes(10**8))])
        name = "train/data.jsonl.gz"
    else:
        heads = {"csv": "file,caption,split", "musiccaps": "ytid,start_s,end_s,aspect_list,caption"}
        cell = {"csv": "a.wav,calm,train", "musiccaps": "a,0,3,\"['calm']\",calm"}
        cells = [rng.choice([cell[form], "__import__('os').system('touch ran')", f"{hostile_value(rng)}"[:5000]])]
        text = "\n".join([heads[form], cell[form], *cells, ",".join(str(hostile_value(rng))[:99] for _ in range(5))])
        data = text.encode("utf-8", "surrogatepass")
        data, name = rng.choice([data, spoil_bytes(data, rng), b"\xef\xbb\xbf" + data]), "table.csv"

    def lay(folder: Path) -> None:
        _link_music(house, folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    def read(folder: Path) -> None:
        source = f"train={folder / name}" if form == "audiocraft" else str(folder / name)
        melody_cm.import_corpus(form, [source], folder / "out.jsonl", audio=folder)
        _checked(folder / "out.jsonl")

    return Case("collections to import", lay, read)


def recipes(house: House, rng: Random) -> Case:
    names = sorted(shipped("recipes").rglob("*.yaml"))
    file = rng.choice(names)
    text = file.read_bytes()
    lines = text.decode().splitlines()
    place = rng.randrange(len(lines))
    bombs = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))])
    line = rng.choice([
        "  x: !!python/object/apply:os.system ['touch ran']", "model: !!python/name:os.system", "&a [*a]", "? {}: {}",
        "base: recipe.yaml", f"corpus: {{class_path: {rng.choice(['os.abort', 'evil.Evil', 'idlelib.idle'])}}}",
        "trainer: {max_steps: 1e999}", "data: " + "[" * 20000, bombs, "<<: *x", "\t", f"seed_everything: {10**50}",
        "model: {class_path: melody_cm.data.ManifestCorpus}", f"data: {json.dumps(rng.choice(WORDS))}",
    ])  # fmt: skip
    changed = "\n".join([*lines[:place], *rng.choice([[], [line]]), *lines[place + rng.choice([0, 1, 3]) :]]).encode()
    data = spoil_bytes(text, rng) if rng.random() < 0.4 else changed

    def read(folder: Path) -> None:
        path = folder / "recipes/x/recipe.yaml"
        if file.parent.name == "compare":
            melody_cm.read_compare_recipe(path)
            return
        setting = melody_cm.Setting("tiny", overrides=[f"--data.corpus={folder / 'music'}"][: rng.randrange(2)])
        for recipe in melody_cm.plan(path, setting):
            recipe.as_yaml().encode()

    def lay(folder: Path) -> None:
        (folder / "recipes/x").mkdir(parents=True)
        (folder / "recipes/x/recipe.yaml").write_bytes(data.replace(b"../../configs", str(shipped("configs")).encode()))
        (folder / "evil.py").write_text("open('ran', 'w')")

    return Case("recipes", lay, read)


def systems(house: House, rng: Random) -> Case:
    """Exported folders whose own config.json is spoilt."""
    return _export(house, rng, "exported systems", "", _spoilt_config)


def networks(house: House, rng: Random) -> Case:
    """Exported folders with a network whose config.json is spoilt, sizes above all."""
    return _export(house, rng, "exported networks", "any", _spoilt_config)


def weights(house: House, rng: Random) -> Case:
    """Exported folders with weights that are spoilt."""
    return _export(house, rng, "weights", "any", _spoilt_weights)


def _export(house: House, rng: Random, kind: str, part: str, spoil: Callable[[Path, Path, Random], None]) -> Case:
    source = house.folder / rng.choice(SYSTEMS)
    parts = sorted(path.parent.name for path in source.glob("*/config.json"))
    within = rng.choice(parts) if part else ""

    def lay(folder: Path) -> None:
        for file in source.rglob("*"):
            if file.is_file():
                (folder / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                (folder / file.relative_to(source)).symlink_to(file)
        (folder / "evil.py").write_text("open('ran', 'w')")
        spoil(source / within, folder / within, rng)

    def read(folder: Path) -> None:
        pipeline = PretrainedPipeline.from_pretrained(folder)
        for name, found in pipeline.weight_hashes().items():
            if found not in (hash_tensors(read_weights(source / name)), hash_tensors(read_weights(folder / name))):
                raise Taken(f"other weights of {name}")
        seconds = min(SECONDS, pipeline.longest_seconds)
        made = pipeline.generate(["drums"], seconds, num_steps=min(2, pipeline.num_steps))
        _sound(made.waveform[0, 0], seconds)

    return Case(kind, lay, read)


def _spoilt_config(source: Path, target: Path, rng: Random) -> None:
    data = (source / "config.json").read_bytes()
    tree = json.loads(data)
    way = rng.random()
    if way < 0.15:
        data = spoil_bytes(data, rng)
    elif way < 0.5 and isinstance(tree.get("init_args"), dict):
        tree["init_args"] = spoil_tree(tree["init_args"], rng)
        data = to_json(tree)
    elif way < 0.7:
        data = to_json(_other_size(tree, rng))
    else:
        data = to_json(spoil_tree(tree, rng))
    (target / "config.json").unlink()
    (target / "config.json").write_bytes(data)


def _other_size(tree: Any, rng: Random) -> Any:
    """One number, and often another, as large as it may be, or larger."""
    from mutations import places

    sizes = [(holder, key) for holder, key in places(tree) if type(holder[key]) in (int, float)]
    for holder, key in rng.sample(sizes, min(len(sizes), rng.choice([1, 1, 2]))):
        holder[key] = rng.choice([2**20, 10**6, 10**7, 2**31, 10**12, holder[key] * 1000, 10**400, 0, -holder[key]])
    return tree


def _spoilt_weights(source: Path, target: Path, rng: Random) -> None:
    file = rng.choice(sorted(source.rglob("*.safetensors")))
    own = target / file.relative_to(source)
    own.unlink()
    tensors, way = load_file(file), rng.randrange(8)
    name = rng.choice(sorted(tensors)) if tensors else None
    if way <= 1 or name is None:
        own.write_bytes(spoil_bytes(file.read_bytes(), rng) or b"")
        return
    if way == 2:
        own.write_bytes(flip(file.read_bytes(), rng))
        return
    value = tensors[name]
    other = {
        3: lambda: torch.full_like(value, float("nan")) if value.is_floating_point() else value + 1,
        4: lambda: value.to(torch.complex64),
        5: lambda: value.to(rng.choice([torch.float64, torch.bfloat16, torch.int8, torch.float16])),
        6: lambda: value.unsqueeze(0),
        7: lambda: value + 1,
    }[way]
    tensors[name] = other()
    if rng.random() < 0.2:
        tensors[rng.choice(["extra", "\x00", "a" * 10000])] = torch.zeros(3)
    save_file(tensors, own)
    if rng.random() < 0.5:  # As one would who knows the format: with the hash of what is there.
        config = json.loads((target / "config.json").read_text())
        config["weights"] = hash_tensors(read_weights(target))
        (target / "config.json").unlink()
        (target / "config.json").write_text(json.dumps(config))


def checkpoints(house: House, rng: Random) -> Case:
    source = house.run / STAGE / "last.ckpt"

    def lay(folder: Path) -> None:
        data, way, path = source.read_bytes(), rng.randrange(8), folder / "last.ckpt"
        if way == 0:
            path.write_bytes(pickle.dumps(_Program()))
        elif way == 1:
            torch.save({"state_dict": {}, "x": _Program()}, path)
        elif way == 2:
            _rezipped(source, path, rng)
        elif way == 3:
            torch.save(rng.choice([None, [], {"state_dict": {"a": torch.full((3,), math.nan)}}, torch.zeros(3)]), path)
        elif way == 4:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
                file.writestr("archive/data.pkl", pickle.dumps(_Program(), 2))
                file.writestr("archive/data/0", bytes(3 * 10**8))
        elif way == 5:
            path.write_bytes(flip(data, rng))
        else:
            path.write_bytes(spoil_bytes(data, rng))

    def read(folder: Path) -> None:
        found = AtomicCheckpointIO().load_checkpoint(folder / "last.ckpt")
        whole = AtomicCheckpointIO().load_checkpoint(source)
        for name, value in whole["state_dict"].items():
            if not torch.equal(value, found["state_dict"][name]):
                raise Taken(f"other weights {name}")

    return Case("checkpoints", lay, read)


class _Program:
    def __reduce__(self) -> Any:
        return os.system, (PAYLOAD,)


def _rezipped(source: Path, target: Path, rng: Random) -> None:
    """The same archive with one member changed, and checksums that are right."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        members = old.namelist()
        changed = rng.choice([name for name in members if name.endswith(".pkl")] + members)
        for name in members:
            data = old.read(name)
            new.writestr(name, spoil_bytes(data, rng) if name == changed and "/data/" not in name else data)


def states(house: House, rng: Random) -> Case:
    source = house.run / STAGE
    name = rng.choice(["finished.json", "begun.json"])

    def lay(folder: Path) -> None:
        for file in source.rglob("*"):
            if file.is_file() and "logs" not in file.parts and "tensorboard" not in file.parts:
                (folder / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                (folder / file.relative_to(source)).symlink_to(file)
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        spoilt = to_json(spoil_tree(json.loads(data), rng))
        (folder / name).write_bytes(rng.choice([spoilt, spoilt, spoil_bytes(data, rng), b"null", b"[]", b""]))
        if name == "begun.json":
            (folder / "finished.json").unlink()

    def read(folder: Path) -> None:
        from melody_cm.runs.fingerprint import Fingerprint

        state = json.loads((source / "finished.json").read_text())
        made_from = Fingerprint(**{key: state[key] for key in ("config", "data", "inputs")})
        refuse_other(folder, made_from)
        if is_done(folder, made_from):
            check_finished(folder)

    return Case("state files of stages", lay, read)


def results(house: House, rng: Random) -> Case:
    data = (house.folder / "results.json").read_bytes()
    spoilt = to_json(spoil_tree(json.loads(data), rng))
    data = rng.choice([spoilt, spoilt, spoilt, spoil_bytes(data, rng)])

    def read(folder: Path) -> None:
        from rich.console import Console

        found = melody_cm.Results.read(folder / "results.json", "compare")
        Console(file=io.StringIO()).print(melody_cm.change_sheet(found, _results()))

    return Case("results.json", lambda folder: (folder / "results.json").write_bytes(data), read)


def statistics(house: House, rng: Random) -> Case:
    is_ours = rng.random() < 0.4
    name = "own.safetensors" if is_ours else "fadtk.npz"

    def lay(folder: Path) -> None:
        path, data = folder / name, (house.folder / name).read_bytes()
        way = rng.randrange(6)
        if is_ours or way == 0:
            path.write_bytes(spoil_bytes(data, rng))
        elif way == 1:
            np.savez(path, **{"vggish.mu": np.array([_Program()], dtype=object), "vggish.cov": np.eye(4)})
        elif way == 2:
            bad = rng.choice([math.nan, math.inf, 1e308])
            np.savez(path, **{"vggish.mu": np.full(4, bad), "vggish.cov": np.full((4, 4), bad)})
        elif way == 3:
            shape = rng.choice([(4,), (4, 5), (0, 0), (1, 4, 4), ()])
            np.savez(path, **{"vggish.mu": np.zeros(4), "vggish.cov": np.zeros(shape)})
        elif way == 4:
            _bomb(path)
        else:
            kind = rng.choice([np.complex64, np.bool_, "U3", "datetime64[s]", np.int8])
            np.savez(path, **{"vggish.mu": np.zeros(4).astype(kind), "vggish.cov": np.eye(4).astype(kind)})

    def read(folder: Path) -> None:
        if is_ours:
            found = load_statistics(folder / name)
            tensors = [found.clips, found.frames, found.sum, found.outer]  # A free row of the sample is infinite.
        else:
            tensors = list(FadtkFile(folder / name).gaussian("vggish"))[:2]
        for value in tensors:
            if value.is_complex() or not bool(torch.as_tensor(value).isfinite().all()):
                raise Taken("numbers that are not finite")

    return Case("statistics of music", lay, read)


def _bomb(path: Path) -> None:
    """An array whose header promises 8 GB."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**9,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("vggish.mu.npy", head.getvalue() + bytes(10**7))
        file.writestr("vggish.cov.npy", head.getvalue() + bytes(10**7))


def encoded(house: House, rng: Random) -> Case:
    index = {"version": 2, "data": "x", "weights": {"a": "b"}, "stage": "a/b", "kind": "latent", "frame_samples": 64,
             "bad": {"train/3": "silent"}}  # fmt: skip

    def lay(folder: Path) -> None:
        data = to_json(spoil_tree(index, rng))
        (folder / "index.json").write_bytes(rng.choice([data, data, spoil_bytes(data, rng)]))

    def read(folder: Path) -> None:
        if not is_whole(read_index(folder)):
            return
        found = EncodedOutput(folder)
        if not isinstance(found.bad, dict) or not isinstance(found.name, str):
            raise Taken(f"an index with {found.bad!r}")

    return Case("encoded music", lay, read)


def command_lines(house: House, rng: Random) -> Case:
    word = rng.choice([*WORDS, "1e400", "-1", "null", "{", "[1", "!!python/name:os.system", "a=b", str(10**400)])
    train = ["train", "recipes/musiccm/1_mel_vae.yaml", "--size", "tiny", "--run", "x", "--dry-run"]
    keys = ("--trainer.max_steps", "--data.seconds", "--data.corpus", "--model", "--data.batch_size", "--data",
            "--seed_everything", "--trainer.devices", "--model.autoencoder", "--trainer.callbacks")  # fmt: skip
    verb = rng.choice([
        [*train, f"{rng.choice(keys)}={word}"], [*train, rng.choice(keys), word], [*train[:4], word, "--run", "x"],
        [*train[:5], "--run", word, "--dry-run"], ["train", word, *train[2:]], [*train, "--machine", word],
        ["generate", str(house.folder / "musiccm"), "--prompt", word, "--seconds", "2", "--out", "o", "--steps", "1"],
        ["generate", str(house.folder / "musiccm"), "--prompt", "a", "--seconds", word, "--out", "o"],
        ["generate", str(house.folder / "musiccm"), "--prompt", "a", "--seconds", "1", "--seed", word, "--out", "o"],
        ["generate", word, "--prompt", "a", "--seconds", "2", "--out", "o"], ["data", "check", word],
        ["evaluate", "--generated", word, "--reference", word], ["compare", word, "--out", "o"], [word],
        ["copy", word, "y"],
    ])  # fmt: skip

    def read(folder: Path) -> None:
        from melody_cm.cli.main import main

        words = [each.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for each in verb]
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
            try:
                code = main(words)
            except SystemExit as stopped:  # argparse prints the usage.
                code = stopped.code
        said = errors.getvalue()
        if "--debug shows the traceback" in said or "Traceback" in said:
            raise RuntimeError(said.strip().splitlines()[-1][:300])
        if code:
            raise ValueError(" ".join(said.split())[-300:])

    return Case("command lines", lambda folder: None, read)


def _checked(path: Path) -> None:
    """Every clip that `data check` calls good is one that a training and an evaluation can read."""
    report = melody_cm.check_corpus(str(path))
    for line in [*report.problems, *report.remarks, report.left_out]:
        if "\n" in line:
            raise Taken(f"a problem of several lines: {line!r}")
    corpus = open_corpus(str(path))
    for split, clips in corpus.splits().items():
        good = report.clips[split]
        read = 0
        for random_crop in (True, False):
            dataset = MusicDataset(clips, RATE, 1.0, 0, random_crop, False)
            examples = list(dataset.examples(range(len(clips))))
            for example in examples:
                _sound(example.need_waveform().flatten(), 1.0)
                [caption.encode() for caption in example.captions]
            read = max(read, len(examples))
        if read < good:
            raise Taken(f"{good} good {split} clips, but {read} can be read")


def _sound(samples: torch.Tensor, seconds: float) -> None:
    if not bool(samples.isfinite().all()) or float(samples.abs().max()) > 4.0:
        raise Taken("samples that are no sound")
    if samples.numel() > (seconds + 0.5) * 48000:
        raise Taken(f"{samples.numel()} samples of {seconds} s")


def _write_music(folder: Path) -> None:
    """Three seconds of a tone with rests, in every format, with a manifest."""
    folder.mkdir(parents=True)
    time = np.arange(3 * RATE) / RATE
    music = 0.3 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(2 * np.pi * 2 * time)) + 0.01 * np.random.default_rng(
        0
    ).normal(size=len(time))
    for suffix, subtype in SUFFIXES.items():
        soundfile.write(folder / f"a.{suffix}", music, RATE, subtype=subtype)
    rows = [
        {"id": suffix, "audio": f"a.{suffix}", "caption": "a calm tone", "split": split, "start": 0.0, "duration": 3.0,
         "piece": suffix, "license": "CC0-1.0"}
        for suffix, split in zip(SUFFIXES, ("train", "train", "train", "valid", "test"), strict=True)
    ]  # fmt: skip
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _link_music(house: House, folder: Path) -> None:
    for file in (house.folder / "music").iterdir():
        if file.suffix != ".jsonl":
            (folder / file.name).symlink_to(file)


def _score(value: float) -> Score:
    return Score(value, value, value - 0.5, value + 0.5, "jackknife", 8, 8, False)


def _results() -> Any:
    rows = [
        Row("a", {"fad_logmel": _score(3.0), "times_real_time": _score(2.0)}, 4, {"x": {"prompt 0/take 0": 1.0}},
            {"speed": None, "passes": {"denoiser": 4}}),
        Row("b", {"fad_logmel": _score(4.0)}, 1, {"x": {"prompt 0/take 0": 2.0}}),
    ]  # fmt: skip
    differences = [Difference("a, 4 steps", "b, 1 step", "fad_logmel", -1.0, -1.5, -0.5, 8, 0.01, 0.02)]
    return melody_cm.Results("compare", {"seconds": 2.56, "created": "today", "notes": ["x"]}, rows, differences)


def _write_statistics(folder: Path) -> None:
    np.savez(folder / "fadtk.npz", **{"vggish.mu": np.zeros(4), "vggish.cov": np.eye(4)})
    from melody_cm.evaluation.reference import save_statistics
    from melody_cm.evaluation.statistics import EmbeddingStatistics

    statistics = EmbeddingStatistics.empty(4)
    statistics.add(torch.rand(8, 5, 4), [str(clip) for clip in range(8)])
    save_statistics(statistics, folder / "own.safetensors")
