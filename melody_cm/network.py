"""What every part of a system is: a class that remembers its arguments, mostly a torch module that can be frozen."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from melody_cm.placement import apply_keeping_fp32


class Configurable:
    """Something that remembers its constructor arguments, so that it can be written down as YAML or JSON and rebuilt.

    The constructor is the schema: `init_arguments` holds the arguments of the outermost constructor call by name.
    """

    init_arguments: Mapping[str, Any] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _remember_arguments(cls.__init__)  # type: ignore[method-assign]


def _remember_arguments(init: Any) -> Any:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def remember_then_init(self: Any, *args: Any, **kwargs: Any) -> None:
        if "init_arguments" not in self.__dict__:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = {name: value for name, value in list(bound.arguments.items())[1:]}
            object.__setattr__(self, "init_arguments", arguments)
        init(self, *args, **kwargs)

    return remember_then_init


class Network(Configurable, nn.Module):
    """A torch module that can be exported as `config.json` + safetensors and rebuilt from them.

    Attributes:
        stage: the name of the finished stage that a frozen network came from ("melody/5_audio_vae_gan"), or of the
            public weights ("public/1a2b"); None for a network that is not frozen.
        origin: the plain data from which `storage.build` makes the frozen network again.
        made_by: of a network in an exported system, the stage that made it, under "", and those of parts of it.
        left_out: the stages of the frozen parts that the export does not hold, by argument.
        quantization: int8 or int4 where a language model is to sample with weights of so many bits, else None; set by
            `Placement.put`. The other networks have nothing of the kind.
    """

    stage: str | None = None
    origin: Any = None
    made_by: Mapping[str, str] = {}
    left_out: Mapping[str, str] = {}
    quantization: str | None = None

    @property
    def pass_module(self) -> nn.Module:
        """The module each of whose calls is a forward pass of this network: itself, unless its methods do the work."""
        return self

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was called."""
        return self.stage is not None

    def freeze(self, stage: str, origin: Any) -> "Network":
        """Make this a finished part of other networks; returns the network.

        A frozen network has no gradients, stays in evaluation mode, and its weights are absent from the `state_dict`
        (and so from the checkpoints) of whatever holds it.
        """
        self.requires_grad_(False).eval()
        self.stage, self.origin = stage, origin
        return self

    def train(self, mode: bool = True) -> "Network":
        """As `nn.Module.train`; a frozen network stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def _apply(self, fn: Any, recurse: bool = True) -> "Network":
        """As nn.Module's, which `.to` calls; but half precision is for weights that bear it (`apply_keeping_fp32`)."""
        if not recurse:
            return super()._apply(fn, recurse=False)
        apply_keeping_fp32(self, fn)
        return self

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """As `nn.Module.state_dict`; a frozen network adds nothing to the one of its owner."""
        if self.frozen and destination is not None:
            return destination
        return super().state_dict(*args, destination=destination, **kwargs)
