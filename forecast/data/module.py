"""Batches for training, in an order that a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from forecast.data.reader import SequenceReader, collate
from forecast.errors import CheckpointError, ForecastError
from forecast.types import BEVSequence


class _Attempts(Dataset[BEVSequence | ForecastError]):
    """Sequences, or the error of reading them: torch would turn a worker's exception into text."""

    def __init__(self, reader: SequenceReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> BEVSequence | ForecastError:
        try:
            return self.reader[index]
        except ForecastError as error:
            return error


def _collate_attempts(found: Sequence[BEVSequence | ForecastError]) -> BEVSequence | ForecastError:
    errors = [one for one in found if isinstance(one, ForecastError)]
    return errors[0] if errors else collate([one for one in found if isinstance(one, BEVSequence)])


class BatchOrder(Sampler[list[int]]):
    """Whole batches, each of one store, in an order drawn from seed and epoch; can start midway.

    Stores may differ in their grids, so that no batch mixes them; a store's last, smaller batch is
    dropped unless the store has no other.

    Args:
        lengths: Sequences of each store; they are numbered through.
        batch_size: Sequences of a batch.
        seed: Of the order.
        rank: This process among ``replicas``, each of which draws its own batches.
        replicas: Number of training processes.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, rank: int = 0, replicas: int = 1
    ) -> None:
        self.lengths, self.batch_size, self.seed = tuple(lengths), batch_size, seed
        self.rank, self.replicas = rank, replicas
        self.epoch = self.skip = 0

    @property
    def sampler(self) -> BatchOrder:
        """Itself: of a batch sampler, Lightning tells the epoch to what this returns."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches()[self.rank :: self.replicas][: len(self)]
        begun, self.skip = self.skip, 0  # only the epoch that was interrupted starts midway
        yield from batches[begun:]

    def __len__(self) -> int:
        """Batches of an epoch and process: every process makes as many steps."""
        return max(1, sum(map(self._count, self.lengths)) // self.replicas)

    def _count(self, length: int) -> int:
        return max(length // self.batch_size, min(length, 1))

    def _batches(self) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batches: list[list[int]] = []
        start = 0
        for length in self.lengths:
            order = (start + torch.randperm(length, generator=generator)).tolist()
            starts = range(0, self._count(length) * self.batch_size, self.batch_size)
            batches += [order[place : place + self.batch_size] for place in starts]
            start += length
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        # Fewer batches than processes: some are seen by several of them.
        return [batches[place] for place in shuffled * -(-self.replicas // len(batches))]


class SequenceData(pl.LightningDataModule):
    """Training and validation batches of sequence stores.

    Args:
        train: Paths of the training stores.
        val: Path of the validation store, or None.
        batch_size: Sequences per step and process.
        workers: Processes that read ahead; 0 reads in the training process.
        seed: Of the order of the sequences.
        raster_frames: How many frames have rasters (see :class:`SequenceReader`); None = all.

    Raises:
        DataError: A store cannot be read.
    """

    def __init__(
        self,
        train: Sequence[str],
        val: str | None,
        batch_size: int,
        workers: int,
        seed: int,
        raster_frames: int | None = None,
    ) -> None:
        super().__init__()
        self.train = tuple(SequenceReader(path, raster_frames) for path in train)
        self.val = SequenceReader(val, raster_frames) if val is not None else None
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self._begin = 0, 0

    def train_dataloader(self) -> DataLoader[BEVSequence]:
        """Shuffled batches, each of one store."""
        order = self.order()
        # Workers read ahead from the order before Lightning tells it the epoch that is resumed.
        (order.epoch, order.skip), self._begin = self._begin, (0, 0)
        return self._loader(
            ConcatDataset([_Attempts(reader) for reader in self.train]), batch_sampler=order
        )

    def order(self, replicas: int | None = None) -> BatchOrder:
        """The order of training batches in this process.

        Args:
            replicas: Number of training processes, before there is a trainer to tell.
        """
        trainer = self.trainer
        rank, found = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        lengths = [len(reader) for reader in self.train]
        return BatchOrder(lengths, self.batch_size, self.seed, rank, replicas or found)

    def val_dataloader(self) -> DataLoader[BEVSequence] | list[Any]:
        """Batches in the store's order."""
        if self.val is None:
            return []
        return self._loader(_Attempts(self.val), batch_size=self.batch_size)

    def on_before_batch_transfer(
        self, batch: BEVSequence | ForecastError, dataloader_idx: int
    ) -> BEVSequence:
        """Raises here what went wrong where the batch was read, perhaps in another process."""
        if isinstance(batch, ForecastError):
            raise batch
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where to resume: after the batches trained on, one each step, not those read ahead."""
        assert self.trainer is not None
        epoch, skip = divmod(self.trainer.global_step, int(self.trainer.num_training_batches))
        return {"epoch": epoch, "skip": skip, "order": self._order_of()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Starts with the batch after the last one trained on.

        Raises:
            CheckpointError: The batches are others than those of the interrupted run.
        """
        begun, ours = state_dict.get("order"), self._order_of()
        if begun != ours:
            raise CheckpointError(
                f"the interrupted run's stores, batch size and processes: {begun}",
                str(ours),
                "repeat them to resume, or start a run of its own",
            )
        self._begin = int(state_dict["epoch"]), int(state_dict["skip"])

    def _order_of(self) -> dict[str, Any]:
        """What the order of the batches depends on, besides seed and epoch."""
        order = self.order()
        return {
            "sequences": list(order.lengths),
            "batch_size": order.batch_size,
            "processes": order.replicas,
        }

    def _loader(self, sequences: Dataset[Any], **order: Any) -> DataLoader[BEVSequence]:
        return DataLoader(
            sequences,
            num_workers=self.workers,
            collate_fn=_collate_attempts,
            persistent_workers=self.workers > 0,
            generator=torch.Generator().manual_seed(self.seed),
            **order,
        )
