import logging

import pytest
from format_toys import by_id, sound, write_csv

from melody_cm.data import CsvCorpus, MusicDataModule, check_corpus

HEADER = ["id", "audio", "caption", "alt_captions", "start", "duration", "split", "piece", "genre"]


def row(**cells):
    full = {"id": "a", "audio": "a.wav", "caption": "One, two."} | cells
    return [full.get(name, "") for name in HEADER]


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "c"):
        sound(tmp_path / f"{name}.wav")
    return tmp_path


def test_columns_are_the_fields_of_a_manifest(folder):
    path = write_csv(
        folder / "songs.csv",
        HEADER,
        row(start="0.25", duration="0.5", split="test", piece="p", genre="folk", alt_captions="Two.| three |"),
        row(id="007", audio="b.wav", caption='Line one\nand "two"', alt_captions='["x | y", "z"]'),
        row(id="c", audio="c.wav", caption=""),
    )
    clips = by_id(CsvCorpus(path, default_split="valid"))
    first = clips["a"]
    assert (first.start, first.duration, first.split, first.piece, first.audio) == (
        0.25, 0.5, "test", "p", folder / "a.wav",
    )  # fmt: skip
    assert first.captions == ["One, two.", "Two.", "three"]
    assert first.fields["genre"] == "folk"
    assert first.where == f"{path}, row 2"
    assert clips["007"].captions == ['Line one\nand "two"', "x | y", "z"]
    assert (clips["007"].split, clips["007"].start, clips["007"].duration) == ("valid", 0.0, None)
    assert clips["c"].captions == []
    assert "genre" not in clips["c"].fields


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(start="soon"), "start is 'soon'"),
        (row(duration="-1"), "duration is -1.0"),
        (row(duration="inf"), "duration is inf"),
        (row(split="dev"), "split is 'dev'"),
        (row(id=" "), "the id is empty"),
        (row(alt_captions="[1]"), "alt_captions is '[1]'"),
        (row(alt_captions='["open'), "list of texts"),
        (row(audio="../a.wav"), "allow_outside"),
        (["a", "b"], "2 cells, but 9 columns"),
        (row(id="b"), "id 'b' is that of"),
        (row(piece="b", split="test"), "piece 'b' is in test here and in train"),
    ],
)
def test_a_bad_row_is_one_line_and_the_rest_goes_on(folder, bad, message):
    path = write_csv(folder / "songs.csv", HEADER, row(id="b", audio="b.wav", piece="b"), bad, row(id="c"))
    with pytest.raises(ValueError, match=r"songs\.csv, row 3: ") as error:
        CsvCorpus(path).clips()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    report = check_corpus(CsvCorpus(path))
    assert [message in problem and "row 3" in problem for problem in report.problems] == [True]
    assert report.clips["train"] >= 2


def test_a_piece_in_two_splits_is_said_once(folder):
    rows = [row(id=str(number), piece="p", split="test" if number else "train") for number in range(4)]
    (problem,) = check_corpus(CsvCorpus(write_csv(folder / "songs.csv", HEADER, *rows))).problems
    assert "row 3: piece 'p' is in test here and in train at" in problem


def test_tables_without_the_needed_columns_or_rows_are_refused(folder):
    with pytest.raises(ValueError, match=r"songs\.csv: no column 'caption'; it has id, audio"):
        CsvCorpus(write_csv(folder / "songs.csv", ["id", "audio"])).clips()
    (folder / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"empty\.csv: empty"):
        CsvCorpus(str(folder / "empty.csv")).clips()
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file"):
        CsvCorpus(str(folder / "none.csv")).clips()


def test_it_fills_the_corpus_slot(folder):
    path = write_csv(folder / "songs.csv", HEADER, row(), row(id="b", audio="b.wav", split="valid"))
    data = MusicDataModule(CsvCorpus(path), sample_rate=8000, seconds=0.5, batch_size=1)
    (batch,) = data.batches("valid", 1)
    assert (batch.captions, batch.waveform.shape) == (["One, two."], (1, 1, 4000))


def test_spreadsheets_byte_order_mark_is_no_part_of_a_name(folder):
    write_csv(folder / "songs.csv", ["id", "audio", "caption"], ["a", "a.wav", "x"])
    (folder / "songs.csv").write_bytes(b"\xef\xbb\xbf" + (folder / "songs.csv").read_bytes())
    assert by_id(CsvCorpus(str(folder / "songs.csv")))["a"].captions == ["x"]


def test_text_that_is_not_utf8_costs_its_row_only(folder):
    text = b"id,audio,caption\na,a.wav,caf\xe9\nb,b.wav,caf\xc3\xa9\n"
    (folder / "songs.csv").write_bytes(text)
    report = check_corpus(CsvCorpus(str(folder / "songs.csv")))
    (problem,) = report.problems
    assert "songs.csv, row 2: not UTF-8" in problem
    assert report.clips == {"train": 1}


def test_missing_sound_is_left_out_counted_and_listed(folder, caplog):
    path = write_csv(
        folder / "songs.csv",
        HEADER,
        row(),
        row(id="n", audio=""),
        *[row(id=f"x{n}", audio=f"x{n}.wav") for n in range(5)],
    )
    corpus = CsvCorpus(path)
    with caplog.at_level(logging.WARNING):
        assert list(by_id(corpus)) == ["a"]
        corpus.clips()
    (record,) = caplog.records
    assert "left out 5 of 6 clips" in record.getMessage()
    assert "x0.wav" in record.getMessage()
    assert len(corpus.missing) == 5
    assert corpus.missing[4] == f"{path}, row 8: {folder / 'x4.wav'}"
    report = check_corpus(corpus)
    assert (report.missing, report.problems, report.without_audio) == (corpus.missing, [], 1)
    assert report.reasons == {"missing": 5}


def test_when_nothing_is_there_the_folder_is_named(tmp_path):
    path = write_csv(tmp_path / "songs.csv", HEADER, row())
    with pytest.raises(FileNotFoundError, match="holds none of the 1 sound files") as error:
        CsvCorpus(path).clips()
    assert str(error.value).startswith(f"{tmp_path}: ")
    report = check_corpus(CsvCorpus(path))
    assert (len(report.missing), dict(report.clips)) == (1, {})


def test_paths_may_climb_out_only_when_allowed(folder):
    path = write_csv(folder / "lists" / "songs.csv", HEADER, row(audio="../a.wav"))
    with pytest.raises(ValueError, match=r"lies outside .*allow_outside"):
        CsvCorpus(path).clips()
    assert by_id(CsvCorpus(path, allow_outside=True))["a"].audio == folder / "a.wav"


def test_the_fingerprint_follows_captions_and_sound(folder):
    path = write_csv(folder / "songs.csv", HEADER, row())
    before = CsvCorpus(path).fingerprint()
    assert CsvCorpus(path).fingerprint() == before
    sound(folder / "a.wav", 1.2)
    longer = CsvCorpus(path).fingerprint()
    write_csv(folder / "songs.csv", HEADER, row(caption="Other."))
    assert len({before, longer, CsvCorpus(path).fingerprint()}) == 3
