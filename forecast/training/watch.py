"""Keeps a loss or a gradient that is not finite from the weights."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from forecast.data.module import SequenceData
from forecast.errors import TrainingError

MOST_LEFT_OUT = 3  # steps in a row


class Watch(pl.Callback):
    """Refuses a loss that is not finite, and logs the gradient's norm.

    A step whose gradient alone is not finite is left out: among many thousands of spoiled tracks
    there are some that make it overflow. Some such steps in a row mean more: they end the run.

    Args:
        batches: The data of the run, to name the sequences at fault.
    """

    def __init__(self, batches: SequenceData) -> None:
        self.batches = batches
        self._loss = torch.zeros(())
        self._left_out = 0

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Keeps the loss to check it together with its gradient, so that a GPU waits only once."""
        self._loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Checks the loss and its gradient before clipping.

        Raises:
            TrainingError: The loss is not finite, or the gradient of more than
                :data:`MOST_LEFT_OUT` steps in a row.
        """
        found = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        norm = get_total_norm(found)
        pl_module.log("grad_norm", norm)
        if torch.isfinite(self._loss + norm):
            self._left_out = 0
            return
        broken = not bool(self._loss.isfinite())
        if not torch.isfinite(norm):
            # The gradient is the same in all processes; the loss is not, and they must agree.
            broken = trainer.strategy.reduce_boolean_decision(broken, all=False)
        self._left_out += 1
        if broken or self._left_out > MOST_LEFT_OUT:
            raise self._error(trainer, norm)
        optimizer.zero_grad()  # the optimizer passes over weights without a gradient

    def _error(self, trainer: pl.Trainer, norm: Tensor) -> TrainingError:
        what, value = ("gradient", norm) if self._loss.isfinite() else ("loss", self._loss)
        step = trainer.global_step
        epoch, index = divmod(step, int(trainer.num_training_batches))
        return TrainingError(
            f"a finite {what}",
            f"{float(value)} at step {step} (epoch {epoch + 1} of {trainer.max_epochs}),"
            f" {name_batch(self.batches, epoch, index)}",
            "lower optimisation.learning_rate, or look for what is extreme in these sequences"
            " (`forecast doctor STORE`); what was learned before is kept in --output",
        )


def name_batch(batches: SequenceData, epoch: int, index: int) -> str:
    """Which sequences a training batch of this process holds, with their scenes and store."""
    order = batches.order()
    order.set_epoch(epoch)
    numbers = list(order)[index]
    for reader in batches.train:
        if numbers[0] < len(reader):
            break
        numbers = [number - len(reader) for number in numbers]
    named = ", ".join(f"{number} ({reader.scenes[number]})" for number in numbers)
    return f"sequences {named} of {reader.path}"
