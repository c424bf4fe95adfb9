"""A shard of clips through all frozen encoders of a recipe: the sound is read once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from melody_cm.data.audio_files import AudioProblem
from melody_cm.data.clips import Clip, Split
from melody_cm.data.encoded.clip_audio import ClipAudio
from melody_cm.data.encoded.outputs import FrozenOutput
from melody_cm.data.encoded.shards import key
from melody_cm.data.encoded.windows import Window, frame_windows, value_windows

# Windows of one length go through an encoder together. Fixed, so that the same clips always give the same bytes.
WINDOWS_TOGETHER = 8
CAPTIONS_TOGETHER = 64
Parts = dict[str, Tensor]


class ShardEncoding:
    """Encodes runs of clips.

    Training clips are encoded whole; of validation and test clips, exactly the crop that evaluation sees.

    Args:
        outputs: what is wanted of each clip.
        sample_rate: Hz; seconds: length of a crop.
        grid: samples that all frame sizes divide.
        device: where the encoders are to work.
    """

    def __init__(
        self, outputs: Sequence[FrozenOutput], sample_rate: int, seconds: float, grid: int, device: str
    ) -> None:
        self.outputs = list(outputs)
        self.sample_rate, self.seconds, self.grid = sample_rate, seconds, grid
        self.device = torch.device(device)
        for output in self.outputs:
            output.network.to(self.device)

    def encode(
        self, split: Split, clips: Sequence[Clip], first_item: int
    ) -> tuple[dict[str, Parts], dict[int, int], dict[int, str]]:
        """The tensors of each output by its name, the samples of each good clip, and what is wrong with the others."""
        windows = _Windows(self.outputs, self.device)
        samples: dict[int, int] = {}
        bad: dict[int, str] = {}
        for item, clip in enumerate(clips, start=first_item):
            try:
                samples[item] = self._add(windows, item, clip, split)
            except AudioProblem as problem:
                bad[item] = f"{clip.where}: {problem}"
        windows.finish()
        captions = {item: clips[item - first_item].captions or [""] for item in samples}
        return {output.name: _gather(output, windows, captions, split) for output in self.outputs}, samples, bad

    def _add(self, windows: "_Windows", item: int, clip: Clip, split: Split) -> int:
        audio = ClipAudio(clip, self.sample_rate, None if split == "train" else self.seconds)
        crop = round(self.seconds * self.sample_rate)
        framed = frame_windows(audio.length, crop, self.grid, self.sample_rate)
        for has_frames, plan in ((True, framed), (False, value_windows(audio.length, crop))):
            if windows.wants(has_frames):
                for index, window in enumerate(plan):
                    windows.add(item, index, window, audio.part(window.first, window.last), has_frames)
        audio.refuse_silence()
        return audio.length


class _Windows:
    """Windows waiting for others of their length, and what the encoders made of those before."""

    def __init__(self, outputs: Sequence[FrozenOutput], device: torch.device) -> None:
        self.outputs = [output for output in outputs if not output.reads_captions]
        self.device = device
        self.waiting: dict[tuple[bool, int], list[tuple[int, int, Window, Tensor]]] = defaultdict(list)
        self.made: dict[str, dict[int, dict[int, Parts]]] = defaultdict(lambda: defaultdict(dict))

    def wants(self, has_frames: bool) -> bool:
        """Whether an output has frames, or one value a clip."""
        return any(bool(output.frame_samples) is has_frames for output in self.outputs)

    def add(self, item: int, index: int, window: Window, waveform: Tensor, has_frames: bool) -> None:
        """Take window `index` of a clip."""
        together = self.waiting[has_frames, waveform.shape[-1]]
        together.append((item, index, window, waveform))
        if len(together) == WINDOWS_TOGETHER:
            self._encode(has_frames, together)
            together.clear()

    def finish(self) -> None:
        """Encode what is still waiting."""
        for (has_frames, _), together in self.waiting.items():
            if together:
                self._encode(has_frames, together)
        self.waiting.clear()

    def _encode(self, has_frames: bool, together: list[tuple[int, int, Window, Tensor]]) -> None:
        waveform = torch.stack([waveform for _, _, _, waveform in together]).to(self.device)
        for output in self.outputs:
            if bool(output.frame_samples) is has_frames:
                parts = {name: value.cpu() for name, value in output.of_audio(waveform).items()}
                _check(output, parts, waveform.shape[-1])
                for row, (item, index, window, _) in enumerate(together):
                    self.made[output.name][item][index] = {
                        name: _cut(value[row], window, output.frame_samples) for name, value in parts.items()
                    }


def _gather(output: FrozenOutput, windows: _Windows, captions: dict[int, list[str]], split: Split) -> Parts:
    """All tensors of an output, by the names under which they are kept."""
    if output.reads_captions:
        return {key(split, item, "embedding"): rows for item, rows in _embed_captions(output, captions)}
    tensors = {}
    for item in captions:
        made = windows.made[output.name][item]
        in_order = [made[index] for index in range(len(made))]
        for part in in_order[0]:
            values = [window[part] for window in in_order]
            joined = torch.cat(values, dim=1) if output.frame_samples else torch.stack(values)
            tensors[key(split, item, part)] = joined.contiguous()
    return tensors


def _embed_captions(output: FrozenOutput, captions: dict[int, list[str]]) -> Iterator[tuple[int, Tensor]]:
    texts = [caption for several in captions.values() for caption in several]
    chunks = [texts[start : start + CAPTIONS_TOGETHER] for start in range(0, len(texts), CAPTIONS_TOGETHER)]
    rows = [output.of_text(chunk)["embedding"].cpu() for chunk in chunks]
    if rows:
        for value in rows:
            _refuse_spoilt(output, value)
        yield from zip(captions, torch.cat(rows).split([len(several) for several in captions.values()]), strict=True)


def _cut(value: Tensor, window: Window, frame_samples: int) -> Tensor:
    if not frame_samples:
        return value.clone()
    first, begin = window.first // frame_samples, window.begin // frame_samples
    return value[:, begin - first : -(-window.end // frame_samples) - first].clone()


def _check(output: FrozenOutput, parts: Parts, length: int) -> None:
    for value in parts.values():
        _refuse_spoilt(output, value)
        if output.frame_samples and value.shape[2] != -(-length // output.frame_samples):
            raise ValueError(
                f"{output.name} gives {value.shape[2]} frames for {length} samples, not one every "
                f"{output.frame_samples} samples; it cannot be kept: train without encoding"
            )


def _refuse_spoilt(output: FrozenOutput, value: Tensor) -> None:
    if value.is_floating_point() and not bool(value.isfinite().all()):
        raise ValueError(f"{output.name} gives numbers that are not finite; train that stage again with --retrain")
