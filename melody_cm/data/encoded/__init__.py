"""What frozen encoders make of a corpus, computed once (docs/data.md, "Encoding once")."""

from melody_cm.data.encoded.cache import EncodedClips, EncodedDataset, encoded_folder, find_encoded
from melody_cm.data.encoded.encoding import Encoding, prepare
from melody_cm.data.encoded.outputs import FrozenOutput, frozen_outputs
