"""The seams of melody_cm: abstract classes whose docstrings are shape contracts.

Typing a constructor argument with one of these classes is what lets a recipe fill it with any subclass.
Axes: b batch, c channels, t samples, l frames, f mel bins, d width, n sequence, q codebooks. A latent is (b, c, *axes)
with its first axis after the channels running over time: (b, c, l) for waveforms, (b, c, l, f) for mels.
An angle is a noise level in [0, pi/2]: `noisy = cos(angle) * latent + sin(angle) * noise`; angle 0 is clean.
"""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from melody_cm.audio import GeneratedAudio
from melody_cm.batch import MusicBatch
from melody_cm.placement import apply_keeping_fp32
from melody_cm.randomness import Draws

Angle = Float[Tensor, " b"] | Float[Tensor, "b l"]


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


@dataclass
class Conditioning:
    """What a denoiser may know about the music it is asked for.

    Attributes:
        sequence: (b, n, d) a sequence to attend to, or None.
        pooled: (b, d) one vector a clip, or None.
        mask: (b, n) True where `sequence` is real, or None if all of it is.
        dropped: (b,) True where the clip is to be treated as unconditional: a denoiser must then give a result that
            does not depend on `sequence` or `pooled` at all.
        num_kept: how many clips are not dropped, where the CPU knows without asking the GPU; else None.
    """

    sequence: Float[Tensor, "b n d"] | None
    pooled: Float[Tensor, "b e"] | None
    mask: Bool[Tensor, "b n"] | None
    dropped: Bool[Tensor, " b"]
    num_kept: int | None = None

    def drop(self, rows: Bool[Tensor, " b"]) -> "Conditioning":
        """The same conditioning, unconditional in `rows` too."""
        known = self.num_kept == len(self.dropped) and rows.device.type == "cpu"
        num_kept = len(rows) - int(rows.sum()) if known else None
        dropped = self.dropped | rows.to(self.dropped.device, non_blocking=True)
        return replace(self, dropped=dropped, num_kept=num_kept)

    def drop_all(self) -> "Conditioning":
        """The same conditioning, unconditional in all rows."""
        return replace(self, dropped=torch.ones_like(self.dropped), num_kept=0)

    def concat(self, other: "Conditioning") -> "Conditioning":
        """Both along the batch axis, for one network call on both."""

        def both(mine: Tensor | None, others: Tensor | None) -> Tensor | None:
            return None if mine is None or others is None else torch.cat([mine, others])

        return Conditioning(
            both(self.sequence, other.sequence),
            both(self.pooled, other.pooled),
            both(self.mask, other.mask),
            torch.cat([self.dropped, other.dropped]),
            None if self.num_kept is None or other.num_kept is None else self.num_kept + other.num_kept,
        )


class Known(NamedTuple):
    """Frames of a latent that are given and must not change.

    latent: (b, c, *axes) clean; frames: (b, l) True where the latent is known.
    """

    latent: Tensor
    frames: Tensor


class Losses(NamedTuple):
    """What an objective returns: scalar `terms` by name, already weighted, whose sum is the loss; the clean latent
    (b, c, *axes) that the network predicted; and `from_noise` (b,), True where it was given noise alone, or None if it
    never was."""

    terms: dict[str, Tensor]
    prediction: Tensor
    from_noise: Tensor | None = None


class Reconstruction(NamedTuple):
    """An autoencoder's training pass: `target` and `prediction` of one shape, in the domain where the autoencoder is
    judged ((b, 1, t) waveforms or (b, l, f) log-mels), and `kl` (b,), the KL divergence of each clip's posterior from
    N(0, I), summed over latent channels and averaged over latent positions."""

    target: Tensor
    prediction: Tensor
    kl: Float[Tensor, " b"]


class Autoencoder(Network, ABC):
    """Waveform <-> latent. `sample_rate` in Hz; `latent_channels` = c."""

    sample_rate: int
    latent_channels: int

    @abstractmethod
    def posterior(self, waveform: Float[Tensor, "b 1 t"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (b, c, *axes) of the latent in the scale that diffusion sees; for training."""

    @abstractmethod
    def reconstruct(self, waveform: Float[Tensor, "b 1 t"], draws: Draws) -> Reconstruction:
        """Encode, sample the posterior with `draws`, decode; with gradient."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Float[Tensor, "b 1 t"]:
        """The waveform of a latent (b, c, *axes)."""

    @abstractmethod
    def latent_shape(self, seconds: float) -> tuple[int, ...]:
        """(c, *axes) of the latent of a clip of that length."""

    def encode(self, waveform: Float[Tensor, "b 1 t"]) -> Tensor:
        """The latent (b, c, *axes): the posterior's mean, deterministic."""
        return self.clamp(self.posterior(waveform)[0])

    def clamp(self, latent: Tensor) -> Tensor:
        """A draw from the posterior as diffusion sees it: clipped where the autoencoder clips, else unchanged."""
        return latent

    def calibrate(self, waveform: Float[Tensor, "b 1 t"]) -> None:
        """Fix the scale of the latent from real music, once, when training ends; nothing to do by default."""


class Vocoder(Network, ABC):
    """Log-mel -> waveform."""

    sample_rate: int

    @abstractmethod
    def forward(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b 1 t"]:
        """The waveform of a log-mel spectrogram; t = l * hop_length."""


class Codec(Network, ABC):
    """Waveform <-> codes of a residual quantizer: q codebooks, coarse to fine, `codebook_size` entries each.

    `sample_rate`, `frame_rate` in Hz. What quantizing the first n codebooks gives does not depend on the others.
    """

    sample_rate: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int

    @abstractmethod
    def encode_codes(self, waveform: Float[Tensor, "b 1 t"]) -> Int[Tensor, "b q l"]:
        """The codes of waveforms, l = ceil(t * frame_rate / sample_rate)."""

    @abstractmethod
    def decode_codes(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b 1 t"]:
        """The waveform of codes, t = l * sample_rate / frame_rate."""


class SemanticEncoder(Network, ABC):
    """Waveform -> hidden states that semantic tokens are made of.

    `sample_rate`, `frame_rate` in Hz; `width` = d; `num_layers` blocks, so that layer 0 is what the first one is given.
    """

    sample_rate: int
    frame_rate: float
    width: int
    num_layers: int

    @abstractmethod
    def hidden_states(self, waveform: Float[Tensor, "b 1 t"], layer: int) -> Float[Tensor, "b l d"]:
        """What block number `layer` gives, l = ceil(t * frame_rate / sample_rate)."""


class Tokenizer(Network, ABC):
    """Something continuous -> codes. `num_codebooks` q, `codebook_size`, `frame_rate` in Hz (0 for one frame a clip).

    Fitted, not trained: `features` turns a batch's input into the vectors that `fit` clusters.
    """

    num_codebooks: int
    codebook_size: int
    frame_rate: float

    @abstractmethod
    def features(self, batch: MusicBatch) -> Float[Tensor, "b l d"]:
        """The vectors of a batch that are to be quantized, in order of time."""

    @abstractmethod
    def fit(self, features: Float[Tensor, "n d"], seed: int) -> None:
        """Choose the codebooks from n feature vectors; deterministic in `seed`."""

    @abstractmethod
    def quantize(self, features: Float[Tensor, "b l d"]) -> Int[Tensor, "b q l"]:
        """The codes of feature vectors."""

    @abstractmethod
    def dequantize(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b l d"]:
        """The feature vectors that the codes stand for."""

    def forward(self, batch: MusicBatch) -> Int[Tensor, "b q l"]:
        """The codes of a batch: those that this stage encoded before, else quantized now."""
        known = None if self.stage is None else batch.codes.get(self.stage)
        return self.quantize(self.features(batch)) if known is None else known


class JointEmbedding(Network, ABC):
    """Text and audio in one space. `sample_rate` in Hz, `window_seconds`, `width` = d.

    Audio longer than the window is cut into windows whose embeddings are averaged and normalized again.
    """

    sample_rate: int
    window_seconds: float
    width: int

    @abstractmethod
    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        """Unit vectors of waveforms at `sample_rate`."""

    @abstractmethod
    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit vectors of texts.

        Raises:
            ValueError: a text without a word.
        """

    def embed_captions(self, captions: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit vectors of captions; zeros for music that has none, which a conditioner reads as unconditional."""
        told = [row for row, caption in enumerate(captions) if caption.strip()]
        if len(told) == len(captions):
            return self.embed_text(captions)
        if not told:
            return torch.zeros(len(captions), self.width, device=next(self.parameters()).device)
        embedded = self.embed_text([captions[row] for row in told])
        return embedded.new_zeros(len(captions), self.width).index_copy(
            0, torch.tensor(told).to(embedded.device), embedded
        )


class TokenLM(Network, ABC):
    """A causal language model over the streams of a token layout (language_models/token_layout.py).

    `stream_sizes`: (number of codebooks, codebook size) by stream; `frame_rates`: frames a second (Hz) by stream, 0 for
    one frame a clip, None where the layout does not say; `max_frames` of the last stream fit into one sequence.
    """

    stream_sizes: Mapping[str, tuple[int, int]]
    frame_rates: Mapping[str, float | None]
    max_frames: int

    @abstractmethod
    def logits(self, streams: Mapping[str, Int[Tensor, "b q l"]]) -> Tensor:
        """Next-token logits (b, m, vocabulary) of the last stream's m tokens, given everything before each."""

    @abstractmethod
    def extend(
        self,
        prompt: Mapping[str, Int[Tensor, "b _ _"]],
        codes: Int[Tensor, "_ q _"],
        length: int,
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Int[Tensor, "b q l"]:
        """The `length` frames of the last stream that follow `codes`, row i drawn with generator i alone.

        At most the last `max_frames - length` frames of `codes` are looked at; top_k = 0 keeps all.

        Raises:
            ValueError: length beyond `max_frames`.
        """

    def sample(
        self,
        prompt: Mapping[str, Int[Tensor, "b _ _"]],
        length: int,
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Int[Tensor, "b q l"]:
        """The first `length` frames of the last stream: `extend` from nothing."""
        num_codebooks, _ = list(self.stream_sizes.values())[-1]
        device = next(self.parameters()).device
        nothing = torch.empty(len(generators), num_codebooks, 0, dtype=torch.long, device=device)
        return self.extend(prompt, nothing, length, generators, temperature, top_k, top_p)


class Conditioner(Network, ABC):
    """Source -> conditioning. Training calls `embed(describe(batch))`; a pipeline gives its own source.

    `uses_audio`: whether `describe` uses the batch's waveform, whose sample rate must then be its parts' own.
    """

    uses_audio: bool = True

    @abstractmethod
    def describe(self, batch: MusicBatch) -> Tensor:
        """The source of a training batch, without gradient: codes (b, q, l), a joint embedding (b, d), ..."""

    @abstractmethod
    def embed(self, source: Tensor) -> Conditioning:
        """The conditioning of a source; trained with the denoiser; nothing dropped."""


class Denoiser(Network, ABC):
    """Predicts velocity: `cos(angle) * noise - sin(angle) * latent`.

    `per_frame_angles`: whether angle may be (b, l), one per frame, where angle 0 marks a known frame.
    """

    per_frame_angles: bool = False

    @abstractmethod
    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        """Velocity, of the shape (b, c, *axes) of the noisy latent."""


class TimestepNetwork(Network, ABC):
    """A diffusers-style body: knows timesteps, not angles (diffusion/timesteps.py makes it a `Denoiser`).

    `feature_channels`: c of each of its `features`, as in `FeatureNetwork`; empty where it has none to show.
    """

    feature_channels: Sequence[int] = ()

    @abstractmethod
    def forward(self, noisy_latent: Tensor, timestep: Float[Tensor, " b"], conditioning: Conditioning) -> Tensor:
        """Velocity or noise, whichever it was trained for, of the shape of the noisy latent."""

    def features(
        self, noisy_latent: Tensor, timestep: Float[Tensor, " b"], conditioning: Conditioning
    ) -> list[Float[Tensor, "b c l"]]:
        """Hidden features, shallow to deep; l counts positions of any kind, and differs from one to the next."""
        raise ValueError(f"{type(self).__name__} has no features for a discriminator; use another feature network")


class FeatureNetwork(ABC):
    """A network whose hidden features discriminator heads can read.

    `feature_channels`: c of each of its features, shallow to deep; empty if it turns out to have none.
    """

    feature_channels: Sequence[int] = ()

    @abstractmethod
    def features(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> list[Float[Tensor, "b c l"]]:
        """Hidden features, shallow to deep."""


class AngleSchedule(Configurable, ABC):
    """Which noise levels are visited."""

    @abstractmethod
    def angles(self, num_steps: int) -> Float[Tensor, " num_steps_plus_one"]:
        """fp64, strictly decreasing within [0, pi/2], the last one exactly 0 (unless a schedule is told otherwise)."""

    def training_angles(self, uniform: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Angles to train on from numbers uniform in [0, 1): uniform in [0, pi/2) unless a schedule says otherwise."""
        return uniform * (torch.pi / 2)


class Sampler(Configurable, ABC):
    """Noise -> latent in as many network calls as there are steps between `angles`."""

    @abstractmethod
    def sample(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        conditioning: Conditioning,
        angles: Float[Tensor, " num_steps_plus_one"],
        generators: Sequence[torch.Generator],
        known: Known | None = None,
    ) -> Tensor:
        """The clean latent (b, c, *axes). Fresh noise of row i comes from generator i alone.

        Raises:
            ValueError: `known` is given but the denoiser takes one angle a clip.
        """


class Objective(Configurable, ABC):
    """A training loss in latent space. The LightningModule owns the networks and passes them by role."""

    @abstractmethod
    def __call__(
        self, networks: Mapping[str, Denoiser], latent: Tensor, conditioning: Conditioning, draws: Draws
    ) -> Losses:
        """Losses on a clean latent (b, c, *axes). `networks` holds "student"; distillation adds "teacher", "target"."""


class DiscriminatorOutput(NamedTuple):
    """What one discriminator says of a batch: `logits` (b, n), high for real music, and its hidden `feature_maps`."""

    logits: Float[Tensor, "b n"]
    feature_maps: list[Tensor]


DiscriminatorOutputs = Sequence[DiscriminatorOutput]


@dataclass
class DiscriminatorContext:
    """What a discriminator may know beside the sample, the same for a real and a generated one.

    Attributes:
        conditioning: of the clips.
        reference: (b, c, *axes) that is real.
        from_noise: (b,) where the generator was given noise alone.
        draws: of the batch.
        kept: what a discriminator made of the reference and wants again in this step, without gradient.
    """

    conditioning: Conditioning
    reference: Tensor
    from_noise: Tensor
    draws: Draws
    kept: dict[str, Tensor] = field(default_factory=dict)


class Discriminator(Network, ABC):
    """Tells real from generated samples; one may hold several sub-discriminators."""

    @abstractmethod
    def forward(self, sample: Tensor, context: DiscriminatorContext | None = None) -> list[DiscriminatorOutput]:
        """One output for each sub-discriminator, of samples (b, ...); `context` is None where the stage gives none."""


class AdversarialLoss(Configurable, ABC):
    """What a discriminator and a generator learn from the discriminator's outputs for real and generated samples.

    `compares`: whether the generator's loss looks at the outputs for real samples.
    """

    compares: bool = True

    @abstractmethod
    def discriminator(
        self, real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
    ) -> dict[str, Tensor]:
        """Scalar terms whose sum the discriminator makes small."""

    @abstractmethod
    def generator(self, real: DiscriminatorOutputs, fake: DiscriminatorOutputs) -> dict[str, Tensor]:
        """Weighted scalar terms that the generator adds to its other losses; `real` is a target, without gradient."""


@dataclass(frozen=True)
class EmbeddingIdentity:
    """What decides the numbers of an audio embedding: distances of unlike identities must never be compared.

    Attributes:
        name: short form in metric keys (`fad_<name>`).
        version: of the code that computes it.
        weights: hash of its weights, "none" for hand-made features.
        sample_rate: Hz that it hears; resampler: what brings other rates there.
        window: how audio is cut into analysis frames, in words.
        width: d of its vectors.
        trained: False for hand-made features.
    """

    name: str
    version: str
    weights: str
    sample_rate: int
    window: str
    width: int
    trained: bool
    resampler: str = "soxr HQ"

    def __str__(self) -> str:
        weights = "hand-made" if self.weights == "none" else f"weights {self.weights[:12]}"
        return f"{self.name}/{self.version} ({weights}, {self.window}, {self.sample_rate} Hz by {self.resampler})"


class AudioEmbedding(Network, ABC):
    """Waveform -> embedding vectors for Frechet and kernel distances; its constructor sets `identity`.

    Of a tagger `tags` are the names of what the numbers of its vectors are logits of.
    """

    identity: EmbeddingIdentity
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The short form in metric keys."""
        return self.identity.name

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes."""
        return self.identity.sample_rate

    @property
    def width(self) -> int:
        """d of its vectors."""
        return self.identity.width

    @abstractmethod
    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        """One embedding for each analysis frame."""


class Pipeline(Configurable, ABC):
    """Prompts -> music. Holds the networks of one system; `max_seconds` is what it was trained to make in one piece."""

    sample_rate: int
    max_seconds: float

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> GeneratedAudio:
        """One clip a prompt. An int seeds clip i by (seed, i); a sequence gives each clip its own seed.

        Raises:
            ValueError: seconds beyond what this system makes, which is more than `max_seconds` where it can go on past
                what it was trained on; or a guidance scale where the network has it built in.
        """

    def __call__(self, *arguments: Any, **settings: Any) -> GeneratedAudio:
        """The same as `generate`."""
        return self.generate(*arguments, **settings)
