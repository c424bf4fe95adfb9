"""The demo systems of a finished run, small enough to travel with the package: `demo:NAME`.

    python recipes/demo/ship.py runs/demo --out melody_cm/demo
    melody-cm compare recipes/compare/demo_captions.yaml --out runs/demo-captions
    python recipes/demo/ship.py runs/demo --out melody_cm/demo --results runs/demo-captions/results.json

Matrices in fp16, rounded so that the wheel can compress them; texts only, without the audio tower of the joint
embedding; a network that two systems have in common lies in the folder of the first, which the `config.json` of the
second names.
"""

import argparse
import filecmp
import shutil
from pathlib import Path

import torch
from torch import nn

from melody_cm.comparison import card_results
from melody_cm.evaluation.results import Results
from melody_cm.runs import open_source
from melody_cm.storage import read_json, write_json

# Each system with the one whose networks it shares, and the preset of configs/pipeline that it is made by.
SYSTEMS = {
    "musiccm": (None, "musiccm_vocoder"),
    "musiccm_teacher": ("musiccm", "musiccm_teacher_vocoder"),
    "melody": ("musiccm", "melody"),
    "melody_cm": ("melody", "melody_cm"),
}

# Of fp16's ten: about as fine as int8 with a scale a row, and what is left out compresses to nothing.
MANTISSA_BITS = 5


def main() -> None:
    """Write the systems one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="whose stages are finished")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--results", type=Path, help="of a comparison of what this wrote before, for the model cards")
    arguments = parser.parse_args()
    for name in arguments.systems:
        shares, preset = SYSTEMS[name]
        system = open_source(str(arguments.run / preset))
        system.joint_embedding = system.joint_embedding.text_only()
        for network in system.networks.values():
            round_matrices(network)
        system.save_pretrained(arguments.out / name, half=True)
        if arguments.results:
            add_results(arguments.out / name, arguments.results)
        if shares is not None:
            leave_out_shared(arguments.out, name, shares)
        size = sum(file.stat().st_size for file in (arguments.out / name).rglob("*") if file.is_file())
        print(f"{name}: {size / 1e6:.1f} MB")


def round_matrices(network: nn.Module) -> None:
    """Keep the first bits of every weight of matrices and kernels: each moves by at most one part in 64."""
    steps = 2 ** (MANTISSA_BITS + 1)
    for weight in network.parameters():
        if weight.ndim > 1:
            mantissa, exponent = torch.frexp(weight.data)
            weight.data = torch.ldexp((mantissa * steps).round() / steps, exponent)


def add_results(folder: Path, file: Path) -> None:
    """Put what a comparison found into the card of a whole system; it was measured as it is stored, in fp16."""
    system = open_source(str(folder))
    system.results = card_results(system, Results.read(file, "compare"))
    system.save_pretrained(folder, half=True)


def leave_out_shared(systems: Path, name: str, neighbour: str) -> None:
    """Delete the networks of a system that its neighbour, or the neighbour's neighbour, has too."""
    folder, chain = systems / name, [neighbour]
    while (further := SYSTEMS[chain[-1]][0]) is not None:
        chain.append(further)
    for network in read_json(folder / "config.json")["networks"]:
        if any(same_files(folder / network, systems / each / network) for each in chain):
            shutil.rmtree(folder / network)
    write_json(folder / "config.json", read_json(folder / "config.json") | {"shares": neighbour})


def same_files(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names = [{file.relative_to(each) for file in each.rglob("*") if file.is_file()} for each in (folder, other)]
    return names[0] == names[1] and not filecmp.cmpfiles(folder, other, names[0], shallow=False)[1]


if __name__ == "__main__":
    main()
