"""The compiled programs of a training on one device: many steps at once, and a whole evaluation.

All images lie on the device as bytes. Selecting, augmenting and training happen inside one program,
to which the host passes only the indices of the images and the learning rates.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gpu_recipe import Recipe

from rcnn_jax.configuration.schema import DEFAULTS
from rcnn_jax.data.samplers import PADDING, Sequential, ShuffledWithEpochs
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.transforms import chain
from rcnn_jax.experiment.task import PRECISIONS
from rcnn_jax.layers.whitening import WhitenedKernel
from rcnn_jax.models.rcnn import RCNN
from rcnn_jax.tasks.classification import Classification
from rcnn_jax.training import evaluation, optimizer, parameters, schedules, state
from rcnn_jax.training import step as step_lib

Columns = Mapping[str, Any]
_FIRST_KERNEL = "conv/kernel"


@dataclasses.dataclass(frozen=True, eq=False)
class Net:
    """A recipe with everything that is fitted to and placed on the device for it.

    Attributes:
        recipe: Recipe of the training.
        train: Training images `image` `uint8[images, 32, 32, 3]` and labels `label`
            `int32[images]`, on the device.
        task: Task of the training, a `Classification`.
        rule: Optimiser without its learning rate.
        first_kernel: Initial kernel of the first layer; None if it is random.
    """

    recipe: Recipe
    train: Columns
    task: Any
    rule: Any
    first_kernel: np.ndarray | None

    def initial(self, seed: int) -> state.TrainState:
        """Returns the training state before the first step.

        Args:
            seed: Seed of the weights.
        """
        now = self._creation(seed)
        if self.first_kernel is None:
            return now
        kernel = jnp.array(self.first_kernel)

        def replaced(params: Any) -> Any:
            return parameters.map_paths(
                lambda path, x: kernel if path == _FIRST_KERNEL else x, params
            )

        params, ema = replaced(now.params), now.ema
        if ema is not None:
            # A copy, because a dispatch donates its input, and an array can be donated only once.
            ema = ema | {"params": jax.tree.map(jnp.copy, params)}
        return now.replace(params=params, ema=ema)

    @functools.cached_property
    def _creation(self) -> Callable[[Any], state.TrainState]:
        return jax.jit(self._create)

    def _create(self, seed: Any) -> state.TrainState:
        ema = self.recipe.ema_decay > 0
        return state.create(self.task, self.rule, _PLATEAU, self._batch(), seed=seed, ema=ema)

    def _batch(self) -> dict[str, jax.Array]:
        """Returns a batch of zeros, with the shapes of all batches."""
        rows = self.recipe.batch_size
        batch = {k: jnp.zeros((rows, *v.shape[1:]), v.dtype) for k, v in self.train.items()}
        added = {k: jnp.zeros(rows, kind) for k, kind in ShuffledWithEpochs.columns.items()}
        return batch | added | {"mask": jnp.ones(rows)}

    def input_size(self) -> int:
        """Returns the height of the images that the network gets in training, in pixels."""
        keys = jax.random.split(jax.random.key(0), self.recipe.batch_size)
        seen = jax.eval_shape(self.task.train_transform, self._batch(), keys)
        return seen["image"].shape[1]

    def rates(self, steps: int) -> np.ndarray:
        """Returns the learning rate of each step.

        Args:
            steps: Number of steps of the training.

        Returns:
            Learning rates `float32[steps]`.
        """
        course = {
            "name": "triangular",
            "value": self.recipe.learning_rate,
            "warmup_fraction": self.recipe.warmup_fraction,
        }
        schedule = schedules.build(SimpleNamespace(**DEFAULTS["schedule"] | course), steps)
        return np.asarray(jax.jit(jax.vmap(schedule))(np.arange(steps)), np.float32)

    def picks(self, seed: int, dispatch: int, rates: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the inputs of a dispatch: which images its steps use, and their learning rates.

        Args:
            seed: Seed of the order of images.
            dispatch: Number of the dispatch.
            rates: Learning rates of all steps of the training.

        Returns:
            `index` and `epoch` `int32[steps_per_dispatch, batch]`, and `rate`
            `float32[steps_per_dispatch]`.
        """
        recipe = self.recipe
        sampler = ShuffledWithEpochs(len(self.train["label"]), recipe.batch_size, seed)
        first = dispatch * recipe.steps_per_dispatch
        values = [sampler.column_values(first + i) for i in range(recipe.steps_per_dispatch)]
        columns = {k: np.stack([f[k] for f in values]).astype(np.int32) for k in sampler.columns}
        return columns | {"rate": rates[first : first + recipe.steps_per_dispatch]}

    def compile(self) -> tuple[Callable[..., Any], float]:
        """Compiles the training.

        Returns:
            A function (state, images, picks) -> (state, sums of every step), which donates the
            state; and the compile time in seconds.
        """
        step = step_lib.make_train_step(
            self.task,
            self.rule,
            # The learning rate is an input of each step, so that the schedule can be chosen later.
            lambda _: 1.0,
            _PLATEAU,
            ema_decay=self.recipe.ema_decay,
        )

        def dispatch(now: state.TrainState, images: Columns, picks: Columns) -> Any:
            def one(now: state.TrainState, picked: Columns) -> Any:
                batch = {name: column[picked["index"]] for name, column in images.items()}
                batch |= {"index": picked["index"], "epoch": picked["epoch"]}
                batch |= {"mask": jnp.ones(self.recipe.batch_size)}
                return step(now.replace(rate_scale=picked["rate"]), batch)

            return jax.lax.scan(one, now, picks)

        picks = self.picks(seed=0, dispatch=0, rates=self.rates(self.recipe.steps_per_dispatch))
        now = jax.eval_shape(self._create, 0)
        return _compiled(jax.jit(dispatch, donate_argnums=0), now, self.train, picks)


_PLATEAU = schedules.Plateau(SimpleNamespace(**DEFAULTS["schedule"]), "min")


def _compiled(program: Any, *arguments: Any) -> tuple[Callable[..., Any], float]:
    began = time.perf_counter()
    done = program.lower(*arguments).compile()
    return done, time.perf_counter() - began


def _chain(*texts: str) -> str:
    return "|".join(filter(None, texts))


def make(recipe: Recipe, train: Mapping[str, np.ndarray]) -> Net:
    """Fits the preprocessing to the training images and places these on the device.

    Args:
        recipe: Recipe of the training.
        train: Training images `image` `uint8[images, 32, 32, 3]` and labels `label`
            `int32[images]`, on the host.

    Returns:
        The network.
    """
    source = ArraySource(dict(train))
    chains = [_chain(recipe.preprocess, text) for text in (recipe.augment, recipe.evaluate)]
    assets = chain.fit_all(chains, source)
    dtype, param_dtype = PRECISIONS[recipe.precision]
    task = Classification(
        model=RCNN(
            classes=10, features=recipe.features, steps=recipe.steps, norm="batch",
            dropout=recipe.dropout, dtype=dtype, param_dtype=param_dtype,
        ),
        train_transform=chain.build(chains[0], assets),
        evaluation_transform=chain.build(chains[1], assets),
        label_smoothing=recipe.label_smoothing,
    )  # fmt: skip
    section = {"nesterov": True, "weight_decay": recipe.weight_decay}
    # This optimiser depends neither on the shapes of parameters nor on the number of steps.
    rule = optimizer.build(SimpleNamespace(**DEFAULTS["optimizer"] | section), {}, steps=1)
    net = Net(recipe, jax.device_put(dict(train)), task, rule, None)
    if not recipe.whitening:
        return net
    fitter = WhitenedKernel(_FIRST_KERNEL, epsilon=recipe.whitening)
    blocks = chain.blocks(source, chain.build(recipe.preprocess, assets))
    kernel = np.asarray(parameters.flatten(net.initial(0).params)[_FIRST_KERNEL])
    return dataclasses.replace(net, first_kernel=fitter.fit(blocks, kernel))


class Evaluation:
    """Computes error and loss over all evaluated images with one program.

    Attributes:
        compile_s: Compile time in seconds.
    """

    def __init__(self, net: Net, images: Mapping[str, np.ndarray]):
        """Compiles the program.

        Args:
            net: Network to evaluate.
            images: Evaluated images `image` and labels `label`, on the host.
        """
        sampler = Sequential(len(images["label"]), net.recipe.evaluation_batch_size)
        rows = np.stack([sampler.indices(i) for i in range(sampler.num_batches)])
        real = rows != PADDING
        batches = {
            "index": np.where(real, rows, 0).astype(np.int32),
            "mask": real.astype(np.float32),
        }

        def whole(params: Any, model_state: Any, images: Columns, batches: Columns) -> Any:
            def one(batch: Columns) -> Any:
                drawn = {name: column[batch["index"]] for name, column in images.items()}
                return net.task.metrics(params, model_state, drawn | {"mask": batch["mask"]})

            return jax.lax.map(one, batches)

        self._given = jax.device_put((dict(images), batches))
        params, model_state = jax.eval_shape(net.initial, 0).evaluated()
        self._run, self.compile_s = _compiled(jax.jit(whole), params, model_state, *self._given)

    def __call__(self, params: Any, model_state: Any) -> dict[str, float]:
        """Evaluates the network.

        Args:
            params: Pytree of parameters.
            model_state: Pytree of batch statistics.

        Returns:
            The metrics `error` and `loss`.
        """
        sums = jax.device_get(self._run(params, model_state, *self._given))
        return evaluation.means({k: list(zip(*v, strict=True)) for k, v in sums.items()})
