"""Trains on one device within a given time, and measures the time of training alone.

The number of epochs is that of the recipe, or as many as time allows: the duration of a dispatch
and of an evaluation is measured first, because the learning rate must have fallen to 0 at the end.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import checkout
import gpu_data
import gpu_net
import gpu_recipe
import jax
import numpy as np

_RESERVE = 0.07  # share of the time left that is not planned with


@dataclasses.dataclass(frozen=True)
class Trainer:
    """A compiled network and the duration of a dispatch and of an evaluation.

    Attributes:
        net: Network to train.
        evaluation: Evaluation of the network.
        dispatch: Compiled training from `Net.compile`.
        dispatch_s: Duration of a dispatch in seconds.
        evaluation_s: Duration of an evaluation in seconds.
        facts: Durations of the preparation for the results, in seconds.
    """

    net: gpu_net.Net
    evaluation: gpu_net.Evaluation
    dispatch: Callable[..., Any]
    dispatch_s: float
    evaluation_s: float
    facts: Mapping[str, float]


def get_ready(recipe: gpu_recipe.Recipe, data: gpu_data.Data) -> Trainer:
    """Compiles a network and measures two dispatches and two evaluations of a discarded state.

    Args:
        recipe: Recipe of the training.
        data: Images to train and evaluate on.

    Returns:
        The trainer.
    """
    began = time.perf_counter()
    net = gpu_net.make(recipe, data.train)
    prepared_s = time.perf_counter() - began
    dispatch, compile_s = net.compile()
    evaluation = gpu_net.Evaluation(net, data.test)
    warm_up_began = time.perf_counter()
    now = net.initial(0)
    picks = net.picks(0, 0, net.rates(recipe.steps_per_dispatch))
    seconds, evaluated = 0.0, 0.0
    for _ in range(2):  # the first of each is slower
        began = time.perf_counter()
        now, _ = jax.block_until_ready(dispatch(now, net.train, picks))
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        evaluation(*now.evaluated())
        evaluated = time.perf_counter() - began
    facts = {
        "prepare_s": prepared_s,
        "compile_s": compile_s,
        "compile_evaluation_s": evaluation.compile_s,
        "warm_up_s": time.perf_counter() - warm_up_began,
        "evaluation_s": evaluated,
    }
    return Trainer(net, evaluation, dispatch, seconds, evaluated, facts)


def plan(trainer: Trainer, left: float) -> int:
    """Returns the number of dispatches: that of the recipe, or as many as time allows.

    Args:
        trainer: Compiled network.
        left: Time for training and evaluating in seconds.

    Returns:
        The number of dispatches, at least 1.
    """
    recipe = trainer.net.recipe
    each = recipe.batch_size * recipe.steps_per_dispatch
    wanted = math.ceil(recipe.epochs * len(trainer.net.train["label"]) / each)
    free = left * (1 - _RESERVE) - recipe.evaluations * trainer.evaluation_s
    return max(min(wanted, int(free / trainer.dispatch_s)), 1)


def looks(dispatches: int, evaluations: int) -> set[int]:
    """Returns the numbers of dispatches after which the network is evaluated.

    Args:
        dispatches: Number of dispatches of the training.
        evaluations: Number of evaluations.

    Returns:
        The numbers, which become denser towards the end and include the last dispatch.
    """
    shares = [1 - (1 - i / evaluations) ** 2 for i in range(1, evaluations + 1)]
    return {math.ceil(dispatches * share) for share in shares}


def train(
    trainer: Trainer, seed: int, until: float, keep: Callable[[dict[str, Any]], None]
) -> tuple[dict[str, Any], Any]:
    """Trains a network once.

    Args:
        trainer: Compiled network.
        seed: Seed of weights, order of images, augmentation and dropout.
        until: Time at which the training must end, by `time.monotonic()`.
        keep: Callback that gets the results so far after each evaluation.

    Returns:
        The results and the final training state.
    """
    net, recipe = trainer.net, trainer.net.recipe
    images = len(net.train["label"])
    dispatches = plan(trainer, until - time.monotonic())
    rates = net.rates(dispatches * recipe.steps_per_dispatch)
    points = looks(dispatches, recipe.evaluations)
    run: dict[str, Any] = {
        "seed": seed,
        "finished": False,
        "stopped": None,
        "steps_planned": len(rates),
        "curve": [],
    }
    now = jax.block_until_ready(net.initial(seed))
    seconds, sums = 0.0, []
    began = time.perf_counter()
    picks = net.picks(seed, 0, rates)
    for done in range(1, dispatches + 1):
        now, step_sums = trainer.dispatch(now, net.train, picks)
        if done < dispatches:
            picks = net.picks(seed, done, rates)  # while the device works
        sums.append(jax.device_get({name: step_sums[name] for name in ("loss", "error")}))
        seconds += time.perf_counter() - began
        late = time.monotonic() + trainer.dispatch_s + trainer.evaluation_s > until
        diverged = not np.isfinite(sums[-1]["loss"][0]).all()
        if done in points or late or diverged:
            steps = done * recipe.steps_per_dispatch
            point = {
                "step": steps,
                "epoch": steps * recipe.batch_size / images,
                "seconds": seconds,
                "learning_rate": float(rates[steps - 1]),
                **{f"training_{name}": _mean(sums, name) for name in ("error", "loss")},
                **trainer.evaluation(*now.evaluated()),
            }
            sums = []
            run["curve"].append(point)
            run |= _summary(run["curve"], net)
            if diverged:
                run["stopped"] = f"the loss was no finite number within step {steps}"
            elif late and done < dispatches:
                run["stopped"] = f"no time was left after {steps} of {len(rates)} steps"
            run["finished"] = diverged or done == dispatches
            keep(run)
            if run["finished"] or run["stopped"]:
                break
        began = time.perf_counter()
    return run, now


def _mean(sums: list[dict[str, Any]], name: str) -> float:
    total = math.fsum(float(s[name][0].sum()) for s in sums)
    return total / math.fsum(float(s[name][1].sum()) for s in sums)


def _summary(curve: list[dict[str, Any]], net: gpu_net.Net) -> dict[str, Any]:
    recipe, last = net.recipe, curve[-1]
    reached = [point["seconds"] for point in curve if point["error"] <= recipe.published]
    gflop = checkout.benchmark("rcnn_inputs").training_gflop(
        last["step"] * recipe.batch_size, net.input_size(), recipe.features, recipe.steps
    )
    return {
        "steps": last["step"],
        "epochs": last["epoch"],
        "seconds": last["seconds"],
        "error": last["error"],
        "seconds_to_published": reached[0] if reached else None,
        "images_per_s": last["step"] * recipe.batch_size / last["seconds"],
        "tflop_per_s": gflop / last["seconds"] / 1e3,
    }
