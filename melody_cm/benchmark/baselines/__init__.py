"""Systems of other people, behind the same interface as ours: their pipelines, and audio that they made."""

from melody_cm.benchmark.baselines.baseline import Baseline
from melody_cm.benchmark.baselines.open import open_baseline
from melody_cm.benchmark.baselines.recorded import RecordedMusic
