"""What do semantic tokens know of the music? Clusters of a trained encoder, of an untrained one and of log-mels.

    python benchmarks/semantic_tokens.py runs/demo/melody/1_semantic_encoder/export/semantic_encoder
    python benchmarks/semantic_tokens.py my_encoder --num-clips 192 --seconds 2.56 --codebook-size 64

Clusters are fitted on training clips of the procedural corpus. Of unseen clips, frame by frame, it prints the
normalized mutual information of the codes with the clip's genre and with its first instrument, and the same with the
labels dealt out to the clips anew, which is what chance gives.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.data import SyntheticCorpus
from melody_cm.data.audio_files import read_audio
from melody_cm.data.clips import Clip
from melody_cm.encoders import LogMelKMeans, SemanticKMeans
from melody_cm.encoders.codebooks import cluster_use, mutual_information
from melody_cm.encoders.kmeans import KMeansTokenizer
from melody_cm.storage import load_network

BATCH = 16


def batches(clips: Sequence[Clip], seconds: float, sample_rate: int) -> list[MusicBatch]:
    music = [read_audio(clip.audio, 0.0, seconds, sample_rate) for clip in clips]
    return [batch_of(part) for part in torch.stack(music)[:, None].split(BATCH)]


def batch_of(music: Tensor) -> MusicBatch:
    item = torch.arange(len(music))
    return MusicBatch(item, -torch.ones_like(item), music, torch.ones_like(music[:, 0]).bool(), [""] * len(music))


def labels(clips: Sequence[Clip]) -> dict[str, Tensor]:
    """A number for each genre and for each first instrument, one a clip."""
    words = {
        "genre": [clip.fields["genre"] for clip in clips],
        "instrument": [clip.fields["instruments"][0] for clip in clips],
    }
    return {name: torch.tensor([sorted(set(values)).index(v) for v in values]) for name, values in words.items()}


def report(name: str, tokenizer: KMeansTokenizer, train: list[MusicBatch], test: list[MusicBatch], clips) -> None:
    tokenizer.fit(torch.cat([tokenizer.features(batch).flatten(0, 1) for batch in train]), 0)
    codes = torch.cat([tokenizer(batch)[:, 0] for batch in test])
    perplexity, share = cluster_use(codes, tokenizer.codebook_size)
    found = [f"{name}: perplexity {perplexity:.1f} of {tokenizer.codebook_size}, {share:.0%} in use"]
    for label, values in labels(clips).items():
        dealt = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]
        own, chance = (mutual_information(codes, each[:, None].expand_as(codes)) for each in (values, dealt))
        found.append(f"{label} {own:.3f} (chance {chance:.3f})")
    print(", ".join(found), flush=True)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="the export of recipes/melody/1_semantic_encoder.yaml")
    parser.add_argument("--num-clips", type=int, default=2000, help="of the corpus that the encoder was trained on")
    parser.add_argument("--seconds", type=float, default=5.12)
    parser.add_argument("--codebook-size", type=int, default=256)
    arguments = parser.parse_args()
    trained = load_network(arguments.encoder)
    untrained = type(trained)(**trained.init_arguments).eval()
    rate, size, seconds = trained.sample_rate, arguments.codebook_size, arguments.seconds
    clips = SyntheticCorpus(arguments.num_clips, seconds, sample_rate=rate).clips()
    train = batches([clip for clip in clips if clip.split == "train"][:400], seconds, rate)
    unseen = [clip for clip in clips if clip.split == "test"]
    test = batches(unseen, seconds, rate)
    heard = {"codebook_size": size, "width": trained.width, "window_seconds": seconds, "context_seconds": seconds / 4}
    tokenizers = {
        "log-mel": LogMelKMeans(rate, 25.0, size, num_mels=64),
        "untrained encoder": SemanticKMeans(untrained, **heard),
        "trained encoder": SemanticKMeans(trained, **heard),
    }
    for name, tokenizer in tokenizers.items():
        report(name, tokenizer, train, test, unseen)


if __name__ == "__main__":
    main()
