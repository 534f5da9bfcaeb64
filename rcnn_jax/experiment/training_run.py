"""A training run, built and checked in full before anything is written."""

import bisect
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rcnn_jax.data import assets as assets_lib
from rcnn_jax.data import feature_json, pipeline, samplers, sources
from rcnn_jax.data.records.damage import Damage
from rcnn_jax.data.samplers import Sampler
from rcnn_jax.data.sources import Source
from rcnn_jax.data.spec import Feature
from rcnn_jax.errors import UsageError, nearest
from rcnn_jax.experiment import rehearsal, release_notes, starting_weights
from rcnn_jax.experiment.data import (
    Reader,
    check_encoder,
    encoded,
    evaluation_batches,
    make_encoder,
    make_sampler,
    open_split,
    resident,
    stages,
    training_batches,
)
from rcnn_jax.experiment.task import Recipe, build_metrics, build_task, configure_jax, make_recipe
from rcnn_jax.training import accumulation, evaluation, initial, protocol, ranking, state, writers
from rcnn_jax.training import step as step_lib
from rcnn_jax.training.checkpoints import reading
from rcnn_jax.training.interface import Config, LossOutput, Metric, Task
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.parallel.fsdp_rules import Rules
from rcnn_jax.training.parallel.mesh import FSDP_AXIS, Devices, make_devices
from rcnn_jax.training.parallel.signals import StopRequest
from rcnn_jax.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """Components of a training run, built and checked before anything is written.

    Attributes:
        config: Complete config.
        devices: Devices that the run uses.
        source: Training split, encoded.
        evaluated_split: Validation split, encoded; None if the config names none.
        validation: Validation split, placed according to `config.data.residency`; None if the
            config names none.
        sampler: Order of the training examples.
        steps: Number of training steps of the whole run.
        evaluate_every: Number of training steps between evaluations.
        assets: Arrays fitted on the training split, by name.
        recipe: Components from which the state is created and advanced, with the task of the last
            stage.
        stages: Pairs (last step of the stage, task) in order.
        weights: Arrays by path that replace initial weights.
        damage: Counter of records that this process could not read.
        metrics: Metrics that the config adds to those of the task, by name.
        fresh: List of at most one initial state, which was created for the checks before the start.
        stored: Features as the data set stores them, before an encoder, by name.
    """

    config: Config
    devices: Devices
    source: Source
    evaluated_split: Source | None
    validation: Source | pipeline.DeviceSource | None
    sampler: Sampler
    steps: int
    evaluate_every: int
    assets: dict[str, np.ndarray]
    recipe: Recipe
    stages: tuple[tuple[int, Task], ...]
    weights: dict[str, np.ndarray]
    damage: Damage
    metrics: dict[str, Metric]
    fresh: list[state.TrainState]
    stored: Mapping[str, Feature]

    def data_facts(self) -> dict[str, Any]:
        """Describes the training data.

        A continued run must find the same data (see `Workdir.adopt`), and `rcnn_jax.load` needs the
        description to load the run without them.

        Returns:
            Number of examples, shapes and features, representable as JSON, by name.
        """
        first = self.source[0]
        names = [name for name in self.recipe.task.reads if name in first]
        shapes = {name: list(np.shape(first[name])) for name in names}
        batch = {
            name: {"shape": list(leaf.shape[1:]), "dtype": leaf.dtype.name}
            for name, leaf in self.recipe.batch.items()
        }
        version = release_notes.version(self.config)
        return {
            **({} if version is None else {"version": version}),
            "examples": len(self.source),
            "shapes": shapes,
            "features": feature_json.to_json(self.stored),
            "read": feature_json.to_json(self.source.features),
            "batch": batch,
        }

    def save_assets(self, workdir: Workdir) -> None:
        """Writes the arrays fitted on the training split, unless an earlier start has written them.

        Args:
            workdir: Workdir of the run.
        """
        if distributed.is_first() and not assets_lib.exist(workdir.assets):
            assets_lib.save(workdir.assets, self.assets)

    def initial_state(self) -> state.TrainState:
        """Creates the state before the first step, with `weights` in place of initial ones."""
        fresh = self.fresh.pop() if self.fresh else self.recipe.create_state(self.devices)
        return initial.replace(fresh, self.weights, self.devices) if self.weights else fresh

    def train_step(self, step: int) -> step_lib.StepFunction:
        """Returns the function that takes a training step, which is compiled at its first call.

        Args:
            step: Number of the step, counted from 1.
        """
        return self._train_steps[self._stage(step)]

    def _stage(self, step: int) -> int:
        return bisect.bisect_left([end for end, _ in self.stages], step)

    def loss_of(self, step: int) -> Callable[..., LossOutput]:
        """Returns the loss of the task for a training step; see `Task.loss`.

        Args:
            step: Number of the step, counted from 1.
        """
        loss = self.stages[self._stage(step)][1].loss
        return step_lib.over_real_rows(loss) if self._padded else loss

    @property
    def _padded(self) -> bool:
        """Whether a training batch may have rows of padding."""
        return self.config.data.damaged == "skip" or samplers.pads(self.sampler)

    @functools.cached_property
    def _train_steps(self) -> list[step_lib.StepFunction]:
        return [self._compile(task) for _, task in self.stages]

    def _compile(self, task: Task) -> step_lib.StepFunction:
        make = functools.partial(
            step_lib.make_train_step,
            task,
            self.recipe.optimizer,
            self.recipe.schedule,
            self.recipe.plateau,
            ema_decay=self.config.ema_decay,
            accumulate=self.config.accumulate,
            devices=self.devices.count,
            padded=self._padded,
        )
        return step_lib.compile_train_step(make, self.devices)

    @functools.cached_property
    def evaluation_step(self) -> Any:
        """Evaluation of one batch, which is compiled at its first call."""
        task = self.recipe.task
        return step_lib.EvaluationStep(
            task, self.devices, predictions=task.evaluates_on_host, metrics=self.metrics
        )

    def batches(self, start: int) -> pipeline.Batches:
        """Returns training batches, which are placed on the devices ahead of time.

        Args:
            start: Number of steps that have been taken before the first batch.
        """
        return training_batches(
            self.config, self.devices, self.source, self.sampler, start, self.steps - start
        )

    def with_rate_scale(self, current: state.TrainState, scale: float) -> state.TrainState:
        """Returns a state with another factor of the learning rate, after a divergence.

        Args:
            current: Training state.
            scale: New factor.
        """
        return current.replace(rate_scale=self.devices.replicate(np.float32(scale)))

    def evaluates(self, step: int) -> bool:
        """Returns whether the state after a training step is evaluated.

        Args:
            step: Number of the step, counted from 1.
        """
        due = step == self.steps or step % self.evaluate_every == 0
        return step > 0 and due and self.validation is not None

    def evaluate(
        self, current: state.TrainState, stop: StopRequest | None = None
    ) -> evaluation.Result:
        """Evaluates the validation split.

        Args:
            current: Training state.
            stop: Request that may end the evaluation early. None means that it always completes.

        Returns:
            The result, with the value of each metric by name as `metrics`.

        Raises:
            StopDuringEvaluation: The run has been asked to stop.
        """
        assert self.validation is not None
        with evaluation_batches(self.config, self.validation, self.devices) as batches:
            return evaluation.evaluate(
                self.recipe.task,
                self.evaluation_step,
                current.evaluated(),
                batches,
                self.metrics,
                stop,
            )

    def after_evaluation(
        self, current: state.TrainState, metrics: Mapping[str, float]
    ) -> state.TrainState:
        """Adjusts the learning rate to the result of an evaluation.

        Args:
            current: Training state that was evaluated.
            metrics: Value of each metric by name.

        Returns:
            The state with the new state of the plateau rule.

        Raises:
            UsageError: The metrics lack the one that ranks checkpoints.
        """
        name = self.config.best_metric
        if name not in metrics:
            raise UsageError(
                f"config.best_metric={name!r} is not measured by {self.config.task.name}: "
                f"{nearest(name, metrics)}."
            )
        moved = self.recipe.plateau.update(current.plateau, metrics[name])
        return current.replace(plateau=self.devices.replicate(moved))

    def continued(self, restored: reading.Restored) -> state.TrainState:
        """Returns the state with which training continues from a checkpoint.

        The checkpoint was saved before its evaluation; if its metrics are known, the learning rate
        is adjusted to them here.

        Args:
            restored: Restored checkpoint.
        """
        if restored.answered or not restored.metrics:
            return restored.state
        return self.after_evaluation(restored.state, restored.metrics)

    def summary(self, path: pathlib.Path) -> str:
        """Describes the run in one line, for its user.

        Args:
            path: Path of the workdir.
        """
        devices, processes = self.devices, distributed.count()
        together = f" in {processes} processes" if processes > 1 else ""
        return (
            f"training {self.config.model.name} on {self.config.data.name} "
            f"({len(self.source):,} examples), {self.steps} steps of {self.config.batch_size}, "
            f"by {devices.parallelism} on {devices.count} x {devices.kind}{together}; "
            f"workdir {path}"
        )


def prepare_training(config: Config, workdir: Workdir, data_dir: str | None) -> TrainingRun:
    """Builds all components of a training run that a config names.

    Args:
        config: Complete config.
        workdir: Workdir of the run. It is only read: an earlier start may have left fitted assets
            there.
        data_dir: Folder of original data sets. None selects the default; see `rcnn_jax.data.roots`.

    Returns:
        The run.

    Raises:
        UserError: A component is missing or does not fit the others.
    """
    if config.init_into and not config.init_from:
        raise UsageError(
            f"config.init_into={config.init_into!r} names a part of the model, but "
            "config.init_from, the weights that are to go there, is empty: name their file, or "
            "set --config.init_into= to start from random ones."
        )
    for name in config.writers:
        writers.find(name)
    configure_jax(config)
    rules = Rules(config.fsdp.rules, config.fsdp.min_size)
    devices = make_devices(config.mesh.to_dict(), config.parallelism, rules=rules)
    if config.data.residency == "device" and devices.platform == "tpu" and distributed.count() > 1:
        # The programs that select rows are dispatched by another thread than the steps, and the
        # processes of a pod must dispatch all programs in the same order.
        raise UsageError(
            "config.data.residency='device' is for one process on TPUs; use 'memory' or 'stream'."
        )
    devices.check_batch_size(config.batch_size)
    accumulation.check_batch_size(config.batch_size, config.accumulate, devices.count)
    damage = Damage(config.data.damaged)
    check_encoder(config, make_encoder(config))
    source, validation = open_split(config, "train", data_dir, damage), None
    others = []
    if assets_lib.exist(workdir.assets):
        reader = Reader.load(config, workdir.assets)
    else:
        reader = Reader.fit(config, source)
    if config.data.validation:
        others = [open_split(config, "validation", data_dir, damage)]
    assets, encoding = reader.assets, reader.bind(others)
    stored, source = source.features, encoded(config, encoding, source)
    others = [encoded(config, encoding, split) for split in others]
    for split in others:
        sources.check_stacking(split, np.arange(min(len(split), config.evaluation_batch_size)))
        validation = resident(config, split, devices)
    sampler = make_sampler(config, source)
    sources.check_stacking(source, sampler.indices(0))
    steps = config.steps or max(1, math.ceil(config.epochs * sampler.steps_per_epoch))
    tasks = tuple(
        (round(end * steps), build_task(staged_config, assets, encoding, source.features))
        for end, staged_config in stages(config)
    )
    task = tasks[-1][1]
    task.check(source.features)
    protocol.check_protocol(task)
    recipe = make_recipe(config, task, source, steps)
    metrics = build_metrics(config)
    for _, staged in tasks:
        rehearsal.check_training_pass(config, dataclasses.replace(recipe, task=staged))
    rehearsal.check_answers(config, recipe, source.features)
    if others:
        rehearsal.check_evaluation_pass(config, recipe, metrics)
    rules.check(recipe.abstract_state(devices).params, devices.mesh.shape[FSDP_AXIS])
    weights, fresh = {}, []
    begun = distributed.first(lambda: bool(reading.steps(workdir.checkpoints)))
    if begun:
        release_notes.warn(config, workdir)
    if config.data.validation and not begun:
        ranking.check_best_mode(config.best_metric, config.best_mode)
    if config.init_from and not begun:
        weights = starting_weights.read(config, recipe.abstract_state(devices))
    if config.init_fit.name and not begun:
        fresh = [recipe.create_state(devices)]
        weights |= starting_weights.fit(config, fresh[0], source, assets, devices)
    run = TrainingRun(
        config=config,
        devices=devices,
        source=source,
        evaluated_split=others[0] if others else None,
        validation=validation,
        sampler=sampler,
        steps=steps,
        evaluate_every=config.evaluate_every or max(1, round(sampler.steps_per_epoch)),
        assets=assets,
        recipe=recipe,
        stages=tasks,
        weights=weights,
        damage=damage,
        metrics=metrics,
        fresh=fresh,
        stored=stored,
    )
    if not begun:
        _rehearse(run)
    return run


def _rehearse(run: TrainingRun) -> None:
    """Tries on a few examples, before a run begins for the first time, what only values can show.

    Raises:
        UserError: The run would fail later, or minimise another loss than on one device.
    """
    config, recipe, devices = run.config, run.recipe, run.devices
    note = rehearsal.coupled_rows(config, recipe, devices, run.source, run.sampler)
    if note:
        distributed.say(f"note: {note}")
    if recipe.task.evaluates_on_host and run.evaluated_split is not None:
        if not run.fresh:
            run.fresh.append(recipe.create_state(devices))
        rehearsal.rehearse_evaluation(
            config,
            recipe.task,
            run.evaluation_step,
            run.fresh[0].evaluated(),
            run.evaluated_split,
            devices,
            run.metrics,
        )
