"""How well codebooks serve: what quantization leaves, how many entries work, and whether codes stay what they are."""

import copy
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.encoders.kmeans import perplexity, share_left
from melody_cm.interfaces import Network, Tokenizer

# 30 dB below the music: about the noise of a good cassette.
NOISE_RATIO = 10 ** (-30 / 20)


@torch.no_grad()
def codebook_report(tokenizer: Tokenizer, features: Float[Tensor, "n d"]) -> dict[str, list[float]]:
    """Quantization of feature vectors by a fitted tokenizer, for a log; one number a level.

    Returns:
        `quantization_error`, the share of the vectors' variance that is left after each level (of all levels at once
        where the tokenizer does not tell them apart); `perplexity` of each level's codes, at most the codebook's size;
        `used`, the share of each codebook's entries that occur.
    """
    codes = tokenizer.quantize(features[None])
    use = [cluster_use(codes[:, level], tokenizer.codebook_size) for level in range(tokenizer.num_codebooks)]
    by_level = getattr(tokenizer, "quantization_error", None)
    left = features - tokenizer.dequantize(codes)[0]
    return {
        "quantization_error": by_level(features) if by_level else [share_left(left, features)],
        "perplexity": [perplexity for perplexity, _ in use],
        "used": [share for _, share in use],
    }


def cluster_use(codes: Int[Tensor, "..."], codebook_size: int) -> tuple[float, float]:
    """The perplexity of the codes (at most `codebook_size`), and the share of the codebook's entries that occur."""
    share = torch.bincount(codes.flatten(), minlength=codebook_size).double() / codes.numel()
    return float(perplexity(share)), float((share > 0).double().mean())


def mutual_information(codes: Int[Tensor, "..."], others: Int[Tensor, "..."]) -> float:
    """Normalized mutual information: 1 where either tells the other, near 0 where neither tells anything."""
    from sklearn.metrics import normalized_mutual_info_score  # Half a second, which making music need not wait for.

    return float(normalized_mutual_info_score(codes.flatten().cpu().numpy(), others.flatten().cpu().numpy()))


@torch.no_grad()
def cluster_stability(
    tokenizer: Tokenizer, features: Float[Tensor, "n d"], batch: MusicBatch, seed: int
) -> dict[str, float]:
    """Use and stability of a fitted tokenizer of audio frames, for a log.

    Args:
        tokenizer: fitted with `seed`.
        features: that it was fitted on; any device.
        batch: some music, with waveforms at the tokenizer's rate, more than a second of it.
        seed: of the fit.

    Returns:
        `cluster_perplexity` and `cluster_share` of use on the features; the normalized mutual information of codes
        with those of a fit with the next seed (`nmi_other_seed`), of the same music cut half a second later
        (`nmi_shifted`) and with noise 30 dB below it (`nmi_noisy`).
    """
    waveform = batch.need_waveform()
    fitted_on = features[None].to(waveform.device)
    mine, clean = tokenizer.quantize(fitted_on), tokenizer(batch)
    effective, share = cluster_use(mine, tokenizer.codebook_size)
    shift = max(1, round(tokenizer.frame_rate / 2))
    shifted = replace(batch, waveform=waveform[..., shift * waveform.shape[-1] // clean.shape[-1] :])
    noise = batch.draws(seed).normal("stability", waveform.shape[1:], waveform.device)
    loudness = waveform.square().mean(-1, keepdim=True).sqrt()
    noisy = replace(batch, waveform=waveform + NOISE_RATIO * loudness * noise)
    return {
        "cluster_perplexity": effective,
        "cluster_share": share,
        "nmi_other_seed": mutual_information(mine, _refitted(tokenizer, features, seed + 1).quantize(fitted_on)),
        "nmi_shifted": mutual_information(clean[..., shift:], tokenizer(shifted)),
        "nmi_noisy": mutual_information(clean, tokenizer(noisy)),
    }


def _refitted(tokenizer: Tokenizer, features: Tensor, seed: int) -> Tokenizer:
    """A copy with codebooks of another seed, where the tokenizer is; what is frozen is shared."""
    shared = {id(module): module for module in tokenizer.modules() if isinstance(module, Network) and module.frozen}
    other = copy.deepcopy(tokenizer, shared)
    other.fit(features, seed)
    return other
