import math

import pytest
import torch
import torch.nn.functional as F

from melody_cm.losses.contrastive import ContrastiveLoss


def unit_vectors(count: int, width: int = 8) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, dtype=torch.float64), dim=-1).float()


def slow_info_nce(audio: torch.Tensor, text: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for i in range(len(audio)):
        for queries, targets in [(audio, text), (text, audio)]:
            scores = [float(queries[i] @ targets[j]) / temperature for j in range(len(audio))]
            total += math.log(sum(math.exp(score) for score in scores)) - scores[i]
    return total / (2 * len(audio))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_loss_is_the_one_of_a_slow_loop(temperature):
    audio, text = unit_vectors(6), unit_vectors(6)
    assert ContrastiveLoss(temperature)(audio, text).item() == pytest.approx(
        slow_info_nce(audio, text, temperature), rel=1e-5
    )


def test_pairs_that_say_nothing_cost_the_logarithm_of_their_number():
    same = unit_vectors(1).expand(5, -1)
    assert ContrastiveLoss()(same, same).item() == pytest.approx(math.log(5), rel=1e-5)


def test_in_bf16_similarities_stay_those_of_fp32():
    """As in a bf16-mixed training, whose embeddings begin close together."""
    loss, common = ContrastiveLoss(0.02), unit_vectors(1)
    audio, text = (F.normalize(common + 0.1 * unit_vectors(32), dim=-1) for _ in range(2))
    exact = loss(audio, text)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(audio, text)
    assert torch.equal(mixed, exact)


def test_gathered_halves_make_the_loss_and_the_gradients_of_the_whole():
    loss = ContrastiveLoss()
    audio, text = unit_vectors(8).requires_grad_(), unit_vectors(8).requires_grad_()
    halves = {id(x): x.detach() for x in (audio, text)}
    whole = loss(audio, text)
    whole.backward()
    mine = [x.detach()[:4].clone().requires_grad_() for x in (audio, text)]
    others = {id(m): halves[id(x)][4:] for m, x in zip(mine, (audio, text), strict=True)}
    gathered = loss(*mine, gather=lambda x: torch.cat([x, others[id(x)]]))
    gathered.backward()
    assert gathered.item() == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(mine[0].grad, audio.grad[:4])
    torch.testing.assert_close(mine[1].grad, text.grad[:4])


def test_the_temperature_falls_where_pairs_are_found_and_rises_where_they_are_not():
    vectors = unit_vectors(16, width=64)
    easy, hard = ContrastiveLoss(), ContrastiveLoss()
    easy(vectors, vectors).backward()
    hard(vectors, vectors.roll(1, 0)).backward()
    assert easy.logit_scale.grad.item() < 0 < hard.logit_scale.grad.item()


def test_the_temperature_stops_at_its_limit_and_can_leave_it():
    loss = ContrastiveLoss(0.01)
    with torch.no_grad():
        loss.logit_scale.fill_(math.log(300))
    vectors = unit_vectors(4)
    value = loss(vectors, vectors.roll(1, 0))
    value.backward()
    assert value.item() == pytest.approx(slow_info_nce(vectors, vectors.roll(1, 0), 0.01), rel=1e-4)
    assert loss.logit_scale.exp().item() == pytest.approx(100)
    assert loss.logit_scale.grad.item() > 0
    with pytest.raises(ValueError, match=r"0\.001 .* 0\.01"):
        ContrastiveLoss(0.001)
