"""Trains a forecaster through the same loop that forecasts."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from forecast.config.data import Augmentation, Corruption
from forecast.config.training import LossWeights, Optimisation, Stage, TrackRules
from forecast.data.augment import augment
from forecast.data.corruption import corrupt
from forecast.data.mask_corruption import corrupt_rasters
from forecast.errors import CheckpointError, ConfigError
from forecast.loop import observed, rollout
from forecast.model.baselines import Baseline
from forecast.model.detected_input import Detecting, DetectingState
from forecast.model.forecaster import Forecaster
from forecast.model.layers.average import mean_count
from forecast.model.learned_horizon import LearnedHorizon
from forecast.model.scene.agents import places_among, slots_of
from forecast.model.state import ForecastState, SlotStep
from forecast.training.denoising import Denoising
from forecast.training.losses import Target, future_of, present_loss, step_loss
from forecast.training.matching import TruthAssignment
from forecast.training.newcomer_loss import newcomer_loss
from forecast.training.stages import LearningRate, check_stages, frozen_in
from forecast.training.step_kind import StepKind, step_kind
from forecast.training.tracking_losses import tracking_loss
from forecast.types import (
    BEVSequence,
    Observation,
    SceneContext,
    map_tensors,
    without_tracks,
)

# The loggers write every so many steps.
LOG_EVERY_STEPS = 10
LEAST_ERROR_M = 0.05  # of constant turn rate, below which no ratio to it is logged
# What validation observes: the store as it is, and with noise of positions and headings.
VALIDATION_NOISE = {"": None} | {
    f"_noise_{metres}m": Corruption.fixed(position_m=metres, heading_rad=math.radians(10 * metres))
    for metres in (0.1, 0.3)
}


class UndrawnForecaster:
    """A forecaster whose steps are not drawn: training needs no rasters, and drawing is slow.

    Args:
        model: The forecaster.
        assignment: For detected input: tracks are found in the history, new ones by the truth.
    """

    def __init__(self, model: Forecaster, assignment: TruthAssignment | None = None) -> None:
        self.model = model
        self._reader = model if assignment is None else Detecting(model, assignment)

    @property
    def reads_tracks(self) -> bool:
        """Whether agents come as tracks: of tracked input they do."""
        return self._reader.reads_tracks

    def start(self, context: SceneContext) -> ForecastState | DetectingState:
        """The model's own start, or that of detected input."""
        return self._reader.start(context)

    def observe(
        self, state: ForecastState | DetectingState, frame: Observation
    ) -> ForecastState | DetectingState:
        """As the model's, of tracked or detected input."""
        return self._reader.observe(state, frame)  # type: ignore[arg-type]

    def step(
        self, state: ForecastState | DetectingState, dt_s: float
    ) -> tuple[ForecastState, tuple[ForecastState, SlotStep]]:
        """The model's slots, with the state that its mask head reads."""
        if isinstance(state, DetectingState):
            assert isinstance(self._reader, Detecting)
            state = self._reader.look_ahead(state)
        state, slots = self.model.advance(state, dt_s)
        return state, (state, slots)


class ForecastTraining(pl.LightningModule):
    """Losses, schedule and validation of one forecaster.

    Args:
        model: What is trained.
        curriculum: Stages in order; the last one also covers any later epoch.
        weights: Of the parts of the loss, where a stage has none of its own.
        augmentation: Of the training sequences, where a stage has none of its own.
        corruption: Of what is observed of them, where a stage has none of its own.
        optimisation: Of the optimizer.
        history: Frames of a sequence up to the present.
        dt_s: Longest step of the sequences.
        steps: Optimizer steps of the whole training, for the schedule.
        seed: Of augmentation and mask points; the step number makes each draw its own, so that
            a resumed run draws what an uninterrupted one would have.
        tracks: How tracks of detected input are taught.
    """

    def __init__(
        self,
        model: Forecaster,
        curriculum: tuple[Stage, ...],
        weights: LossWeights,
        augmentation: Augmentation,
        corruption: Corruption,
        optimisation: Optimisation,
        history: int,
        dt_s: float,
        steps: int,
        seed: int,
        tracks: TrackRules | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.curriculum = curriculum
        self._weights, self._augmentation, self._corruption = weights, augmentation, corruption
        self.optimisation = optimisation
        self.history = history
        self.steps, self.seed, self.tracks = steps, seed, tracks or TrackRules()
        self._sums = torch.zeros(len(VALIDATION_NOISE), 3)
        longest_s = max(stage.horizon * stage.frame_stride for stage in curriculum) * dt_s
        model.learned_horizon = LearnedHorizon(max(model.learned_horizon.seconds, longest_s))
        check_stages(curriculum, optimisation, model)
        self.spec = model.spec  # stages may leave the raster out
        # Processes that train together exchange gradients of what learns when they begin: of
        # everything, therefore, that learns in any stage.
        self._freeze(set.intersection(*map(self._frozen, curriculum)))

    def _frozen(self, stage: Stage) -> set[str]:
        return frozen_in(stage, self.optimisation, self.model)

    def _freeze(self, parts: set[str]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] not in parts)

    def _enter(self, stage: Stage) -> None:
        """Reads and learns what a stage has; a frozen encoder's statistics stay as well."""
        frozen = self._frozen(stage)
        self._freeze(frozen)
        self.model.use(self.spec if stage.raster else self.spec.without_raster())
        dropout = self.optimisation.dropout if stage.dropout is None else stage.dropout
        for layer in self.model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = dropout
        if self.model.raster_encoder is not None:
            self.model.raster_encoder.train("raster_encoder" not in frozen)

    def on_train_start(self) -> None:
        """Enters the stage of a run that is resumed within an epoch, whose start is not told."""
        self._enter(self.stage)

    def on_train_epoch_start(self) -> None:
        """Enters the stage; validation has changed what learns and what is read."""
        self._enter(self.stage)

    @property
    def stage(self) -> Stage:
        """The stage of the current epoch."""
        begun = 0
        for stage in self.curriculum:
            begun += stage.epochs
            if self.current_epoch < begun:
                return stage
        return self.curriculum[-1]

    @property
    def weights(self) -> LossWeights:
        """Of the parts of the loss, in the current stage."""
        return self.stage.loss or self._weights

    @property
    def augmentation(self) -> Augmentation:
        """Of the training sequences, in the current stage."""
        return self.stage.augmentation or self._augmentation

    @property
    def corruption(self) -> Corruption:
        """Of what is observed, in the current stage."""
        return self.stage.corruption or self._corruption

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the state of a run whose network had other weights.

        Raises:
            CheckpointError: An older or newer version began the run.
        """
        others = sorted(self.state_dict().keys() ^ checkpoint["state_dict"].keys())
        if others:
            raise CheckpointError(
                "a run that this version began",
                f"one of a network that differs in {len(others)} weights, such as {others[0]}",
                "resume it with the version that began it, or start another from its"
                " model.safetensors with --set initial=RUN",
            )

    def training_step(self, batch: BEVSequence, index: int) -> Tensor:
        """Rolls the batch out and sums the losses of its steps."""
        number = self.seed * 1_000_003 + self.global_step
        # All processes draw the same kind of step, as each waits for the slowest; noise is its own.
        # Of a seed of its own, or the noise of the first process would go with the kind of step.
        shared = Generator().manual_seed(number + 15_485_863)
        generator = Generator().manual_seed(number + 7_919 * self.global_rank)
        # Dropout has no generator of its own.
        torch.manual_seed(number + 104_729 * self.global_rank)
        kind = step_kind(self.stage, self.augmentation, shared)
        batch = map_tensors(batch, lambda tensor: tensor[: self.stage.batch_size])
        batch = batch.crop(0, batch.frames, self.stage.frame_stride)
        batch = augment(batch, self.augmentation, self.history, generator, kind.rasters, shared)
        parts = self._losses(batch, kind, generator)
        loss = torch.stack(tuple(parts.values())).sum()
        if not loss.requires_grad:
            raise ConfigError(
                "stages in which something is used that learns",
                f"none such in epoch {self.current_epoch + 1}",
                "set raster: true in its stage, or freeze less",
            )
        self.log("loss", loss, prog_bar=True, batch_size=batch.batch)
        # The loggers skip the other steps.
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:
            for name, part in parts.items():
                self.log(f"loss_{name}", part.detach(), batch_size=batch.batch)
        return loss

    def _losses(
        self, batch: BEVSequence, kind: StepKind, generator: Generator
    ) -> dict[str, Tensor]:
        """Parts of the loss, each divided by the number of agents of the whole clip."""
        # As a tracker, or perception, observes it; the truth stays.
        spoil = corrupt_rasters if kind.rasters else corrupt
        batch = spoil(batch, self.corruption, self.history, generator)
        past = batch.crop(0, self.history)
        assert past.track_state is not None
        assert past.track_class is not None
        assignment = None
        if kind.detected:
            denoise = None
            if self.tracks.denoising:
                denoise = Denoising(self.tracks, len(self.model.inputs.classes), generator)
            assignment = TruthAssignment(
                past.track_state, past.track_class, batch.grid, self.tracks, generator, denoise
            )
        if kind.masks_only:
            past = without_tracks(past)
        parts = self._motion_losses(batch, past, kind, generator, assignment)
        if assignment is not None:
            parts |= _per_agent(tracking_loss(assignment))
        return parts

    def _motion_losses(
        self,
        batch: BEVSequence,
        past: BEVSequence,
        kind: StepKind,
        generator: Generator,
        assignment: TruthAssignment | None,
    ) -> dict[str, Tensor]:
        assert batch.track_state is not None
        assert batch.track_class is not None
        steps, frames = kind.steps, kind.frames
        present_on = batch.track_state[:, :, past.frames - 1 :: frames]
        units = frames * batch.dt_s / self.model.spec.time_unit_s
        undrawn = UndrawnForecaster(self.model, assignment)
        leads = rollout(undrawn, past, kind.horizon // frames * steps, batch.dt_s * frames / steps)
        totals: dict[str, Tensor] = {}
        targets: list[Target] = []
        for state, slots in leads:
            if slots.lead % steps:  # between two frames there is no truth
                continue
            targets = targets or future_of(
                slots.agents, present_on, batch.grid, self.weights.still, units
            )
            truth = targets[slots.lead // steps - 1]
            refine = self.model.refiner(state, slots)
            parts = step_loss(slots, truth, batch.grid, self.weights, generator, refine)
            logits = self.model.newcomer_logits(state)
            if logits is not None:
                lead = slots.lead // steps
                missed = newcomer_loss(
                    logits, slots.agents, present_on[:, :, lead], batch.track_class, batch.grid
                )
                parts["newcomers"] = self.weights.newcomers * missed
            if slots.lead == steps:
                parts |= present_loss(slots.agents, present_on[:, :, 0], self.weights)
            totals |= {name: totals.get(name, 0.0) + part for name, part in parts.items()}
        return _per_agent(totals)

    def validation_step(self, batch: BEVSequence, index: int) -> None:
        """Displacement of moving agents at every level of noise, beside constant turn rate's."""
        for level, how in enumerate(VALIDATION_NOISE.values()):
            noise = Generator().manual_seed(index)
            spoiled = corrupt(batch, how, self.history, noise) if how else batch
            self._sums[level] += self._displacement(spoiled, batch)

    def _displacement(self, seen: BEVSequence, batch: BEVSequence) -> Float[Tensor, "3"]:
        """Sums over moving agents of the model's error and of the baseline's, and their number."""
        history = self.history
        assert batch.track_state is not None
        horizon = batch.frames - history
        past, present_on = seen.crop(0, history), batch.track_state[:, :, history - 1 :]
        baseline = Baseline("constant-turn", len(self.model.inputs.classes), self.model.spec.slots)
        other = observed(baseline, past)
        targets: list[Target] = []
        sums = torch.zeros(3)
        for _, slots in rollout(UndrawnForecaster(self.model), past, horizon):
            targets = targets or future_of(slots.agents, present_on, batch.grid, 0.0)
            truth = targets[slots.lead - 1]
            other = baseline.move(other, batch.dt_s)
            # The baseline knows no agent that is out of sight at the present.
            both, place = places_among(slots.agents.ids, other.agents.ids)
            moving = truth.there & (truth.weight > 0) & both
            for row, pose in enumerate((slots.pose, slots_of(other.pose, place))):
                gap = torch.linalg.vector_norm((pose - truth.pose)[..., :2], dim=-1)
                sums[row] += gap[moving].sum().cpu()
            sums[2] += moving.sum().cpu()
        return sums

    def on_validation_epoch_start(self) -> None:
        """Forgets the last epoch's sums; the network is judged as it will be shared."""
        self.model.use(self.spec)
        self._sums = torch.zeros(len(VALIDATION_NOISE), 3)

    def on_validation_epoch_end(self) -> None:
        """Logs mean displacement over leads at every level, and its ratio to constant turn rate's.

        The ratio is that of clean observations.
        """
        sums = self.trainer.strategy.reduce(self._sums.to(self.device), reduce_op="sum")
        for name, (model, baseline, count) in zip(VALIDATION_NOISE, sums.tolist(), strict=True):
            if not count:
                continue
            # A ratio to a baseline that errs by centimetres means nothing.
            compared = not name and baseline > LEAST_ERROR_M * count
            shown = bool(name) or not compared
            self.log(f"val_ade_moving{name}", model / count, prog_bar=shown, rank_zero_only=True)
            if compared:
                self.log("val_ade_ratio", model / baseline, prog_bar=True, rank_zero_only=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with warm-up and cosine decay; the raster encoder learns more slowly."""
        how = self.optimisation
        # In the model's order, not a set's: a resumed run finds optimizer state by index.
        # A base of 0 could not be multiplied to a stage's own rate.
        base = how.learning_rate or 1.0
        rate = LearningRate(self.curriculum, how, self.steps)
        slow = (
            list(self.model.raster_encoder.parameters())
            if self.model.raster_encoder is not None
            else []
        )
        known = set(slow)
        fast = [p for p in self.model.parameters() if p not in known]
        optimizer = torch.optim.AdamW(
            [
                {"params": fast, "lr": base},
                {"params": slow, "lr": base * how.backbone_factor},
            ],
            weight_decay=how.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step) / base)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _per_agent(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    count = mean_count(parts["agents"])
    return {name: part / count for name, part in parts.items() if name != "agents"}
