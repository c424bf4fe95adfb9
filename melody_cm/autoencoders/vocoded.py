"""A trained mel autoencoder and a vocoder that was trained apart from it (MusicCM, arXiv 2404.13358, section 4.1)."""

from melody_cm.autoencoders.mel import MelAutoencoder
from melody_cm.interfaces import Vocoder
from melody_cm.storage import FrozenAutoencoder, thaw


class VocodedAutoencoder(FrozenAutoencoder):
    """The mel autoencoder of a finished stage with another vocoder in the place of its own.

    Args:
        stage: of the autoencoder.
        vocoder: of the same mels; frozen.

    Raises:
        ValueError: the stage has no mel autoencoder, or one of other mels.
    """

    def __init__(self, stage: str, vocoder: Vocoder) -> None:
        super().__init__(stage)
        if not isinstance(self.network, MelAutoencoder):
            raise ValueError(
                f"{stage} has a {type(self.network).__name__}, which takes no vocoder; name the stage of a mel "
                "autoencoder"
            )
        self.network = self.network.with_vocoder(thaw(vocoder)).requires_grad_(False)
