"""Music that somebody else made for the same prompts, read from a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.audio import GeneratedAudio
from melody_cm.data import AudioProblem, audio_info, read_audio
from melody_cm.data.audio_files import AUDIO_SUFFIXES
from melody_cm.data.folders import scan_folder
from melody_cm.evaluation.clips import in_order, told_prompt
from melody_cm.interfaces import Pipeline
from melody_cm.storage import hash_file


class RecordedMusic(Pipeline):
    """Clips of a folder, at their own sample rate; what else they are is not known.

    A prompt's clip is the file whose JSON of the same name, as `melody-cm generate` writes it, has that `prompt`; where
    no file has such a JSON, the i-th file in order of the numbers in their names is that of the i-th prompt.

    Args:
        folder: sound files.
        prompts: of the comparison, in order; None if the JSON files say enough.

    Attributes:
        recorded: True: nothing is made here, so there is no speed.
        max_seconds: length of the shortest clip.

    Raises:
        FileNotFoundError, ValueError: no folder, no sound, unlike rates, a prompt without a clip or with several.
        AudioProblem: a file that is no sound file.
    """

    recorded = True

    def __init__(self, folder: Path, prompts: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        self.files = _assign(self.folder, prompts)
        infos = {file: audio_info(file) for file in self.files.values()}
        rates = sorted({info.sample_rate for info in infos.values()})
        if len(rates) > 1:
            raise ValueError(f"{folder} holds clips of {rates} Hz; a system has one sample rate: give one folder each")
        self.sample_rate = rates[0]
        self.max_seconds = min(info.seconds for info in infos.values())

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> GeneratedAudio:
        """The beginnings of the prompts' clips, whatever the seed: nobody knows what they were made with.

        Raises:
            ValueError: steps or guidance, a prompt without a clip.
            AudioProblem: a clip that is too short, silent or unreadable.
        """
        if num_steps not in (None, 1) or guidance_scale is not None:
            raise ValueError(
                f"num_steps {num_steps}, guidance_scale {guidance_scale} asked for, but the clips in {self.folder} are "
                "made already; say 1 and leave guidance_scale out"
            )
        clips = [self._read(prompt, seconds) for prompt in prompts]
        return GeneratedAudio(torch.stack(clips)[:, None], self.sample_rate, {})

    def identity(self) -> dict[str, Any]:
        """The content of every clip."""
        return {"class": "RecordedMusic", "clips": {prompt: hash_file(file) for prompt, file in self.files.items()}}

    def _read(self, prompt: str, seconds: float) -> Float[Tensor, " t"]:
        if prompt not in self.files:
            raise ValueError(f"{self.folder} has no clip of the prompt {prompt!r}; make one, or leave the prompt out")
        file, length = self.files[prompt], round(seconds * self.sample_rate)
        clip = read_audio(file, 0.0, seconds, self.sample_rate)
        if len(clip) < length:
            made = f"{len(clip) / self.sample_rate:g}"
            raise AudioProblem(f"{file}: {made} s long, but {seconds:g} s are compared; ask for {made}", "too short")
        return clip


def _assign(folder: Path, prompts: Sequence[str] | None) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the folder that holds the clips")
    sounds = scan_folder(folder).files
    if not sounds:
        raise ValueError(f"{folder} holds no sound files; it needs one of {', '.join(AUDIO_SUFFIXES)} for each prompt")
    told = {file: prompt for file in sounds if (prompt := told_prompt(file)) is not None}
    if not told:
        if prompts is None or len(prompts) != len(sounds):
            asked = "unknown" if prompts is None else len(prompts)
            raise ValueError(
                f"{folder} holds {len(sounds)} clips without JSON files that name their prompts, and the number of "
                f"prompts is {asked}; give as many prompts, or NAME.json with a prompt beside NAME.wav"
            )
        return dict(zip(prompts, map(Path, in_order(map(str, sounds))), strict=True))
    files = {prompt: file for file, prompt in told.items()}
    if twice := [prompt for prompt in files if list(told.values()).count(prompt) > 1]:
        raise ValueError(f"{folder} has several clips of the prompt {twice[0]!r}; one is compared, so keep one")
    if missing := [prompt for prompt in prompts or [] if prompt not in files]:
        raise ValueError(f"{folder} has no clip of the prompt {missing[0]!r} ({len(missing)} missing); make them first")
    return files if prompts is None else {prompt: files[prompt] for prompt in prompts}
