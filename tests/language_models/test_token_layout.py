import pytest
import torch

from melody_cm.language_models import Stream, TokenLayout

MELODY = [Stream("prompt", 12, 1024), Stream("semantic", 1, 1024)]
MUSICLM_COARSE = [Stream("prompt", 3, 5), Stream("semantic", 1, 7), Stream("coarse", 4, 6)]
MUSICLM_FINE = [Stream("coarse", 4, 6), Stream("fine", 8, 6)]


def random_codes(stream: Stream, batch: int, frames: int) -> torch.Tensor:
    return torch.randint(stream.codebook_size, (batch, stream.num_codebooks, frames))


def test_the_paper_s_layout_has_its_ids():
    layout = TokenLayout(MELODY)
    assert layout.vocabulary_size == 13315
    prompt, semantic = random_codes(MELODY[0], 2, 1), random_codes(MELODY[1], 2, 250)
    ids = layout.sequence({"semantic": semantic, "prompt": prompt})
    assert ids.shape == (2, 1 + 12 + 1 + 250)
    for row in range(2):
        expected = [layout.bos]
        expected += [q * 1024 + int(prompt[row, q, 0]) for q in range(12)]
        expected += [layout.sep]
        expected += [12 * 1024 + int(code) for code in semantic[row, 0]]
        assert ids[row].tolist() == expected


def test_several_codebooks_are_written_frame_by_frame():
    layout = TokenLayout([Stream("coarse", 2, 10)])
    codes = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
    assert layout.tokens("coarse", codes).tolist() == [[1, 14, 2, 15, 3, 16]]


@pytest.mark.parametrize("streams", [MELODY, MUSICLM_COARSE, MUSICLM_FINE], ids=["melody", "coarse", "fine"])
def test_codes_survive_the_round_trip_and_ids_are_disjoint(streams):
    layout = TokenLayout(streams)
    owners = {}
    for stream in streams:
        codes = random_codes(stream, 3, 9)
        ids = layout.tokens(stream.name, codes)
        assert torch.equal(layout.codes(stream.name, ids), codes)
        for codebook in range(stream.num_codebooks):
            for token in range(layout.vocabulary_size)[layout.ids(stream.name, codebook)]:
                assert token not in owners
                owners[token] = (stream.name, codebook)
    specials = {layout.bos, layout.sep, layout.pad}
    assert len(specials) == 3
    assert sorted(owners.keys() | specials) == list(range(layout.vocabulary_size))
    assert not specials & owners.keys()


@pytest.mark.parametrize("streams", [MUSICLM_COARSE, MUSICLM_FINE], ids=["coarse", "fine"])
def test_a_sequence_of_several_streams_is_written_as_by_hand(streams):
    layout = TokenLayout(streams)
    codes = {stream.name: random_codes(stream, 2, 4 if stream.name != "prompt" else 1) for stream in streams}
    ids = layout.sequence(codes)
    for row in range(2):
        expected, first_id = [], 0
        for stream in streams:
            expected.append(layout.sep if expected else layout.bos)
            for frame in range(codes[stream.name].shape[2]):
                for level in range(stream.num_codebooks):
                    code = int(codes[stream.name][row, level, frame])
                    expected.append(first_id + level * stream.codebook_size + code)
            first_id += stream.num_codebooks * stream.codebook_size
        assert ids[row].tolist() == expected


def test_legal_ids_are_those_of_the_codebook_whose_turn_it_is():
    layout = TokenLayout(MUSICLM_COARSE)
    legal = layout.legal("coarse", 6)
    first = 3 * 5 + 7
    for place in range(6):
        begin = first + (place % 4) * 6
        assert legal[place].nonzero()[:, 0].tolist() == list(range(begin, begin + 6))


def test_what_does_not_fit_the_layout_is_refused_with_numbers():
    layout = TokenLayout(MUSICLM_COARSE)
    with pytest.raises(ValueError, match="'coarse' has 4 codebooks but the codes have 3"):
        layout.tokens("coarse", torch.zeros(1, 3, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"0 \.\. 7 are outside of stream 'semantic', which has 7"):
        layout.tokens("semantic", torch.tensor([[[0, 7]]]))
    with pytest.raises(ValueError, match="outside"):
        layout.tokens("semantic", torch.tensor([[[-1, 3]]]))
    with pytest.raises(ValueError, match="not of stream 'semantic'"):
        layout.codes("semantic", torch.tensor([[layout.bos]]))
    with pytest.raises(ValueError, match="5 tokens are no whole number of frames of the 4"):
        layout.codes("coarse", torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="'semantic'"):
        layout.sequence({"prompt": torch.zeros(1, 3, 1, dtype=torch.long)})
    with pytest.raises(ValueError, match="name of its own"):
        TokenLayout([MELODY[0], MELODY[0]])
    with pytest.raises(ValueError, match="0 codebooks of 8"):
        Stream("empty", 0, 8)
