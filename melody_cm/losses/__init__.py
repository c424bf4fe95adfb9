"""Losses that compare outputs with targets; each returns its weighted terms by name."""

from melody_cm.losses.adversarial import LeastSquaresLoss, feature_distance
from melody_cm.losses.spectral import LogMelLoss, MultiResolutionSTFTLoss, ReconstructionLoss

__all__ = ["LeastSquaresLoss", "LogMelLoss", "MultiResolutionSTFTLoss", "ReconstructionLoss", "feature_distance"]
