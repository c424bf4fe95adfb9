"""Small sound files and tables in the layouts of other collections."""

import csv

import numpy as np
import soundfile

from melody_cm.data import ManifestCorpus, import_corpus


def sound(path, seconds=1.0, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(rate * seconds))
    soundfile.write(path, samples, rate, format="WAV")
    return path


def write_csv(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def imported(folder, form, *sources, **options):
    """The report of an import into `folder`, and the clips of the manifest by id."""
    out = folder / "manifest.jsonl"
    report = import_corpus(form, [str(source) for source in sources], out, force=True, **options)
    return report, {clip.id: clip for clip in ManifestCorpus(str(out)).clips()}
