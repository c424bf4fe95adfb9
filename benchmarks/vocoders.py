"""What vocoders keep of held-out music when they are given its true mels: the ceiling of MusicCM's sound.

    python benchmarks/vocoders.py CORPUS runs/mine/musiccm/2_vocoder/export/vocoder ... [--clips 24]

Griffin-Lim with the mels of the first vocoder stands beside them. Chroma correlation (1: harmony and melody kept),
log-spectral distance (dB) and the comb at the rate of the frames (dB; real music's own beside it), means over clips.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from melody_cm.autoencoders import GriffinLim
from melody_cm.data import AudioProblem, open_corpus, read_audio
from melody_cm.evaluation.music import comb_excess, pair_measures
from melody_cm.interfaces import Vocoder
from melody_cm.signal import MelFrontEnd
from melody_cm.storage import load_network

SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="captioned music; its test split is used")
    parser.add_argument("vocoders", nargs="+", type=Path, help="exported vocoders")
    parser.add_argument("--clips", type=int, default=24, help="default: %(default)s")
    arguments = parser.parse_args()
    vocoders: dict[str, Vocoder] = {str(folder): load_network(folder) for folder in arguments.vocoders}
    mels = vars(next(iter(vocoders.values())).mel_settings)
    vocoders["Griffin-Lim, 32 iterations"] = GriffinLim(**mels, iterations=32)
    music = list(clips(arguments.corpus, mels["sample_rate"], arguments.clips))
    print(f"{len(music)} clips of {SECONDS:g} s")
    for name, vocoder in vocoders.items():
        print(name, ", ".join(f"{measure} {value:.3f}" for measure, value in kept(vocoder, music).items()))


def clips(corpus: str, sample_rate: int, count: int) -> Iterator[Tensor]:
    """Whole clips of the test split, at random but always the same."""
    held_out = [clip for clip in open_corpus(corpus).clips() if clip.split == "test"]
    random.Random(0).shuffle(held_out)
    for clip in held_out:
        try:
            waveform = read_audio(clip.audio, clip.start, SECONDS, sample_rate)
        except AudioProblem:
            continue
        if len(waveform) == round(SECONDS * sample_rate):
            yield waveform
            count -= 1
        if not count:
            return


@torch.no_grad()
def kept(vocoder: Vocoder, music: list[Tensor]) -> dict[str, float]:
    """The means of all measures."""
    settings, rows = vocoder.mel_settings, []
    front_end, rate = MelFrontEnd(settings), settings.sample_rate / settings.hop_length
    for waveform in music:
        made = vocoder(front_end(waveform[None, None]))[0, 0, : len(waveform)].clamp(-1, 1)
        measures = pair_measures(made, waveform, settings.sample_rate)
        measures |= {"comb": comb_excess(made, settings.sample_rate, rate)}
        rows.append(measures | {"comb of the music": comb_excess(waveform, settings.sample_rate, rate)})
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


if __name__ == "__main__":
    main()
