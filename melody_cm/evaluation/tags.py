"""What a music tagger says of generated clips: is the named instrument heard, do the tags fit, do they vary?

All take a clip's logits, the mean over its windows.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from scipy.stats import rankdata
from torch import Tensor

from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import LeftOut, codes_of, jackknife
from melody_cm.interfaces import EmbeddingIdentity

# By which words a caption names what a tag of MagnaTagATune means; families where listeners heard families.
NAMED_BY = {
    "guitar": ("guitar",),
    "piano": ("piano", "grand piano"),
    "drums": ("drum", "drum kit", "drum set", "percussion"),
    "synth": ("synth", "synthesizer", "synthesiser", "polysynth"),
    "strings": (
        "string section", "string quartet", "string orchestra", "strings", "violin", "viola", "cello", "fiddle",
    ),
    "violin": ("violin", "fiddle"),
    "cello": ("cello",),
    "flute": ("flute",),
    "harp": ("harp",),
    "harpsichord": ("harpsichord",),
    "sitar": ("sitar",),
    "choir": ("choir",),
}  # fmt: skip
MIN_CLIPS = 5  # Of those that name an instrument, and of those that do not.
EPSILON = 1e-6
SPLITS, SHUFFLE_SEED = 10, 2020  # Of the inception score in audioldm_eval.


def names_instrument(caption: str, tag: str) -> bool:
    """Whether a caption names the instrument of a tag in `NAMED_BY`, in singular or plural."""
    words = "|".join(re.escape(word) for word in NAMED_BY[tag])
    return re.search(rf"\b(?:{words})s?\b", caption.lower()) is not None


def prompt_judge(
    logits: Float[Tensor, "n k"],
    tags: Sequence[str],
    captions: Sequence[str],
    groups: Sequence[str],
    identity: EmbeddingIdentity,
) -> dict[str, Score]:
    """Does a clip whose caption names an instrument get its tag? By key: `prompt_auc_<embedding>`, the mean, and
    `prompt_auc_<instrument>_<embedding>`.

    The area under the ROC curve of the tag's logit: 0.5 for a system that is deaf to its prompts, 1 if every clip that
    should have the instrument ranks above all others. Real music does not reach 1, so compare with it. The interval is
    a jackknife that leaves out whole groups.

    Args:
        groups: what belongs together: the piece of a real clip, the prompt of a generated one.

    Returns:
        Instruments that at least five clips name, and five do not; nothing at all without any.
    """
    usable = {}
    for tag in (tag for tag in NAMED_BY if tag in tags):
        mask = torch.tensor([names_instrument(caption, tag) for caption in captions], dtype=torch.bool)
        if MIN_CLIPS <= int(mask.sum()) <= len(captions) - MIN_CLIPS:
            usable[tag] = mask
    if not usable:
        return {}
    member, count = codes_of(groups)
    keep = [torch.ones(len(captions), dtype=torch.bool), *(member != group for group in range(count))]
    areas = {tag: [_area(logits[:, tags.index(tag)], mask, part) for part in keep] for tag, mask in usable.items()}
    sizes = torch.stack([(~part).sum() for part in keep[1:]])
    areas["mean"] = np.mean(list(areas.values()), axis=0).tolist()  # Undefined where one of them is.
    details = {tag: {"named": float(mask.sum())} for tag, mask in usable.items()}
    details["mean"] = {"instruments": float(len(usable))}
    scores = {}
    for tag, (value, *without) in areas.items():
        key = f"prompt_auc_{identity.name}" if tag == "mean" else f"prompt_auc_{tag}_{identity.name}"
        left_out = LeftOut(torch.tensor(without, dtype=torch.float64), sizes)
        told = {"embedding": asdict(identity), "details": details[tag]}
        scores[key] = _area_score(value, left_out, n_generated=len(captions), **told)
    return scores


def tag_divergence(
    generated: Float[Tensor, "n k"],
    reference: Float[Tensor, "n k"],
    groups: Sequence[str],
    identity: EmbeddingIdentity,
) -> dict[str, Score]:
    """KL(reference || generated) of the tags of clips that belong together, the mean over pairs in nats.

    `kl_<embedding>`: softmax over tags, as audiocraft/metrics/kld.py (`kld_pq`) and audioldm_eval's
    `kullback_leibler_divergence_softmax` have it. `kl_sigmoid_<embedding>`: every tag for itself, without its
    complement, p_ref log(p_ref / p_gen) summed over tags, as audioldm_eval's `..._sigmoid`; it may be negative. Both
    add 1e-6 to the generated probability. They take PaSST or PANNs over AudioSet: only the formulas are theirs, so
    values are not comparable with papers.

    Args:
        groups: as in `prompt_judge`.
    """
    scores = {}
    for key, probabilities in (("kl", torch.softmax), ("kl_sigmoid", lambda logits, _: logits.sigmoid())):
        p, q = (probabilities(side.double(), 1) for side in (reference, generated))
        values = (torch.special.xlogy(p, p) - p * (q + EPSILON).log()).sum(1)
        method = "mean over pairs of clips; Student's interval over prompts or pieces"
        scores[f"{key}_{identity.name}"] = Score.mean(
            values.tolist(), method, groups, n_reference=len(values), embedding=asdict(identity)
        )
    return scores


def inception_score(
    logits: Float[Tensor, "n k"], groups: Sequence[str], identity: EmbeddingIdentity
) -> dict[str, Score]:
    """exp(mean KL(tags of a clip || mean tags)): high if each clip has clear tags and clips differ, at most k.

    As audioldm_eval/metrics/isc.py: softmax, clips in the order of numpy's RandomState(2020), the mean over ten parts.
    The interval is ours: a jackknife that leaves out whole groups. It is that of the score at this n, which is larger
    for more clips, so compare equal n; below 100 clips a part has fewer than ten. The reference is not looked at.

    Args:
        groups: as in `prompt_judge`.
    """
    count = len(logits)
    if count < SPLITS:
        return {}
    member, num_groups = codes_of(groups)
    order = torch.from_numpy(np.random.RandomState(SHUFFLE_SEED).permutation(count))
    ends = torch.tensor([split * count // SPLITS for split in range(1, SPLITS)])
    part = torch.bucketize(torch.arange(count), ends, right=True)
    log_p = logits.double().log_softmax(1)[order]
    # Of each clip all that the score needs: its tags, their negative entropy, and that it is one.
    clips = torch.cat([log_p.exp(), (log_p.exp() * log_p).sum(1, keepdim=True), torch.ones(count, 1)], 1)
    sums = clips.new_zeros(num_groups * SPLITS, clips.shape[1])
    sums = sums.index_add_(0, member[order] * SPLITS + part, clips).unflatten(0, (num_groups, SPLITS))
    value, without = _of_parts(sums.sum(0)), _of_parts(sums.sum(0) - sums)
    told = num_groups > 1 and bool(without.isfinite().all())
    sizes = torch.bincount(member, minlength=num_groups)
    sure = jackknife(value.item(), [LeftOut(without, sizes)] if told else [])
    half = (sure.high - sure.low) / 2 if sure else math.nan
    low, high = (max(value.item() - half, 1.0), value.item() + half) if sure else (None, None)
    method, few = "mean over ten parts; jackknife over groups", count < SPLITS**2 or not sure
    score = Score(value.item(), value.item(), low, high, method, count, None, few, asdict(identity))
    score.groups = {"generated": num_groups}
    return {f"inception_{identity.name}": score}


def _of_parts(sums: Float64[Tensor, "*g parts columns"]) -> Float64[Tensor, "*g"]:
    """The mean inception score of parts from sums over their clips; NaN where a part is empty."""
    tags, entropy, count = sums[..., :-2].clamp_min(0), sums[..., -2], sums[..., -1]
    mean = tags / count[..., None]
    return (entropy / count - torch.special.xlogy(mean, mean).sum(-1)).exp().mean(-1)


def _area(logits: Float[Tensor, " n"], named: Bool[Tensor, " n"], keep: Bool[Tensor, " n"]) -> float:
    """Of the ROC curve (Mann-Whitney, from ranks); ties count half. NaN without clips on a side."""
    ranks, named = rankdata(logits[keep].double().numpy()), named[keep].numpy()
    if named.all() or not named.any():
        return float("nan")
    count, others = named.sum(), (~named).sum()
    return float((ranks[named].sum() - count * (count + 1) / 2) / (count * others))


def _area_score(value: float, without: LeftOut, **more: Any) -> Score:
    """The area with its interval, made of its log-odds, where it is nearly symmetrical; `more` are further attributes.

    There is none where a single group holds all clips of a side, or where the sides are parted completely.
    """
    areas = torch.tensor([value, *without.values.tolist()], dtype=torch.float64)
    odds = areas.logit()
    told = len(without.values) > 1 and bool(odds.isfinite().all())
    found = jackknife(odds[0].item(), [LeftOut(odds[1:], without.sizes)]) if told else None
    low, high = (torch.tensor([found.low, found.high]).sigmoid().tolist()) if found else (None, None)
    method = "area under the ROC curve; jackknife of its log-odds over groups"
    return Score(value, value, low, high, method, n_reference=None, too_few=found is None, **more)
