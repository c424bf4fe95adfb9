"""Losses that compare outputs with targets; each returns its weighted terms by name."""

from melody_cm.losses.spectral import LogMelLoss, MultiResolutionSTFTLoss, ReconstructionLoss

__all__ = ["LogMelLoss", "MultiResolutionSTFTLoss", "ReconstructionLoss"]
