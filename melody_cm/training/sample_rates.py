"""Whether all that hears music in a training hears it at the rate at which the data comes."""

from torch import nn


def check_sample_rates(training: nn.Module, sample_rate: int) -> None:
    """Refuse a training with a part that works at another rate than the data's; parts that hear no audio may.

    Args:
        sample_rate: of the data, Hz.

    Raises:
        ValueError: there is such a part.
    """
    deaf = [f"{name}." for name, module in training.named_modules() if getattr(module, "uses_audio", True) is False]
    for name, module in training.named_modules():
        if name.startswith(tuple(deaf)):
            continue
        rate = getattr(module, "sample_rate", sample_rate)
        if rate != sample_rate:
            raise ValueError(
                f"{name} works at {rate} Hz but the data has {sample_rate} Hz; "
                f"set data.sample_rate to {rate}, or make that part, or train its stage, at {sample_rate} Hz"
            )
