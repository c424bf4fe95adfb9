"""How much memory a training step takes of each process, counted without taking it.

The stage is built on torch's device `meta` and steps once there: every operation runs on tensors that have a shape and
no values, and what is alive at each moment is added up.
"""

import warnings
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.autograd import graph
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Network
from melody_cm.runs.recipe import Recipe, Setting, find_recipe
from melody_cm.runs.training import build_module
from melody_cm.storage import build, find_class, offline, stages_from
from melody_cm.storage.description import STAGE, annotations, classes_in, made_by
from melody_cm.training import AdversarialStage, Stage

READ = torch.ops.aten._local_scalar_dense.default
PLACES = torch.ops.aten.nonzero.default  # Of half of what there is, which is what masks of spans hide.
# What numbers a step reads are: none is dropped, all is finite, real and within its limits.
ANSWERS = {torch.bool: True}
# What autocast computes in half and in single precision on a GPU, of what networks here are made of.
HALVED = (
    *(F.linear, F.conv1d, F.conv2d, F.conv_transpose1d, F.conv_transpose2d, F.scaled_dot_product_attention),
    *(torch.matmul, torch.bmm, torch.einsum, Tensor.matmul, Tensor.__matmul__, Tensor.bmm),
)
WHOLE = (F.layer_norm, F.group_norm, F.softmax, Tensor.softmax, F.cross_entropy, F.mse_loss, F.l1_loss)
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
CAPTION = "calm piano music with soft strings and a slow beat, recorded in a large hall"
MOMENTS = 2  # Of AdamW, as large as the weights.


@dataclass(frozen=True)
class Memory:
    """Bytes of one process."""

    weights: int  # All parameters and buffers: learning, averaged, frozen.
    moments: int  # Of AdamW.
    exchange: int  # Copies of the gradients that processes hand to each other.
    step: int  # The most that is alive at once of what a step makes: gradients, what is kept for them, what passes by.

    @property
    def total(self) -> int:
        return self.weights + self.moments + self.exchange + self.step


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make while it is entered, but for those that are `known`: `now`
    says how many are alive, `peak` the most that ever were."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive = {each.untyped_storage()._cdata for each in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is READ and args[0].is_meta:
            return ANSWERS.get(args[0].dtype, 0)
        if func is PLACES and args[0].is_meta:
            return args[0].new_empty((args[0].numel() + 1) // 2, args[0].ndim, dtype=torch.long)
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor) and each.is_meta:
                self._note(each.untyped_storage())
        self.peak = max(self.peak, self.now)
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


class AsOnGPU(TorchFunctionMode):
    """Attention without the matrix of all pairs, which `meta` would make; and autocast, which `meta` does not know."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.backward:
            with self:  # So that it sees what is computed again.
                graph._engine_run_backward(args, (torch.ones_like(args[0]),), False, False, (), True, True)
            return None
        if torch.is_autocast_enabled("cpu") and func in (*HALVED, *WHOLE):
            dtype = torch.get_autocast_dtype("cpu") if func in HALVED else torch.float32
            args, kwargs = tree_map(lambda x: x.to(dtype) if _is_float(x) else x, (args, kwargs))
        return _fused_attention(*args, **kwargs) if func is F.scaled_dot_product_attention else func(*args, **kwargs)


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.is_meta


def _fused_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **_):
    if attn_mask is not None:  # Becomes numbers that are added.
        attn_mask = query.new_empty(attn_mask.shape).expand(*query.shape[:3], key.shape[2])
    repeats = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(repeats, 1) if repeats > 1 else each for each in (key, value))
    fused = torch.ops.aten._scaled_dot_product_efficient_attention
    return fused(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]


def training_memory(stage: LightningModule, recipe: Recipe) -> Memory | None:
    """What each process needs for a step of a stage that learns (of `stage_on_meta`); None for one that is fitted.

    Frozen encoders run in the step, as they do where nothing was encoded before. The recipe's trainer says how many
    processes share the batch, and how precisely they compute. A ValueError for a step that cannot be taken without
    values.
    """
    if not isinstance(stage, Stage):
        return None
    trainer, known = recipe.config["trainer"], [*stage.parameters(), *stage.buffers()]
    learning = _bytes(each for each in known if each.requires_grad)
    processes = num_processes(trainer)
    batch = _batch(recipe.config["data"], processes).to("meta")
    live = LiveBytes([*known, batch.need_waveform(), batch.frame_mask])
    with offline(recipe.path), warnings.catch_warnings(), AsOnGPU(), live:
        warnings.simplefilter("ignore")  # Lightning's, of a log without a trainer.
        for _ in range(min(2, trainer.get("accumulate_grad_batches", 1))):
            _step(stage, batch, AUTOCAST.get(trainer.get("precision")))
    return Memory(_bytes(known), MOMENTS * learning, learning if processes > 1 else 0, live.peak)


def stage_on_meta(recipe: Recipe, setting: Setting) -> LightningModule:
    """The LightningModule of a recipe with weights that take no memory; stages that it reads are built, not loaded. A
    FileNotFoundError or ValueError for a network that cannot be built so, such as one of public weights."""
    untrained = stages_from(lambda stage, kind: _untrained(stage, kind, recipe, setting))
    with offline(recipe.path), untrained, LiveBytes():  # Which answers what is read.
        return build_module(recipe, _on_meta).to("meta")


def num_processes(trainer: Mapping[str, Any]) -> int:
    """How many processes a recipe's trainer means; all devices are those that are here."""
    devices, here = trainer.get("devices", 1), max(1, torch.cuda.device_count())
    count = here if devices in (-1, "-1", "auto") else len(devices) if isinstance(devices, list) else int(devices)
    return count * int(trainer.get("num_nodes", 1))


def _on_meta(config: Any, kind: Any = None, *also: type) -> Any:
    """As `build`, with networks on `meta`, and all else where it has values."""
    plain = isinstance(config, Mapping) and "class_path" in config
    made = made_by(find_class(config["class_path"], *also)) if plain else None
    if isinstance(config, str) or (made is not None and issubclass(made, Network)):
        with torch.device("meta"):
            return build(config, kind, *also)
    if not plain:
        return build(config, kind, *also)
    hints, arguments = annotations(find_class(config["class_path"], *also)), config.get("init_args") or {}
    inner = {name: _on_meta(value, hints.get(name)) for name, value in arguments.items()}
    return build({**config, "init_args": inner}, kind, *also)


def _untrained(stage: str, kind: Any, beside: Recipe, setting: Setting) -> Network:
    """The network that a stage will export for a place, as it is built."""
    recipe = replace(setting, overrides=()).compose(find_recipe(stage, beside.path))
    for network in stage_on_meta(recipe, setting).exports.values():
        if isinstance(network, classes_in(kind) or Network):
            return network.freeze(stage, f"{STAGE}{stage}")
    raise ValueError(f"stage {stage} will export nothing that {beside.name} could read")


def _batch(data: Mapping[str, Any], processes: int) -> MusicBatch:
    """The share of one process of the clips of a batch."""
    clips, samples = -(-data["batch_size"] // processes), round(data["seconds"] * data["sample_rate"])
    counts = torch.zeros(clips, dtype=torch.long)
    mask = torch.ones(clips, samples, dtype=torch.bool)
    return MusicBatch(counts, counts, torch.zeros(clips, 1, samples), mask, [CAPTION] * clips)


def _step(module: Stage, batch: MusicBatch, half: torch.dtype | None) -> None:
    """Forward and backward, in the order of a training step."""
    with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
        if isinstance(module, AdversarialStage):
            generated = module.generate(module.trained, batch)
            terms = generated.terms
            if module.adversary is not None:
                _backward(module.adversary.discriminator_terms(generated))
                for each in module.adversary.parameters():
                    each.grad = None
                terms = terms | module.adversary.generator_terms(generated)
            _backward(terms)
            return
        terms = module.losses(module.trained, batch)
    _backward(terms)


def _backward(terms: Mapping[str, Tensor]) -> None:
    torch.stack(list(terms.values())).sum().backward()


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in tensors}
    return sum(storages.values())
