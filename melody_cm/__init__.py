"""melody_cm: train, sample and compare two fast text-to-music systems, MeLoDy and MusicCM, side by side."""

__version__ = "0.1.0"
