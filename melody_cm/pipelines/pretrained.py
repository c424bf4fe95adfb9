"""What the pipelines share: checking a request, batches, and pipelines on disk.

A saved pipeline is a folder: `config.json` (class, plain settings, schedule, sampler), one folder with `config.json`
and `model.safetensors` for each network, and a model card. No pickles.
"""

import itertools
import math
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm import storage
from melody_cm.interfaces import AngleSchedule, GeneratedAudio, Network, Pipeline
from melody_cm.pipelines.request import Request, Stopwatch, clip_keys
from melody_cm.storage.configuration import find_class

FORMAT_VERSION = 1
MAX_STEPS = 1000


class PretrainedPipeline(Pipeline):
    """A pipeline that can be saved and loaded; subclasses say how one request becomes a waveform.

    Every constructor argument is kept as an attribute of the same name.
    """

    schedule: AngleSchedule
    num_steps: int
    guidance_scale: float

    @abstractmethod
    def make(self, request: Request, stopwatch: Stopwatch) -> Float[Tensor, "b 1 t"]:
        """The waveforms of one batch, at least `request.seconds` long; each part under `stopwatch`."""

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> GeneratedAudio:
        """One clip a prompt, all in one batch (see `Pipeline.generate`)."""
        return next(self.batches(prompts, seconds, seed, num_steps, guidance_scale, batch_size=max(1, len(prompts))))

    def batches(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        batch_size: int = 8,
    ) -> Iterator[GeneratedAudio]:
        """What `generate` makes, at most `batch_size` clips at a time; the request is checked before any of it."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        request = self._request(prompts, seconds, seed, num_steps, guidance_scale)
        return (self._run(part) for part in request.split(batch_size))

    @property
    def networks(self) -> dict[str, Network]:
        """The networks by the name of their constructor argument."""
        return {name: value for name, value in self.init_arguments.items() if isinstance(value, Network)}

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        tensors = itertools.chain.from_iterable(
            itertools.chain(network.parameters(), network.buffers()) for network in self.networks.values()
        )
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    def to(self, device: torch.device | str) -> "PretrainedPipeline":
        """Move every network; returns the pipeline."""
        for network in self.networks.values():
            network.to(device)
        return self

    def weight_hashes(self) -> dict[str, str]:
        """The content hash of every network's weights."""
        return {name: storage.hash_weights(storage.thaw(network)) for name, network in self.networks.items()}

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the pipeline to a folder, which appears, or replaces an older pipeline, when all of it is on disk.

        Raises:
            ValueError: the folder holds something else.
        """
        _check_replaceable(Path(folder))
        with storage.folder_atomically(Path(folder)) as aside:
            for name, network in self.networks.items():
                storage.save_network(storage.thaw(network), aside / name, portable=True)
            storage.write_json(aside / "config.json", self._config())
            storage.write_text(aside / "README.md", self._model_card())

    @classmethod
    def from_pretrained(cls, source: Path | str) -> "PretrainedPipeline":
        """Load a pipeline from a folder written by `save_pretrained`, or `owner/name` from the model hub.

        Called on `PretrainedPipeline` itself, it loads whichever system is there.

        Raises:
            FileNotFoundError: there is no such folder, or it holds no pipeline.
            ValueError: it holds another system.
        """
        folder = _local_folder(source)
        config = _read_config(folder)
        kind = find_class(config["class_path"])
        if not issubclass(kind, cls):
            raise ValueError(f"{source} holds a {kind.__name__}, not a {cls.__name__}; load it with {kind.__name__}")
        networks = {name: storage.load_network(folder / name) for name in config["networks"]}
        return storage.build({"class_path": config["class_path"], "init_args": {**config["init_args"], **networks}})

    def _request(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int],
        num_steps: int | None,
        guidance_scale: float | None,
    ) -> Request:
        if isinstance(prompts, str) or not prompts or not all(prompt.strip() for prompt in prompts):
            raise ValueError(f"prompts must be a non-empty list of non-empty texts, got {prompts!r}")
        if not 0 < seconds <= self.max_seconds:
            raise ValueError(
                f"{seconds:g} seconds asked for, but this {type(self).__name__} makes more than 0 and at most "
                f"{self.max_seconds:g} seconds in one piece; ask for at most {self.max_seconds:g}"
            )
        num_steps = self.num_steps if num_steps is None else num_steps
        if not 1 <= num_steps <= MAX_STEPS:
            raise ValueError(f"num_steps is {num_steps}; sampling takes 1 to {MAX_STEPS} steps")
        self.schedule.angles(num_steps)  # Refuses what the schedule cannot do before any work is done.
        guidance_scale = self._guidance_scale(guidance_scale)
        if not math.isfinite(guidance_scale):
            raise ValueError(f"guidance_scale is {guidance_scale}; give a finite number, 1 for none")
        return Request(list(prompts), seconds, clip_keys(seed, len(prompts)), num_steps, guidance_scale)

    def _guidance_scale(self, asked: float | None) -> float:
        return self.guidance_scale if asked is None else asked

    @torch.no_grad()
    def _run(self, request: Request) -> GeneratedAudio:
        for network in self.networks.values():
            network.eval()
        stopwatch = Stopwatch(self.device)
        waveform = self.make(request, stopwatch).float()
        length = round(request.seconds * self.sample_rate)
        if waveform.shape[-1] < length or not waveform.isfinite().all():
            raise ValueError(
                f"the decoder gave {waveform.shape[-1]} samples of {length} asked for, finite: "
                f"{bool(waveform.isfinite().all())}; the networks do not fit each other or their training diverged"
            )
        return GeneratedAudio(waveform[..., :length].clamp(-1, 1), self.sample_rate, stopwatch.seconds)

    def _config(self) -> dict[str, Any]:
        plain = {name: value for name, value in self.init_arguments.items() if name not in self.networks}
        kind = type(self)
        return {
            "format_version": FORMAT_VERSION,
            "class_path": f"{kind.__module__}.{kind.__qualname__}",
            "networks": list(self.networks),
            "init_args": storage.describe(plain),
        }

    def _model_card(self) -> str:
        name = type(self).__name__
        parts = "\n".join(
            f"- `{part}`: {type(storage.thaw(network)).__name__}, "
            f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters"
            for part, network in self.networks.items()
        )
        return (
            f"# {name}\n\nText to instrumental music with melody_cm: {self.sample_rate} Hz mono, "
            f"at most {self.max_seconds:g} seconds in one piece.\n\n{parts}\n\n"
            f'```python\nfrom melody_cm.pipelines import {name}\n\npipeline = {name}.from_pretrained("THIS_FOLDER")\n'
            f'audio = pipeline.generate(["a calm piano melody"], seconds={self.max_seconds:g})\n```\n'
        )


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    config = folder / "config.json"
    if not config.is_file() or "networks" not in storage.read_json(config):
        raise ValueError(f"{folder} holds something else than a pipeline; give a new folder")


def _local_folder(source: Path | str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) or str(source).startswith("."):
        raise FileNotFoundError(f"there is no folder {source}; give a folder written by `melody-cm export`")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source)))
    except Exception as error:  # The hub client raises many kinds; each means that the model cannot be had.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileNotFoundError(
            f"there is no folder {source}, and no model of that name can be had from the model hub ({reason})"
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no pipeline: config.json is missing; make one with `melody-cm export`")
    config = storage.read_json(folder / "config.json")
    if missing := [key for key in ("class_path", "networks", "init_args") if key not in config]:
        raise ValueError(f"{folder / 'config.json'} describes no pipeline: it lacks {', '.join(missing)}")
    return config
