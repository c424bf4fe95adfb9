"""The base of adversarial stages: generator and discriminator learn in turn (HiFi-GAN, arXiv 2010.05646, section 2)."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import (
    AdversarialLoss,
    Configurable,
    Discriminator,
    DiscriminatorContext,
    DiscriminatorOutput,
    Network,
)
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage


class Generated(NamedTuple):
    """A generator's pass: its other loss `terms`, weighted; what a discriminator compares, of one shape; and what it
    is told of both, if anything."""

    terms: dict[str, Tensor]
    real: Tensor
    fake: Tensor
    context: DiscriminatorContext | None = None


class Adversary(Configurable, nn.Module):
    """A discriminator and all that says how it takes part; a ValueError for shares that leave no step, or are below 0.

    Args:
        discriminator: learns in turn with the generator.
        loss: of both.
        optimization: of the discriminator.
        start: share of the training's steps that pass before it joins (paper silent; a trained decoder first).
        warmup: share of the steps in which it then learns alone, unheard by the generator.
        ramp: share of the steps over which its weight then rises from 0.
    """

    def __init__(
        self,
        discriminator: Discriminator,
        loss: AdversarialLoss,
        optimization: Optimization,
        start: float = 0.1,
        warmup: float = 0.0,
        ramp: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= start < 1:
            raise ValueError(f"start is {start}; give the share of the steps before the discriminator joins, 0 to 1")
        if min(warmup, ramp) < 0 or start + warmup + ramp >= 1:
            raise ValueError(
                f"start {start} + warmup {warmup} + ramp {ramp} are shares of the steps and must be 0 or more, and "
                "below 1 together: make them smaller"
            )
        self.discriminator, self.loss, self.optimization = discriminator, loss, optimization
        self.start, self.warmup, self.ramp = start, warmup, ramp

    def weight(self, progress: float) -> float:
        """How much the generator hears of it when `progress` of the training's steps are done, 0 to 1."""
        since = progress - (self.start + self.warmup)
        if since < 0:
            return 0.0
        return min(1.0, since / self.ramp) if self.ramp else 1.0

    def discriminator_terms(self, generated: Generated) -> dict[str, Tensor]:
        """What the discriminator learns from; no gradient reaches the generator."""
        told = generated.context
        return self.loss.discriminator(self._judge(generated.real, told), self._judge(generated.fake.detach(), told))

    def generator_terms(self, generated: Generated, weight: float = 1.0) -> dict[str, Tensor]:
        """What the generator learns from its adversary; no gradient reaches the discriminator's weights."""
        learning = [parameter for parameter in self.discriminator.parameters() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        with torch.no_grad():
            real = self._judge(generated.real, generated.context) if self.loss.compares else []
        terms = self.loss.generator(real, self._judge(generated.fake, generated.context))
        for parameter in learning:
            parameter.requires_grad_(True)
        return {name: weight * term for name, term in terms.items()}

    def _judge(self, sample: Tensor, context: DiscriminatorContext | None) -> list[DiscriminatorOutput]:
        return self.discriminator(sample) if context is None else self.discriminator(sample, context)


class AdversarialStage(Stage):
    """A stage whose networks may have an adversary. Optimization is manual: Lightning's knows one loss a step.

    Each step gathers `accumulate` micro-batches; the discriminator moves first, on what the generator makes now, then
    the generator, against the moved discriminator: k micro-batches equal one k times as large. `trainer.max_steps`, the
    schedules and the averages count steps of the generator. Set clipping and accumulation here, not in the trainer, and
    with several processes the strategy `ddp_find_unused_parameters_true`. Where a step is logged,
    `train/adversarial_gradient_ratio` says how large the gradient of the adversary's terms is beside that of the rest.

    Args:
        trained, optimization, ema_decay, sample_rate, seed: as in `Stage`.
        adversary: None trains without one.
        gradient_clip: the largest norm of each network's gradient.
        accumulate: micro-batches a step.
    """

    def __init__(
        self,
        trained: Mapping[str, Network],
        optimization: Optimization,
        ema_decay: float,
        sample_rate: int,
        seed: int,
        adversary: Adversary | None,
        gradient_clip: float,
        accumulate: int,
    ) -> None:
        super().__init__(trained, optimization, ema_decay, sample_rate, seed)
        if accumulate < 1:
            raise ValueError(f"accumulate is {accumulate}; a step needs at least 1 micro-batch")
        self.automatic_optimization = False
        self.adversary, self.gradient_clip, self.accumulate = adversary, gradient_clip, accumulate
        self._gathered: list[MusicBatch] = []

    @abstractmethod
    def generate(self, networks: Networks, batch: MusicBatch) -> Generated:
        """The generator's pass with the given networks (learning or averaged); equal batches give equal results."""

    @property
    def micro_batches_per_step(self) -> int:
        return self.accumulate

    @property
    def opposed(self) -> bool:
        """Whether the adversary takes part in this step."""
        return self.adversary is not None and int(self.steps_taken) >= self.adversary.start * self.trainer.max_steps

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        return self.generate(networks, batch).terms

    def training_step(self, batch: MusicBatch, batch_idx: int) -> Tensor | None:
        self._gathered.append(batch)
        if len(self._gathered) < self.accumulate:
            return None
        batches, self._gathered = self._gathered, []
        # A single pass serves both moves; several would have to be kept in memory, so they are made again.
        kept = self.generate(self.trained, batch) if self.accumulate == 1 else None
        if opposed := self.opposed:
            self._move_discriminator(batches, kept)
        return self._log_terms("train", self._move_generator(batches, kept, opposed), len(batch))

    def configure_optimizers(self) -> Any:
        steps = self.trainer.max_steps
        built = [self.optimization.build(self.trained.parameters(), steps)]
        if self.adversary is not None:
            remaining = round((1 - self.adversary.start) * steps)
            built.append(self.adversary.optimization.build(self.adversary.parameters(), remaining))
        optimizers, schedules = zip(*built, strict=True)
        return list(optimizers), list(schedules)

    def _move_discriminator(self, batches: Sequence[MusicBatch], kept: Generated | None) -> None:
        optimizer = self._own(self.optimizers(), 1)
        # Lightning would count these steps as steps of the training.
        optimizer._on_before_step = optimizer._on_after_step = lambda: None
        gathered: list[dict[str, Tensor]] = []
        for batch in batches:
            with torch.no_grad():
                generated = kept or self.generate(self.trained, batch)
            terms = self.adversary.discriminator_terms(generated)
            self.skipped.note(batch, terms)
            self._backward(terms)
            gathered.append(terms)
        self._step(optimizer, 1)
        self.log_dict({f"train/discriminator_{name}": value for name, value in _mean(gathered).items()})

    def _move_generator(
        self, batches: Sequence[MusicBatch], kept: Generated | None, opposed: bool
    ) -> dict[str, Tensor]:
        optimizer = self._own(self.optimizers(), 0)
        gathered = []
        for batch in batches:
            generated = kept or self.generate(self.trained, batch)
            terms = generated.terms
            if opposed and (weight := self.adversary.weight(int(self.steps_taken) / self.trainer.max_steps)):
                against = self.adversary.generator_terms(generated, weight)
                self._log_gradient_ratio(against, terms)
                terms = terms | against
            self.skipped.note(batch, terms)
            self._backward(terms)
            gathered.append({name: value.detach() for name, value in terms.items()})
        self._step(optimizer, 0)
        self.steps_taken += 1
        self.after_step()
        return _mean(gathered)

    def _log_gradient_ratio(self, against: Mapping[str, Tensor], rest: Mapping[str, Tensor]) -> None:
        """Only where it is read: it costs two more backward passes."""
        if int(self.batches_seen) % max(1, self.trainer.log_every_n_steps) == 0:
            ratio = self._gradient_norm(against) / self._gradient_norm(rest)
            self.log("train/adversarial_gradient_ratio", ratio)

    def _gradient_norm(self, terms: Mapping[str, Tensor]) -> Tensor:
        learning = [parameter for parameter in self.trained.parameters() if parameter.requires_grad]
        loss = torch.stack(list(terms.values())).sum()
        gradients = torch.autograd.grad(loss, learning, retain_graph=True, allow_unused=True)
        return torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm()

    def _backward(self, terms: Mapping[str, Tensor]) -> None:
        self.manual_backward(torch.stack(list(terms.values())).sum() / self.accumulate)

    def _step(self, optimizer: Any, place: int) -> None:
        if place == 0:
            self.log_gradient_norm()
        self.clip_gradients(optimizer, gradient_clip_val=self.gradient_clip, gradient_clip_algorithm="norm")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._own(self.lr_schedulers(), place).step()

    @staticmethod
    def _own(one_or_all: Any, place: int) -> Any:
        """Lightning gives a list of several, but a single one bare."""
        return one_or_all[place] if isinstance(one_or_all, list) else one_or_all


def _mean(gathered: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([terms[name].detach() for terms in gathered]).mean() for name in gathered[0]}
