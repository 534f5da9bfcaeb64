"""The compiled library: where it is, whether it can be used, and calls of its functions.

A call is one operation of a program, whatever happens around it: XLA's partitioner cuts it along
the batch, since the calls treat images and sequences independently of each other, and `jax.vmap`
runs one call after the other.
"""

import contextlib
import ctypes
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxlib import version as jaxlib_version
from jaxtyping import Array

from rcnn_jax.configuration.environment import (
    INSTRUCTION_SETS,
    KERNELS,
    KERNELS_ISA,
    one_of,
    switched_on,
)
from rcnn_jax.kernels import build

FILE = build.FOLDER / build.LIBRARY
"""Where the build puts the library."""


@functools.cache
def _library(file: Path) -> ctypes.CDLL | str:
    """Returns the library, or the reason why there is none."""
    if not file.exists():
        return _not_built(file.with_name(build.REPORT))
    try:
        library = ctypes.CDLL(str(file))
        built_from, name = library.rcnn_built_from, library.rcnn_instruction_set
    except OSError as error:
        return f"{file.name} cannot be loaded ({error}); `{build.COMMAND}` builds it anew"
    except AttributeError:
        return f"{file.name} is of an older version; `{build.COMMAND}` builds it anew"
    built_from.restype = name.restype = ctypes.c_char_p
    sources, headers = built_from().decode().split()
    if sources != build.digest():
        return f"{file.name} was built from other sources; `{build.COMMAND}` builds it anew"
    installed = jaxlib_version.__version__
    if _numbers(headers) > _numbers(installed):
        return (
            f"{file.name} was built for jaxlib {headers}, which is newer than the installed "
            f"{installed}; `{build.COMMAND}` builds it anew"
        )
    return library


def _not_built(report: Path) -> str:
    """Returns why there is no library, as the build reported it."""
    try:
        reason = report.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return f"the library was not built; `{build.COMMAND}` builds it"
    return f"the library was not built: {reason}"


def _numbers(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version, `(0, 10, 2)` for `0.10.2`."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())


def missing() -> str:
    """Returns the reason why the library cannot be called on any device, empty if it can.

    Unlike `problem` it does not ask whether kernels are wanted.
    """
    library = _library(FILE)
    return library if isinstance(library, str) else ""


# A user context is part of JAX's cache keys: traces inside `forms_of_xla` stay inside.
_left_to_xla = jax.make_user_context(False)


@contextlib.contextmanager
def forms_of_xla() -> Iterator[None]:
    """Makes everything that is traced within this context use XLA's forms.

    `jax.export` needs it for programs with a batch of fixed size: calls of the library mean nothing
    to another machine. Second and forward-mode derivatives need it, too.

    Example:
        >>> from rcnn_jax.kernels import library
        >>> with library.forms_of_xla():
        ...     library.problem()
        'they are left to XLA here'
    """
    with _left_to_xla(True):
        yield


def problem() -> str:
    """Returns the reason why no compiled kernel can be used here, empty if they can.

    Raises:
        UsageError: If the environment variable `RCNN_JAX_KERNELS` is neither 0 nor 1, or
            `RCNN_JAX_KERNELS_ISA` names no instruction set.
    """
    one_of(KERNELS_ISA, INSTRUCTION_SETS)
    if _left_to_xla.value:
        return "they are left to XLA here"
    if not switched_on(KERNELS, "XLA's forms only"):
        return f"{KERNELS}=0 switches them off"
    backend = jax.default_backend()
    if backend != "cpu":
        return f"they are for CPUs, and this is a {backend}"
    return missing()


def instruction_set() -> str:
    """Returns the name of the instruction set in use, such as `AVX-512`."""
    return _loaded().rcnn_instruction_set().decode()


def sources() -> str:
    """Returns the digest of the sources that the library in use was built from."""
    return _loaded().rcnn_built_from().decode().split()[0]


def _loaded() -> ctypes.CDLL:
    library = _library(FILE)
    assert isinstance(library, ctypes.CDLL), library
    return library


@functools.cache
def _registered(name: str) -> str:
    """Registers a function of the library with XLA under the name that this returns."""
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(_loaded(), name)), platform="cpu")
    return name


def _varying(array: Array) -> frozenset[str]:
    """Returns the mesh axes over which the type of an array says that it differs."""
    kind = getattr(jax.typeof(array), "manual_axis_type", None)
    return frozenset() if kind is None else kind.varying


def aligned(*arrays: Array) -> tuple[Array, ...]:
    """Gives arrays inside `shard_map` one type: that of a share, if one of them is a share.

    A function whose gradient is stated takes its arguments through this, so that the gradient of
    an argument that all devices share is summed over them.

    Args:
        *arrays: Arrays of any shape.
    """
    axes = frozenset[str]().union(*map(_varying, arrays))
    if not axes:
        return arrays
    return tuple(
        lax.pcast(array, tuple(sorted(axes - _varying(array))), to="varying")
        if axes - _varying(array)
        else array
        for array in arrays
    )


ROWS, WHOLE, SUM, SCRATCH = "rows", "whole", "sum", "scratch"


@dataclasses.dataclass(frozen=True)
class Result:
    """A result of a call.

    Attributes:
        shape: Function from the arguments to the shape of the result.
        kind: `ROWS` if entry n of the first axis belongs to image n, `SUM` if the result is a sum
            over images, `WHOLE` if it does not depend on images; `SCRATCH` if it is memory that
            the call needs and does not return.
        dtype: Dtype of the result.
    """

    shape: Callable[..., tuple[int, ...]]
    kind: str = ROWS
    dtype: Any = jnp.float32


@dataclasses.dataclass(frozen=True)
class Call:
    """A function of the library as an operation of a program.

    Attributes:
        name: Name of the function.
        arguments: For each argument `ROWS` if its first axis is the batch, else `WHOLE`.
        results: The results.
        overwritten: Pairs of an argument and a result of the same shape, by position: the result
            takes the memory of the argument where the program does not need it any more.
    """

    name: str
    arguments: tuple[str, ...]
    results: tuple[Result, ...]
    overwritten: tuple[tuple[int, int], ...] = ()

    def __call__(self, *arrays: Array, **attributes: Any) -> tuple[Array, ...]:
        """Calls the function.

        Args:
            *arrays: Arguments, in float32.
            **attributes: Numbers that are part of the program, of NumPy's dtypes, or tuples of
                whole numbers.

        Returns:
            The results in float32, without scratch memory.
        """
        arrays = aligned(*arrays)
        if _varying(arrays[0]):
            # Inside `shard_map` arrays are those of this device, and their types say so.
            return self.run(attributes, *arrays)
        return _operation(self, tuple(sorted(attributes.items())))(*arrays)

    def returned(self) -> tuple[Result, ...]:
        """Returns the results that are not scratch memory."""
        return tuple(result for result in self.results if result.kind != SCRATCH)

    def run(self, attributes: dict[str, Any], *arrays: Array) -> tuple[Array, ...]:
        """Calls the function for arrays that are whole on this device, see `__call__`."""
        like = jax.typeof(arrays[0])
        shapes = []
        for result in self.results:
            shape, options = result.shape(*arrays), {}
            if _varying(arrays[0]):
                where = NamedSharding(like.sharding.mesh, PartitionSpec(*[None] * len(shape)))
                options = {"sharding": where, "manual_axis_type": like.manual_axis_type}
            shapes.append(jax.ShapeDtypeStruct(shape, result.dtype, **options))
        given = {
            name: np.array(value, np.int64) if isinstance(value, tuple) else value
            for name, value in attributes.items()
        }
        call = jax.ffi.ffi_call(
            _registered(self.name), shapes, input_output_aliases=dict(self.overwritten)
        )
        results = call(*arrays, **given)
        return tuple(
            value
            for value, result in zip(results, self.results, strict=True)
            if result.kind != SCRATCH
        )


@functools.cache
def _operation(call: Call, attributes: tuple[tuple[str, Any], ...]) -> Any:
    """Returns the call as an operation that knows how to be cut and mapped."""
    if ROWS in call.arguments:
        return sequential_vmap(_partitioned(call, dict(attributes)))
    return sequential_vmap(functools.partial(call.run, dict(attributes)))


def _partitioned(call: Call, attributes: dict[str, Any]) -> Any:
    """Returns the call as an operation that XLA's partitioner cuts along the batch."""
    operation = custom_partitioning(functools.partial(call.run, attributes))

    def batch_axes(spec: Sequence[Any]) -> Any:
        return spec[0] if spec else None

    def partition(mesh: Any, shapes: Any, results: Any) -> Any:
        specs = [shape.sharding.spec for shape in shapes]
        axes = next(
            batch_axes(spec)
            for spec, kind in zip(specs, call.arguments, strict=True)
            if kind == ROWS
        )

        def local(*arrays: Array) -> tuple[Array, ...]:
            found = call.run(attributes, *arrays)
            if axes is None:
                return found
            return tuple(
                lax.psum(value, axes) if result.kind == SUM else value
                for value, result in zip(found, call.returned(), strict=True)
            )

        def placed(kind: str) -> NamedSharding:
            return NamedSharding(mesh, PartitionSpec(axes) if kind == ROWS else PartitionSpec())

        return (
            mesh,
            local,
            tuple(placed(result.kind) for result in call.returned()),
            tuple(placed(kind) for kind in call.arguments),
        )

    def rule(mesh: Any, values: Any, results: Any) -> tuple[str, dict[str, Any]]:
        # One name for the batch, and one for each other axis, which is not cut.
        names = (f"axis{number}" for number in itertools.count())
        whole: list[str] = []

        def axes(rank: int, kind: str) -> str:
            first = ["batch"] if rank and kind == ROWS else []
            others = list(itertools.islice(names, rank - len(first)))
            whole.extend(others)
            return " ".join([*first, *others])

        given = [axes(v.rank, kind) for v, kind in zip(values, call.arguments, strict=True)]
        made = [axes(v.rank, r.kind) for v, r in zip(results, call.returned(), strict=True)]
        text = f"{', '.join(given)} -> {', '.join(made)}"
        return text, {"need_replication_factors": tuple(whole)}

    def infer(mesh: Any, shapes: Any, results: Any) -> Any:
        return partition(mesh, shapes, results)[2]

    operation.def_partition(
        partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule
    )
    return operation
