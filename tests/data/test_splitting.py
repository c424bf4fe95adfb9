import json

import numpy as np
import pytest
import soundfile

from melody_cm.data import ManifestCorpus
from melody_cm.data.splitting import drawn_split, piece_of, shares_of, split_manifest


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows_of(pieces, clips=3):
    return [
        {"id": f"{piece}/{clip}", "audio": None, "caption": "x", "piece": f"p{piece}", "duration": 10.0}
        for piece in range(pieces)
        for clip in range(clips)
    ]


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_shares_are_those_asked_for():
    for ratios in ((80.0, 10.0, 10.0), (50.0, 30.0, 20.0), (0.7, 0.0, 0.3), (0.0, 1.0, 0.0)):
        shares = shares_of(ratios)
        drawn = [drawn_split(f"piece {number}", shares, seed=3) for number in range(6000)]
        found = [drawn.count(name) / len(drawn) for name in ("train", "valid", "test")]
        np.testing.assert_allclose(found, np.array(ratios) / sum(ratios), atol=0.02)
        assert all(share == 0 for share, ratio in zip(found, ratios, strict=True) if not ratio)


@pytest.mark.parametrize("ratios", ["80,20", "80,30,-10", "0,0,0", "1,1,nan", "1,1,inf", "nan,1,1"])
def test_bad_ratios(ratios):
    with pytest.raises(ValueError, match=r"ratios are .* as in 80,10,10"):
        shares_of([float(ratio) for ratio in ratios.split(",")])


def test_only_the_split_changes(tmp_path):
    rows = rows_of(40)
    rows[0] |= {"caption": "Für Elise — 音楽", "tags": [1, 2.5, None], "split": "test"}
    write_rows(tmp_path / "manifest.jsonl", rows)
    report = split_manifest(str(tmp_path), tmp_path / "new.jsonl")
    new = read_rows(tmp_path / "new.jsonl")
    assert [{**row, "split": None} for row in new] == [{**row, "split": None} for row in rows]
    assert "Für Elise — 音楽" in (tmp_path / "new.jsonl").read_text(encoding="utf-8")
    by_split = {name: {row["piece"] for row in new if row["split"] == name} for name in ("train", "valid", "test")}
    assert by_split == report.pieces
    assert sum(map(len, by_split.values())) == 40
    assert report.clips == {name: 3 * len(pieces) for name, pieces in by_split.items()}
    assert report.seconds == {name: 30.0 * len(pieces) for name, pieces in by_split.items()}


def test_new_rows_move_no_piece_and_a_seed_moves_some(tmp_path):
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    write_rows(few, rows_of(30))
    write_rows(many, rows_of(60)[::-1])
    splits = []
    for source, seed in ((few, 0), (many, 0), (few, 1)):
        split_manifest(str(source), tmp_path / f"out_{source.stem}_{seed}.jsonl", seed=seed)
        splits.append({row["piece"]: row["split"] for row in read_rows(tmp_path / f"out_{source.stem}_{seed}.jsonl")})
    assert splits[0].items() <= splits[1].items()
    assert splits[0] != splits[2]


def test_what_stays_together():
    cases = [
        ({"piece": 7, "audio": "a.wav"}, "7"),
        ({"midi": "m.mid", "audio": "a.wav"}, "m.mid"),
        ({"audio": "./b/../a.wav"}, "a.wav"),
        ({"id": "x", "audio": None}, "x"),
    ]
    for row, piece in cases:
        assert piece_of(row) == piece
    with pytest.raises(ValueError, match="field 'id' is missing"):
        piece_of({})


def test_lengths_come_from_sound_files_where_rows_say_none(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(16000), 8000)
    rows = [
        {"id": "a", "audio": "a.wav", "start": 0.5, "caption": None},
        {"id": "b", "audio": "absent.wav", "caption": None},
        {"id": "c", "audio": None, "caption": None},
    ]
    write_rows(tmp_path / "manifest.jsonl", rows)
    report = split_manifest(str(tmp_path), tmp_path / "new.jsonl", (1.0, 0.0, 0.0))
    assert (report.seconds["train"], report.unknown, report.clips["train"]) == (1.5, 2, 3)


def test_nothing_is_overwritten_unasked(tmp_path):
    source, out = tmp_path / "manifest.jsonl", tmp_path / "new.jsonl"
    write_rows(source, rows_of(20))
    split_manifest(str(source), out)
    first = out.read_bytes()
    split_manifest(str(source), out)
    with pytest.raises(ValueError, match=r"new\.jsonl: exists and holds something else.* --force"):
        split_manifest(str(source), out, seed=1)
    assert out.read_bytes() == first
    split_manifest(str(source), out, seed=1, force=True)
    assert out.read_bytes() != first
    split_manifest(str(source), source, force=True)
    assert source.read_bytes() == first
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="not in the folder of"):
        split_manifest(str(source), tmp_path / "other" / "new.jsonl")
    assert {file.name for file in tmp_path.iterdir()} == {"manifest.jsonl", "new.jsonl", "other"}


def test_a_bad_row_is_named_and_nothing_written(tmp_path):
    source = tmp_path / "manifest.jsonl"
    source.write_text(json.dumps(rows_of(1)[0]) + "\n{\n")
    with pytest.raises(ValueError, match=r"manifest\.jsonl, row 2: not JSON"):
        split_manifest(str(source), tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()


def test_the_result_opens_without_a_leak(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(20):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(800), 8000)
        rows += [{"id": f"{number}.{part}", "audio": f"{number}.wav", "caption": None} for part in range(2)]
    write_rows(tmp_path / "manifest.jsonl", rows)
    split_manifest(str(tmp_path), tmp_path / "new.jsonl", (1.0, 1.0, 1.0))
    assert {clip.split for clip in ManifestCorpus(str(tmp_path / "new.jsonl")).clips()} == {"train", "valid", "test"}
