"""Converts weights of `torch.nn.RNN`, `LSTM` and `GRU` to a `Stack` and back.

For each layer k and direction, torch stores `weight_ih_lk` `[gates * hidden, features]`,
`weight_hh_lk` `[gates * hidden, hidden]` and the biases `bias_ih_lk` and `bias_hh_lk`, with the
suffix `_reverse` for the backward direction. Gates are rows: i, f, g, o for an LSTM and r, z, n for
a GRU, which is the order of the columns of a `Stack`. Both biases of a gate are always added, so
that a `Stack` stores their sum, except for the candidate n of a GRU, one of whose biases is applied
after the reset gate.

The functions take and return NumPy arrays, such as `{name: value.numpy() for name, value in
module.state_dict().items()}`. Names may have a common prefix, such as `lstm.` in the state dict of
a module around the recurrent one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rcnn_jax.errors import shortened
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.simple_cells import Elman
from rcnn_jax.layers.recurrent.stack import Stack

Parameters = dict[str, Any]
StateDict = dict[str, np.ndarray]

_KEY = re.compile(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?")
_CELL = re.compile(r"(.+\.)?(weight|bias)_(ih|hh)")
_GATES = {1: "elman", 3: "gru", 4: "lstm"}


class TorchRecurrent(NamedTuple):
    """Kind and sizes of the module of a state dict.

    Attributes:
        kind: `elman` (`torch.nn.RNN`), `lstm` or `gru`.
        features: Length of the input vectors.
        hidden: Number of hidden units.
        layers: Number of layers.
        bidirectional: Whether both directions are present.
    """

    kind: str
    features: int
    hidden: int
    layers: int
    bidirectional: bool

    def stack(self, *, nonlinearity: str = "tanh", **attributes: Any) -> Stack:
        """Returns the `Stack` that computes the same as the torch module.

        Args:
            nonlinearity: Activation of the `torch.nn.RNN`, `tanh` or `relu`, which cannot be
                inferred from its weights.
            **attributes: Further attributes of the `Stack`.
        """
        cell = {
            "elman": lambda: Elman(self.hidden, activation=nonlinearity),
            "lstm": lambda: LSTM(self.hidden),
            "gru": lambda: GRU(self.hidden),
        }[self.kind]()
        return Stack((cell,) * self.layers, bidirectional=self.bidirectional, **attributes)


def describe(state: Mapping[str, np.ndarray], prefix: str | None = None) -> TorchRecurrent:
    """Infers kind, sizes, layers and directions from a state dict.

    Args:
        state: Arrays of a torch state dict by name.
        prefix: Text before the names of the recurrent module, such as `lstm.`; other arrays are
            then left aside. None: the state dict holds one recurrent module alone, and the prefix
            that all names have in common is found.

    Returns:
        The description of the module.

    Raises:
        ValueError: The state dict is not that of a `torch.nn.RNN`, `LSTM` or `GRU`, or a weight is
            missing or has another shape.
    """
    layers, directions = set(), set()
    state = _behind(state, prefix)
    for key in state:
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError(_no_weight(key))
        layers.add(int(match[3]))
        directions.add(match[4] or "")
    if layers != set(range(len(layers))) or "" not in directions:
        raise ValueError(f"the layers of a torch RNN count from 0 on, got {_some(state)}")
    rows, hidden = _get(state, "weight_hh_l0").shape
    gates = rows // hidden
    if gates not in _GATES or rows != gates * hidden:
        raise ValueError(
            "'weight_hh_l0' of a torch RNN, GRU or LSTM has 1, 3 or 4 times as many rows as "
            f"columns, got shape {(rows, hidden)}"
        )
    features = _get(state, "weight_ih_l0").shape[1]
    description = TorchRecurrent(_GATES[gates], features, hidden, len(layers), len(directions) == 2)
    biased = any(key.startswith("bias") for key in state)
    for suffix, inputs in _places(description):
        shapes = {f"weight_ih{suffix}": (rows, inputs), f"weight_hh{suffix}": (rows, hidden)}
        if biased:
            shapes |= {f"bias_ih{suffix}": (rows,), f"bias_hh{suffix}": (rows,)}
        for key, shape in shapes.items():
            if _get(state, key).shape != shape:
                raise ValueError(f"{key!r} must have shape {shape}, got {_get(state, key).shape}")
    return description


def _behind(state: Mapping[str, np.ndarray], prefix: str | None) -> Mapping[str, np.ndarray]:
    """Returns the arrays of the recurrent module by names without a prefix.

    Raises:
        ValueError: There are several recurrent modules or other arrays, or none behind `prefix`.
    """
    if prefix is None:
        names = (re.fullmatch(rf"(?:(.*)\.)?{_KEY.pattern}", key) for key in state)
        prefixes = list(dict.fromkeys(f"{m[1]}." if m[1] is not None else "" for m in names if m))
        if len(prefixes) > 1:
            raise ValueError(
                f"there are several recurrent modules, behind {' and '.join(map(repr, prefixes))}: "
                f"name one, such as prefix={prefixes[0]!r}"
            )
        prefix = prefixes[0] if prefixes else ""
        others = [key for key in state if not key.startswith(prefix)]
        if others:
            raise ValueError(
                f"beside the weights of a recurrent module behind {prefix!r} there is "
                f"{shortened(map(repr, others), 1, spare=0)}: take the module alone by "
                f"prefix={prefix!r}"
            )
    found = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
    if prefix and not found:
        raise ValueError(f"no name begins with prefix={prefix!r}: there are {_some(state)}")
    return found


def _no_weight(key: str) -> str:
    """Says why a name is none of a recurrent module of torch."""
    if _CELL.fullmatch(key):
        return f"{key!r} is of a single cell of torch, such as LSTMCell: add '_l0' to its names"
    named = "which are called like 'weight_ih_l0' or 'bias_hh_l1_reverse'"
    if "weight_hr_l" in key:
        named += " (projections are not supported)"
    return f"{key!r} is no weight of a torch RNN, LSTM or GRU, {named}"


def _some(names: Iterable[str]) -> str:
    """Returns the first few names in alphabetical order."""
    return shortened(sorted(names), 5, spare=0)


def _get(state: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """Returns a weight by name, after checking that it exists and its number of axes."""
    if key not in state:
        raise ValueError(f"the torch weights lack {key!r}; they have {_some(state)}")
    value = np.asarray(state[key])
    if value.ndim != 1 + key.startswith("weight"):
        raise ValueError(f"{key!r} has another number of axes than torch's: shape {value.shape}")
    return value


def _places(found: TorchRecurrent) -> Iterator[tuple[str, int]]:
    """Yields the suffix of the names of each layer and direction, and the length of its inputs."""
    for layer in range(found.layers):
        inputs = found.hidden * (1 + found.bidirectional) if layer else found.features
        yield f"_l{layer}", inputs
        if found.bidirectional:
            yield f"_l{layer}_reverse", inputs


def from_torch(state: Mapping[str, np.ndarray], prefix: str | None = None) -> Parameters:
    """Converts a torch state dict to parameters of `describe(state).stack()`.

    Args:
        state: Arrays of a `torch.nn.RNN`, `LSTM` or `GRU` by name, with or without biases.
        prefix: Text before the names of the recurrent module, such as `lstm.`; other arrays are
            then left aside. None: the state dict holds one recurrent module alone, and the prefix
            that all names have in common is found.

    Returns:
        Parameters that a `Stack` takes as `{"params": ...}`, in the dtype of `state`.

    Raises:
        ValueError: The state dict is not that of a `torch.nn.RNN`, `LSTM` or `GRU`, or a weight is
            missing or has another shape.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.interop.torch_recurrent import from_torch
        >>> state = {"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.eye(2)}
        >>> layer = from_torch(state)["layer0"]
        >>> {name: value.shape for name, value in layer.items()}
        {'kernel': (3, 2), 'recurrent_kernel': (2, 2), 'bias': (2,)}
    """
    description = describe(state, prefix)
    state = _behind(state, prefix)
    params: Parameters = {}
    for suffix, _ in _places(description):
        kernel, recurrent = (_get(state, f"weight_{part}{suffix}") for part in ("ih", "hh"))
        biases = [
            np.asarray(state.get(f"bias_{part}{suffix}", np.zeros(len(kernel), kernel.dtype)))
            for part in ("ih", "hh")
        ]
        bias = biases[0] + biases[1]
        converted = {
            "kernel": kernel.T.copy(),
            "recurrent_kernel": recurrent.T.copy(),
            "bias": bias,
        }
        if description.kind == "gru":
            candidate = slice(2 * description.hidden, None)
            bias[candidate] = biases[0][candidate]
            converted["recurrent_bias"] = biases[1][candidate].copy()
        layer = f"layer{suffix.removesuffix('_reverse').removeprefix('_l')}"
        if description.bidirectional:
            direction = "backward" if suffix.endswith("_reverse") else "forward"
            params.setdefault(layer, {})[direction] = converted
        else:
            params[layer] = converted
    return params


def to_torch(params: Mapping[str, Any]) -> StateDict:
    """Converts the parameters of a `Stack` of `Elman`, `LSTM` or `GRU` to a torch state dict.

    Args:
        params: Parameters without the level `"params"`. All layers have the same kind and size.

    Returns:
        Arrays by torch's names. The bias becomes `bias_ih`; `bias_hh` is zero except for the
        candidate of a GRU.

    Raises:
        ValueError: A weight has no counterpart in torch.
    """
    state: StateDict = {}
    for layer, weights in params.items():
        number = layer.removeprefix("layer")
        if not number.isdecimal():
            raise ValueError(f"the layers of a Stack are called layer0, layer1, ..., got {layer!r}")
        if {"forward", "backward"} == set(weights):
            pairs = [("", weights["forward"]), ("_reverse", weights["backward"])]
        else:
            pairs = [("", weights)]
        for direction, layer_params in pairs:
            origin = f"{layer}/{direction.removeprefix('_')}".removesuffix("/")
            for name, value in _one_to_torch(layer_params, origin).items():
                state[f"{name}_l{number}{direction}"] = value
    describe(state)
    return state


def _one_to_torch(ours: Mapping[str, Any], place: str) -> StateDict:
    """Converts the parameters of one layer and direction, with names that lack torch's suffix."""
    arrays = {name: np.asarray(value) for name, value in ours.items()}
    known = {"kernel", "recurrent_kernel", "bias"}
    extra = set(arrays) - known
    if known - set(arrays) or extra - {"recurrent_bias"}:
        raise ValueError(
            f"{place} holds {sorted(arrays)}: torch has RNN, LSTM without peepholes, and GRU with "
            "the reset gate behind the product, all starting from a zero state"
        )
    hidden, columns = arrays["recurrent_kernel"].shape
    # A GRU and an LSTM without forget gate both have three gates; only a GRU has a second bias.
    if (columns == 3 * hidden) != ("recurrent_bias" in extra) or columns // hidden not in _GATES:
        raise ValueError(f"{place} has {columns // hidden} gates, as no cell of torch has")
    other = np.zeros_like(arrays["bias"])
    if extra:
        other[2 * hidden :] = arrays["recurrent_bias"]
    return {
        "weight_ih": arrays["kernel"].T.copy(),
        "weight_hh": arrays["recurrent_kernel"].T.copy(),
        "bias_ih": arrays["bias"].copy(),
        "bias_hh": other,
    }
