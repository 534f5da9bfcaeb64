"""Reads, renames and checks weight files of this and other frameworks.

    .npz           arrays by name, as `numpy.savez` saves them
    .safetensors   needs the package safetensors
    .pt .pth       torch state dicts; needs torch, which loads tensors only and runs no code

`read` returns the arrays with the names in the file. `renamed` converts them to the paths of the
parameters and statistics of this package, such as `params/features/conv1_1/kernel`, and to their
layouts, if it knows the names in the file; see `rcnn_jax/interop/backbone_names.py`. `require`
reports arrays that are missing, unexpected, or of another shape.
"""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.errors import UserError
from rcnn_jax.interop.backbone_names import NAMES, Names
from rcnn_jax.training import parameters

SUFFIXES = (".npz", ".safetensors", ".pt", ".pth")
"""Suffixes of files that hold weights."""

_SHOWN = 5
# A counter beside torch's batch normalization statistics, which is not needed here.
_COUNTER = "num_batches_tracked"


class Renamed(NamedTuple):
    """Weights by paths of this package.

    Attributes:
        arrays: Arrays by path, `params/...` and `model_state/...`, in the layout of this package;
            an array with an unknown name keeps the name in the file, below `params/`.
        origin: Name in the file by path.
    """

    arrays: dict[str, np.ndarray]
    origin: dict[str, str]


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a weight file.

    Args:
        path: Path of a file with one of `SUFFIXES`.

    Returns:
        Arrays by the names in the file; bfloat16 becomes float32.

    Raises:
        UserError: The file is missing, of another type or damaged, holds something else, or needs a
            package that is not installed.
    """
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch}
    if path.suffix not in readers:
        raise UserError(f"weights are read from {', '.join(SUFFIXES)} files, got {str(path)!r}.")
    if not path.is_file():
        raise UserError(
            f"there is no weight file {str(path)!r}: see config.init_from, or --weights."
        )
    try:
        arrays = readers[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # each library raises different errors for a damaged file
        text = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
        raise UserError(f"the weights in {str(path)!r} cannot be read: {text}.") from error
    if not arrays:
        raise UserError(f"{str(path)!r} holds no weights.")
    return {name: array for name, array in arrays.items() if not name.endswith(_COUNTER)}


def _npz(path: Path) -> dict[str, np.ndarray]:
    """Reads an .npz file without pickles."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file")
    # Opened here: NumPy leaves a damaged file open.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a .safetensors file."""
    try:
        from safetensors import safe_open  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"reading {str(path)!r} needs a package: pip install 'rcnn-jax[weights]'."
        ) from error
    with safe_open(path, framework="numpy") as file:
        return {name: _plain(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def _torch(path: Path) -> dict[str, np.ndarray]:
    """Reads a torch state dict."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"reading {str(path)!r} needs torch (pip install torch); or write the weights as .npz "
            "where torch is: numpy.savez('weights.npz', **{name: value.numpy() for name, value in "
            "state_dict.items()})."
        ) from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__} and no state dict")
    other = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise ValueError(f"it is no state dict, {str(other[0])!r} is no tensor")
    tensors = {
        name.removeprefix("module."): value.detach().float()
        if value.is_floating_point()
        else value.detach()
        for name, value in state.items()
    }
    return {name: np.ascontiguousarray(value.numpy()) for name, value in tensors.items()}


def _plain(array: np.ndarray) -> np.ndarray:
    """Returns an array that NumPy can compute with: bfloat16 becomes float32."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def renamed(found: Mapping[str, np.ndarray], kinds: Iterable[str] = tuple(NAMES)) -> Renamed:
    """Converts weights to the paths and layouts of this package.

    Args:
        found: Arrays by name, from `read`.
        kinds: Networks that the weights may belong to, keys of `NAMES`; other networks only have
            the names of this package. The naming scheme that fits best is used.

    Returns:
        The renamed weights. A name that already is a path of this package is kept.
    """

    def fit(names: Names) -> tuple[int, int]:
        known = sum(name in names for name in found)
        return known, known - len(names)

    ways = [names for kind in kinds for names in NAMES.get(kind, ())]
    best = max(ways, key=fit, default={})
    if not any(name in best for name in found):
        best = {}
    arrays, origin, maps = {}, {}, 0
    for name, array in found.items():
        path, layout = best.get(name, (_own(name), "same"))
        arrays[path] = layout_of(array, layout, maps)
        origin[path] = name
        maps = len(array) if array.ndim == 4 else maps
    return Renamed(arrays, origin)


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
            and this package position by position; `same`: unchanged.
        maps: Number of maps of the previous convolution, for `dense_of_maps`.

    Returns:
        The converted array. An array whose axes do not fit the layout is returned unchanged, so
        that `require` reports its shape by name.

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
    if layout == "dense_of_maps" and array.ndim == 2 and maps and array.shape[1] % maps == 0:
        by_map = array.reshape(len(array), maps, -1)
        return by_map.transpose(2, 1, 0).reshape(-1, len(array))
    return array


def require(
    weights: Renamed,
    expected: Mapping[str, tuple[int, ...]],
    origin: str,
    extra: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """Checks that weights are exactly those of a model.

    Args:
        weights: Weights from `renamed`.
        expected: Shape of each parameter and statistic by path.
        origin: Name of the file, for the message.
        extra: Paths that may be present besides the expected ones, such as those of a last layer
            that is left out.

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
        if path in weights.arrays and not np.isfinite(weights.arrays[path]).all()
    ]
    faults = [
        f"{what} {', '.join(names[:_SHOWN])}{_more(names)}"
        for what, names in (
            ("it lacks", missing),
            ("it has unexpected", unknown),
            ("of another shape are", wrong),
            ("not finite are", broken),
        )
        if names
    ]
    if faults:
        raise UserError(f"the weights in {origin!r} do not fit: {'; '.join(faults)}.")
    return {path: np.asarray(weights.arrays[path], np.float32) for path in expected}


def variables(
    path: Path, model: nn.Module, shape: tuple[int, ...], kind: str
) -> dict[str, dict[str, Any]]:
    """Reads the variables of a network from a weight file that must fit it exactly.

    Args:
        path: Path of the file.
        model: Network, called as `model(x, train=False)`. With `classes=0` it has no last layer;
            the file may have one all the same.
        shape: Shape of a batch of images.
        kind: Key of `NAMES` that identifies the network.

    Returns:
        Variables that `model.apply` takes, float32.

    Raises:
        UserError: The file cannot be read, or its weights do not fit the network; see `read` and
            `require`.
    """
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
    expected = {
        f"params/{name}" if collection == "params" else f"model_state/{collection}/{name}": leaf
        for collection, tree in shapes.items()
        for name, leaf in parameters.flatten(tree).items()
    }
    known = {ours for names in NAMES.get(kind, ()) for ours, _ in names.values()}
    sizes = {name: leaf.shape for name, leaf in expected.items()}
    arrays = require(renamed(read(path), (kind,)), sizes, str(path), known)
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.removeprefix("model_state/").split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = array
    return tree


def _more(names: list[str]) -> str:
    return f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "no axes"
