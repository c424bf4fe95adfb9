"""The real music that `recipes/compare/demo.yaml` judges by: short held-back clips of the demo systems' corpus.

    python recipes/demo/reference.py ../demo-corpus --out recipes/demo/real

Only what is in the public domain or CC0 is taken, so that it may travel with the package. Vorbis, because 150 clips
are 4 MB so.
"""

import argparse
import json
import random
from pathlib import Path

import soundfile

from melody_cm.data import AudioProblem, open_corpus, read_audio

FREE = ("Public domain", "CC0-1.0")
SAMPLE_RATE, SECONDS, QUIET = 16000, 5.12, 0.01
KEPT = ("caption", "alt_captions", "genre", "instruments", "piece", "title", "composer", "source", "license")


def main() -> None:
    """Choose, cut, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="what corpus.py made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", type=int, default=96, help="clips of the split test (default: %(default)s)")
    parser.add_argument("--valid", type=int, default=48, help="clips of the split valid (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = {row["id"]: row for row in map(json.loads, (arguments.corpus / "manifest.jsonl").open(encoding="utf-8"))}
    splits, written = open_corpus(str(arguments.corpus)).splits(), []
    for split, count in (("test", arguments.test), ("valid", arguments.valid)):
        clips = [clip for clip in splits[split] if rows[clip.id]["license"] in FREE]
        random.Random(0).shuffle(clips)
        for clip in clips:
            if sum(row["split"] == split for row in written) == count:
                break
            try:
                sound = read_audio(clip.audio, clip.start, SECONDS, SAMPLE_RATE)
            except AudioProblem:
                continue
            if len(sound) < SECONDS * SAMPLE_RATE or sound.abs().max() < QUIET:
                continue
            name = f"{clip.id}.ogg"
            soundfile.write(arguments.out / name, sound.numpy(), SAMPLE_RATE, format="OGG", subtype="VORBIS")
            told = {key: rows[clip.id][key] for key in KEPT if rows[clip.id].get(key) is not None}
            written.append({"id": clip.id, "audio": name, "split": split, **told})
    (arguments.out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    print(f"{len(written)} clips of {len({row['piece'] for row in written})} pieces in {arguments.out}")


if __name__ == "__main__":
    main()
