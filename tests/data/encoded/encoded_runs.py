"""What the tests of the encoded cache share: a cache of toy encoders' outputs, made once."""

from encoded_toys import RATE, SECONDS, SLOTS
from torch import nn

from melody_cm.data import ManifestCorpus, MusicDataModule
from melody_cm.data.encoded import cache_folder, find_encoded, frozen_outputs, writing
from melody_cm.data.encoded.filling import fill, unfinished
from melody_cm.storage import build, describe

CROP = round(SECONDS * RATE)
LENGTHS = [0.3, SECONDS, 2.0, 5.3, 0.7, 1.6, 2.2, 1.1, 0.9, 3.0, 2.5, 0.4]
SPLITS = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
BAD = 5


class Model(nn.Module):
    """What a LightningModule is to the cache: parts, and whether its step reads waveforms."""

    reads_waveform = False

    def __init__(self, slots) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(build(slots))


def datamodule(manifest, **options) -> MusicDataModule:
    return MusicDataModule(ManifestCorpus(str(manifest)), RATE, SECONDS, **{"batch_size": 2, **options})


def encode(run, manifest, slots=SLOTS, processes=1, on_progress=lambda done, total: None, again=False):
    """What `melody-cm data encode` does; returns the folder of the cache."""
    data = datamodule(manifest)
    config = {"corpus": describe(data.corpus), "sample_rate": RATE, "seconds": SECONDS, "batch_size": 2}
    folder = cache_folder(run, config)
    outputs = frozen_outputs(nn.ModuleList(build(list(slots.values()))), RATE)
    job = writing.EncodingJob(run, list(slots.values()), config, folder, {})
    fingerprint = data.fingerprint()
    wanted = unfinished(job, outputs, fingerprint, lambda output: again)
    if wanted:
        fill(job, wanted, outputs, data, fingerprint, "cpu", processes, on_progress)
    return folder


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def found(folder, manifest, slots=SLOTS, **options):
    data = datamodule(manifest, **options)
    data.encoded = find_encoded(folder, Model(slots), RATE, data.fingerprint)
    return data


def of_slots(*names):
    return {name: SLOTS[name] for name in names}
