"""What README and docs tell people to type works, and what they name exists."""

import argparse
import ast
import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mido
import pytest
import yaml

import melody_cm
from melody_cm.cli.main import VERBS, build_parser, main
from melody_cm.data import write_corpus
from melody_cm.data.fluidsynth import SOUND_FONT
from melody_cm.runs import Setting, plan

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FOLDERS = ("melody_cm", "configs", "recipes", "docs", "tests", "benchmarks")
ROOMS = "|".join(sorted(folder.name for folder in (REPOSITORY / "melody_cm").iterdir() if folder.is_dir()))
# Classes of other libraries, and those that docs/extending.md writes itself.
FOREIGN = {
    "ClapModel",
    "CosineAngles",
    "DilatedDenoiser",
    "ChromaEmbedding",
    "EncodecModel",
    "LCMScheduler",
    "ModelCheckpoint",
    "SpeechT5HifiGan",
    "UNet2DConditionModel",
    "AutoencoderKL",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The melody-cm commands of a page, without the program's name."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [line[1:] for line in lines if line and line[0] == "melody-cm"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_parses(page):
    for command in commands(page):
        parsed, rest = build_parser(VERBS).parse_known_args(command)
        assert not rest or parsed.takes_overrides, command


# The examples of docs/extending.md bring files of their own, and are run by tests/test_extending.py.
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "extending"], ids=lambda page: page.name)
def test_every_override_of_a_recipe_is_known(page, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    for command in commands(page):
        parsed, overrides = build_parser(VERBS).parse_known_args(command)
        if command[0] == "train":
            plan(parsed.recipe, Setting(parsed.size, parsed.machine, overrides=overrides))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_link_exists(page):
    text = page.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    for target in links:
        assert (page.parent / target).exists(), target
    named = re.findall(rf"(?<![\w/.])((?:{'|'.join(FOLDERS)})/[\w./-]*[\w/])", text)
    short = re.findall(rf"`((?:{ROOMS})/(?:\w+/)*(?!test_)\w+\.py)", text)
    for path in [*named, *(f"melody_cm/{name}" for name in short)]:
        if "SIZE" not in path:
            assert (REPOSITORY / path).exists(), path


@functools.cache
def defined(file: Path) -> set[str]:
    """The classes, functions and constants of a file, and its classes' methods as `Class.method`."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_function_and_test_named_with_its_file_exists(page):
    """`nn/mlp.py:MLP` in the code, `diffusion/test_angles.py::test_steps_of_the_paper` in the tests."""
    text = page.read_text(encoding="utf-8")
    for folder, colon in (("melody_cm", ":"), ("tests", "::")):
        for path, name in re.findall(rf"`([\w/]+\.py){colon}([A-Za-z][\w.]*)`", text):
            assert name in defined(REPOSITORY / folder / path), f"{path}{colon}{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_dotted_name_can_be_imported(page):
    for name in set(re.findall(r"(?<![\w/])melody_cm(?:\.\w+)+", page.read_text(encoding="utf-8"))):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert _found(name) is not None, name


def _found(name: str) -> object:
    """What a dotted name means: in a module, or through a room that offers it."""
    module, _, last = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), last)
    except ModuleNotFoundError:
        return functools.reduce(lambda owner, part: getattr(owner, part, None), name.split(".")[1:], melody_cm)


@functools.cache
def classes() -> set[str]:
    files = [path for folder in ("melody_cm", "tests") for path in (REPOSITORY / folder).rglob("*.py")]
    texts = (file.read_text(encoding="utf-8") for file in files)
    return {name for text in texts for name in re.findall(r"^ *class (\w+)", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_class_in_backticks_exists(page):
    named = re.findall(r"`([A-Z]+[a-z]\w*[A-Z]\w*)(?:\(|\.|`)", page.read_text(encoding="utf-8"))
    assert set(named) <= classes() | FOREIGN


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from options(inner)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_backticks_exists(page):
    named = re.findall(r"`(--[a-z][a-z-]*)(?=[ =`])", page.read_text(encoding="utf-8"))
    assert set(named) <= set(options(build_parser(VERBS)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_yaml_block_is_yaml(page):
    for block in blocks(page, "yaml"):
        assert yaml.safe_load(block), block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_no_place_on_a_machine(page):
    assert not re.search(r"(?<![\w.])/(?:work|home|root|tmp|mnt)/", page.read_text(encoding="utf-8"))


# Pages whose commands another test runs, or that say what was once run for hours.
ELSEWHERE = ("extending", "results", "processes", "performance")
# What commands with these words need is not here: weights of other people, a GPU, files of other collections, hours.
NOT_HERE = {
    *("--device", "--machine", "paper", "vggish:vggish-10086976.pth", "clap:laion/clap-htsat-unfused", "reproduce"),
    *("configs/semantic_encoder/pretrained.yaml", "configs/joint_embedding/clap.yaml", "runs/public/musiccm_public"),
    *("audiocraft", "musiccaps", "song-describer", "fma", "jamendo"),  # data/formats/test_importing.py
}
if importlib.util.find_spec("gradio") is None:  # An extra.
    NOT_HERE |= {"demo"}
SMALLER = {"2000": "48", "60": "6", "30:drums enter": "3:drums enter", "4.5": "2.4"}
FEW = ["--data.batch_size=4", "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.callbacks=null"]
PYTHON = ("README", "index", "melody", "musiclm", "using")


@pytest.fixture(scope="module")
def things(tiny_run, tmp_path_factory):
    """What the pages speak of: music under all its names, its scores, a run under all its names, prompts and votes."""
    folder = tmp_path_factory.mktemp("things")
    write_corpus(folder / "music", 48, seconds=2.56, sample_rate=16000)
    rows = [json.loads(line) for line in (folder / "music/manifest.jsonl").read_text().splitlines()]
    (folder / "music/train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows if row["split"] == "train")
    )
    table = ["id,audio,caption", *(f'{row["id"]},{row["audio"]},"{row["caption"]}"' for row in rows)]
    (folder / "music/songs.csv").write_text("\n".join(table))
    for name in ("path/to/music", "my_music", "songs", "quartet", "out"):
        shutil.copytree(folder / "music", folder / name)
    (folder / "songs/manifest.jsonl").unlink()
    shutil.copy(folder / "music" / rows[0]["audio"], folder / "song.wav")
    (folder / "scores").mkdir()
    song = mido.MidiFile(
        tracks=[mido.MidiTrack([mido.Message("note_on", note=60), mido.Message("note_off", time=960)])]
    )
    song.save(folder / "scores/a.mid")
    score = {"id": "a", "audio": None, "caption": "a note", "midi": "a.mid", "duration": 1.0}
    (folder / "scores/manifest.jsonl").write_text(json.dumps(score))
    (folder / "My.sf2").symlink_to(SOUND_FONT)
    (folder / "prompts.txt").write_text("\n".join(["a calm piano"] * len(rows)))
    for run in ("mine", "demo", "quickstart"):
        shutil.copytree(tiny_run, folder / "runs" / run, copy_function=os.link)
    for system in ("melody", "musiccm", "musiclm"):
        melody_cm.Run(tiny_run).pipeline(system).save_pretrained(folder / f"my_{system}")
    cast = {"prompt": "calm", "a": "x", "b": "y", "vote": "a", "time": "2026-01-01T00:00:00Z"}
    for name in ("anna", "ben"):
        ballot = {"schema_version": 1, "comparison": "c", "report": "x and y", "session": name, "votes": [cast]}
        (folder / f"votes_{name}.json").write_text(json.dumps(ballot))
    return folder


def runnable(command: list[str]) -> list[str] | None:
    """A command at a tiny size; with `--dry-run` where other tests run the whole: trainings, comparisons, ablations."""
    if NOT_HERE & set(command) or (command[:2] == ["data", "render"] and not shutil.which("fluidsynth")):
        return None
    command = [SMALLER.get(word, word) for word in command]
    if command[0] == "train" and {"tuned", "quartet"} & set(command):
        return [*command, *FEW]
    if command[:2] == ["data", "encode"]:
        return [*command, "--data.corpus.num_clips=48"]
    return [*command, *(["--dry-run"] if command[0] in ("train", "compare", "ablate") else [])]


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if commands(p) and p.stem not in ELSEWHERE], ids=lambda p: p.stem)
def test_every_command_and_the_python_of_a_page_run_in_a_folder_without_the_checkout(
    page, things, tmp_path, monkeypatch
):
    here = tmp_path / "here"
    shutil.copytree(things, here, copy_function=os.link, symlinks=True)
    monkeypatch.chdir(here)
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    ran = []
    for words in commands(page):
        if (command := runnable(words)) is None:
            continue
        if words[0] == "export" and Path(words[2]).exists():
            shutil.rmtree(words[2])
        if command[0] == "evaluate" and "--against" in command:  # There is an older one.
            place = command.index("--against")
            shown = [*command[:place], *command[place + 2 :]]
            assert main([command[place + 1] if word == "results.json" else word for word in shown]) == 0, command
        assert main(command) == 0, command
        ran.append(command)
    assert ran
    for block in blocks(page, "python") if page.stem in PYTHON else []:
        exec(block, {})


def test_the_folder_of_the_fine_tuning_example_has_its_13_captioned_clips(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(blocks(REPOSITORY / "docs/finetuning.md", "python")[0], {})
    assert len(list((tmp_path / "quartet").glob("*.ogg"))) == 13
    assert len(list((tmp_path / "quartet").glob("*.txt"))) == 13


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_quickstart_begins_with_its_plan_and_counts_its_stages():
    command = ["make", "--no-print-directory", "--dry-run", "--assume-old=setup", "quickstart"]
    lines = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    stages = [line for line in lines if re.match(r"\S+/melody-cm ", line)]
    assert re.match(rf'echo "plan: after the set-up, {len(stages)} stages, about \w+ minutes on 2 cores: ', lines[0])
    told = [line for line in lines if line.startswith('echo "stage ')]
    assert [line[len('echo "') :].split(":")[0] for line in told] == [
        f"stage {k} of {len(stages)}" for k in range(1, len(stages) + 1)
    ]
