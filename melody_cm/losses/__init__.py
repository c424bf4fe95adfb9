"""Losses that compare outputs with targets; each returns its weighted terms by name."""

from melody_cm.losses.adversarial import HingeLoss, LeastSquaresLoss, feature_distance, gradient_penalty
from melody_cm.losses.spectral import LogMelLoss, MultiResolutionSTFTLoss, ReconstructionLoss
