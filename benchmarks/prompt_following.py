"""Where do a system's clips lose the prompt? Each stage on the way to a clip, judged by an embedding trained apart.

    python benchmarks/prompt_following.py my_melody my_judge
    python benchmarks/prompt_following.py my_melody my_judge --clips 200 --guidance 1.5 --num-clips 192

Of captioned test clips of the procedural corpus: the clips, the clips through the system's decoder, what MeLoDy's
denoiser makes of the clips' own semantic tokens, and what the system makes of the captions. A judge that conditions the
system would prefer it: give one of another seed. Prints the mean cosine to the own and to the other captions, and by
how much the first exceeds the second, with Student's interval over clips.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from melody_cm.data import SyntheticCorpus
from melody_cm.data.audio_files import read_audio
from melody_cm.diffusion import Guided
from melody_cm.evaluation import text_correlation
from melody_cm.evaluation.embeddings import JointAudioEmbedding
from melody_cm.pipelines import MeLoDy, MusicLM, PretrainedPipeline

BATCH = 16


def coded(pipeline: PretrainedPipeline) -> Callable[[Tensor], Tensor]:
    """Music through what makes the system's sound, and nothing else."""
    if isinstance(pipeline, MusicLM):
        return lambda music: pipeline.codec.decode_codes(pipeline.codec.encode_codes(music))
    return lambda music: pipeline.autoencoder.decode(pipeline.autoencoder.encode(music))


def rendered(pipeline: MeLoDy, music: Tensor, first: int, steps: int, guidance: float) -> Tensor:
    """What the denoiser makes of the semantic tokens of music; `first` is the seed of the first clip."""
    generators = [torch.Generator().manual_seed(first + item) for item in range(len(music))]
    shape = pipeline.autoencoder.latent_shape(music.shape[-1] / pipeline.sample_rate)
    noise = torch.stack([torch.randn(*shape, generator=generator) for generator in generators])
    embedded = pipeline.conditioner.embed(pipeline.hear(music))
    angles = pipeline.schedule.angles(steps)
    latent = pipeline.sampler.sample(Guided(pipeline.denoiser, guidance), noise, embedded, angles, generators)
    return pipeline.autoencoder.decode(latent)


def report(name: str, judge: JointAudioEmbedding, captions: list[str], music: Tensor) -> None:
    audio = torch.cat([judge.embed_audio(part) for part in music.split(BATCH)])
    score = text_correlation(judge.embed_text(captions), audio, judge.identity)
    found = score.details
    print(
        f"{name}: own {score.value:.3f}, others {found['shuffled']:.3f}, excess {found['excess']:.3f} "
        f"[{found['excess_low']:.3f}, {found['excess_high']:.3f}], n {score.n_generated}",
        flush=True,
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="a folder written by `melody-cm export`")
    parser.add_argument("judge", help="a joint embedding: a folder with its stage's export")
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=2.56)
    parser.add_argument("--num-clips", type=int, default=2000, help="of the corpus that the system was trained on")
    parser.add_argument("--steps", type=int, help="of the sampler; default: the system's own")
    parser.add_argument("--guidance", type=float, help="default: the system's own")
    arguments = parser.parse_args()
    pipeline, judge = PretrainedPipeline.from_pretrained(arguments.pipeline), JointAudioEmbedding(arguments.judge)
    corpus = SyntheticCorpus(arguments.num_clips, arguments.seconds, sample_rate=pipeline.sample_rate)
    clips = [clip for clip in corpus.clips() if clip.split == "test"][: arguments.clips]
    captions, length = [clip.captions[0] for clip in clips], round(arguments.seconds * pipeline.sample_rate)
    read = [read_audio(clip.audio, 0.0, arguments.seconds, pipeline.sample_rate) for clip in clips]
    real = torch.stack(read)[:, None]
    starts = range(0, len(clips), BATCH)
    report("real music", judge, captions, real)
    code = coded(pipeline)
    report("through its decoder", judge, captions, torch.cat([code(part) for part in real.split(BATCH)])[..., :length])
    if isinstance(pipeline, MeLoDy):
        asked = (arguments.steps or pipeline.num_steps, arguments.guidance or pipeline.guidance_scale)
        made = [rendered(pipeline, real[start : start + BATCH], start, *asked) for start in starts]
        report("from the clips' own tokens", judge, captions, torch.cat(made)[..., :length])
    made = []
    for start in starts:
        prompts = captions[start : start + BATCH]
        seeds = list(range(start, start + len(prompts)))
        options = {"num_steps": arguments.steps, "guidance_scale": arguments.guidance}
        made.append(pipeline.generate(prompts, arguments.seconds, seeds, **options).waveform)
    report("from the captions", judge, captions, torch.cat(made))


if __name__ == "__main__":
    main()
