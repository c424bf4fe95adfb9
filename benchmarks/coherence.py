"""Are shared windows of MusicCM's long music more coherent than independent ones, and not merely more alike?

    python benchmarks/coherence.py my_musiccm
    python benchmarks/coherence.py my_musiccm --seconds 60 --seeds 8 --steps 4

Both kinds are made from the same seeds. The seam ratio is measured where independent windows end in both, and where
their own windows begin; 1 is seamless. Prints means over seeds and standard errors.
"""

import argparse

import torch
from torch import Tensor

from melody_cm.evaluation import (
    chroma_agreement,
    diversity,
    segment_similarity,
    segment_vectors,
    tempo_agreement,
    waveform_seam_ratio,
)
from melody_cm.evaluation.coherence import segments
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.pipelines import MusicCM


def described(name: str, values: list[float]) -> str:
    numbers = torch.tensor(values, dtype=torch.float64)
    return f"{name} {numbers.nanmean():.3f} +- {numbers.std() / len(numbers) ** 0.5:.3f}"


def judged(pipeline: MusicCM, waveform: Tensor, own: list[float], ends: list[float], centre: Tensor) -> dict:
    rate = pipeline.sample_rate
    logmel = segment_similarity(LogMelEmbedding(), waveform, rate, centre=centre)
    joint = segment_similarity(pipeline.joint_embedding, waveform, rate)
    return {
        "seam ratio": float(waveform_seam_ratio(waveform, rate, ends)),
        "at its own windows": float(waveform_seam_ratio(waveform, rate, own)),
        "adjacent log-mel": logmel.adjacent,
        "all pairs": logmel.all_pairs,
        "adjacent joint embedding": joint.adjacent,
        "all pairs of it": joint.all_pairs,
        "tempo": tempo_agreement(waveform, rate).all_pairs,
        "chroma": chroma_agreement(waveform, rate).all_pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="a folder written by `melody-cm export`")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--prompt", default="slow piano")
    arguments = parser.parse_args()
    pipeline = MusicCM.from_pretrained(arguments.pipeline)
    rate, logmel = pipeline.sample_rate, LogMelEmbedding()
    request = ([arguments.prompt], arguments.seconds)
    made = {
        windows: [
            pipeline.generate(*request, [seed], arguments.steps, windows=windows).waveform
            for seed in range(arguments.seeds)
        ]
        for windows in ("independent", "shared")
    }
    every = torch.cat([segments(clip, rate)[0] for clips in made.values() for clip in clips])
    centre = segment_vectors(logmel, every, rate).mean(0)
    ends = pipeline.window_seconds(arguments.seconds, windows="independent")[1:]
    for windows, clips in made.items():
        own = pipeline.window_seconds(arguments.seconds, windows=windows)[1:]
        results = [judged(pipeline, clip, own, ends, centre) for clip in clips]
        print(f"{windows}: " + ", ".join(described(name, [each[name] for each in results]) for name in results[0]))
        for name, embedding, middle in (("log-mel", logmel, centre), ("joint", pipeline.joint_embedding, None)):
            vectors = torch.cat([segment_vectors(embedding, clip, rate) for clip in clips])
            print(f"{windows}: diversity over seeds by {name} {diversity(vectors, middle):.3f}", flush=True)


if __name__ == "__main__":
    main()
