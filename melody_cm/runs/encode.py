"""What the frozen encoders of recipes make of their music, computed once and kept in the run."""

import time
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import LightningModule
from torch import nn

from melody_cm.data.encoded import Encoding, FrozenOutput, encoded_folder, frozen_outputs, prepare
from melody_cm.data.jobs import progress
from melody_cm.interfaces import Autoencoder, Codec, Conditioner, JointEmbedding, Tokenizer
from melody_cm.placement import Placement
from melody_cm.runs.processes import say
from melody_cm.runs.recipe import Recipe, build_data
from melody_cm.runs.run import Run, quieten
from melody_cm.storage import build
from melody_cm.storage.description import annotations, classes_in, find_class

MEBIBYTE = 2**20
MAY_ENCODE = (Autoencoder, Codec, Conditioner, JointEmbedding, Tokenizer)


def encode(
    recipes: Sequence[Recipe],
    run: Run,
    processes: int | None = None,
    placement: Placement | None = None,
    again: bool = False,
    skip_unfinished: bool = False,
) -> None:
    """Encode for each recipe in turn what is not there yet; trainings in the run then read that.

    Args:
        recipes: what is to be trained.
        run: where their frozen stages are finished.
        processes: None for one a core, or one a GPU.
        placement: where the encoders work, and how precisely; `Placement.choose()` if left out.
        again: replace what was encoded before.
        skip_unfinished: leave out recipes whose frozen stages are still to be trained, unless that leaves none.

    Raises:
        FileNotFoundError: a frozen stage is not finished.
        ValueError: something was encoded by other weights or from other music, and `again` is not set.
    """
    quieten()
    made: set[Path] = set()
    left_out: list[FileNotFoundError] = []
    with run.enter().training_alone():
        for recipe in recipes:
            try:
                outputs = frozen_outputs(encoders(recipe), recipe.config["data"]["sample_rate"])
            except FileNotFoundError as error:
                left_out.append(error)
                if not skip_unfinished or len(left_out) == len(recipes):
                    raise
                say(f"{recipe.name}: left out, {error}")
                continue
            if not outputs:
                say(f"{recipe.name}: has no frozen encoder, nothing to encode")
                continue
            _encode(recipe.name, _opened(recipe, run, outputs, placement or Placement.choose(), again, made), processes)


def encoders(recipe: Recipe) -> nn.ModuleList:
    """The parts of a recipe's model that may hold frozen encoders; nothing else is built. A FileNotFoundError if a
    frozen stage is not finished."""
    model = recipe.config["model"]
    places = annotations(find_class(model["class_path"], LightningModule))
    slots = {name: slot for name, slot in model["init_args"].items() if slot is not None}
    wanted = [name for name in slots if any(issubclass(kind, MAY_ENCODE) for kind in classes_in(places.get(name)))]
    return nn.ModuleList([build(slots[name], places[name]) for name in wanted])


def _opened(
    recipe: Recipe, run: Run, outputs: list[FrozenOutput], placement: Placement, again: bool, made: set[Path]
) -> Encoding:
    """The encoding of a recipe's music, its folders ready: with `again` emptied, but for those that were `made` now."""
    data = build_data(recipe.config["data"])
    folder, fingerprint = encoded_folder(run.path, recipe.config["data"]), data.fingerprint()
    for output in outputs:
        own = folder / output.name
        prepare(own, output, fingerprint, placement.precision, again=again and own not in made)
        made.add(own)
    return Encoding(folder, outputs, data.corpus.splits(), data.sample_rate, data.seconds, placement)


def _encode(title: str, encoding: Encoding, processes: int | None) -> None:
    """Encode behind a progress bar, and say what was made."""
    started = time.monotonic()
    for output in encoding.outputs:
        if output not in encoding.wanted:
            say(f"{title}: {output.name} encoded before, skipped")
    if not encoding.wanted:
        return
    results = encoding.run(processes)  # Begins the processes, before the bar has a thread: forking wants only one.
    for _ in progress(results, f"{title}: encoding", len(encoding.todo)):
        pass
    for problem in list(encoding.bad.values())[:3]:
        say(f"left out a bad clip: {problem}")
    say(_sentence(title, encoding, time.monotonic() - started))


def _sentence(title: str, encoding: Encoding, seconds: float) -> str:
    files = {output.name: (encoding.folder / output.name).rglob("*.*") for output in encoding.wanted}
    sizes = {name: sum(file.stat().st_size for file in those) / MEBIBYTE for name, those in files.items()}
    written = ", ".join(f"{name} {size:.1f} MiB" for name, size in sizes.items())
    bad = f"; {len(encoding.bad)} bad clips left out, see `melody-cm data check`" if encoding.bad else ""
    return f"{title}: encoded {len(encoding) - len(encoding.bad)} clips in {seconds:.0f} s: {written}{bad}"
