"""What the tests of the encoded cache share: toy encoders run over a small corpus, as `melody-cm data encode` does."""

from encoded_toys import RATE, SECONDS, make_parts
from torch import nn

from melody_cm.data import ManifestCorpus, MusicDataModule
from melody_cm.data.encoded import Encoding, encoded_folder, find_encoded, frozen_outputs, prepare
from melody_cm.storage import describe

CROP = round(SECONDS * RATE)
LENGTHS = [0.3, SECONDS, 2.0, 5.3, 0.7, 1.6, 2.2, 1.1, 0.9, 3.0, 2.5, 0.4]
SPLITS = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
BAD = 5
PARTS = ("autoencoder", "target", "prompt", "conditioner", "hearing")


class Model(nn.Module):
    """What a LightningModule is to the cache: parts, and whether its step reads waveforms."""

    reads_waveform = False

    def __init__(self, *names, **others) -> None:
        super().__init__()
        parts = make_parts()
        self.parts = nn.ModuleDict({name: parts[name] for name in names} | others)


def datamodule(manifest, **options) -> MusicDataModule:
    return MusicDataModule(ManifestCorpus(str(manifest)), RATE, SECONDS, **{"batch_size": 2, **options})


def folder_of(run, manifest):
    data = datamodule(manifest)
    return encoded_folder(run, {"corpus": describe(data.corpus), "sample_rate": RATE, "seconds": SECONDS})


def encoding_of(run, manifest, model=None, again=False):
    """The encoding of a model's outputs, their folders made ready."""
    data, folder = datamodule(manifest), folder_of(run, manifest)
    outputs = frozen_outputs(model or Model(*PARTS), RATE)
    for output in outputs:
        prepare(folder / output.name, output, data.fingerprint(), "fp32", again)
    return Encoding(folder, outputs, data.corpus.splits(), RATE, SECONDS)


def encode(run, manifest, model=None, processes=1, again=False):
    """Encode all that is missing; returns the folder of the cache and how many clips were encoded."""
    encoding = encoding_of(run, manifest, model, again)
    return encoding.folder, len(list(encoding.run(processes)))


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def found(folder, manifest, model=None, **options):
    data = datamodule(manifest, **options)
    data.encoded = find_encoded(folder, model or Model(*PARTS), RATE, data.fingerprint)
    return data
