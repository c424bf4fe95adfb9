import torch

from melody_cm.randomness import Draws, keyed_generator, keyed_seed, normal_rows


def test_every_part_of_the_key_matters():
    base = (0, "noise", 3, 71)
    changed = [(1, "noise", 3, 71), (0, "angle", 3, 71), (0, "noise", 4, 71), (0, "noise", 3, 8), (0, "noise", 37, 1)]
    assert len({keyed_seed(*key) for key in [base, *changed]}) == 6
    assert keyed_seed(*base) == keyed_seed(*base)


def test_a_row_does_not_depend_on_its_batch():
    alone = Draws(5, [2], [11])
    batch = Draws(5, [0, 1, 2, 0, 9, 3, 1, 2], [4, 8, 11, 3, 2, 1, 0, 9])
    for draw in (
        lambda draws: draws.normal("noise", (3, 4)),
        lambda draws: draws.uniform("angle", (2,)),
        lambda draws: draws.integers("index", 50),
    ):
        assert torch.equal(draw(alone)[0], draw(batch)[2])
    assert not torch.equal(batch.normal("noise", (3, 4))[0], batch.normal("noise", (3, 4))[1])


def test_other_random_numbers_are_neither_used_nor_disturbed():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = Draws(0, [0], [0]).normal("noise", (5,))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, Draws(0, [0], [0]).normal("noise", (5,)))


def test_normal_rows_are_standard_normal():
    rows = normal_rows([keyed_generator(0, "n", 0, item) for item in range(8)], (4, 2000))
    assert abs(float(rows.mean())) < 0.02
    assert abs(float(rows.std()) - 1) < 0.02
