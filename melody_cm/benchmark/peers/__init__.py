"""Systems of other people, behind the same interface as ours: their pipelines, and audio that they made."""

from melody_cm.benchmark.peers.open import open_peer
from melody_cm.benchmark.peers.peer import Peer
from melody_cm.benchmark.peers.recorded import RecordedMusic

__all__ = ["Peer", "RecordedMusic", "open_peer"]
