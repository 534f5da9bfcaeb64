"""Passes pictures through a backbone in parts, so that a kill costs one part."""

import concurrent.futures
import functools
import hashlib
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.errors import UsageError, UserError, about_file

# Approximate number of pictures of a part, which is what a kill can cost.
_PART = 128


_READERS = 4


def extract(
    name: str,
    weights: str | None,
    pictures: Sequence[Any],
    output: pathlib.Path,
    *,
    batch_size: int = 16,
    skip: bool = False,
    overwrite: bool = False,
    weights_from: str | None = None,
    left_out: Sequence[str] = (),
) -> list[str]:
    """Computes the features of pictures and writes them to a file.

    Args:
        name: Name of the backbone.
        weights: File of the backbone's weights, or "random" for untrained weights; None is an
            error.
        pictures: Pictures from `rcnn_jax.features.picture_lists.listed`.
        output: File for the features, `.npz` or `.mat`.
        batch_size: Number of pictures at a time; it changes results only by rounding.
        skip: Whether pictures that cannot be read are left out; otherwise they are an error.
        overwrite: Whether earlier results are discarded.
        weights_from: Who trained the weights, such as "caffe" or "torchvision"; needed only where
            the file does not tell.
        left_out: Sentences about files of the user's that are not among the pictures, which are
            kept with the results.

    Returns:
        A sentence for each of the pictures that could not be read.

    Raises:
        UserError: The backbone is unknown, the weights do not fit or are those of another maker
            than the backbone's, the output cannot have the requested form, or it holds something
            else.
        OSError, ValueError: A picture cannot be read.
    """
    from rcnn_jax.data.files import image_vectors, photographs
    from rcnn_jax.features import picture_lists
    from rcnn_jax.features.parts import Parts, digest
    from rcnn_jax.interop import backbones

    backbone = backbones.find(name)
    _check_output(output, pictures, skip)
    if not weights:
        raise UsageError(
            f"--weights=FILE is missing: {name} expects {backbone.weights}; --weights=random tries "
            "it out with weights that know nothing."
        )
    model = backbone.without_last_layer()
    variables = _variables(backbone, model, weights, name, weights_from)
    about: dict[str, Any] = {
        "backbone": name,
        "layer": backbone.layer,
        "weights": "random" if weights == "random" else pathlib.Path(weights).name,
        "weights_sha256": _checksum(weights),
        "size": backbone.size,
        "shorter": backbone.shorter,
        "filter": backbone.filter,
        "preprocess": backbone.preprocess,
    }
    job = {key: value for key, value in about.items() if key != "weights"} | {
        "batch_size": batch_size,
        "pictures": digest([picture.name for picture in pictures]),
    }
    result = digest([job, picture_lists.fingerprint(pictures)])
    if output.exists() and not overwrite:
        return _present(output, result)
    parts, each = Parts(output, job, anew=overwrite), -(-_PART // batch_size) * batch_size
    numbers = range(-(-len(pictures) // each))
    run = _compiled(backbone, model, variables)
    fit = photographs.Fit(backbone.size, backbone.shorter, backbone.filter)
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        make = functools.partial(_part, pool, run, fit, batch_size, skip)
        places, damaged = _compute(parts, numbers, pictures, make, each, skip)
    if not places:
        raise UserError(f"none of {len(pictures)} pictures could be read: {damaged[0]}.")
    image_vectors.write(
        output,
        parts.values(numbers),
        (len(places), backbone.features),
        [pictures[place].name for place in places],
        about | {"damaged": damaged, "left_out": list(left_out), "job": result},
    )
    parts.remove()
    print(f"{output}: features {len(places)} x {backbone.features}", flush=True)
    return damaged


def _check_output(output: pathlib.Path, pictures: Sequence[Any], skip: bool) -> None:
    from rcnn_jax.data.files.image_vectors import SUFFIXES

    if output.suffix not in SUFFIXES:
        raise UsageError(f"--output={output}: features are written to .npz or .mat files.")
    if not output.parent.is_dir():
        raise UsageError(f"--output={output}: there is no folder {output.parent}.")
    if output.suffix != ".mat":
        return
    if skip:
        raise UsageError(
            f"--output={output}: a .mat file has a column for each imgid and can leave none out: "
            "write .npz with --damaged=skip."
        )
    numbers = [picture.number for picture in pictures]
    if any(number is not None for number in numbers) and numbers != list(range(len(numbers))):
        raise UsageError(
            f"--output={output}: the column of a .mat file is the imgid, and those of the list do "
            f"not count from 0 to {len(numbers) - 1}: write .npz."
        )


def _variables(
    backbone: Any, model: Any, weights: str, name: str, weights_from: str | None
) -> Mapping[str, Any]:
    import jax
    import jax.numpy as jnp

    from rcnn_jax.interop import makers
    from rcnn_jax.interop import weights as weight_files

    shape = (1, *backbone.shape)
    if weights != "random":
        path = pathlib.Path(weights)

        def check(found: Mapping[str, np.ndarray], fit: Any) -> None:
            makers.check(path, found, fit, name, backbone, weights_from)

        return weight_files.variables(path, model, shape, backbone.kind, check)
    return jax.jit(lambda key: model.init(key, jnp.zeros(shape), train=False))(jax.random.key(0))


def _checksum(weights: str) -> str:
    if weights == "random":
        return ""
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _present(output: pathlib.Path, job: str) -> list[str]:
    """Returns the pictures that were left out of an output that this very job wrote."""
    from rcnn_jax.data.files import image_vectors

    about = image_vectors.read(output).about if output.suffix == ".npz" else {}
    if about.get("job") != job:
        raise UsageError(
            f"--output={output} is there already, and made otherwise: --overwrite replaces it."
        )
    print(f"{output} holds these features already", flush=True)
    return list(about.get("damaged", []))


def _compiled(backbone: Any, model: Any, variables: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from uint8 `[batch, size, size, 3]` to features `[batch, features]`."""
    import jax

    from rcnn_jax.data.transforms import chain as transforms

    chain = transforms.build(backbone.preprocess)
    variables = jax.device_put(variables)

    @jax.jit
    def run(variables: Any, pixels: jax.Array) -> jax.Array:
        return model.apply(variables, chain({"image": pixels})["image"], train=False)

    return lambda pixels: np.asarray(run(variables, pixels))


def _compute(
    parts: Any,
    numbers: Sequence[int],
    pictures: Sequence[Any],
    make: Callable[[int, Sequence[Any]], Any],
    each: int,
    skip: bool,
) -> tuple[list[int], list[str]]:
    """Computes the missing parts; returns the places that have features, and damaged pictures."""
    from rcnn_jax.features import picture_lists

    places, damaged, progress = [], [], _Progress(len(pictures))
    for number in numbers:
        piece = pictures[number * each : (number + 1) * each]
        part = parts.read(number)
        # Pictures may have been repaired since, and skipped pictures may now be an error.
        if part is not None and part.pictures != picture_lists.fingerprint(piece):
            part = None
        there = part is not None and (skip or not part.damaged)
        if part is None or not there:
            part = make(number * each, piece)
            parts.write(number, part)
        places += part.places.tolist()
        damaged += part.damaged
        progress.part(len(piece), there)
    progress.close()
    return places, damaged


def _part(
    pool: concurrent.futures.Executor,
    run: Callable[[np.ndarray], np.ndarray],
    fit: Any,
    batch_size: int,
    skip: bool,
    start: int,
    pictures: Sequence[Any],
) -> Any:
    """Computes the features of consecutive pictures, the first of which has the place `start`."""
    from rcnn_jax.data.files import photographs
    from rcnn_jax.features import picture_lists
    from rcnn_jax.features.parts import Part

    values, places, faults = [], [], []
    paths = [picture.path for picture in pictures]
    first = start
    fingerprint = picture_lists.fingerprint(pictures)
    for pixels, problems in photographs.batches(pool, paths, fit, batch_size):
        asked = zip(paths[start - first :][: len(problems)], problems, strict=True)
        bad = [about_file(path, problem) for path, problem in asked if problem is not None]
        if bad and not skip:
            raise UserError(f"{bad[0]}; --damaged=skip leaves such pictures out.")
        good = [row for row, problem in enumerate(problems) if problem is None]
        values.append(run(pixels)[good])
        places += [start + row for row in good]
        faults += bad
        start += len(problems)
    rows = np.concatenate(values)
    if not np.isfinite(rows).all():
        raise UserError(
            f"features of {pictures[0].name} and its neighbours are not finite: the weights are "
            "not those of this backbone."
        )
    return Part(rows, np.asarray(places, np.int64), tuple(faults), fingerprint)


class _Progress:
    """Shows a progress bar on a terminal, and prints a line for each part elsewhere."""

    def __init__(self, total: int) -> None:
        from rcnn_jax.output.progress import bar

        self._total, self._done, self._fresh = total, 0, 0
        self._start, self._live = time.monotonic(), sys.stderr.isatty()
        self._bar = bar(total, "image", shown=self._live)

    def part(self, images: int, there: bool) -> None:
        """Reports that a part is complete.

        Args:
            images: Number of pictures of the part.
            there: Whether the part was complete from an earlier start.
        """
        self._done += images
        self._bar.update(images)
        if there:
            self._bar.unpause()
        else:
            self._fresh += images
        if not self._live:
            speed = self._fresh / max(time.monotonic() - self._start, 1e-9)
            how = "from before" if there else f"{speed:.1f} images/s"
            print(f"features {self._done}/{self._total} images  {how}", flush=True)

    def close(self) -> None:
        """Closes the progress bar."""
        self._bar.close()
