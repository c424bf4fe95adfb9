"""A patch discriminator for log-mels (Isola et al., arXiv 1611.07004; beside autoencoders: arXiv 2012.09841)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from melody_cm.discriminators.waveform import judged
from melody_cm.interfaces import Discriminator, DiscriminatorOutput


class MelPatchDiscriminator(Discriminator):
    """Judges overlapping patches of a log-mel (b, l, f) as a picture; each hidden layer halves time and frequency.

    Args:
        channels: of the hidden layers, first to last.
        mel_mean, mel_std: it sees (log-mel - mel_mean) / mel_std.
    """

    def __init__(self, channels: list[int], mel_mean: float = -4.0, mel_std: float = 4.0) -> None:
        super().__init__()
        self.mel_mean, self.mel_std = mel_mean, mel_std
        widths = [1, *channels[:-1]]
        self.hidden = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))
            for inputs, outputs in zip(widths, channels, strict=True)
        )
        self.output = weight_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, sample: Float[Tensor, "b l f"]) -> list[DiscriminatorOutput]:
        picture = ((sample - self.mel_mean) / self.mel_std)[:, None]
        return [judged(picture, self.hidden, self.output, slope=0.2)]
