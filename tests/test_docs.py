"""What README and docs tell people to type works, and what they name exists."""

import re
import shlex
from pathlib import Path

import pytest

from melody_cm.cli.main import build_parser, main
from melody_cm.data import write_corpus

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


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
        parsed, rest = build_parser().parse_known_args(command)
        assert not rest or parsed.takes_overrides, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_link_exists(page):
    text = page.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    named = re.findall(r"`((?:melody_cm|configs|recipes|docs|tests|benchmarks)/[\w./-]*)`", text)
    folders = {"melody_cm", "configs", "recipes", "docs", "tests", "benchmarks"}
    short = re.findall(r"`((?:diffusion|autoencoders|data|evaluation|pipelines|training|storage)/\w+\.py)`", text)
    for target in links:
        assert (page.parent / target).exists(), target
    for path in [*named, *(f"melody_cm/{name}" for name in short)]:
        assert path.split("/")[0] in folders
        assert (REPOSITORY / path).exists(), path


def test_the_commands_and_the_python_of_the_readme_run(tmp_path, monkeypatch):
    for folder in ("recipes", "configs"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)
    write_corpus(tmp_path / "music", 48, seconds=2.56, sample_rate=16000)
    few_steps = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
    for command in commands(REPOSITORY / "README.md"):
        command = ["music" if word == "path/to/music" else word for word in command]
        assert main(command + (few_steps if command[0] == "train" else [])) == 0, command
    assert list(Path("pieces").glob("*.wav"))
    for block in blocks(REPOSITORY / "README.md", "python"):
        exec(block, {})
