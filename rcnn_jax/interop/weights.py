"""Weight files of this and other frameworks: read as arrays by name, renamed, and checked.

    .npz           arrays by name, as `numpy.savez` writes them
    .safetensors   needs the package safetensors
    .pt .pth       state dicts of torch; needs torch, which reads tensors alone and runs nothing

`read` gives the arrays as the file names them. `renamed` gives them by the paths of our parameters
and statistics, such as `params/features/conv1_1/kernel`, in our layouts, if it knows the names of
the file; see `rcnn_jax/interop/backbone_names.py`. `require` says what is missing, too much, or of
another shape.
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
"""Ends of the names of files that hold weights."""

_SHOWN = 5
# What torch counts beside the statistics of batch normalization, and nothing here needs.
_COUNTER = "num_batches_tracked"


class Renamed(NamedTuple):
    """Weights by our paths.

    Attributes:
        arrays: `params/...` and `model_state/...` to array, in our layout; what no name is known
            for keeps the name of the file.
        origin: our path to the name in the file.
    """

    arrays: dict[str, np.ndarray]
    origin: dict[str, str]


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a weight file.

    Args:
        path: of a file with one of `SUFFIXES`.

    Returns:
        Name to array, as the file has them; numbers of bfloat16 as float32.

    Raises:
        UserError: the file is missing, of another kind or damaged, holds something else, or needs
            a package that is not installed.
    """
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch}
    if path.suffix not in readers:
        raise UserError(f"weights are read from {', '.join(SUFFIXES)} files, got {str(path)!r}.")
    if not path.is_file():
        raise UserError(
            f"there is no weight file {str(path)!r}: see config.init_from, or --weights."
        )
    try:
        found = readers[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # each library has errors of its own for a damaged file
        text = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
        raise UserError(f"the weights in {str(path)!r} cannot be read: {text}.") from error
    if not found:
        raise UserError(f"{str(path)!r} holds no weights.")
    return {name: array for name, array in found.items() if not name.endswith(_COUNTER)}


def _npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file")
    # Opened here: NumPy leaves a damaged file open.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import safe_open  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"reading {str(path)!r} needs a package: pip install 'rcnn-jax[weights]'."
        ) from error
    with safe_open(path, framework="numpy") as file:
        return {name: _plain(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def _torch(path: Path) -> dict[str, np.ndarray]:
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
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def renamed(found: Mapping[str, np.ndarray], kinds: Iterable[str] = tuple(NAMES)) -> Renamed:
    """Weights by our paths, in our layouts.

    Args:
        found: from `read`.
        kinds: which nets they may be of, keys of `NAMES`; others have no names but ours. The one
            whose names fit best is taken.

    Returns:
        The weights. A name that is a path of ours already stands for itself.
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
    """A path of ours: in our own files parameters stand without the collection."""
    return name if name.startswith(("params/", "model_state/")) else f"params/{name}"


def layout_of(array: np.ndarray, layout: str, maps: int) -> np.ndarray:
    """An array of another framework in our layout.

    Args:
        array: as the file has it.
        layout: `convolution`: `[features, channels, rows, columns]` becomes `[rows, columns,
            channels, features]`, also where each channel has a window of its own; `dense`:
            `[features, inputs]` is transposed; `dense_of_maps`: the same where the inputs are maps,
            which are read map by map there and place by place here; `same`: it stays.
        maps: how many maps the convolution before it has, for `dense_of_maps`.

    Returns:
        The array. One whose axes do not fit the layout stays as it is: its shape is found wrong
        later, by name.
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
    """Checks that weights are those of a model, no more and no less.

    Args:
        weights: from `renamed`.
        expected: path of each parameter and statistic to its shape.
        origin: the file, for the message.
        extra: paths that may be there beside the expected ones, such as a last layer that was left
            out.

    Returns:
        The expected ones, float32.

    Raises:
        UserError: some are missing, are not expected, or have another shape; the sentence names
            the first few of each kind as the file calls them.
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
    """The variables of a net from a weight file that fits it exactly.

    Args:
        path: of the file.
        model: called as `model(x, train=False)`; without its last layer if it has `classes=0`, and
            the file may have one all the same.
        shape: of a batch of images.
        kind: which net it is, see `renamed`.

    Returns:
        What `model.apply` takes, float32.

    Raises:
        UserError: see `read` and `require`.
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
    found = require(renamed(read(path), (kind,)), sizes, str(path), known)
    tree: dict[str, Any] = {}
    for name, array in found.items():
        *parents, leaf = name.removeprefix("model_state/").split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = array
    return tree


def _more(names: list[str]) -> str:
    return f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "no axes"
