"""How the codes of several streams share one vocabulary and one sequence. MeLoDy, arXiv 2305.15719, section 3.1.

A sequence is `[BOS] stream 1 [SEP] stream 2 [SEP] ...`; every codebook of every stream has ids of its own, so that
equal codes of different residual levels share nothing. For MeLoDy: `[BOS] c_1 .. c_12 [SEP] u_1 .. u_n`.
"""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

from melody_cm.interfaces import Configurable

NUM_SPECIALS = 3


class Stream(Configurable):
    """One kind of codes (b, q, l) in a sequence.

    Args:
        name: by which codes are given, e.g. "prompt", "semantic", "coarse".
        num_codebooks: q, written next to each other frame by frame.
        codebook_size: codes are 0 .. codebook_size - 1.
        frame_rate: frames a second (Hz), 0 for one frame a clip; None takes any.
    """

    def __init__(self, name: str, num_codebooks: int, codebook_size: int, frame_rate: float | None = None) -> None:
        if num_codebooks < 1 or codebook_size < 1:
            raise ValueError(
                f"stream {name!r} has {num_codebooks} codebooks of {codebook_size} codes; both must be at least 1"
            )
        self.name = name
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.frame_rate = frame_rate


class TokenLayout:
    """Codes <-> token ids.

    Ids count up through the streams, codebook by codebook; then come BOS, SEP and PAD (reserved: no sequence has it).

    Args:
        streams: in the order of the sequence; the last one is the target, which is to be predicted.

    Raises:
        ValueError: no stream, or two of one name.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        names = [stream.name for stream in streams]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"streams {names} must be at least one, each with a name of its own")
        self.streams = {stream.name: stream for stream in streams}
        self.target = streams[-1]
        self._first_ids: dict[str, int] = {}
        count = 0
        for stream in streams:
            self._first_ids[stream.name] = count
            count += stream.num_codebooks * stream.codebook_size
        self.bos, self.sep, self.pad = range(count, count + NUM_SPECIALS)
        self.vocabulary_size = count + NUM_SPECIALS

    def ids(self, name: str, codebook: int) -> slice:
        """The ids of one codebook of one stream."""
        stream = self.streams[name]
        first = self._first_ids[name] + codebook * stream.codebook_size
        return slice(first, first + stream.codebook_size)

    def tokens(self, name: str, codes: Int[Tensor, "b q l"]) -> Int[Tensor, "b m"]:
        """The m = l * q ids of a stream's codes, frame by frame.

        Raises:
            ValueError: another number of codebooks than the stream's, or codes outside of them.
        """
        stream = self.streams[name]
        if codes.shape[1] != stream.num_codebooks:
            raise ValueError(
                f"stream {name!r} has {stream.num_codebooks} codebooks but the codes have {codes.shape[1]}; "
                "use the tokenizer that the layout was made for"
            )
        # While a model learns on a GPU its tokenizers vouch for the codes: to read them would wait for the GPU.
        trusted = torch.is_grad_enabled() and codes.device.type != "cpu"
        if not trusted and codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < stream.codebook_size:
            raise ValueError(
                f"codes {int(codes.min())} .. {int(codes.max())} are outside of stream {name!r}, which has "
                f"{stream.codebook_size} codes from 0; use the tokenizer that the layout was made for"
            )
        return rearrange(codes + self._offsets(name, codes)[:, None], "b q l -> b (l q)")

    def codes(self, name: str, tokens: Int[Tensor, "b m"]) -> Int[Tensor, "b q l"]:
        """The codes of a stream's ids: the inverse of `tokens`.

        Raises:
            ValueError: an incomplete frame, or an id that does not belong at its place.
        """
        stream = self.streams[name]
        if tokens.shape[1] % stream.num_codebooks:
            raise ValueError(
                f"{tokens.shape[1]} tokens are no whole number of frames of the {stream.num_codebooks} codebooks of "
                f"stream {name!r}; cut them to a multiple"
            )
        codes = rearrange(tokens, "b (l q) -> b q l", q=stream.num_codebooks)
        codes = codes - self._offsets(name, tokens)[:, None]
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < stream.codebook_size:
            raise ValueError(f"there are tokens that are not of stream {name!r} at their place in the frame")
        return codes

    def sequence(self, streams: Mapping[str, Int[Tensor, "b _ _"]]) -> Int[Tensor, "b n"]:
        """`[BOS] stream 1 [SEP] stream 2 ...`, in the order of the layout.

        Raises:
            ValueError: streams that are not those of the layout.
        """
        if set(streams) != set(self.streams):
            raise ValueError(f"got the streams {sorted(streams)} but the layout has {sorted(self.streams)}; give those")
        parts: list[Tensor] = []
        for name in self.streams:
            tokens = self.tokens(name, streams[name])
            parts += [tokens.new_full((len(tokens), 1), self.sep if parts else self.bos), tokens]
        return torch.cat(parts, dim=1)

    def legal(self, name: str, num_tokens: int) -> Bool[Tensor, "m vocabulary"]:
        """Which ids may stand at each of the first m = `num_tokens` places of a stream."""
        legal = torch.zeros(num_tokens, self.vocabulary_size, dtype=torch.bool)
        count = self.streams[name].num_codebooks
        for codebook in range(count):
            legal[codebook::count, self.ids(name, codebook)] = True
        return legal

    def _offsets(self, name: str, like: Tensor) -> Int[Tensor, " q"]:
        count = self.streams[name].num_codebooks
        return torch.tensor([self.ids(name, codebook).start for codebook in range(count)], device=like.device)
