"""Batches for training, in an order that a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from forecast.data.reader import SequenceReader, collate
from forecast.errors import ForecastError
from forecast.types import BEVSequence


class _Attempts(Dataset[BEVSequence | ForecastError]):
    """Sequences, or why they cannot be read: torch would make prose of a worker's exception."""

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


class ResumableSampler(Sampler[int]):
    """A new permutation each epoch, drawn from the seed and the epoch alone; can start midway.

    Args:
        length: Number of sequences.
        seed: Of the permutations.
        rank: This process among ``replicas``, each of which draws its own share.
        replicas: Number of training processes.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, replicas: int = 1) -> None:
        self.inner: DistributedSampler[int] = DistributedSampler(
            range(length),  # type: ignore[arg-type]
            num_replicas=replicas,
            rank=rank,
            shuffle=True,
            seed=seed,
        )
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.inner.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        indices = list(self.inner)[self.skip :]
        self.skip = 0  # only the epoch that was interrupted starts midway
        return iter(indices)

    def __len__(self) -> int:
        return len(self.inner)


class SequenceData(pl.LightningDataModule):
    """Training and validation batches of two sequence stores.

    Args:
        train: Path of the training store.
        val: Path of the validation store, or None.
        batch_size: Sequences per step and process.
        workers: Processes that read ahead; 0 reads in the training process.
        seed: Of the order of the sequences.

    Raises:
        DataError: A store cannot be read.
    """

    def __init__(
        self, train: str, val: str | None, batch_size: int, workers: int, seed: int
    ) -> None:
        super().__init__()
        self.train = SequenceReader(train)
        self.val = SequenceReader(val) if val is not None else None
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self._skip = 0

    def train_dataloader(self) -> DataLoader[BEVSequence]:
        """Shuffled batches; the last, smaller one of an epoch is dropped if there are others."""
        trainer = self.trainer
        rank, replicas = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        sampler = ResumableSampler(len(self.train), self.seed, rank, replicas)
        sampler.skip, self._skip = self._skip, 0
        return self._loader(self.train, sampler, len(sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader[BEVSequence] | list[Any]:
        """Batches in the store's order."""
        return [] if self.val is None else self._loader(self.val, None, False)

    def on_before_batch_transfer(
        self, batch: BEVSequence | ForecastError, dataloader_idx: int
    ) -> BEVSequence:
        """Raises here what went wrong where the batch was read, perhaps in another process."""
        if isinstance(batch, ForecastError):
            raise batch
        return batch

    def state_dict(self) -> dict[str, Any]:
        """How far the epoch has come, by the batches trained on rather than read ahead."""
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        ended = progress.is_last_batch
        return {"skip": 0 if ended else progress.current.ready * self.batch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Starts the next epoch where the saved one was."""
        self._skip = int(state_dict["skip"])

    def _loader(
        self, reader: SequenceReader, sampler: Sampler[int] | None, drop_last: bool
    ) -> DataLoader[BEVSequence]:
        return DataLoader(
            _Attempts(reader),  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            collate_fn=_collate_attempts,
            persistent_workers=self.workers > 0,
            generator=torch.Generator().manual_seed(self.seed),
        )
