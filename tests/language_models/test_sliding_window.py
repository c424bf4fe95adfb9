"""Codes longer than the model's window: which frames each piece knows, at constant memory."""

import pytest
import torch
from torch import nn

from melody_cm.interfaces import TokenLM
from melody_cm.language_models import CausalTokenLM, Stream, sample_long


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def tiny(*streams: Stream, max_frames: int = 12) -> CausalTokenLM:
    torch.manual_seed(0)
    model = CausalTokenLM(list(streams), 32, num_layers=1, num_heads=2, feedforward_width=48, max_frames=max_frames)
    for weight in model.body.parameters():
        nn.init.normal_(weight, std=0.15 if weight.ndim > 1 else 1.0)
    return model.eval()


class Recording(TokenLM):
    """Numbers its frames from 0 and keeps what it was shown."""

    def __init__(self, frame_rates: dict[str, float | None], max_frames: int) -> None:
        super().__init__()
        self.frame_rates, self.max_frames = frame_rates, max_frames
        self.stream_sizes = {name: (1, 10_000) for name in frame_rates}
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[dict[str, list[int]], list[int], int]] = []
        self.count = 0

    def logits(self, streams):
        raise NotImplementedError

    def extend(self, prompt, codes, length, generators, temperature=1.0, top_k=0, top_p=1.0):
        shown = {name: value[0, 0].tolist() for name, value in prompt.items()}
        self.seen.append((shown, codes[0, 0].tolist(), length))
        self.count += length
        return torch.arange(self.count - length, self.count).expand(len(generators), 1, -1)


def counted(frames: int) -> torch.Tensor:
    return torch.arange(frames).view(1, 1, frames)


def test_each_piece_sees_the_newest_frames_and_its_own_part_of_what_runs_along():
    model = Recording({"prompt": 0.0, "semantic": 25.0, "coarse": 50.0}, max_frames=8)
    prompt = {"prompt": counted(1), "semantic": counted(10)}
    pieces = list(sample_long(model, prompt, 19, 4, generators(0)))
    assert torch.cat(pieces, dim=2)[0, 0].tolist() == list(range(19))
    assert [piece.shape[2] for piece in pieces] == [8, 4, 4, 3]
    parts = [(shown["semantic"], known, length) for shown, known, length in model.seen]
    assert parts == [
        ([0, 1, 2, 3], [], 8),
        ([2, 3, 4, 5], [4, 5, 6, 7], 4),
        ([4, 5, 6, 7], [8, 9, 10, 11], 4),
        ([6, 7, 8, 9], [12, 13, 14, 15], 3),  # Frame 11 would be half a semantic frame in.
    ]
    assert all(shown["prompt"] == [0] for shown, _, _ in model.seen)


@pytest.mark.parametrize("rates", [{"prompt": 0.0, "semantic": 25.0}, {"prompt": None, "semantic": None}])
def test_without_streams_that_run_along_the_prompt_is_always_whole(rates):
    model = Recording(rates, max_frames=5)
    list(sample_long(model, {"prompt": counted(3)}, 9, 5, generators(0)))
    assert model.seen == [({"prompt": [0, 1, 2]}, [], 5), ({"prompt": [0, 1, 2]}, [4], 4)]


def test_what_fits_into_the_window_is_what_sample_makes():
    model = tiny(Stream("prompt", 2, 5, 0.0), Stream("semantic", 1, 7, 25.0))
    prompt = {"prompt": torch.randint(5, (2, 2, 1))}
    (whole,) = sample_long(model, prompt, 12, 3, generators(1, 2), temperature=0.8)
    assert torch.equal(whole, model.sample(prompt, 12, generators(1, 2), temperature=0.8))


def test_a_longer_piece_begins_with_the_shorter_one_and_goes_on_by_the_seed_alone():
    model = tiny(Stream("prompt", 2, 5, 0.0), Stream("semantic", 1, 7, 25.0))
    prompt = {"prompt": torch.randint(5, (2, 2, 1))}

    def made(length, *seeds):
        rows = {"prompt": prompt["prompt"][: len(seeds)]}
        return torch.cat(list(sample_long(model, rows, length, 4, generators(*seeds))), dim=2)

    long = made(40, 1, 2)
    assert long.shape == (2, 1, 40)
    assert torch.equal(long[..., :24], made(24, 1, 2))
    assert torch.equal(long[:1], made(40, 1))
    assert not torch.equal(long, made(40, 1, 3))


def test_likeliest_codes_are_those_of_a_loop_over_whole_windows():
    model = tiny(Stream("semantic", 1, 7, 25.0), Stream("coarse", 2, 6, 50.0), max_frames=8)
    semantic = torch.randint(7, (1, 1, 10))
    made = torch.cat(list(sample_long(model, {"semantic": semantic}, 20, 4, generators(0), top_k=1)), dim=2)
    for first in (0, 4, 8, 12):
        window = {"semantic": semantic[..., first // 2 : first // 2 + 4], "coarse": made[..., first : first + 8]}
        likeliest = model.logits(window).argmax(-1)
        expected = model.layout.tokens("coarse", window["coarse"])
        known = 0 if first == 0 else 4 * 2
        assert torch.equal(likeliest[:, known:], expected[:, known:])


def test_memory_does_not_grow_with_the_length(monkeypatch):
    model = Recording({"prompt": 0.0, "semantic": 25.0}, max_frames=6)
    for piece in sample_long(model, {"prompt": counted(1)}, 500, 2, generators(0)):
        assert piece.shape[2] <= 6
    assert max(len(known) for _, known, _ in model.seen) == 4
    assert len(model.seen) == 1 + (500 - 6) // 2


def test_impossible_wishes_are_refused_before_anything_is_made():
    model = Recording({"prompt": 0.0, "semantic": 25.0, "coarse": 50.0}, max_frames=8)
    prompt = {"prompt": counted(1), "semantic": counted(5)}
    with pytest.raises(ValueError, match=r"'semantic' has 5 frames, but 11 frames asked for need 6"):
        sample_long(model, prompt, 11, 4, generators(0))
    with pytest.raises(ValueError, match=r"hops of 8; .* 1 to 7"):
        sample_long(model, prompt, 10, 8, generators(0))
    with pytest.raises(ValueError, match="0 frames"):
        sample_long(model, prompt, 0, 4, generators(0))
    with pytest.raises(ValueError, match="top_p"):
        sample_long(model, prompt, 4, 4, generators(0), top_p=0.0)
    assert model.seen == []
