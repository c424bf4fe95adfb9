"""Small sound files and tables in the layouts of other collections."""

import csv

import numpy as np
import soundfile


def sound(path, seconds=1.0, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(rate * seconds))
    soundfile.write(path, samples, rate)
    return path


def write_csv(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def by_id(corpus):
    return {clip.id: clip for clip in corpus.clips()}
