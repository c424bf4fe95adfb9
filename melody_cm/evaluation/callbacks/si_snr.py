"""SI-SNR while training: of reconstructions in the waveform, of denoisers in the latent domain."""

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from melody_cm.evaluation import SISNR
from melody_cm.evaluation.callbacks.denoising import NUM_ANGLES, DenoisingScores, denoise_at_every_angle
from melody_cm.evaluation.callbacks.fixed_clips import Share
from melody_cm.evaluation.callbacks.periodic import PeriodicEvaluation


class SISNRCallback(PeriodicEvaluation):
    """Logs what fits the stage, for held-back clips and the averaged networks.

    An autoencoder: `val/si_snr`, dB of the reconstructed waveform. A mel autoencoder's phases come from its vocoder, so
    its value is always low. Latent diffusion: `val/velocity_mse`, and `val/si_snri`, the dB that one call gains over
    the noisy latent, without guidance, averaged over 16 noise levels; the curve over them goes to
    evaluations/step_000200/si_snri.json. Of white Gaussian latents of standard deviation s, the best predictor that
    ignores structure has velocity error s and gains 0 dB.

    Args:
        every_n_steps, num_clips, batch_size: as in `PeriodicEvaluation`.
    """

    def __init__(self, every_n_steps: int, num_clips: int = 16, batch_size: int = 8) -> None:
        super().__init__(every_n_steps, num_clips, batch_size)

    def check(self, trainer: Trainer, module: LightningModule) -> None:
        if hasattr(module, "reconstruct"):
            self.keys = ("val/si_snr",)
        elif hasattr(module, "denoising"):
            self.keys = ("val/velocity_mse", "val/si_snri", "val/si_snri_median")
        else:
            self.refuse(module, "it neither reconstructs nor denoises; remove it from trainer.callbacks")

    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        judge = self._reconstruction if hasattr(module, "reconstruct") else self._denoising
        return judge(trainer, module, step)

    def _reconstruction(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        metric = SISNR().to(module.device)
        for _, batch in self.clips(trainer).shares:
            metric.update(self.sample(trainer, module, batch), batch.waveform.to(module.device))
        score = metric.compute()
        self.write(trainer, "si_snr", step, score.as_dict())
        dropped = sum(sum(reasons.values()) for reasons in score.dropped.values())
        counts = {"val/si_snr_n": float(score.n_generated), "val/si_snr_dropped": float(dropped)}
        return counts if score.value is None else {"val/si_snr": score.value, **counts}

    def _denoising(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        clips = self.clips(trainer)
        scores = DenoisingScores(len(clips.captions)).to(module.device)
        for share in clips.shares:
            self._denoise(trainer, module, share, scores)
        result = scores.compute()
        self.write(trainer, "si_snri", step, result)
        dropped = result["silent"] + result["not_finite"]
        counts = {"val/si_snri_n": result["n"] / NUM_ANGLES, "val/si_snri_dropped": dropped / NUM_ANGLES}
        if result["si_snri"] is None:
            return counts
        means = {"val/velocity_mse": result["velocity_mse"], "val/si_snri": result["si_snri"]}
        return {**means, "val/si_snri_median": result["si_snri_median"], **counts}

    def _denoise(self, trainer: Trainer, module: LightningModule, share: Share, scores: DenoisingScores) -> None:
        batch = share.batch.to(module.device)
        with trainer.precision_plugin.val_step_context():
            latent, conditioning, denoiser = module.denoising(batch)

        def predict(noisy: Tensor, angle: Tensor) -> Tensor:
            with trainer.precision_plugin.val_step_context():
                return denoiser(noisy, angle, conditioning)

        noise = batch.draws(module.seed).normal("evaluation noise", latent.shape[1:], module.device)
        denoise_at_every_angle(scores, share.places, latent, noise, predict)
