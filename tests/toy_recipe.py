"""A stage that trains in a second, as a recipe; the toys that it names lie in tests/training."""

from typing import Any


def toy_recipe(**trainer: Any) -> dict[str, Any]:
    """An autoencoder of one convolution each way on 40 short clips."""
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "melody_cm.training.AutoencoderTraining",
            "init_args": {
                "autoencoder": {"class_path": "toys.ToyAutoencoder"},
                "reconstruction_loss": {"class_path": "toys.SquaredError"},
                "optimization": {"learning_rate": 0.01},
            },
        },
        "data": {
            "corpus": {
                "class_path": "melody_cm.data.SyntheticCorpus",
                "init_args": {"num_clips": 40, "seconds": 1.0, "sample_rate": 8000},
            },
            "sample_rate": 8000,
            "seconds": 0.512,
            "batch_size": 4,
        },
        "trainer": trainer,
        "sizes": {"tiny": {}},
    }
