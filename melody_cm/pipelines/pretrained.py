"""What the pipelines share: checking a request, batches, streams, and pipelines on disk.

A saved pipeline is a folder: `config.json` (class, plain settings, schedule, sampler), one folder with `config.json`
and `model.safetensors` for each network, and a model card. No pickles.
"""

import inspect
import math
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from jaxtyping import Float
from torch import Tensor

from melody_cm import storage
from melody_cm.audio import GeneratedAudio
from melody_cm.interfaces import JointEmbedding, Network, Pipeline, TokenLM
from melody_cm.pipelines.model_card import model_card
from melody_cm.pipelines.request import AudioPrompt, Batch, Prompt, Request, Stopwatch, clip_keys
from melody_cm.pipelines.streaming import each_within, joined, one_ahead
from melody_cm.placement import Placement
from melody_cm.signal import resample
from melody_cm.storage.pretrained import is_hub_id, reason_of

FORMAT_VERSION = 1
DEMO = "demo:"  # Before the name of a system that ships.
DEMOS = Path(__file__).parents[1] / "demo"
LONGEST_WINDOW = 600.0  # Seconds.
Prompts = Sequence[Prompt] | Prompt | Request


class PretrainedPipeline(Pipeline):
    """A pipeline that can be saved and loaded; subclasses say how one batch becomes a waveform.

    Every constructor argument is an attribute of the same name (`_keep`). The attributes are what is used and saved, so
    that a part or a number may be replaced at any time: `pipeline.num_steps = 1`. A system that makes music longer than
    it was trained on overrides `longest_seconds` and `make_blocks`.
    """

    joint_embedding: JointEmbedding
    num_steps: int
    guidance_scale: float
    history: Mapping[str, Any] = {}  # By stage, how it was trained, for the model card.
    results: Mapping[str, Any] = {}  # What a comparison found, for the same; see `comparison.card_results`.
    file_hashes: Mapping[str, str] = {}  # Of the weights that were read, by network.

    @abstractmethod
    def make(self, batch: Batch) -> Float[Tensor, "b 1 t"]:
        """The waveforms of a batch of up to `max_seconds`, at least `batch.seconds` long; each part under its name."""

    def make_blocks(self, batch: Batch) -> Iterator[Float[Tensor, "b 1 _"]]:
        """The same as blocks, each given away when it is finished, of up to `longest_seconds` together."""
        yield self.make(batch)

    @property
    def longest_seconds(self) -> float:
        """The longest music that one request may ask for."""
        return self.max_seconds

    @property
    def shortest_prompt_seconds(self) -> float:
        """The shortest music that says enough in place of a text."""
        return 0.0

    def generate(self, prompts: Prompts, *settings: Any, **named: Any) -> GeneratedAudio:
        """One clip a prompt, all in one batch; calling the pipeline does the same.

        Args:
            prompts: a text, several texts, or a `Request`; `settings` and `named` are the other values of a request, as
                in `pipeline("a calm piano melody", seconds=2.5, seed=1)`.

        Raises:
            ValueError: what this system cannot make (see `Request` and `Pipeline.generate`).
        """
        return joined(next(self.streams(_request(prompts, settings, named), None)))

    def stream(self, prompts: Prompts, *settings: Any, **named: Any) -> Iterator[GeneratedAudio]:
        """What `generate` makes, as blocks with their own timings; the next is made while the caller has the last."""
        return one_ahead(next(self.streams(_request(prompts, settings, named), None)))

    def streams(self, request: Request, batch_size: int | None = 8) -> Iterator[Iterator[GeneratedAudio]]:
        """The clips of a request in batches, each as blocks; all of it is checked before any of it is made.

        Args:
            batch_size: at most so many clips at a time; None for all of them.
        """
        batch = self.batch(request)
        parts = batch.split(len(batch.prompts) if batch_size is None else batch_size)
        return (self._finish(part, self.make_blocks(part), part.seconds) for part in parts)

    def batch(self, request: Request) -> Batch:
        """The request with this pipeline's own numbers where it has none.

        Raises:
            ValueError: what this system cannot make.
        """
        if not request.prompts:
            raise ValueError("there is no prompt; give a text, or a list of texts that is not empty")
        shortest = min((p.seconds for p in request.prompts if isinstance(p, AudioPrompt)), default=math.inf)
        if shortest < self.shortest_prompt_seconds:
            raise ValueError(
                f"an audio prompt of {shortest:g} s is shorter than the {self.shortest_prompt_seconds:g} s that this "
                f"{type(self).__name__} makes at a time; give at least that"
            )
        if request.seconds is None or not 0 < request.seconds <= self.longest_seconds:
            asked = "no" if request.seconds is None else f"{request.seconds:g}"
            raise ValueError(
                f"{asked} seconds asked for, but this {type(self).__name__} makes more than 0 and at most "
                f"{self.longest_seconds:g} seconds; ask for at most {self.longest_seconds:g}"
            )
        self._check_arrangement(request)
        self._check_sampling(request)
        keys, own = clip_keys(request.seed, len(request.prompts)), self.sampling(request)
        numbers = {"seconds": float(request.seconds), "guidance_scale": float(own["guidance_scale"])}
        stopwatch = Stopwatch(self.device)
        return Batch(**vars(request) | own | numbers, keys=keys, device=self.device, stopwatch=stopwatch)

    def sampling(self, request: Request) -> dict[str, Any]:
        """The request's sampling steps and guidance scale, or the pipeline's own."""
        given = {"num_steps": request.num_steps, "guidance_scale": request.guidance_scale}
        return {name: getattr(self, name) if value is None else value for name, value in given.items()}

    def _check_arrangement(self, request: Request) -> None:
        if request.arrangement():
            raise ValueError(
                f"{type(self).__name__} takes no prompt_at, loop or windows: its music grows from its beginning; "
                "MusicCM does"
            )

    @abstractmethod
    def _check_sampling(self, request: Request) -> None:
        """Refuse steps and guidance scales that this system cannot do."""

    def _finish(self, batch: Batch, blocks: Iterator[Tensor], seconds: float) -> Iterator[GeneratedAudio]:
        """The blocks, made without gradient, checked, in range and together exactly as long as asked."""
        for network in self.networks.values():
            network.eval()
        length, made = round(seconds * self.sample_rate), 0
        for block in each_within(self.placement.computing, blocks):
            if not block.isfinite().all():
                raise ValueError("the decoder gave samples that are not finite; the training of a network diverged")
            block = block.float()[..., : length - made].clamp(-1, 1)
            made += block.shape[-1]
            texts = [prompt if isinstance(prompt, str) else None for prompt in batch.prompts]
            yield GeneratedAudio(block, self.sample_rate, batch.stopwatch.lap(), prompts=texts)
            if made == length:
                return
        raise ValueError(
            f"the decoder gave {made} samples of {length} asked for; the networks do not fit each other or their "
            "training diverged"
        )

    def embed_prompts(self, prompts: Sequence[Prompt]) -> Float[Tensor, "b d"]:
        """Joint embeddings of texts, and of music that stands in their place."""
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        embedded = iter(self.joint_embedding.embed_text(texts) if texts else [])
        return torch.stack([next(embedded) if isinstance(p, str) else self._embed_audio(p) for p in prompts])

    def _embed_audio(self, prompt: AudioPrompt) -> Float[Tensor, " d"]:
        waveform = resample(prompt.waveform, prompt.sample_rate, self.joint_embedding.sample_rate)
        return self.joint_embedding.embed_audio(waveform.to(self.device))[0]

    def _keep(self, arguments: Mapping[str, Any]) -> None:
        """Make each of the constructor's arguments an attribute: `self._keep(locals())`.

        Raises:
            ValueError: windows of a length that no network is trained on, which could take all memory.
        """
        vars(self).update({name: value for name, value in arguments.items() if name != "self"})
        if not 0 < self.max_seconds <= LONGEST_WINDOW:
            raise ValueError(
                f"max_seconds is {self.max_seconds:g}, but networks are trained on windows of above 0 and at most "
                f"{LONGEST_WINDOW:g} seconds; give their length"
            )

    def _values(self) -> dict[str, Any]:
        """What the constructor would have to be given to make this pipeline as it stands now."""
        return {name: vars(self).get(name, given) for name, given in self.init_arguments.items()}

    @property
    def networks(self) -> dict[str, Network]:
        """The networks by their names in the pipeline."""
        return {name: value for name, value in self._values().items() if isinstance(value, Network)}

    @property
    def placement(self) -> Placement:
        """Where the networks are, and in which precision they compute."""
        return Placement.of(self.networks.values())

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.placement.device

    def to(self, device: torch.device | str, dtype: torch.dtype | str | None = None) -> "PretrainedPipeline":
        """Move every network: to auto, cpu, cuda, cuda:N or mps, perhaps in bf16 or fp16 (a name, or torch's);
        returns the pipeline.

        Raises:
            ValueError: there is no such device here, or the networks know no such dtype.
        """
        self.placement.moved(device, dtype).put(self.networks.values())
        return self

    def weight_hashes(self) -> dict[str, str]:
        """The content hash of every network's weights."""
        return {name: storage.hash_weights(network) for name, network in self.networks.items()}

    def settings(self) -> dict[str, Any]:
        """Everything but the weights, as plain data: class, format, schedule, sampler, lengths."""
        networks, kind = self.networks, type(self)
        return {
            "format_version": FORMAT_VERSION,
            "class_path": f"{kind.__module__}.{kind.__qualname__}",
            "networks": list(networks),
            "init_args": storage.describe({n: value for n, value in self._values().items() if n not in networks}),
        }

    def save_pretrained(self, folder: Path | str, half: bool = False) -> None:
        """Write the pipeline as it stands to a folder, which appears, or replaces an older pipeline, once it is whole.

        Args:
            half: store matrices in fp16: half the size, and about 3 of 7 digits.

        Raises:
            ValueError: the folder holds something else; a weight that fp16 cannot hold.
        """
        _check_replaceable(Path(folder))
        with storage.folder_atomically(Path(folder)) as aside:
            for name, network in self.networks.items():
                storage.save_network(network, aside / name, portable=True, half=half)
            told = {"history": self.history, "results": self.results}
            storage.write_json(aside / "config.json", self.settings() | told)
            about = (type(self).__name__, self.sample_rate, self.max_seconds, self.networks)
            storage.write_text(aside / "README.md", model_card(*about, **told))
            self._save_more(aside)

    def push_to_hub(self, repository: str, private: bool = False) -> str:
        """Save the pipeline to a repository of the model hub ("owner/name"), which is made if it is not there.

        It needs a login: `hf auth login`, or the environment variable HF_TOKEN.

        Returns:
            the address of the commit.

        Raises:
            ValueError: a name of another form; huggingface_hub's errors: no network, no right to write.
        """
        if not is_hub_id(repository):
            raise ValueError(f"{repository!r} names no repository; give owner/name")
        hub = HfApi()
        hub.create_repo(repository, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            commit = hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"{type(self).__name__}")
        return commit.commit_url

    def __repr__(self) -> str:
        parameters = sum(each.numel() for network in self.networks.values() for each in network.parameters())
        made = f"{self.sample_rate} Hz, trained on {self.max_seconds:g} s, {self.num_steps} steps"
        return f"{type(self).__name__}({parameters / 1e6:.1f} M parameters, {made}, on {self.device})"

    def _save_more(self, folder: Path) -> None:
        """Write what other libraries need to use the saved networks."""

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
        file = folder / "config.json"
        names, arguments = config.get("networks"), config.get("init_args")
        if not isinstance(names, list) or not isinstance(arguments, Mapping):
            raise ValueError(f"{file} describes no pipeline: networks must be a list, init_args keys and values")
        storage.refuse_foreign({"class_path": config["class_path"], "init_args": arguments}, file)
        kind = storage.find_class(config["class_path"])
        if not issubclass(kind, cls):
            raise ValueError(f"{source} holds a {kind.__name__}, not a {cls.__name__}; load it with {kind.__name__}")
        if strays := [name for name in names if name not in list(inspect.signature(kind).parameters)]:
            raise ValueError(f"{file} names a network {strays[0]!r}, which a {kind.__name__} does not have")
        folders = {name: _network_folder(folder, config, name) for name in names}
        networks = {name: storage.load_network(where) for name, where in folders.items()}
        with storage.offline(file):
            pipeline = storage.assemble(kind, arguments, networks)
        for told in ("history", "results"):
            setattr(pipeline, told, value if isinstance(value := config.get(told), Mapping) else {})
        pipeline.file_hashes = {name: storage.weight_hash(where) for name, where in folders.items()}
        return pipeline


def load(
    source: Path | str, device: str = "auto", dtype: str = "fp32", quantize: str | None = None
) -> PretrainedPipeline:
    """Load a system from a folder, the demo systems or the model hub, onto a device.

    Args:
        source: a folder written by `melody-cm export`, `demo:NAME`, or `owner/name` on the model hub.
        device: auto (the best available), cpu, cuda, cuda:N or mps.
        dtype: fp32, bf16 or fp16.
        quantize: int8 or int4: language models sample with weights of 8 or 4 bits, on a CPU only.

    Raises:
        FileNotFoundError, ValueError: no system there, no such device here, no such dtype, nothing to quantize.
    """
    placement = Placement.choose(device, dtype, quantize)
    pipeline = PretrainedPipeline.from_pretrained(source)
    put(pipeline, placement)
    return pipeline


def put(pipeline: PretrainedPipeline, placement: Placement) -> None:
    """Put the networks of a pipeline there.

    Raises:
        ValueError: they are to be quantized, but there is no language model.
    """
    networks = pipeline.networks.values()
    if placement.quantization and not any(isinstance(network, TokenLM) for network in networks):
        raise ValueError(f"{type(pipeline).__name__} has no language model to quantize; leave quantize out")
    placement.put(networks)


def _request(prompts: Prompts, settings: Sequence[Any], named: Mapping[str, Any]) -> Request:
    if isinstance(prompts, Request):
        if settings or named:
            raise ValueError("a Request holds all that is asked for; give nothing beside it")
        return prompts
    return Request(prompts, *settings, **named)


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    config = folder / "config.json"
    if not config.is_file() or "networks" not in storage.read_keys(config):
        raise ValueError(f"{folder} holds something else than a pipeline; give a new folder")


def _local_folder(source: Path | str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    if str(source).startswith(DEMO):
        return _demo(str(source).removeprefix(DEMO))
    if not is_hub_id(str(source)):
        raise FileNotFoundError(f"there is no folder {source}; give a folder written by `melody-cm export`")
    try:
        return Path(snapshot_download(str(source)))
    except Exception as error:  # The hub client raises many kinds; each means that the model cannot be had.
        raise FileNotFoundError(
            f"there is no folder {source}, and no model of that name can be had from the model hub ({reason_of(error)})"
        ) from error


def _demo(name: str) -> Path:
    """The folder of a system that ships."""
    known = sorted(file.parent.name for file in DEMOS.glob("*/config.json"))
    if name not in known:
        raise FileNotFoundError(f"there is no {DEMO}{name}; with this version come: {', '.join(known) or 'none'}")
    return DEMOS / name


def _network_folder(folder: Path, config: Mapping[str, Any], name: str) -> Path:
    """Where a network lies. A system that ships may lack some, which it shares with its neighbour `shares`."""
    if (folder / name).is_dir() or folder.parent != DEMOS or "shares" not in config:
        return folder / name
    neighbour = _demo(config["shares"])
    return _network_folder(neighbour, storage.read_keys(neighbour / "config.json"), name)


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no pipeline: config.json is missing; make one with `melody-cm export`")
    config = storage.read_keys(folder / "config.json")
    if missing := [key for key in ("class_path", "networks", "init_args") if key not in config]:
        raise ValueError(f"{folder / 'config.json'} describes no pipeline: it lacks {', '.join(missing)}")
    return config
