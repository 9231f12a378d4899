"""Watches whether the queries that carry the past still tell one agent from another.

At too high a learning rate they become alike: what all of them share grows until the normalisation
leaves nothing of what each was told. The loss hardly shows it, as motion is still learned from the
last positions; but gains are then the same for all, and noise is taken for motion.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

LEAST_SPREAD = 0.02
"""In healthy runs it is 0.2 to 0.6; in one whose queries had become alike it was 0.005."""
LEAST_AGENTS = 16
"""Batches with fewer are not judged: so few may well be alike."""
UNTRAINED_STEPS = 200
"""Before so many steps queries may be alike because nothing has been learned yet."""
IN_A_ROW = 3
"""A single batch may be of agents that all stand."""


class QueriesAlike(UserWarning):
    """Hardly anything is left in the queries of what was observed of each agent."""


class QuerySpread(pl.Callback):
    """Logs ``query_spread`` whenever metrics are logged, and warns once if it stays too small."""

    def __init__(self) -> None:
        self._hook: RemovableHandle | None = None
        self._seen: tuple[Tensor, Tensor] | None = None
        self._alike = 0
        self._warned = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begins to listen, in a step that is logged."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (trainer.global_step + 1) % every == 0:
            module: Any = pl_module.model
            self._hook = module.observer.query_interaction.register_forward_hook(self._keep)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Listens no longer."""
        if self._hook is not None:
            self._hook.remove()

    def _keep(self, module: Any, given: Any, made: tuple[Tensor, Tensor]) -> None:
        """Keeps the queries that QIM made, and which of them are agents: its last argument."""
        self._seen = made[1].detach(), given[-1]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Logs the spread of the queries after the last observation."""
        if self._hook is None:
            return
        self._hook.remove()
        seen, self._hook, self._seen = self._seen, None, None
        if seen is None or int(seen[1].sum()) < LEAST_AGENTS:
            return
        spread = query_spread(*seen)
        pl_module.log("query_spread", spread, batch_size=1)
        alike = bool(spread < LEAST_SPREAD) and trainer.global_step > UNTRAINED_STEPS
        self._alike = self._alike + 1 if alike else 0
        if self._alike >= IN_A_ROW and not self._warned and trainer.is_global_zero:
            self._warned = True
            warnings.warn(
                f"at step {trainer.global_step} the queries of what was seen hardly differ between"
                f" agents (query_spread {float(spread):.2g}, at least {LEAST_SPREAD} expected):"
                " noisy tracks will not be smoothed. Begin anew with a lower"
                " optimisation.learning_rate",
                QueriesAlike,
                stacklevel=1,
            )


def query_spread(query: Float[Tensor, "b a d"], live: Bool[Tensor, "b a"]) -> Float[Tensor, ""]:
    """How much queries differ between agents, beside their size: 0 = they are all the same.

    Args:
        query: The queries.
        live: Which of them are agents, two at least.
    """
    agents = query[live]
    size = agents.square().mean().sqrt().clamp(min=torch.finfo(agents.dtype).tiny)
    return agents.std(0).square().mean().sqrt() / size
