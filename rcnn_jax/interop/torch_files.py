"""Reads the weights in files of `torch.save`, as tensors only and without running any code."""

import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from rcnn_jax.errors import UserError, shortened
from rcnn_jax.interop import naming

# Keys under which frameworks keep the weights of a checkpoint, the most usual first.
_PLAIN = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params",
    "weights", "net_state_dict", "network_state_dict", "backbone", "encoder",
)  # fmt: skip
_DEPTH = 4
# Modules of the names in a pickle of tensors alone.
_OF_TENSORS = {"torch", "torch._utils", "torch.storage", "torch._tensor", "torch.nn.parameter"}
_CONTAINERS = {
    "collections.OrderedDict", "collections.defaultdict", "_codecs.encode", "__builtin__.set",
    "builtins.set",
}  # fmt: skip
_ALONE = "torch.save({}, 'weights.pth')"


def read(
    path: Path, known: Callable[[Collection[str]], int], warn: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Reads the state dict in a file.

    Args:
        path: Path of a file that `torch.save` wrote.
        known: Function that counts the names that belong to the network; among several state dicts
            in a checkpoint the one with most of them is taken.
        warn: Function that is called with a sentence if other weights in the file fit too.

    Returns:
        Arrays by name; floating ones are float32 or float64.

    Raises:
        UserError: torch is not installed.
        ValueError: The file holds something else, more than tensors, or is damaged.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"reading {str(path)!r} needs torch (pip install torch); or write the weights as .npz "
            "where torch is: numpy.savez('weights.npz', **{name: value.numpy() for name, value in "
            "state_dict.items()})."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch and NumPy about the age of a file's format
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors, with advice that misleads here
        raise ValueError(fault(path, error)) from error
    state = state_dict_in(content, lambda value: isinstance(value, torch.Tensor), known, warn)
    return {name: _array(torch, tensor) for name, tensor in state.items()}


def _array(torch: Any, tensor: Any) -> np.ndarray:
    """Returns a tensor of any layout and dtype as an array."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        tensor = tensor.float()
    return np.asarray(tensor.numpy(), order="C")


def state_dict_in(
    content: Any,
    is_tensor: Callable[[Any], bool],
    known: Callable[[Collection[str]], int],
    warn: Callable[[str], None],
) -> Mapping[str, Any]:
    """Returns the state dict in what a file of `torch.save` holds.

    A checkpoint may hold several, such as the weights and their average. The one is taken that has
    most names of the network; of several with equally many, the one under the most usual key, such
    as `state_dict`, before averages.

    Args:
        content: Content of the file.
        is_tensor: Function that says whether a value is a tensor.
        known: Function that counts the names that belong to the network.
        warn: Function that is called with a sentence if other weights in the file are left out.

    Returns:
        Tensors by name.

    Raises:
        ValueError: There is no state dict, or there are several and nothing says which one is
            meant.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__} and no state dict")
    found = dict(_candidates(content, is_tensor, ()))
    if () in found:
        return found[()]
    at_top = [name for name, value in content.items() if is_tensor(value)]
    count = {place: known(state) for place, state in found.items()}
    if not found or known([str(name) for name in at_top]) > max(count.values()):
        other = next((name for name, value in content.items() if not is_tensor(value)), None)
        raise ValueError(
            "it holds an empty dict" if other is None
            else f"it is no state dict, {str(other)!r} is no tensor"
        )  # fmt: skip

    def rank(place: tuple[str, ...]) -> tuple[bool, int]:
        usual = [_PLAIN.index(key) for key in place if key in _PLAIN]
        return any(map(naming.is_averaged, place)), min(usual, default=len(_PLAIN))

    most = max(count.values())
    fitting = sorted((place for place in found if count[place] == most), key=rank)
    chosen, others = fitting[0], fitting[1:]
    if others and rank(others[0]) == rank(chosen):
        fit = " that fit" if most else ""
        raise ValueError(
            f"it holds several sets of weights{fit}, "
            f"{shortened(map(_place, fitting), 5, spare=0)}: save the one that is meant alone, "
            "such as by " + _ALONE.format(f"checkpoint{_place(chosen)}")
        )
    alike = [_place(place) for place in others if found[place].keys() == found[chosen].keys()]
    if most or alike:
        left = shortened(map(_place, others), 5, spare=0)
        if left:
            warn(f"holds several sets of weights: {_place(chosen)} is taken, and not {left}")
    return found[chosen]


def _candidates(
    content: Mapping[Any, Any], is_tensor: Callable[[Any], bool], place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yields all mappings from names to tensors inside a mapping, and the keys that lead there."""
    named = bool(content) and all(isinstance(name, str) for name in content)
    if named and all(map(is_tensor, content.values())):
        yield place, content
    elif len(place) < _DEPTH:
        for key, value in content.items():
            if isinstance(value, Mapping) and "optim" not in str(key).lower():
                yield from _candidates(value, is_tensor, (*place, str(key)))


def _place(keys: tuple[str, ...]) -> str:
    return "".join(f"[{key!r}]" for key in keys)


def fault(path: Path, error: Exception) -> str:
    """Says why torch could not load a file as tensors, by the classes that its pickle names.

    Args:
        path: Path of the file.
        error: The error of torch, whose text is used if the pickle names no classes.

    Returns:
        What the file is and, where there is one, the way out, without a full stop.
    """
    try:
        classes, outermost = _classes(path)
    except Exception:  # noqa: BLE001 a damaged pickle raises whatever its steps run into
        classes, outermost = [], False
    foreign = [name for name in classes if not _is_of_tensors(name)]
    if foreign and outermost and classes[0] == foreign[0]:
        return (
            f"it is a whole object of the class {foreign[0]}, as torch.save(model) writes it, and "
            "not its weights alone: save them where that class can be imported, by "
            + _ALONE.format("model.state_dict()")
        )
    if foreign:
        whole = any(name.startswith("torch.nn.modules.") for name in foreign)
        alone = "checkpoint['model'].state_dict()" if whole else "checkpoint['state_dict']"
        return (
            f"beside tensors it holds objects of {shortened(foreign, 5, spare=0)}: save its state "
            "dict alone where torch is, such as by " + _ALONE.format(alone)
        )
    text = re.split(r"\.\s|\n", str(error))[0].strip().rstrip(".")
    # What torch adds to errors of its restricted reading is advice to read without restriction.
    if not text or "\x1b" in text or re.search("(?i)weights.only|unpickl|magic number", text):
        return "torch.save did not write it, or it is damaged"
    return f"it is damaged or incomplete ({text[:150]})"


def _is_of_tensors(name: str) -> bool:
    return name.rpartition(".")[0] in _OF_TENSORS or name in _CONTAINERS


def _classes(path: Path) -> tuple[list[str], bool]:
    """Returns the classes and functions that the pickle of a file names, without running it.

    Also returns whether the pickle begins with the first of them, so that all of it is an object of
    this class.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(member) as file:
                return _named(file)
    names: list[str] = []
    with path.open("rb") as file:
        # torch's older files hold a number, a version and a description of the system before it.
        for _ in range(4):
            names, outermost = _named(file)
            if names:
                return names, outermost
    return names, False


def _named(file: IO[bytes]) -> tuple[list[str], bool]:
    """Returns the names in one pickle, each once, and whether it begins with one."""
    names: dict[str, None] = {}
    pushed: list[str] = []
    memo: dict[int, str] = {}
    outermost, container, last = False, False, ""
    for code, argument, _ in pickletools.genops(file):
        if code.name == "MEMOIZE":
            memo[len(memo)] = last
        elif code.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(str(argument))] = last
        elif code.name in ("GLOBAL", "STACK_GLOBAL"):
            # An older pickle has module and name in one, a newer one puts both on the stack before.
            name = str(argument).replace(" ", ".") if argument else ".".join(pushed[-2:])
            outermost = outermost or not (names or container)
            names.setdefault(name)
            last = ""
        elif code.name in ("GET", "BINGET", "LONG_BINGET"):
            last = memo.get(int(str(argument)), "")
            pushed.append(last)
        elif isinstance(argument, str):
            last = argument
            pushed.append(last)
        elif code.name not in ("PROTO", "FRAME"):
            last, container = "", container or code.name.startswith("EMPTY")
    return list(names), outermost
