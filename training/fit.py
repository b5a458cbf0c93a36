"""The training run: batches, schedule, validation, checkpoints; the same for every model."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lesioncore.training.augment import augment
from lesioncore.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from lesioncore.training.config import TrainingConfig
from lesioncore.training.distributed import ProcessGroup
from lesioncore.training.draws import Draws
from lesioncore.training.feed import Feed, SliceSource
from lesioncore.training.learner import Batch, Learner, UpdateContext
from lesioncore.training.record import Recorder
from lesioncore.training.stop import stop_requests

CHECKPOINT = "checkpoint.safetensors"

SHOWN = 8
"""Slices in a row of a picture."""

RECORDS = 200
"""Rows of metrics.csv in a whole run, about; validations and checkpoints have theirs as well."""

VALIDATION_BATCH = 64
"""Slices in one pass of a validation; figures do not depend on it."""


@dataclass(frozen=True)
class Outcome:
    """Result of a training run.

    Attributes
    ----------
    updates : int
        Updates done, fewer than planned after an early stop.
    best_loss : float or None
        Lowest validation loss; None without validation.
    best_update : int
        Updates behind the weights that were kept.
    seconds : float
        Time spent, over all sittings of the run.
    slices_per_second : float
        Throughput of this sitting, over all processes, validation and checkpoints not counted.
    data_wait : float
        Share of that time in which the first process waited for data.
    figures : dict
        Last validation's figures, means per slice, and the last updates' training figures.
    """

    updates: int
    best_loss: float | None
    best_update: int
    seconds: float
    slices_per_second: float
    data_wait: float
    figures: dict[str, float]


def fit(
    learner: Learner,
    data: SliceSource,
    validation: SliceSource | None = None,
    config: TrainingConfig | None = None,
    *,
    directory: Path | None = None,
    resume: bool = False,
    group: ProcessGroup | None = None,
    report: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Outcome:
    """Train a learner's model in place.

    Parameters
    ----------
    learner : Learner
        The model and its objective. Its weights are the starting point.
    data, validation : SliceSource
        Training slices, and held-out ones that decide which weights are kept; the last weights without.
    config : TrainingConfig, optional
        Length, learning rate, seed.
    directory : path, optional
        Folder for the checkpoint, the best weights, ``metrics.csv`` and pictures; nothing is written when absent.
    resume : bool
        Go on from the checkpoint in `directory`, if there is one. On CPUs the weights become the same, bit for bit, as
        without the interruption.
    group : ProcessGroup, optional
        Device, and the processes that share the run; this one alone, where the learner is, when absent.
    report : callable, optional
        Called as ``report(slices_seen, figures)`` after each update.

    Returns
    -------
    Outcome
        The learner is in evaluation mode and holds the weights that were kept.

    Raises
    ------
    ValueError
        If there are fewer slices than a batch, or the batch does not split evenly over the processes.
    FloatingPointError
        If a loss or a validation figure is not finite; the last checkpoint stays.
    """
    run = _Run(learner, data, validation, config or TrainingConfig(), directory, group, report)
    if resume and directory is not None and (directory / CHECKPOINT).is_file():
        run.take_up()
    return run.go()


class _Run:
    def __init__(
        self,
        learner: Learner,
        data: SliceSource,
        validation: SliceSource | None,
        config: TrainingConfig,
        directory: Path | None,
        group: ProcessGroup | None,
        report: Callable[[int, Mapping[str, float]], None] | None,
    ) -> None:
        self.group = group or ProcessGroup(next(learner.parameters()).device)
        self.config, self.data, self.validation, self.report = config, data, validation, report
        if len(data) < config.batch_size:
            raise ValueError(f"data: got {len(data)} slices, expected at least one batch of {config.batch_size}")
        if validation is not None and len(validation) == 0:
            raise ValueError("validation: got no slices, expected some; leave it out to keep the last weights")
        if config.batch_size % self.group.size:
            raise ValueError(
                f"batch_size: {config.batch_size} slices do not split evenly over {self.group.size} processes"
            )
        self.directory = directory if self.group.first else None
        self.checkpoint = None if directory is None else directory / CHECKPOINT
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        module: nn.Module = learner
        module.to(self.group.device, memory_format=layout)  # type: ignore[call-overload]
        self.learner = learner
        self.group.synchronise(learner)
        self.optimizers = {
            name: torch.optim.Adam(part.parameters(), lr=config.learning_rate, betas=learner.betas)
            for name, part in learner.parts().items()
        }
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        if directory is not None:
            keys = [data.key(), None if validation is None else validation.key()]
            shape = {key: list(value.shape) for key, value in learner.state_dict().items()}
            described = json.dumps([asdict(config), type(learner).__name__, shape, keys], sort_keys=True)
            self.progress.identity = hashlib.sha256(described.encode()).hexdigest()
        self.figures: dict[str, float] = {}
        self.recorder = Recorder(self.directory, tensorboard=config.tensorboard)
        self.autocast = (
            nullcontext()
            if not _bfloat16(config, self.group.device)
            else torch.autocast(self.group.device.type, torch.bfloat16)
        )

    def take_up(self) -> None:
        """Go on from the checkpoint."""
        assert self.checkpoint is not None
        self.progress, self.best = load_checkpoint(
            self.checkpoint, self.learner, self.optimizers, self.progress.identity
        )
        self.figures = self.recorder.take_up(self.progress.update)

    def go(self) -> Outcome:
        """All updates that are left."""
        config, progress = self.config, self.progress
        feed = Feed(self.data, batch_size=config.batch_size, seed=config.seed, group=self.group)
        figures = self.figures
        first, earlier, busy = progress.update, progress.seconds, 0.0
        begun = mark = time.perf_counter()
        with (
            stop_requests(enabled=self.group.size == 1) as stop,
            closing(feed.batches(first, config.updates)) as batches,
        ):
            # Checked before a batch is fetched, so that a run taken up after an early stop ends at once.
            while progress.update < config.updates and not self._stopped_early():
                trained = self._update(next(batches), progress.update)
                progress.update += 1
                busy += time.perf_counter() - mark
                seen = progress.update * config.batch_size
                self.recorder.add(trained)
                if self.report is not None:
                    self.report(seen, trained)
                validated = {}
                if self.validation is not None and self._due(config.validate_every):
                    validated = self._validate()
                figures |= {**trained, **validated}
                save = self._due(config.checkpoint_every) or self._stopped_early() or stop.is_set()
                if save or validated or self._due(config.slices_seen // RECORDS):
                    self.recorder.row(progress.update, seen, self._rate(progress.update - 1), validated)
                if save:
                    progress.seconds = earlier + time.perf_counter() - begun
                    self._save()
                if stop.is_set() and progress.update < config.updates:
                    raise KeyboardInterrupt(f"stopped after {seen} slices")
                mark = time.perf_counter()
        progress.seconds = earlier + time.perf_counter() - begun
        self.recorder.close()
        if self.best:
            self.learner.model.load_state_dict(self.best)
        self.learner.eval()
        return Outcome(
            updates=progress.update,
            best_loss=progress.best_loss,
            best_update=progress.best_update if self.best else progress.update,
            seconds=progress.seconds,
            slices_per_second=(progress.update - first) * config.batch_size / busy if busy else 0.0,
            data_wait=feed.waited / busy if busy else 0.0,
            figures=figures,
        )

    def _due(self, every: int) -> bool:
        """Whether something done every so many slices is due after this update; it always is after the last."""
        update = self.progress.update
        if update == self.config.updates:
            return True
        return every > 0 and update % max(1, every // self.config.batch_size) == 0

    def _stopped_early(self) -> bool:
        return self.config.patience > 0 and self.progress.stale >= self.config.patience

    def _rate(self, update: int) -> float:
        """Learning rate of an update."""
        config = self.config
        done = (update + 1) / config.updates
        rise = min(1.0, done / config.warmup) if config.warmup > 0 else 1.0
        fall = 0.5 * (1.0 + math.cos(math.pi * update / config.updates)) if config.schedule == "cosine" else 1.0
        return config.learning_rate * rise * fall

    def _save(self) -> None:
        if self.directory is not None:
            save_checkpoint(self.directory / CHECKPOINT, self.learner, self.optimizers, self.progress, self.best)
        self.group.barrier()

    def _update(self, batch: Batch, update: int) -> dict[str, float]:
        """One update of every part of the learner; figures are means over the whole batch."""
        config = self.config
        draws = Draws(config.seed, "augmentation", update, config.batch_size, self.group)
        slices, labels = augment(batch.slices, batch.labels, config.augmentation, draws.uniform, draws.normal)
        if config.channels_last:
            slices = slices.contiguous(memory_format=torch.channels_last)
        draws = Draws(config.seed, "latent", update, config.batch_size, self.group)
        rate = self._rate(update)

        def minimise(part: str, loss: Tensor) -> None:
            if not math.isfinite(self.group.sum({"loss": float(loss.detach())})["loss"]):
                raise FloatingPointError(
                    f"the loss of '{part}' is {float(loss.detach())} after {update * config.batch_size} slices; lower"
                    f" the learning rate (now {config.learning_rate:g}) or look for outliers in the slices"
                )
            parameters = list(self.learner.parts()[part].parameters())
            optimizer = self.optimizers[part]
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            loss.backward(inputs=parameters)
            self.group.average_gradients(parameters)
            if config.gradient_clip > 0:
                nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
            optimizer.step()

        self.learner.train()
        done = (update + 1) / config.updates
        warmup = min(1.0, done / config.warmup) if config.warmup > 0 else 1.0
        context = UpdateContext(update, warmup, draws.normal, draws.uniform, minimise)
        with self.autocast:
            figures = self.learner.update(Batch(slices, labels), context)
        total = self.group.sum({key: float(value) for key, value in figures.items()})
        return {key: value / self.group.size for key, value in total.items()}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Mean figures over the validation slices; keeps the weights if they are the best so far."""
        assert self.validation is not None
        self.learner.eval()
        totals: dict[str, float] = {}
        rows = torch.arange(len(self.validation))[self.group.share(len(self.validation))]
        for part in rows.split(VALIDATION_BATCH):
            slices, labels = (tensor.to(self.group.device) for tensor in self.validation.batch(part))
            for key, value in self.learner.validate(Batch(slices, labels)).items():
                totals[key] = totals.get(key, 0.0) + float(value.double().sum())
        figures = {f"validation_{key}": value / len(self.validation) for key, value in self.group.sum(totals).items()}
        loss, progress = figures["validation_loss"], self.progress
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the validation loss is {loss} after {progress.update} updates; lower the learning rate (now"
                f" {self.config.learning_rate:g}) or look for outliers in the slices"
            )
        if self.learner.keep == "last" or progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_update, progress.stale = loss, progress.update, 0
            state = self.learner.model.state_dict()
            self.best = {key: value.detach().cpu().clone() for key, value in state.items()}
        else:
            progress.stale += 1
        self._draw()
        return figures

    def _draw(self) -> None:
        """Draw a picture of held-out slices, their reconstructions, and slices drawn from the model."""
        if self.directory is None or self.validation is None:
            return
        learner, device = self.learner, self.group.device
        count = len(self.validation)
        slices = self.validation.batch(torch.linspace(0, count - 1, min(SHOWN, count)).long())[0].to(device)
        draws = Draws(self.config.seed, "pictures", 0, SHOWN, ProcessGroup(device))
        rows = {"held out": slices, "reconstructed": learner.reconstruct(slices), "drawn": learner.sample(draws.normal)}
        seen = self.progress.update * self.config.batch_size
        self.recorder.picture(seen, {name: row for name, row in rows.items() if row is not None})


def _bfloat16(config: TrainingConfig, device: torch.device) -> bool:
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bfloat16"
