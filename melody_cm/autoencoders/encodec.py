"""The public EnCodec (arXiv 2210.13438) as a codec: 24 kHz, 75 frames a second, up to 32 codebooks of 1024 codes."""

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from melody_cm.autoencoders.codec import check_codes
from melody_cm.interfaces import Codec
from melody_cm.placement import keep_fp32
from melody_cm.storage.pretrained import load_model, reason_of

EXAMPLE = "facebook/encodec_24khz"
INSTALL = "pip install 'melody_cm[encodec]'"
DOWNLOAD = "curl -LO https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th"


class EncodecCodec(Codec):
    """EnCodec of transformers, without gradient.

    EnCodec counts in bandwidths; the smallest one that holds `num_codebooks` is used, and its finer codes are dropped.
    Once made, it is written down by its configuration, so that a saved pipeline needs no public folder.

    Args:
        source: folder of a transformers EncodecModel, or its id on the model hub.
        num_codebooks: q; MusicLM's 4 coarse and 8 fine ones are 12.
        config: of an EncodecModel whose weights are loaded afterwards, instead of a source.

    Raises:
        FileNotFoundError: no such folder or hub id.
        ValueError: source and config, or neither; more codebooks than there are; a stereo, normalizing or chunking
            model.
    """

    def __init__(
        self, source: str | None = None, num_codebooks: int = 12, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        # transformers takes seconds to import, which a command that uses another codec need not wait for.
        from transformers import EncodecConfig, EncodecModel

        if (source is None) == (config is None):
            raise ValueError(f"EncodecCodec takes a source, e.g. {EXAMPLE}, or the config of one; give one of them")
        if config is None:
            self.model = load_model(EncodecModel, source, "encodec", EXAMPLE, give="give FOLDER as source")
        else:
            self.model = EncodecModel(EncodecConfig(**config)).requires_grad_(False).eval()
        keep_fp32(self.model.decoder.layers[-1])
        settings = self.model.config
        _check_kind(str(source), settings)
        self.sample_rate, self.frame_rate = settings.sampling_rate, settings.sampling_rate / settings.hop_length
        self.num_codebooks, self.codebook_size = num_codebooks, settings.codebook_size
        self.bandwidth = _bandwidth(num_codebooks, settings.target_bandwidths, settings.frame_rate, self.codebook_size)
        self.init_arguments = {"source": None, "num_codebooks": num_codebooks, "config": settings.to_diff_dict()}

    @property
    def pass_module(self) -> nn.Module:
        return self.model.decoder

    @torch.no_grad()
    def encode_codes(self, waveform: Float[Tensor, "b 1 t"]) -> Int[Tensor, "b q l"]:
        return self.model.encode(waveform, bandwidth=self.bandwidth).audio_codes[0][:, : self.num_codebooks]

    @torch.no_grad()
    def decode_codes(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b 1 t"]:
        """As `WaveformCodec.decode_codes`."""
        check_codes(codes, self)
        return self.model.decode(codes[None], [None]).audio_values


class EncodecPackageCodec(Codec):
    """EnCodec of 24 kHz by its authors' own package, which is optional and imported when asked for; without gradient.

    Once made, it is written down without the file, so that a saved pipeline needs the package but no path of a machine.

    Args:
        weights: the file encodec_24khz-d7cc33bc.th; None where the weights are loaded afterwards (an export).
        num_codebooks: q, at most 32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the package is missing or does not work here, the file holds something else, or there are fewer
            codebooks.
    """

    def __init__(self, weights: str | None, num_codebooks: int = 12) -> None:
        super().__init__()
        package = _import_package()
        self.model = package.EncodecModel.encodec_model_24khz(pretrained=False)
        if weights is not None:
            _load_package_weights(self.model, weights)
        self.model.requires_grad_(False).eval()
        self.sample_rate, self.frame_rate = self.model.sample_rate, float(self.model.frame_rate)
        self.num_codebooks, self.codebook_size = num_codebooks, self.model.quantizer.bins
        self.model.set_target_bandwidth(
            _bandwidth(num_codebooks, self.model.target_bandwidths, self.frame_rate, self.codebook_size)
        )
        self.init_arguments = {"weights": None, "num_codebooks": num_codebooks}

    @property
    def pass_module(self) -> nn.Module:
        return self.model.decoder

    @torch.no_grad()
    def encode_codes(self, waveform: Float[Tensor, "b 1 t"]) -> Int[Tensor, "b q l"]:
        [(codes, _)] = self.model.encode(waveform)
        return codes[:, : self.num_codebooks]

    @torch.no_grad()
    def decode_codes(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b 1 t"]:
        """As `WaveformCodec.decode_codes`."""
        check_codes(codes, self)
        return self.model.decode([(codes, None)])


def _bandwidth(
    num_codebooks: int, bandwidths: Sequence[float | int], frame_rate: float | int, codebook_size: int
) -> float | int:
    """The smallest bandwidth (kbit/s) that holds so many codebooks."""
    capacity = {bandwidth: int(bandwidth * 1000 / (frame_rate * math.log2(codebook_size))) for bandwidth in bandwidths}
    fitting = [bandwidth for bandwidth, count in capacity.items() if 1 <= num_codebooks <= count]
    if not fitting:
        raise ValueError(f"num_codebooks is {num_codebooks}, but this EnCodec has 1 to {max(capacity.values())}")
    return min(fitting)


def _check_kind(source: str, settings: Any) -> None:
    if settings.audio_channels != 1 or settings.normalize or settings.chunk_length_s is not None:
        raise ValueError(
            f"{source} is an EnCodec of {settings.audio_channels} channel(s), normalize {settings.normalize}, chunks "
            f"of {settings.chunk_length_s} s; a codec here is mono, neither normalizes nor cuts, e.g. {EXAMPLE}"
        )


def _load_package_weights(model: nn.Module, weights: str) -> None:
    file = Path(weights).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {weights} with EnCodec's weights; get it: {DOWNLOAD}")
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # Pickle, zip and torch raise many kinds; each means that it is another file.
        raise ValueError(f"{weights} holds no weights of EnCodec ({reason_of(error)}); get them: {DOWNLOAD}") from error


def _import_package() -> Any:
    try:
        return importlib.import_module("encodec")
    except (ImportError, OSError, RuntimeError) as error:  # A torchaudio that does not fit is not an ImportError.
        raise ValueError(
            f"the package encodec cannot be imported here ({reason_of(error)}); get it with {INSTALL} beside a "
            "torchaudio that works, or use EncodecCodec, which needs neither"
        ) from error
