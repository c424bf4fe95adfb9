"""An embedding as a judge: opened by its name, and all measures that it allows, side by side over the same clips."""

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.configuration import load_config, open_slot, shipped
from melody_cm.evaluation.frechet import clip_distance, frechet_score
from melody_cm.evaluation.kernel import kernel_score
from melody_cm.evaluation.memorization import memorization
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.statistics import EmbeddingStatistics, Gaussian
from melody_cm.evaluation.tags import inception_score, prompt_judge
from melody_cm.evaluation.text_correlation import text_correlation
from melody_cm.interfaces import AudioEmbedding
from melody_cm.placement import Placement, at_least_fp32
from melody_cm.storage import find_class


def load_embedding(name: str) -> AudioEmbedding:
    """The embedding of a preset's name, of `NAME:PATH` (the preset with PATH as its first argument), or of a YAML file.

    Raises:
        FileNotFoundError: there is no such preset or file; ValueError: it describes no embedding.
    """
    is_file, presets = name.endswith((".yaml", ".yml")), shipped("configs/embedding")
    preset, colon, path = (name, "", "") if is_file else name.partition(":")
    file = Path(name) if is_file else presets / f"{preset}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(known.stem for known in presets.glob("*.yaml")))
        raise FileNotFoundError(f"there is no embedding {name!r}; presets: {known}, or give a YAML file")
    return open_slot(_with_path(load_config(file), path, name) if colon else file, AudioEmbedding).eval()


def default_embeddings(num_clips: int) -> list[str]:
    """Judges of unlike kinds that are here without a download: one made by hand, and one trained on real music.

    A short clip is a single frame of the latter, which has no spread.
    """
    return ["logmel", *(["musicnn"] if num_clips > 1 and find_spec("musicnn") else [])]


def open_embeddings(embeddings: Sequence[str | AudioEmbedding]) -> list[AudioEmbedding]:
    """Embeddings, or their names as in `load_embedding`, of which no two may share a name in metric keys.

    Raises:
        FileNotFoundError, ValueError: as `load_embedding`, or two embeddings of one name.
    """
    opened = [load_embedding(one) if isinstance(one, str) else one for one in embeddings]
    names = [embedding.name for embedding in opened]
    if len(set(names)) < len(names):
        raise ValueError(f"two embeddings of one name ({', '.join(names)}) would share their keys; use one at a time")
    return opened


def _with_path(config: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    """The preset with what follows the colon as its constructor's first argument, which must be a text."""
    first = next(iter(inspect.signature(find_class(config["class_path"])).parameters.values()), None)
    if not path or first is None or "str" not in str(first.annotation):
        raise ValueError(f"--embedding {name!r}: {name.partition(':')[0]} takes no path after a colon, or it is empty")
    return {**config, "init_args": {**(config.get("init_args") or {}), first.name: path}}


def embeds_text(embedding: AudioEmbedding) -> bool:
    """Whether texts lie in the same space as the audio."""
    return hasattr(embedding, "embed_text")


def uses_prompts(embedding: AudioEmbedding) -> bool:
    """Whether it can tell how well audio fits its text."""
    return embeds_text(embedding) or bool(embedding.tags)


def clip_vectors(frames: Float[Tensor, "b l d"]) -> Float[Tensor, "b d"]:
    """One vector a clip, the mean of its frames, whose direction is what a cosine compares."""
    return frames.float().mean(1)


class Judge:
    """`fad_<name>`, `kad_<name>`, the Frechet distance of every clip, and, with prompts, `text_correlation_<name>`.

    A tagger adds `inception_<name>` and, with prompts, the areas of `prompt_judge`.

    Without two clips on each side there is no kernel distance. The jackknife leaves out whole pieces, because clips of
    one piece resemble each other.

    Args:
        embedding: the space of all measures.
        reference: what to compare with; a Gaussian of another program has no clips for a kernel distance.
        prompts: the prompt of every generated clip by its id; only of use where the embedding embeds texts, or tags.

    Attributes:
        songs: the Frechet distance of every generated clip; similarities: the cosine of each to its prompt.
    """

    def __init__(
        self,
        embedding: AudioEmbedding,
        reference: EmbeddingStatistics | Gaussian,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        self.embedding, self.known = embedding, reference
        self.gaussian = reference if isinstance(reference, Gaussian) else reference.gaussian()
        self.prompts = prompts if prompts and uses_prompts(embedding) else None
        self._captions: list[str] = []
        self._pieces: list[str] = []
        self.generated = EmbeddingStatistics.empty(embedding.width)
        self.songs: dict[str, float] = {}
        self.similarities: dict[str, float] = {}
        self._takes: list[str] = []
        self._audio = [torch.zeros(0, embedding.width)]
        self._texts = [torch.zeros(0, embedding.width)]
        self._dropped = Counter[str]()

    def add(
        self, frames: Float[Tensor, "b l d"], clips: Sequence[str], pieces: Sequence[str], takes: Sequence[str] = ()
    ) -> None:
        """Generated clips with their ids, with the ids of the pieces (or prompts) that they belong to, and, where every
        prompt has the same takes, which of them each is."""
        self.generated.add(frames, pieces)
        if frames.shape[1] > 1:
            distances = (clip_distance(one, self.gaussian) for one in frames)
            self.songs |= dict(zip(clips, distances, strict=True))
        self._audio.append(clip_vectors(frames))
        self._pieces += pieces
        if self.prompts:
            self._captions += [self.prompts[clip] for clip in clips]
        if self.prompts and embeds_text(self.embedding):
            self._takes += takes
            with Placement.of([self.embedding]).computing():
                texts = self.embedding.embed_text([self.prompts[clip] for clip in clips])
            self._texts.append(at_least_fp32(texts).cpu())
            cosines = torch.nn.functional.cosine_similarity(self._texts[-1], self._audio[-1])
            self.similarities |= dict(zip(clips, cosines.tolist(), strict=True))

    def drop(self, reason: str, message: str = "") -> None:
        """A generated clip that could not be used."""
        self.generated.drop(reason, message)
        self._dropped[reason] += 1

    def samples(self) -> dict[str, dict[str, float]]:
        """The numbers of single clips, by the keys of `Row.samples`."""
        found = {"song_distance": self.songs, "text_similarity": self.similarities}
        return {f"{key}_{self.embedding.name}": values for key, values in found.items() if values}

    def scores(self, training: Iterable[Float[Tensor, "_ d"]] | None = None) -> dict[str, Score]:
        """By metric key; with the `clip_vectors` of training clips, and a trained embedding, `sim_aa` too."""
        name, identity, audio = self.embedding.name, self.embedding.identity, torch.cat(self._audio)
        scores = {f"fad_{name}": frechet_score(self.generated, self.known, identity)}
        told = isinstance(self.known, EmbeddingStatistics)
        if told and min(self.generated.num_clips, self.known.num_clips) > 1:
            scores[f"kad_{name}"] = kernel_score(self.generated, self.known, identity)
        if self.prompts and embeds_text(self.embedding):
            of = (self._dropped, self._captions, self._takes or None)
            scores[f"text_correlation_{name}"] = text_correlation(torch.cat(self._texts), audio, identity, *of)
        if tags := self.embedding.tags:
            scores |= inception_score(audio, self._groups(), identity)
            if self.prompts:
                scores |= prompt_judge(audio, tags, self._captions, self._groups(), identity)
        if training is not None and identity.trained:
            scores |= memorization(audio, training, identity, self._groups())
        return scores

    def _groups(self) -> list[str]:
        """What clips are left out together: those of a prompt or those of a piece, whichever are fewer."""
        return min(self._captions or self._pieces, self._pieces, key=lambda groups: len(set(groups)))
