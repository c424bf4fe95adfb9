"""The page, made with gradio (an optional part): music of a text, of given music, and a blind listening test."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from melody_cm.audio import GeneratedAudio
from melody_cm.comparison.demo.listening import Pair, Votes, draw_pair
from melody_cm.pipelines import EditingPipeline, PretrainedPipeline, Request
from melody_cm.pipelines.files import read_prompt
from melody_cm.placement import Placement
from melody_cm.runs import open_source

PROMPT = "slow solo piano in a minor key"
CHOICES = {"a": "A is better", "b": "B is better", "none": "Neither"}
CONTINUE, INPAINT = "go on from its end", "make a part anew"


def open_page(
    sources: Sequence[str],
    placement: Placement | None = None,
    votes: Path = Path("votes"),
    host: str = "127.0.0.1",
    port: int | None = None,
) -> None:
    """Show systems on a page, until Ctrl-C.

    Args:
        sources: folders written by `melody-cm export`, RUNS/RUN/SYSTEM, demo:NAME or owner/name.
        votes: folder of the votes; host, port: where the page is; port None for the first that is free from 7860 on.

    Raises:
        ImportError: gradio is missing.
        FileNotFoundError, ValueError: no system there, or one that is named twice.
    """
    import_gradio()
    systems = open_systems(sources, placement or Placement.choose())
    build_page(systems, votes).launch(server_name=host, server_port=port, quiet=True, footer_links=[])


def open_systems(sources: Sequence[str], placement: Placement) -> dict[str, PretrainedPipeline]:
    """Each source's system, placed, by the last word of the source, or all of it where two are the same."""
    if len(set(sources)) < len(sources):
        raise ValueError(f"{', '.join(sources)}: a system is named twice; name each once")
    words = [source.rstrip("/").replace(":", "/").rpartition("/")[2] for source in sources]
    names = [word if words.count(word) == 1 else source for word, source in zip(words, sources, strict=True)]
    systems = {name: open_source(source) for name, source in zip(names, sources, strict=True)}
    return {name: system.to(placement.device, placement.dtype) for name, system in systems.items()}


def import_gradio() -> Any:
    """The package gradio, told to report to nobody.

    Raises:
        ImportError: it is missing.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise ImportError("the page needs gradio; install it by: pip install 'melody_cm[demo]'") from error
    return gradio


def build_page(systems: Mapping[str, PretrainedPipeline], votes: Path) -> Any:
    """The page as a `gradio.Blocks`, which `launch()` shows."""
    gradio = import_gradio()
    with gradio.Blocks(title="melody_cm", analytics_enabled=False) as page:
        gradio.Markdown("# melody_cm\n" + "  \n".join(f"**{name}**: {system!r}" for name, system in systems.items()))
        with gradio.Tab("Side by side"):
            _side_by_side(gradio, systems)
        with gradio.Tab("Given music"):
            _given_music(gradio, systems)
        with gradio.Tab("Listening test"):
            _listening_test(gradio, systems, Votes(votes, systems))
    return page


def _fields(gradio: Any, seconds: float | int) -> list[Any]:
    """What a request needs, on one row."""
    with gradio.Row():
        return [
            gradio.Textbox(PROMPT, label="Prompt", scale=3),
            gradio.Number(seconds, label="Seconds", minimum=0.1),
            gradio.Number(0, label="Seed", precision=0),
            gradio.Number(0, label="Steps (0: its own)", precision=0, minimum=0),
        ]


def _side_by_side(gradio: Any, systems: Mapping[str, PretrainedPipeline]) -> None:
    fields = _fields(gradio, _trained_seconds(systems))
    with gradio.Row():
        chosen = gradio.CheckboxGroup(list(systems), value=list(systems), label="Systems", scale=3)
        loop = gradio.Checkbox(label="A loop (MusicCM)")
    button = gradio.Button("Make music", variant="primary")
    with gradio.Row():
        for name, system in systems.items():
            with gradio.Column(min_width=240):
                cells = [_player(gradio, name), gradio.Markdown()]
            _on(button, _maker(gradio, name, system), [*fields, chosen, loop], cells)


def _maker(gradio: Any, name: str, system: PretrainedPipeline) -> Callable[..., Any]:
    """What one system answers, with a bar: gradio finds it among the default values."""
    bar = gradio.Progress()

    def make(
        prompt: str, seconds: float | int, seed: int, steps: int, names: list[str], loop: bool, bar: Any = bar
    ) -> tuple[Any, str]:
        if name not in names:
            return None, ""
        told = {"loop": loop, "progress": lambda *step: bar(step, desc=name)}
        return _tried(system, prompt, seconds, seed, steps or None, **told)

    return make


def _tried(system: PretrainedPipeline, *request: Any, **settings: Any) -> tuple[Any, str]:
    """What a system makes and how long it took, or why it cannot."""
    try:
        audio = system.generate(*request, **settings)
    except ValueError as error:
        return None, f"*{error}*"
    return _sound(audio), f"{audio.seconds:.1f} s of music in {sum(audio.timings.values()):.1f} s"


def _given_music(gradio: Any, systems: Mapping[str, PretrainedPipeline]) -> None:
    able = [name for name, system in systems.items() if isinstance(system, EditingPipeline)]
    if not able:
        gradio.Markdown("None of these systems goes on from given music; MeLoDy does.")
        return
    with gradio.Row():
        music = gradio.Audio(type="filepath", sources=["upload", "microphone"], label="Music")
        with gradio.Column():
            name = gradio.Dropdown(able, value=able[0], label="System")
            what = gradio.Radio([CONTINUE, INPAINT], value=CONTINUE, label="What to do with it")
            with gradio.Row():
                begin = gradio.Number(0.5, label="Anew from (seconds)")
                end = gradio.Number(1.0, label="to (seconds)")
    fields = _fields(gradio, 2 * _trained_seconds(systems))
    gradio.Markdown("Going on, the seconds count the music given.")
    button, made = gradio.Button("Make music", variant="primary"), _player(gradio, "Result")

    def make(*given: Any) -> Any:
        with _shown(gradio):
            return _sound(edited(systems, *given))

    _on(button, make, [music, name, what, begin, end, *fields], made)


def edited(
    systems: Mapping[str, PretrainedPipeline],
    path: str | None,
    name: str,
    what: str,
    begin: float | int,
    end: float | int,
    prompt: str,
    seconds: float | int,
    seed: int,
    steps: int,
) -> GeneratedAudio:
    """The music of a file, gone on with or with a part made anew.

    Raises:
        ValueError, AudioProblem: no file, or what `EditingPipeline` refuses.
    """
    if path is None:
        raise ValueError("there is no music; give a sound file, or sing")
    system = systems[name]
    music = read_prompt(Path(path), system.sample_rate).waveform
    asked = {"prompts": [prompt] if prompt.strip() else [], "seed": seed, "num_steps": steps or None}
    if what == INPAINT:
        return system.inpaint(music, system.sample_rate, float(begin), float(end), Request(**asked))
    return system.continue_from(music, system.sample_rate, Request(seconds=seconds, **asked))


def _listening_test(gradio: Any, systems: Mapping[str, PretrainedPipeline], votes: Votes) -> None:
    if len(systems) < 2:
        gradio.Markdown("A listening test needs two systems.")
        return
    gradio.Markdown("Two of the systems, drawn by chance, equally loud. Listen to both, then vote.")
    with gradio.Row():
        prompt = gradio.Textbox(PROMPT, label="Prompt", scale=3)
        seconds = gradio.Number(_trained_seconds(systems), label="Seconds", minimum=0.1)
    pair, session, heard = gradio.State(None), gradio.State(None), gradio.State([])
    draw = gradio.Button("Next pair", variant="primary")
    with gradio.Row():
        players = {side: _player(gradio, side.upper()) for side in "ab"}
    with gradio.Row():
        buttons = {choice: gradio.Button(text) for choice, text in CHOICES.items()}
    said = gradio.Markdown()

    def drawn(prompt: str, seconds: float | int) -> tuple[Any, ...]:
        with _shown(gradio):
            found, clips = draw_pair(systems, prompt, seconds)
        return found, [], *map(_sound, clips), ""

    def vote(choice: str, pair: Pair | None, session: str | None, heard: list[str]) -> tuple[Any, ...]:
        if pair is None:
            return pair, session, "Ask for a pair first."
        if len(set(heard)) < 2:
            return pair, session, "Listen to both first."
        session = session or uuid.uuid4().hex
        return None, session, f"{votes.add(session, pair, choice)} vote(s) kept. Ask for the next pair."

    _on(draw, drawn, [prompt, seconds], [pair, heard, *players.values(), said])
    for side, player in players.items():
        player.play(lambda heard, side=side: [*heard, side], heard, heard, show_progress="hidden")
    for choice, button in buttons.items():
        given = [pair, session, heard]
        button.click(lambda *state, choice=choice: vote(choice, *state), given, [pair, session, said])


@contextmanager
def _shown(gradio: Any) -> Iterator[None]:
    """Errors that a user can do something about are shown on the page."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gradio.Error(str(error), print_exception=False) from error


def _on(button: Any, work: Callable[..., Any], inputs: list[Any], outputs: Any) -> None:
    """One request at a time, because the networks compute on all cores."""
    button.click(work, inputs, outputs, concurrency_limit=1, concurrency_id="networks")


def _player(gradio: Any, label: str) -> Any:
    return gradio.Audio(label=label, interactive=False, format="wav")


def _sound(audio: GeneratedAudio) -> tuple[int, Any]:
    """A clip as gradio plays it: its rate and 16-bit samples."""
    return audio.sample_rate, (audio.numpy() * 32767).round().astype("int16")


def _trained_seconds(systems: Mapping[str, PretrainedPipeline]) -> float | int:
    return min(system.max_seconds for system in systems.values())
