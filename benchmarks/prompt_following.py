"""Where do a system's clips lose the prompt? Each part on the way from music and caption to a clip, judged alike.

    python benchmarks/prompt_following.py runs/mine/melody --corpus manifest.jsonl
    python benchmarks/prompt_following.py runs/mine/melody --judge joint:OTHER_JOINT_EMBEDDING --split test

Of captioned clips of a corpus: the clips, the clips through the system's decoder, what MeLoDy's denoiser makes of the
clips' own semantic tokens, what the system makes of the clips as prompts, and of their captions. A tagger as judge
prints the area under the ROC curve of the tags that captions name; a joint embedding by how much the cosine to the own
caption exceeds that to the others'. A judge that conditions the system would prefer it: give one of another seed.
"""

import argparse
import random
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from melody_cm.data import SyntheticCorpus, open_corpus
from melody_cm.data.audio_files import read_audio
from melody_cm.diffusion import Guided
from melody_cm.evaluation import text_correlation
from melody_cm.evaluation.embeddings.pretrained import TextAudioEmbedding
from melody_cm.evaluation.judge import clip_vectors, load_embedding
from melody_cm.evaluation.tags import prompt_judge
from melody_cm.interfaces import AudioEmbedding
from melody_cm.pipelines import AudioPrompt, MeLoDy, MusicLM, PretrainedPipeline
from melody_cm.runs.run import open_source
from melody_cm.signal import resample

BATCH = 8


def coded(pipeline: PretrainedPipeline) -> Callable[[Tensor], Tensor]:
    """Music through what makes the system's sound, and nothing else."""
    if isinstance(pipeline, MusicLM):
        return lambda music: pipeline.codec.decode_codes(pipeline.codec.encode_codes(music))
    return lambda music: pipeline.autoencoder.decode(pipeline.autoencoder.encode(music))


def rendered(pipeline: MeLoDy, music: Tensor, seeds: list[int], steps: int, guidance: float) -> Tensor:
    """What the denoiser makes of the semantic tokens of music."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = pipeline.autoencoder.latent_shape(music.shape[-1] / pipeline.sample_rate)
    noise = torch.stack([torch.randn(*shape, generator=generator) for generator in generators])
    embedded = pipeline.conditioner.embed(pipeline.hear(music))
    angles = pipeline.schedule.angles(steps)
    latent = pipeline.sampler.sample(Guided(pipeline.denoiser, guidance), noise, embedded, angles, generators)
    return pipeline.autoencoder.decode(latent)


def takes(
    pipeline: PretrainedPipeline, music: Tensor, captions: list[str], seconds: float, options: dict[str, float]
) -> Iterator[tuple[str, Callable[[slice], Tensor]]]:
    """Each part's name, and how it makes some of the clips."""
    asked = {name: value for name, value in options.items() if value is not None}
    seeds = list(range(len(captions)))
    code = coded(pipeline)
    yield "real music", lambda part: music[part]
    yield "through its decoder", lambda part: code(music[part])
    if isinstance(pipeline, MeLoDy):
        steps, guidance = (
            asked.get("num_steps", pipeline.num_steps),
            asked.get("guidance_scale", pipeline.guidance_scale),
        )
        yield "from the clips' own tokens", lambda part: rendered(pipeline, music[part], seeds[part], steps, guidance)
    heard = [AudioPrompt(clip[None], pipeline.sample_rate) for clip in music]
    yield (
        "from the clips as prompts",
        lambda part: pipeline.generate(heard[part], seconds, seeds[part], **asked).waveform,
    )
    yield "from the captions", lambda part: pipeline.generate(captions[part], seconds, seeds[part], **asked).waveform


def verdict(judge: AudioEmbedding, captions: list[str], music: Tensor, rate: int) -> str:
    """What the judge says of clips at `rate` Hz; the intervals are over clips."""
    heard = resample(music, rate, judge.sample_rate)
    if isinstance(judge, TextAudioEmbedding):
        audio = torch.cat([judge.embed_audio(part) for part in heard.split(BATCH)])
        found = text_correlation(judge.embed_text(captions), audio, judge.identity).details
        return f"excess {found['excess']:.3f} [{found['excess_low']:.3f}, {found['excess_high']:.3f}]"
    logits = torch.cat([clip_vectors(judge(part)) for part in heard.split(BATCH)])
    scores = prompt_judge(logits, judge.tags, captions, list(map(str, range(len(music)))), judge.identity)
    mean = scores[f"prompt_auc_{judge.name}"]
    return f"AUC {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}] over {len(scores) - 1} tags"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", help="RUNS/RUN/SYSTEM or an exported folder with its audio tower and encoders")
    parser.add_argument("--judge", default="musicnn_tags", help="an embedding: a tagger, or joint:FOLDER")
    parser.add_argument("--corpus", help="a manifest or folder; default: procedural music")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--clips", type=int, default=120, help="at most one take of each excerpt is heard")
    parser.add_argument("--seconds", type=float, default=5.12)
    parser.add_argument("--steps", type=int, help="of the sampler; default: the system's own")
    parser.add_argument("--guidance", type=float, help="default: the system's own")
    arguments = parser.parse_args()
    pipeline, judge = open_source(arguments.system), load_embedding(arguments.judge)
    rate, seconds = pipeline.sample_rate, arguments.seconds
    corpus = open_corpus(arguments.corpus) if arguments.corpus else SyntheticCorpus(2000, seconds, sample_rate=rate)
    chance = random.Random(0)
    excerpts = {clip.id.rsplit("_take", 1)[0]: clip for clip in corpus.splits()[arguments.split]}
    clips = chance.sample(list(excerpts.values()), min(arguments.clips, len(excerpts)))
    captions = [chance.choice(clip.captions) for clip in clips]
    read = [read_audio(clip.audio, clip.start, seconds, rate) for clip in clips]
    length = round(seconds * rate)
    music = torch.stack([torch.nn.functional.pad(clip, (0, length - len(clip))) for clip in read])[:, None]
    parts = [slice(start, start + BATCH) for start in range(0, len(clips), BATCH)]
    options = {"num_steps": arguments.steps, "guidance_scale": arguments.guidance}
    for name, make in takes(pipeline, music, captions, seconds, options):
        made = torch.cat([make(part)[..., :length] for part in parts])
        print(
            f"{name}: {verdict(judge, captions, made, rate)}, n {len(clips)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
