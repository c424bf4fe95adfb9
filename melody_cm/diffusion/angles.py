"""Which noise levels a sampler visits and a denoiser is trained on, as angles.

MeLoDy's linear and uniform angle steps (arXiv 2305.15719, Table 4 of the appendix); the beta schedule of MusicLDM and
MusicCM (arXiv 2404.13358, section 4.1) written as angles.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.interfaces import AngleSchedule


def _check_num_steps(num_steps: int, limit: int | None = None, reason: str = "") -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, but sampling takes at least 1 step")
    if limit is not None and num_steps > limit:
        raise ValueError(f"num_steps is {num_steps}, but {reason} allows at most {limit}: ask for fewer steps")


class LinearAngles(AngleSchedule):
    """MeLoDy's schedule: steps shrink linearly from the noisy side, `pi / 6T + 2 pi t / 3T(T + 1)` for t = T .. 1."""

    def angles(self, num_steps: int) -> Float[Tensor, " num_steps_plus_one"]:
        """fp64 angles from pi/2 down to exactly 0."""
        _check_num_steps(num_steps)
        t = torch.arange(num_steps, -1, -1, dtype=torch.float64)
        # The sum of the steps 1 .. t in closed form, as a share of pi/2: whole numbers, so exactly 1 at t = T.
        share = t * (2 * t + num_steps + 3) / (3 * num_steps * (num_steps + 1))
        return share * (math.pi / 2)


class UniformAngles(AngleSchedule):
    """Equal steps of `pi / 2T`, the baseline of MeLoDy's ablation."""

    def angles(self, num_steps: int) -> Float[Tensor, " num_steps_plus_one"]:
        """fp64 angles from pi/2 down to exactly 0."""
        _check_num_steps(num_steps)
        return torch.arange(num_steps, -1, -1, dtype=torch.float64) / num_steps * (math.pi / 2)


class ScaledLinearBetaAngles(AngleSchedule):
    """A DDPM with betas linear in their square root, as the angles `arccos sqrt(alpha_bar)` of its timesteps.

    Args:
        num_timesteps: timesteps of the DDPM, 0 the cleanest.
        beta_start, beta_end: variance added at the first and at the last timestep.
        spacing: which timesteps a sampler visits: "trailing" counts down from the last one, "leading" counts up from
            timestep 1 and so never meets the noisiest ones, "lcm" takes `(i + 1) * k - 1` with k = num_timesteps // T.
        final_zero: whether sampling ends at angle 0, or at the angle of timestep 0 as MusicLDM's DDIM does.
        zero_terminal_snr: rescale so that the last timestep is pure noise (arXiv 2305.08891); velocity networks only.

    Attributes:
        table: (num_timesteps,) fp64, the angle of every timestep, ascending.
    """

    def __init__(
        self,
        num_timesteps: int = 1000,
        beta_start: float = 0.0015,
        beta_end: float = 0.0195,
        spacing: Literal["leading", "trailing", "lcm"] = "trailing",
        final_zero: bool = True,
        zero_terminal_snr: bool = False,
    ) -> None:
        if num_timesteps < 2:
            raise ValueError(f"num_timesteps is {num_timesteps}, but a table of angles needs at least 2")
        if not 0 < beta_start <= beta_end < 1:
            raise ValueError(f"betas run from {beta_start} to {beta_end}, but need 0 < beta_start <= beta_end < 1")
        self.num_timesteps = num_timesteps
        self.spacing = spacing
        self.final_zero = final_zero
        self.zero_terminal_snr = zero_terminal_snr
        self.table = self._tabulate(beta_start, beta_end)

    def _tabulate(self, beta_start: float, beta_end: float) -> Float[Tensor, " num_timesteps"]:
        # On the processor, whatever the context: the numbers are wanted even where a network is only counted.
        ends, processor = (math.sqrt(beta_start), math.sqrt(beta_end)), torch.device("cpu")
        roots = torch.linspace(*ends, self.num_timesteps, dtype=torch.float64, device=processor)
        cosines = torch.cumprod(1 - roots**2, dim=0).sqrt()
        if not self.zero_terminal_snr:
            return torch.arccos(cosines)
        return torch.arccos((cosines - cosines[-1]) * cosines[0] / (cosines[0] - cosines[-1]))

    def timesteps(self, num_steps: int) -> Int[Tensor, " num_steps"]:
        """The integer timesteps that `num_steps` steps visit, descending."""
        _check_num_steps(num_steps, self.num_timesteps, "the number of timesteps")
        stride = self.num_timesteps // num_steps
        if self.spacing == "trailing":
            visited = [round(self.num_timesteps * (num_steps - i) / num_steps) - 1 for i in range(num_steps)]
        elif self.spacing == "lcm":
            visited = [(i + 1) * stride - 1 for i in reversed(range(num_steps))]
        else:
            visited = [i * stride + 1 for i in reversed(range(num_steps))]
        if visited[0] >= self.num_timesteps:
            raise ValueError(f"{num_steps} leading steps go beyond {self.num_timesteps} timesteps: ask for fewer steps")
        return torch.tensor(visited)

    def angles(self, num_steps: int) -> Float[Tensor, " num_steps_plus_one"]:
        """fp64 angles of the visited timesteps, then 0 (or the angle of timestep 0 where `final_zero` is off)."""
        timesteps = self.timesteps(num_steps)
        if not self.final_zero and timesteps[-1] == 0:
            raise ValueError(f"{num_steps} steps visit timestep 0, where final_zero=False ends: ask for fewer steps")
        last = torch.zeros(1, dtype=torch.float64) if self.final_zero else self.table[:1]
        return torch.cat([self.table[timesteps], last])

    def training_angles(self, uniform: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Angles of timesteps drawn uniformly: the table's entry `floor(uniform * num_timesteps)`."""
        timesteps = (uniform.double() * self.num_timesteps).long()
        return self.table.to(uniform.device)[timesteps].to(uniform.dtype)


class GridAngles(AngleSchedule):
    """The few-step subset of a distillation grid: a consistency model knows the grid's angles and no others.

    Args:
        schedule: what the grid was made with.
        grid_steps: its number of steps; n steps visit its entries `floor(j * grid_steps / n)`, j = 0 .. n - 1.
    """

    def __init__(self, schedule: AngleSchedule, grid_steps: int = 50) -> None:
        _check_num_steps(grid_steps)
        self.schedule = schedule
        self.grid_steps = grid_steps

    def angles(self, num_steps: int) -> Float[Tensor, " num_steps_plus_one"]:
        """fp64 angles of the grid, descending, then 0."""
        _check_num_steps(num_steps, self.grid_steps, "the distillation grid")
        grid = self.schedule.angles(self.grid_steps)
        visited = torch.arange(num_steps) * self.grid_steps // num_steps
        return torch.cat([grid[visited], grid.new_zeros(1)])

    def training_angles(self, uniform: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The training angles of the schedule behind the grid."""
        return self.schedule.training_angles(uniform)
