"""What README and docs tell people to type works, and what they name exists."""

import argparse
import ast
import functools
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import melody_cm
from melody_cm.cli.main import VERBS, build_parser, main
from melody_cm.data import write_corpus
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
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    return {node.name for node in nodes if isinstance(node, ast.ClassDef)}


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


def test_the_commands_and_the_python_that_newcomers_try_run(tmp_path, monkeypatch, tiny_run):
    """Trainings are planned, not run: what they leave is there already, from two steps each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)
    monkeypatch.setenv("MELODY_CM_CACHE", str(tiny_run.parents[1] / "cache"))
    write_corpus(tmp_path / "music", 48, seconds=2.56, sample_rate=16000)
    Path("song.wav").symlink_to(next((tmp_path / "music").rglob("*.flac")))
    Path("runs").symlink_to(tiny_run.parent)
    page = REPOSITORY / "docs" / "using.md"
    assert all(command in commands(page) for command in commands(REPOSITORY / "README.md"))
    for command in commands(page):
        command = ["music" if word == "path/to/music" else word for word in command]
        if command[0] == "compare":  # Its run has another corpus; test_every_command_parses knows it.
            continue
        assert main([*command, *(["--dry-run"] if command[0] == "train" else [])]) == 0, command
    assert list(Path("pieces").glob("*.wav"))
    assert list(Path("longer").glob("*.wav"))
    for block in blocks(page, "python"):
        exec(block, {})
