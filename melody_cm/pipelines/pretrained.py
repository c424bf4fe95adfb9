"""What the pipelines share: checking a request, batches, streams, and pipelines on disk.

A saved pipeline is a folder: `config.json` (class, plain settings, schedule, sampler), one folder with `config.json`
and `model.safetensors` for each network, and a model card. No pickles.
"""

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm import storage
from melody_cm.interfaces import AngleSchedule, GeneratedAudio, JointEmbedding, Network, Pipeline
from melody_cm.pipelines.blocks import joined, one_ahead, without_gradient
from melody_cm.pipelines.request import AudioPrompt, Prompt, Request, Stopwatch, clip_keys
from melody_cm.signal import resample
from melody_cm.storage import find_class
from melody_cm.storage.pretrained import is_hub_id

FORMAT_VERSION = 1
MAX_STEPS = 1000


class PretrainedPipeline(Pipeline):
    """A pipeline that can be saved and loaded; subclasses say how one request becomes a waveform.

    Every constructor argument is kept as an attribute of the same name. A system that makes music longer than it was
    trained on overrides `longest_seconds` and `make_blocks`.
    """

    joint_embedding: JointEmbedding
    schedule: AngleSchedule
    num_steps: int
    guidance_scale: float
    guidance_embedded: bool = False
    embedded_guidance_scale: float | None = None

    @abstractmethod
    def make(self, request: Request, stopwatch: Stopwatch) -> Float[Tensor, "b 1 t"]:
        """The waveforms of one batch, at least `request.seconds` long; each part under `stopwatch`.

        The request asks for no more than `max_seconds`.
        """

    def make_blocks(self, request: Request, stopwatch: Stopwatch) -> Iterator[Float[Tensor, "b 1 _"]]:
        """The same as blocks, each given away when it is finished, of up to `longest_seconds` together."""
        yield self.make(request, stopwatch)

    @property
    def longest_seconds(self) -> float:
        """The longest music that one request may ask for."""
        return self.max_seconds

    @property
    def shortest_prompt_seconds(self) -> float:
        """The shortest music that says enough in place of a text."""
        return 0.0

    def generate(
        self,
        prompts: Sequence[Prompt],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> GeneratedAudio:
        """One clip a prompt, all in one batch (see `Pipeline.generate`)."""
        return next(self.batches(prompts, seconds, seed, num_steps, guidance_scale, batch_size=max(1, len(prompts))))

    def stream(
        self,
        prompts: Sequence[Prompt],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Iterator[GeneratedAudio]:
        """What `generate` makes, as blocks with their own timings; the next is made while the caller has the last."""
        batch_size = max(1, len(prompts))
        return one_ahead(next(self.streams(prompts, seconds, seed, num_steps, guidance_scale, batch_size)))

    def batches(
        self,
        prompts: Sequence[Prompt],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        batch_size: int = 8,
    ) -> Iterator[GeneratedAudio]:
        """What `generate` makes, at most `batch_size` clips at a time; the request is checked before any of it."""
        streams = self.streams(prompts, seconds, seed, num_steps, guidance_scale, batch_size)
        return (joined(list(blocks)) for blocks in streams)

    def streams(
        self,
        prompts: Sequence[Prompt],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        batch_size: int = 8,
    ) -> Iterator[Iterator[GeneratedAudio]]:
        """`stream` for at most `batch_size` clips at a time; the request is checked before any of it."""
        request = self._request(prompts, seconds, seed, num_steps, guidance_scale)
        return (self._finish(part, self.make_blocks, seconds) for part in request.split(batch_size))

    def embed_prompts(self, prompts: Sequence[Prompt]) -> Float[Tensor, "b d"]:
        """Joint embeddings of texts, and of music that stands in their place."""
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        embedded = iter(self.joint_embedding.embed_text(texts) if texts else [])
        return torch.stack([next(embedded) if isinstance(p, str) else self._embed_audio(p) for p in prompts])

    def _embed_audio(self, prompt: AudioPrompt) -> Float[Tensor, " d"]:
        waveform = resample(prompt.waveform, prompt.sample_rate, self.joint_embedding.sample_rate)
        return self.joint_embedding.embed_audio(waveform.to(self.device))[0]

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
        return {name: storage.hash_weights(network) for name, network in self.networks.items()}

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the pipeline to a folder, which appears, or replaces an older pipeline, when all of it is on disk.

        Raises:
            ValueError: the folder holds something else.
        """
        _check_replaceable(Path(folder))
        with storage.folder_atomically(Path(folder)) as aside:
            for name, network in self.networks.items():
                storage.save_network(network, aside / name, portable=True)
            storage.write_json(aside / "config.json", self.settings())
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
        prompts: Sequence[Prompt],
        seconds: float,
        seed: int | Sequence[int],
        num_steps: int | None,
        guidance_scale: float | None,
    ) -> Request:
        if isinstance(prompts, str) or not prompts or any(isinstance(p, str) and not p.strip() for p in prompts):
            raise ValueError(f"prompts must be a non-empty list of non-empty texts, got {prompts!r}")
        shortest = min((p.seconds for p in prompts if isinstance(p, AudioPrompt)), default=math.inf)
        if shortest < self.shortest_prompt_seconds:
            raise ValueError(
                f"an audio prompt of {shortest:g} s is shorter than the {self.shortest_prompt_seconds:g} s that this "
                f"{type(self).__name__} makes at a time; give at least that"
            )
        if not 0 < seconds <= self.longest_seconds:
            raise ValueError(
                f"{seconds:g} seconds asked for, but this {type(self).__name__} makes more than 0 and at most "
                f"{self.longest_seconds:g} seconds; ask for at most {self.longest_seconds:g}"
            )
        num_steps = self._num_steps(num_steps)
        guidance_scale = self._guidance_scale(guidance_scale)
        if not math.isfinite(guidance_scale):
            raise ValueError(f"guidance_scale is {guidance_scale}; give a finite number, 1 for none")
        return Request(list(prompts), seconds, clip_keys(seed, len(prompts)), num_steps, guidance_scale)

    def _num_steps(self, asked: int | None) -> int:
        num_steps = self.num_steps if asked is None else asked
        if not 1 <= num_steps <= MAX_STEPS:
            raise ValueError(f"num_steps is {num_steps}; sampling takes 1 to {MAX_STEPS} steps")
        self.schedule.angles(num_steps)  # Refuses what the schedule cannot do before any work is done.
        return num_steps

    def _guidance_scale(self, asked: float | None) -> float:
        if self.guidance_embedded and asked is not None:
            learned = self.embedded_guidance_scale
            scale = "guided results" if learned is None else f"results at guidance scale {learned:g}"
            raise ValueError(
                f"guidance_scale {asked:g} asked for, but this student learned its teacher's {scale}: "
                "guidance is built in; leave guidance_scale out, or use the teacher's pipeline"
            )
        return self.guidance_scale if asked is None else asked

    def _finish(
        self, request: Request, make_blocks: Callable[[Request, Stopwatch], Iterator[Tensor]], seconds: float
    ) -> Iterator[GeneratedAudio]:
        """The blocks, checked, in range and together exactly as long as asked."""
        for network in self.networks.values():
            network.eval()
        stopwatch = Stopwatch(self.device)
        length, made = round(seconds * self.sample_rate), 0
        for block in without_gradient(lambda: make_blocks(request, stopwatch)):
            if not block.isfinite().all():
                raise ValueError("the decoder gave samples that are not finite; the training of a network diverged")
            block = block.float()[..., : length - made].clamp(-1, 1)
            made += block.shape[-1]
            yield GeneratedAudio(block, self.sample_rate, stopwatch.lap())
            if made == length:
                return
        raise ValueError(
            f"the decoder gave {made} samples of {length} asked for; the networks do not fit each other or their "
            "training diverged"
        )

    def settings(self) -> dict[str, Any]:
        """Everything but the weights, as plain data: class, format, schedule, sampler, lengths."""
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
            f"- `{part}`: {type(network).__name__}, "
            f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters"
            for part, network in self.networks.items()
        )
        return (
            f"# {name}\n\nText to instrumental music with melody_cm: {self.sample_rate} Hz mono, "
            f"trained on {self.max_seconds:g} seconds.\n\n{parts}\n\n"
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
    if not is_hub_id(str(source)):
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
