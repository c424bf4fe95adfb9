"""Weights to start from: an exported system gives a stage its first weights, and the stages that it needs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import Module

from melody_cm.interfaces import Network
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.runs.processes import is_first_process, say, wait_until
from melody_cm.runs.recipe import Recipe
from melody_cm.runs.systems import SAMPLING
from melody_cm.storage import hash_tensors, read_keys, save_network, write_json
from melody_cm.storage.description import STAGE
from melody_cm.training.stage import Stage


@dataclass
class Held:
    """A network of an exported system."""

    stage: str  # That made it.
    name: str  # Its role in the system.
    network: Network
    weights: Mapping[str, Tensor]  # Its own, by name.


class StartingWeights:
    """An exported system (as of `PretrainedPipeline.from_pretrained`) whose networks a training begins with. A
    FileNotFoundError if there is none, a ValueError if it does not say which stages made it."""

    def __init__(self, source: Path | str) -> None:
        self.source = str(source)
        self.pipeline = PretrainedPipeline.from_pretrained(source)
        self.held = list(_held(self.pipeline))
        if not self.held:
            raise ValueError(f"{source} does not say which stages made it; export it again with this version")

    @property
    def stages(self) -> list[str]:
        """The stages of which it holds networks."""
        return list(dict.fromkeys(each.stage for each in self.held))

    def hashes(self, stage: str) -> dict[str, str]:
        """The content hashes of the weights that a stage begins with, by role."""
        return {each.name: hash_tensors(each.weights) for each in self._of(stage)}

    def steps(self, stage: str) -> int | None:
        """How many steps made the weights that a stage begins with, all trainings together; None if nobody knows."""
        known = self.pipeline.history.get(stage)
        counts = [known.get(name) or 0 for name in ("steps", "started_after")] if isinstance(known, Mapping) else []
        return sum(counts) if counts and all(isinstance(count, int) for count in counts) else None

    def give(self, recipe: Recipe, module: Module) -> None:
        """Let the networks of a stage begin with these weights; a student may begin as its teacher instead. A
        ValueError if the system does not hold them, they do not fit, or the stage does not learn by gradient."""
        if not isinstance(module, Stage):
            raise ValueError("this stage is fitted, not trained: it starts from no weights; leave --from out")
        found = {}
        for slot, network in module.exports.items():
            fitting = [each for each in self._of(recipe.name) if type(each.network) is type(network)]
            named = [each for each in fitting if each.name == slot] or fitting
            if named:
                found[slot] = named[0].weights
            elif slot not in module.begins_as_frozen:
                raise ValueError(
                    f"{self.source} holds no {slot} of this stage, but networks of {', '.join(self.stages)}; "
                    "start one of those, or give the export of a system that has it"
                )
        module.start_from(found, self.source)

    def adopt(self, stages: Iterable[str], run: Path) -> None:
        """Put stages that are not finished in a run there, as finished ones that others can read; a ValueError if the
        system does not hold one of them."""
        for stage in dict.fromkeys(stages):
            folder, networks = run / stage, self._of(stage)
            if (folder / "finished.json").is_file():
                continue
            if not networks:
                raise ValueError(
                    f"stage {stage} is not finished in {run}, and {self.source} holds only networks of "
                    f"{', '.join(self.stages)}; train it first"
                )
            self.adopt([part for each in networks for part in each.network.left_out.values()], run)
            if is_first_process():
                for each in networks:
                    _save(each, folder / "export" / each.name)
                write_json(folder / "finished.json", self._adopted(networks))
            finished = folder / "finished.json"
            wait_until(finished.is_file, f"{finished} was not written by the first process")
            say(f"{stage}: taken from {self.source}")

    def _of(self, stage: str) -> list[Held]:
        return [each for each in self.held if each.stage == stage]

    def _adopted(self, networks: Sequence[Held]) -> dict[str, Any]:
        """A finished.json that tells where a stage came from, and how a denoiser is to be sampled."""
        plain = self.pipeline.settings()["init_args"]
        sampling = {name: plain[name] for name in SAMPLING if name in plain}
        if plain.get("embedded_guidance_scale") is not None:
            sampling["objective"] = {"init_args": {"guidance_scale": plain["embedded_guidance_scale"]}}
        known = self.pipeline.history.get(networks[0].stage)
        told = {"from": self.source, "history": known if isinstance(known, Mapping) else {}}
        return {
            "adopted": told | {"weights": {each.name: hash_tensors(each.weights) for each in networks}},
            "config": {"model": {"init_args": sampling}, "data": {"seconds": self.pipeline.max_seconds}},
            "inputs": {},
            "outcome": {},
        }


def _held(pipeline: PretrainedPipeline) -> Iterator[Held]:
    for role, network in pipeline.networks.items():
        inner = dict(network.named_modules())  # The network itself is "".
        parts = {part: stage for part, stage in network.made_by.items() if part in inner}
        for part, stage in parts.items():
            inside = inner[part]
            others = tuple(f"{other}." for other in parts if other and not part)
            weights = {name: value for name, value in inside.state_dict().items() if not name.startswith(others)}
            yield Held(stage, part or role, inside, weights)


def _save(held: Held, folder: Path) -> None:
    """Export a network as its own stage would have: what was left out of the system's export is a stage again."""
    save_network(held.network, folder)
    file = folder / "config.json"
    config = read_keys(file)
    config["init_args"] |= {name: f"{STAGE}{stage}" for name, stage in held.network.left_out.items()}
    write_json(file, config)
