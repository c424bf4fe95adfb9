import torch

from melody_cm.nn import FiLM


def test_film_formula_segment_by_segment():
    film = FiLM(6)
    x, modulator = torch.randn(2, 4, 3, 6), torch.randn(2, 3, 6)
    result = film(x, modulator)
    for clip in range(2):
        for segment in range(3):
            m = modulator[clip, segment]
            expected = film.mix(x[clip, :, segment] * film.scale(m) + film.shift(m))
            torch.testing.assert_close(result[clip, :, segment], expected)


def test_its_three_parts_are_unlike():
    film = FiLM(4)
    assert len({id(parameter) for parameter in film.parameters()}) == 15
