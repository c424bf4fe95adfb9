"""Would a pretrained sentence encoder place captions nearer their music than a joint embedding's own text tower?

    python benchmarks/text_tower.py runs/mine/shared/1_joint_embedding SENTENCE_ENCODER --corpus ../demo-corpus

The audio tower is kept as it is; a small head on the sentence encoder (a folder or a name on the model hub) learns from
training clips and their captions. Prints the share of held-out clips that are among the 10 nearest to their caption, by
either. A text tower that had learned together with the audio tower would do better than such a head.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from melody_cm.data import open_corpus
from melody_cm.data.audio_files import read_audio
from melody_cm.data.clips import Clip
from melody_cm.evaluation.retrieval import recall
from melody_cm.interfaces import JointEmbedding
from melody_cm.storage import load_network

BATCH, STEPS, NEAREST = 64, 1000, 10


def heard(embedding: JointEmbedding, clips: Sequence[Clip], seconds: float, rate: int) -> Tensor:
    """(n, d): what the audio tower makes of the first seconds of clips."""
    made = []
    for clip in clips:
        music = read_audio(clip.audio, clip.start, seconds, rate)
        made.append(embedding.embed_audio(F.pad(music, (0, round(seconds * rate) - len(music)))[None, None]))
    return torch.cat(made)


def read(source: str, texts: Sequence[str]) -> Tensor:
    """(n, e): mean vectors of the words of texts."""
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).eval()
    made = []
    for start in range(0, len(texts), BATCH):
        words = tokenizer(list(texts[start : start + BATCH]), padding=True, truncation=True, return_tensors="pt")
        hidden, mask = model(**words).last_hidden_state, words["attention_mask"][..., None]
        made.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(made)


@torch.enable_grad()
def head_for(texts: Tensor, music: Tensor, seed: int) -> nn.Module:
    """A head that brings texts (n, e) to their music (n, d), by the contrastive loss of both directions."""
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Linear(texts.shape[1], 256), nn.GELU(), nn.Dropout(0.2), nn.Linear(256, music.shape[1]))
    scale = nn.Parameter(torch.tensor(2.6))
    optimizer = torch.optim.AdamW([*head.parameters(), scale], 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        rows = torch.randperm(len(texts))[:256]
        alike = F.normalize(head(texts[rows]), dim=-1) @ music[rows].T * scale.exp()
        own = torch.arange(len(rows))
        loss = F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def found(texts: Tensor, music: Tensor) -> str:
    """The share of texts whose own clip is among the nearest, with its standard error."""
    (share,) = recall(F.normalize(texts, dim=-1), music, torch.arange(len(texts)), [NEAREST])
    return f"{share:.3f} +- {(share * (1 - share) / len(texts)) ** 0.5:.3f}"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", type=Path, help="of a joint embedding, with its audio tower")
    parser.add_argument("encoder", help="a folder of transformers, or a name on the model hub")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--clips", type=int, default=2500, help="that the head learns from")
    arguments = parser.parse_args()
    embedding = load_network(arguments.stage / "export/joint_embedding").eval()
    seconds, rate = embedding.window_seconds, embedding.sample_rate
    chance, splits = random.Random(0), open_corpus(arguments.corpus).splits()
    known = chance.sample(list(splits["train"]), min(arguments.clips, len(splits["train"])))
    unseen = [*splits["valid"], *splits["test"]]
    captions = [[chance.choice(clip.captions) for clip in clips] for clips in (known, unseen)]
    music = [heard(embedding, clips, seconds, rate) for clips in (known, unseen)]
    print(f"{len(unseen)} unseen clips, chance {NEAREST / len(unseen):.3f}")
    own = torch.cat([embedding.embed_text(captions[1][at : at + BATCH]) for at in range(0, len(unseen), BATCH)])
    print(f"own text tower: {found(own, music[1])}")
    texts = [read(arguments.encoder, each) for each in captions]
    for seed in range(3):
        print(
            f"head on {arguments.encoder}, seed {seed}: {found(head_for(texts[0], music[0], seed)(texts[1]), music[1])}"
        )


if __name__ == "__main__":
    main()
