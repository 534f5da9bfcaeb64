"""Reads, renames and checks weight files of this and other frameworks.

    .npz                              arrays by name, as `numpy.savez` saves them
    .safetensors                      needs the package safetensors
    .pt .pth .ckpt .bin .tar          files of `torch.save`: state dicts, and checkpoints that hold
                                      one; needs torch, which loads tensors only and runs no code

`read` returns the arrays with the names in the file. `renamed` converts them to the paths of the
parameters and statistics of this package, such as `params/features/conv1_1/kernel`, and to their
layouts, if it knows the names in the file; see `rcnn_jax/interop/backbone_names.py`. `require`
reports arrays that are missing, unexpected, or of another shape. For which pixels the weights of a
file were trained is decided by `rcnn_jax/interop/makers.py`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.errors import UserError, shortened
from rcnn_jax.interop import array_files, file_kinds, naming, torch_files
from rcnn_jax.interop.backbone_names import NAMES, Names
from rcnn_jax.training import parameters
from rcnn_jax.training.parallel import distributed

SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
"""Suffixes of files that hold weights; `.tar` is for names such as `model_best.pth.tar`."""

# Counters beside torch's batch normalization statistics and averages, which are not needed here.
_COUNTERS = ("num_batches_tracked", "n_averaged")


class Renamed(NamedTuple):
    """Weights by paths of this package.

    Attributes:
        arrays: Arrays by path, `params/...` and `model_state/...`, in the layout of this package;
            an array with an unknown name keeps the name in the file, below `params/`.
        origin: Name in the file by path.
    """

    arrays: dict[str, np.ndarray]
    origin: dict[str, str]


def is_weight_file(name: str) -> bool:
    """Returns whether a name is that of a weight file by its end.

    Args:
        name: Path of a file or folder.

    Example:
        >>> from rcnn_jax.interop.weights import is_weight_file
        >>> is_weight_file("model_best.pth.tar"), is_weight_file("runs/captions")
        (True, False)
    """
    return name.lower().endswith(SUFFIXES)


def read(
    path: Path, kinds: Iterable[str] = tuple(NAMES), own: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Reads a weight file.

    Args:
        path: Path of a file with one of `SUFFIXES`.
        kinds: Networks that the weights may belong to, keys of `NAMES`. If a checkpoint of torch
            holds several sets of weights, the one whose names fit best is taken; of several that
            fit equally, such as `state_dict` and `state_dict_ema`, the one that is not an average,
            and a warning says so.
        own: Paths of the model's own parameters and statistics, to which names are compared too.

    Returns:
        Arrays by the names in the file, without the parts that torch's wrappers add, such as
        `module.`; float16 of torch, bfloat16 and float8 become float32.

    Raises:
        UserError: The file is missing, of another type or damaged, holds something else, or needs a
            package that is not installed.
    """
    if not is_weight_file(path.name):
        raise UserError(f"weights are read from {', '.join(SUFFIXES)} files, got {str(path)!r}.")
    if not path.exists():
        raise UserError(
            f"there is no weight file {str(path)!r}: see config.init_from, or --weights."
        )
    kinds = tuple(kinds)

    def known(names: Collection[str]) -> int:
        fits = naming.best(tuple(naming.unwrapped(dict.fromkeys(names))), kinds, own)
        return fits[0].known if fits else 0

    def of_torch(path: Path) -> dict[str, np.ndarray]:
        return torch_files.read(path, known, lambda text: distributed.warn(f"{str(path)!r} {text}"))

    readers = {
        file_kinds.NPZ: array_files.npz,
        file_kinds.SAFETENSORS: array_files.safetensors,
        file_kinds.TORCH: of_torch,
    }
    by_suffix = path.suffix.lower() if path.suffix.lower() in readers else file_kinds.TORCH
    try:
        # The content decides: files are renamed, and some programs have suffixes of their own.
        arrays = readers[file_kinds.of(path) or by_suffix](path)
    except UserError:
        raise
    except Exception as error:  # each library raises different errors for a damaged file
        text = " ".join(str(error).split()).rstrip(".")[:400] or type(error).__name__
        raise UserError(f"the weights in {str(path)!r} cannot be read: {text}.") from error
    arrays = {name: array for name, array in arrays.items() if not name.endswith(_COUNTERS)}
    if not arrays:
        raise UserError(f"{str(path)!r} holds no weights.")
    return naming.unwrapped(arrays)


def renamed(
    found: Mapping[str, np.ndarray],
    kinds: Iterable[str] = tuple(NAMES),
    own: Collection[str] = (),
    origin: str = "the weights",
) -> Renamed:
    """Converts weights to the paths and layouts of this package.

    Args:
        found: Arrays by name, from `read`, in any order.
        kinds: Networks that the weights may belong to, keys of `NAMES`; other networks only have
            the names of this package. The naming scheme that fits best is used, behind the prefix
            that fits best.
        own: Paths of the model's own parameters and statistics. If the names fit them best, a
            common prefix before them is removed.
        origin: Name of the file, for error messages.

    Returns:
        The renamed weights. A name that already is a path of this package is kept.

    Raises:
        UserError: Names fit equally well behind several prefixes, two names stand for the same
            array, or an array lacks the convolution whose number of maps it is converted by.
    """
    fit = fitting(found, kinds, own, origin)
    arrays, origins = {}, {}
    for name, array in found.items():
        short = name.removeprefix(fit.prefix) if name.startswith(fit.prefix) else ""
        path, layout = fit.names.get(short, ("", "same"))
        if not path:
            is_own = not fit.names and short and _own(short) in own
            path = _own(short if is_own else name)
        if path in arrays:
            raise UserError(
                f"in {origin!r} both {origins[path]!r} and {name!r} belong to {path}: leave one "
                "of them out."
            )
        maps = _maps(found, fit, name, origin) if layout == "dense_of_maps" else 0
        # Transposed views are written wrongly by some releases of safetensors.
        arrays[path] = np.asarray(layout_of(array, layout, maps), order="C")
        origins[path] = name
    return Renamed(arrays, origins)


def fitting(
    found: Collection[str],
    kinds: Iterable[str] = tuple(NAMES),
    own: Collection[str] = (),
    origin: str = "the weights",
) -> naming.Fit:
    """Returns the naming scheme and the prefix that the names in a file fit best.

    Args:
        found: Names in the file.
        kinds: Networks that the weights may belong to, keys of `NAMES`.
        own: Paths of the model's own parameters and statistics.
        origin: Name of the file, for messages.

    Raises:
        UserError: Names fit equally well behind several prefixes, and nothing says which of them is
            meant.
    """
    fits = naming.best(tuple(found), kinds, own)
    if not fits:
        return naming.Fit()
    plain = [fit for fit in fits if not naming.is_averaged(fit.prefix)] or fits
    if len(plain) > 1 and plain[0].prefix:
        prefixes = " and ".join(repr(fit.prefix) for fit in plain)
        raise UserError(
            f"{origin!r} holds several networks whose names fit, behind {prefixes}: write a file "
            "with the one that is meant."
        )
    if len(fits) > 1 and plain[0].prefix:
        others = " and ".join(repr(fit.prefix) for fit in fits if fit is not plain[0])
        distributed.warn(
            f"{origin!r} holds several sets of weights: those behind {plain[0].prefix!r} are "
            f"taken, and not those behind {others}"
        )
    return plain[0]


def _maps(found: Mapping[str, np.ndarray], fit: naming.Fit, name: str, origin: str) -> int:
    """Returns the number of maps of the last convolution of a naming scheme."""
    last = [theirs for theirs, (_, layout) in fit.names.items() if layout == "convolution"][-1]
    biases = {path.replace("/bias", "/kernel"): theirs for theirs, (path, _) in fit.names.items()}
    for theirs in (last, biases[fit.names[last][0]]):
        array = found.get(fit.prefix + theirs)
        if array is not None and array.ndim:
            return len(array)
    raise UserError(
        f"{name!r} in {origin!r} cannot be converted: it reads the maps of "
        f"{fit.prefix + last!r}, which is missing there."
    )


def _own(name: str) -> str:
    """Returns a name as a path of this package, whose own files omit the collection `params`."""
    return name if name.startswith(("params/", "model_state/")) else f"params/{name}"


def layout_of(array: np.ndarray, layout: str, maps: int) -> np.ndarray:
    """Converts an array of another framework to the layout of this package.

    Args:
        array: Array as the file holds it.
        layout: Layout of the array in the file. `convolution`:
            `[features, channels, rows, columns]` becomes `[rows, columns, channels, features]`,
            also for depthwise convolutions; `dense`: `[features, inputs]` is transposed;
            `dense_of_maps`: transposed for inputs that are maps, which the file flattens map by map
            and this package position by position; `dense_as_convolution`: the same layer as a
            convolution over whole maps, `[features, maps, rows, columns]`; `same`: unchanged.
        maps: Number of maps of the previous convolution, for `dense_of_maps`.

    Returns:
        The converted array. An array that does not fit the layout gets a shape that no layer of
        this layout has, so that `require` reports it by name.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.interop.weights import layout_of
        >>> layout_of(np.zeros((64, 3, 7, 5)), "convolution", maps=0).shape
        (7, 5, 3, 64)
    """
    if layout == "convolution" and array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if layout == "dense" and array.ndim == 2:
        return array.T
    if layout == "dense_as_convolution" and array.ndim == 4:
        return array.transpose(2, 3, 1, 0).reshape(-1, len(array))
    if layout == "dense_of_maps" and array.ndim == 2:
        if not maps or array.shape[1] % maps:
            return array.T
        by_map = array.reshape(len(array), maps, -1)
        return by_map.transpose(2, 1, 0).reshape(-1, len(array))
    return array


def require(
    weights: Renamed,
    expected: Mapping[str, tuple[int, ...]],
    origin: str,
    extra: Iterable[str] = (),
    namings: Sequence[Names] = (),
) -> dict[str, np.ndarray]:
    """Checks that weights are exactly those of a model.

    Args:
        weights: Weights from `renamed`.
        expected: Shape of each parameter and statistic by path.
        origin: Name of the file, for the message.
        extra: Paths that may be present besides the expected ones, such as those of a last layer
            that is left out.
        namings: Naming schemes of the network, by which the message says whether lacking names are
            in the file with something else before them.

    Returns:
        The expected arrays by path, float32.

    Raises:
        UserError: Arrays are missing, unexpected, not finite or of another shape; the message lists
            the first few of each kind by their names in the file.
    """
    extra = set(extra)
    missing = [path for path in expected if path not in weights.arrays]
    unknown = [
        weights.origin[path]
        for path in weights.arrays
        if path not in expected and path not in extra
    ]
    wrong = [
        f"{weights.origin[path]} for {path} has {_shape(weights.arrays[path].shape)} and should "
        f"have {_shape(shape)}"
        for path, shape in expected.items()
        if path in weights.arrays and weights.arrays[path].shape != tuple(shape)
    ]
    broken = [
        weights.origin[path]
        for path in expected
        if path in weights.arrays and not _finite(weights.arrays[path])
    ]
    faults = [
        f"{what} {shortened(names, 5, spare=0)}"
        for what, names in (
            ("it lacks", missing),
            ("it has unexpected", unknown),
            ("of another shape are", wrong),
            ("not finite are", broken),
        )
        if names
    ]
    example = _other_beginnings(missing, unknown, (*namings, _short(expected)))
    if example is not None:
        faults.append(
            "the names that it lacks are there with something else before them, such as "
            f"{example[0]} for {example[1]}: rename them"
        )
    if faults:
        raise UserError(f"the weights in {origin!r} do not fit: {'; '.join(faults)}.")
    return {path: np.asarray(weights.arrays[path], np.float32) for path in expected}


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "fiub" and bool(np.isfinite(array).all())


def _short(expected: Iterable[str]) -> Names:
    """Returns the naming scheme of this package's own files."""
    return {path.removeprefix("params/"): (path, "same") for path in expected}


def _other_beginnings(
    missing: Collection[str], unknown: Collection[str], namings: Iterable[Names]
) -> tuple[str, str] | None:
    """Returns an unknown name and the lacking one it ends with, if that is so of all that lack."""
    for names in namings:
        theirs = {path: name for name, (path, _) in names.items()}
        lacking = [theirs[path] for path in missing if path in theirs]
        if len(lacking) == len(missing):
            example = naming.other_beginnings(lacking, unknown)
            if example is not None:
                return example
    return None


def variables(
    path: Path,
    model: nn.Module,
    shape: tuple[int, ...],
    kind: str,
    check: Callable[[Mapping[str, np.ndarray], naming.Fit], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Reads the variables of a network from a weight file that must fit it exactly.

    Args:
        path: Path of the file.
        model: Network, called as `model(x, train=False)`. With `classes=0` it has no last layer;
            the file may have one all the same.
        shape: Shape of a batch of images.
        kind: Key of `NAMES` that identifies the network.
        check: Function that is called with the arrays in the file and how their names fit, and
            raises an error if they are not to be used; see `rcnn_jax.interop.makers.check`. None
            accepts all that fit.

    Returns:
        Variables that `model.apply` takes, float32.

    Raises:
        UserError: The file cannot be read, or its weights do not fit the network; see `read`,
            `renamed` and `require`.
    """
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
    expected = {
        f"params/{name}" if collection == "params" else f"model_state/{collection}/{name}": leaf
        for collection, tree in shapes.items()
        for name, leaf in parameters.flatten(tree).items()
    }
    namings = NAMES.get(kind, ())
    known = {ours for names in namings for ours, _ in names.values()}
    sizes = {name: leaf.shape for name, leaf in expected.items()}
    own = known | set(expected)
    found = read(path, (kind,), own)
    if check is not None:
        check(found, fitting(found, (kind,), own, str(path)))
    weights = renamed(found, (kind,), own, str(path))
    arrays = require(weights, sizes, str(path), known, namings)
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.removeprefix("model_state/").split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = array
    return tree


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "no axes"
