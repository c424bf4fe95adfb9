"""LightningModules, one per objective, and what surrounds their steps."""

from melody_cm.training.adversarial import AdversarialStage, Adversary, Generated
from melody_cm.training.autoencoder import AutoencoderTraining
from melody_cm.training.codec import CodecTraining
from melody_cm.training.consistency_distillation import ConsistencyDistillation
from melody_cm.training.joint_embedding import JointEmbeddingTraining
from melody_cm.training.language_model import LanguageModelTraining
from melody_cm.training.latent_diffusion import LatentDiffusion
from melody_cm.training.monitors import BestCheckpoint
from melody_cm.training.optimization import Optimization
from melody_cm.training.representation import RepresentationLearning
from melody_cm.training.stage import Stage
from melody_cm.training.tokenizer import TokenizerFitting
from melody_cm.training.vocoder import PostNetTraining, VocoderTraining
