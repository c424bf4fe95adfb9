"""CLAP's audio tower (arXiv 2211.06687) as the feature network of a discriminator (arXiv 2404.13358, Table 3)."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import Angle, Autoencoder, Conditioning, FeatureNetwork, Network
from melody_cm.nn.clap import load_clap
from melody_cm.signal import MelSettings, mel_filterbank

FLOOR = 1e-10  # Of power, as in CLAP's own front end.


class ClapFeatures(Network, FeatureNetwork):
    """Patches and stages of CLAP's audio tower for clean mel latents (b, c, l, f), decoded and heard with gradient.

    CLAP's mels are estimated from ours: a spectrum by the filterbank's pseudo-inverse, silent where ours hears nothing,
    then through CLAP's own filters. What is shorter than CLAP's window is repeated, as CLAP does it; what is longer is
    cut off. A discriminator that listens through it takes no `schedule`: CLAP knows no noise.

    Args:
        source: folder of a transformers ClapModel with its processor, or its id on the model hub.
        autoencoder: what the latents belong to; it decodes them to log-mels.

    Raises:
        FileNotFoundError: no such folder or hub id.
        ValueError: it holds something else, or the autoencoder has no mels.
    """

    def __init__(self, source: str, autoencoder: Autoencoder) -> None:
        super().__init__()
        if not hasattr(autoencoder, "decode_mel"):
            raise ValueError(f"{type(autoencoder).__name__} decodes to no mel, but CLAP hears mels; use the teacher")
        self.autoencoder = autoencoder
        model, processor = load_clap(source)
        self.tower, extractor = model.audio_model, processor.feature_extractor
        self.fused: bool = self.tower.config.enable_fusion
        settings = autoencoder.mel.settings
        self.num_frames: int = extractor.nb_max_samples // extractor.hop_length + 1
        self.frame_ratio = settings.hop_length / settings.sample_rate * extractor.sampling_rate / extractor.hop_length
        self.register_buffer("to_spectrum", _spectrum_estimate(settings, extractor), persistent=False)
        filters = extractor.mel_filters if self.fused else extractor.mel_filters_slaney
        self.register_buffer("filters", torch.as_tensor(filters, dtype=torch.float32), persistent=False)
        width = self.tower.config.patch_embeds_hidden_size
        self.feature_channels = [width, *(width * 2**stage for stage in range(len(self.tower.config.depths)))]
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "ClapFeatures":
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        return {} if destination is None else destination

    def features(
        self, noisy_latent: Float[Tensor, "b c l f"], angle: Angle, conditioning: Conditioning
    ) -> list[Float[Tensor, "b _ _"]]:
        """The patches and each stage of the tower; angle and conditioning are not used."""
        heard = self.clap_mel(self.autoencoder.decode_mel(noisy_latent))[:, None]
        heard = heard.expand(-1, 4 if self.fused else 1, -1, -1)
        longer = torch.zeros(len(heard), 1, dtype=torch.bool, device=heard.device)
        hidden = self.tower.audio_encoder(
            heard, is_longer=longer, output_hidden_states=True, output_hidden_states_before_downsampling=True
        ).hidden_states
        return [state.flatten(2) for state in hidden]

    def clap_mel(self, log_mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b frames bins"]:
        """What CLAP's front end would make of the music with that log-mel, in dB, as long as its window."""
        magnitude = F.relu(F.linear(log_mel.float().exp(), self.to_spectrum))
        power = F.linear(magnitude.square(), self.filters.T)
        length = max(1, round(power.shape[1] * self.frame_ratio))
        power = F.interpolate(power.transpose(1, 2), size=length, mode="linear").transpose(1, 2)
        repeated = power.repeat(1, -(-self.num_frames // length), 1)[:, : self.num_frames]
        return 10 * repeated.clamp(min=FLOOR).log10()


def _spectrum_estimate(settings: MelSettings, extractor: Any) -> Float[Tensor, "k f"]:
    """Our mel bins -> magnitudes at the frequencies of CLAP's transform, which has another length."""
    inverse = torch.linalg.pinv(mel_filterbank(settings).double())
    size = extractor.fft_window_size
    place = torch.arange(size // 2 + 1) * (extractor.sampling_rate / size) / (settings.sample_rate / settings.n_fft)
    lower = place.floor().long().clamp(max=len(inverse) - 1)
    upper = (lower + 1).clamp(max=len(inverse) - 1)
    between = torch.lerp(inverse[lower], inverse[upper], (place - lower).clamp(0, 1).double()[:, None])
    between[place > len(inverse) - 1] = 0
    # A tone is as loud as its transform is long.
    return (between * (size / settings.n_fft)).float()
