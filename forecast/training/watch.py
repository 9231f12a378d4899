"""Keeps losses and gradients that are not finite from the weights."""

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
    """Leaves out steps whose loss or gradient is not finite, and logs the gradient's norm.

    Among many thousands of spoiled tracks there are some that make a gradient overflow. A few such
    steps in a row mean that the weights are broken: that ends the run.

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
            TrainingError: One of them is not finite, for more than :data:`MOST_LEFT_OUT` steps.
        """
        found = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        norm = get_total_norm(found)
        # The gradient is the same in all processes, which must agree; a loss that is not finite
        # gives none that is.
        self._left_out = 0 if torch.isfinite(norm) else self._left_out + 1
        if self._left_out > MOST_LEFT_OUT:
            raise self._error(trainer, norm)
        if self._left_out:
            optimizer.zero_grad()  # the optimizer passes over weights without a gradient
        pl_module.log("grad_norm", norm)

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
