"""MusicCM and MeLoDy at a size with random weights, without any training: for benchmarks of speed."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.encoders import LogMelKMeans, SemanticConditioner, TextConditioner
from melody_cm.interfaces import Tokenizer
from melody_cm.pipelines import MeLoDy, MusicCM
from melody_cm.runs import Setting
from melody_cm.storage import build


def slot(setting: Setting, stage: str, name: str) -> Any:
    """What a recipe says of a part of its model, without the finished stages that it would read."""
    return bare(setting.compose(stage).config["model"]["init_args"][name])


def bare(slot: Any) -> Any:
    """A slot without what names a finished stage."""
    if isinstance(slot, Mapping):
        return {k: bare(v) for k, v in slot.items() if not (isinstance(v, str) and v.startswith("stage:"))}
    return slot


class AnyTokenizer(Tokenizer):
    """Codes of the right shape, of any vectors."""

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.num_codebooks, self.codebook_size, self.frame_rate = num_codebooks, codebook_size, 0.0

    def features(self, batch: MusicBatch) -> Tensor:
        raise NotImplementedError

    def fit(self, features: Tensor, seed: int) -> None:
        raise NotImplementedError

    def dequantize(self, codes: Tensor) -> Tensor:
        raise NotImplementedError

    def quantize(self, features: Tensor) -> Tensor:
        return (features.mT[:, : self.num_codebooks] * 1000).long().remainder(self.codebook_size)


def random_musiccm(setting: Setting, vocoder: Any = None) -> MusicCM:
    """The published sizes with random weights; a vocoder in the place of Griffin-Lim."""
    teacher = setting.compose("musiccm/3_teacher").config["model"]["init_args"]
    student = setting.compose("musiccm/4_consistency_distillation").config["model"]["init_args"]
    joint = build(slot(setting, "shared/1_joint_embedding", "joint_embedding"))
    autoencoder = slot(setting, "musiccm/1_mel_vae", "autoencoder")
    autoencoder["init_args"]["vocoder"] = vocoder or slot(setting, "musiccm/2_vocoder", "vocoder")
    sampling = (build(student["schedule"]), build(student["sampler"]))
    seconds = setting.compose("musiccm/3_teacher").config["data"]["seconds"]
    parts = (joint, TextConditioner(width=joint.width), build(bare(teacher["denoiser"])), build(autoencoder))
    return MusicCM(*parts, *sampling, max_seconds=seconds)


def random_melody(setting: Setting) -> MeLoDy:
    """The same of MeLoDy; its tokenizers give any codes."""
    recipe = setting.compose("melody/6_dual_path_diffusion").config
    diffusion = recipe["model"]["init_args"]
    joint = build(slot(setting, "shared/1_joint_embedding", "joint_embedding"))
    model = build(slot(setting, "melody/4_semantic_lm", "language_model"))
    prompt, semantic = model.stream_sizes["prompt"], model.stream_sizes["semantic"]
    conditioner = SemanticConditioner(**{**bare(diffusion["conditioner"])["init_args"], "codebook_size": semantic[1]})
    rate = model.frame_rates["semantic"] or 25.0
    hearing = LogMelKMeans(recipe["data"]["sample_rate"], rate, semantic[1])
    networks = (joint, AnyTokenizer(*prompt), hearing, model, conditioner, build(bare(diffusion["denoiser"])))
    autoencoder = build(slot(setting, "melody/5_audio_vae_gan", "autoencoder"))
    sampling = (build(diffusion["schedule"]), build(diffusion["sampler"]))
    return MeLoDy(*networks, autoencoder, *sampling, semantic_frame_rate=rate, max_seconds=recipe["data"]["seconds"])
