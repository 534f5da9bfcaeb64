"""The library of compiled kernels: when it is used, and what stands around its calls."""

import os
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rcnn_jax.errors import UsageError
from rcnn_jax.kernels import build, forms, library
from rcnn_jax.kernels.library import ROWS, SCRATCH, SUM, WHOLE, Call, Result

RNG = np.random.default_rng(1)
built = pytest.mark.skipif(bool(library.missing()), reason=library.missing())

TRANSFORM = Call(
    "RcnnTransformKernel",
    (WHOLE,),
    (Result(lambda w: (36, w.shape[3] // 16, w.shape[2], 16), WHOLE),),
)
CONVOLVE = Call(
    "RcnnConvolve",
    (ROWS, WHOLE),
    (Result(lambda x, packed: (*x.shape[:3], 16 * packed.shape[1])),),
)
KERNEL_GRADIENT = Call(
    "RcnnKernelGradient",
    (ROWS, ROWS),
    (
        Result(lambda x, g: (3, 3, x.shape[3], g.shape[3]), SUM),
        Result(lambda x, g: (4, 36, x.shape[3], g.shape[3]), SCRATCH),
    ),
)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def convolution(x, w):
    (packed,) = TRANSFORM(w)
    (y,) = CONVOLVE(x, packed)
    return y, KERNEL_GRADIENT(x, y)[0]


def by_xla(x, w):
    def convolve(w):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=dimensions)

    y, back = jax.vjp(convolve, w)
    return y, back(y)[0]


def assert_close(found, expected):
    """Relative to the largest entry: sums of a few hundred terms in float32."""
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() < 2e-5 * np.abs(other).max()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder in the place of that of the library, which is empty."""
    monkeypatch.setattr(library, "FILE", tmp_path / build.LIBRARY)
    yield tmp_path
    library._library.cache_clear()


def test_where_there_is_a_compiler_it_was_built():
    if os.environ.get(build.SWITCH) == "0" or build.compiler() is None:
        pytest.skip("it was not to be built, or there is no compiler")
    assert library.missing() == ""
    if os.environ.get("RCNN_JAX_KERNELS") != "0":
        assert library.problem() == ""
        assert forms.summary() == f"compiled, {library.instruction_set()}"


def test_the_switch_turns_the_kernels_off(monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KERNELS", "0")
    assert library.problem() == "RCNN_JAX_KERNELS=0 switches them off"
    assert forms.summary() == "XLA's forms: RCNN_JAX_KERNELS=0 switches them off"
    monkeypatch.setenv("RCNN_JAX_KERNELS", "off")
    with pytest.raises(UsageError, match=re.escape("'off' must be 0 (XLA's forms only) or 1.")):
        library.problem()


def test_other_devices_do_not_call_them(monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KERNELS", "1")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert library.problem() == "they are for CPUs, and this is a gpu"


def test_a_missing_library_is_explained_by_the_report_of_the_build(elsewhere, monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KERNELS", "1")
    assert library.problem() == f"the library was not built; `{build.COMMAND}` builds it"
    library._library.cache_clear()
    (elsewhere / build.REPORT).write_text("c++ failed: error: no\n\nmore\n")
    assert library.problem() == "the library was not built: c++ failed: error: no"


def test_a_file_that_is_no_library_is_named(elsewhere, monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KERNELS", "1")
    (elsewhere / build.LIBRARY).write_bytes(b"no library")
    assert library.problem().startswith(f"{build.LIBRARY} cannot be loaded (")
    assert library.problem().endswith(f"`{build.COMMAND}` builds it anew")


@built
@pytest.mark.parametrize("stale", ["library", "sources", "headers"])
def test_a_library_of_other_sources_or_of_later_headers_is_not_used(stale, elsewhere, monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KERNELS", "1")
    content = (build.FOLDER / build.LIBRARY).read_bytes()
    digest = build.digest()
    (place,) = re.finditer(rf"{digest} ([\d.]+)\0".encode(), content)
    if stale == "library":
        content = content.replace(digest.encode(), b"0" * len(digest))
    elif stale == "headers":
        later = b"9" + content[place.start(1) + 1 : place.end(1)]
        content = content[: place.start(1)] + later + content[place.end(1) :]
    else:
        monkeypatch.setattr(build, "digest", lambda: "f" * len(digest))
    (elsewhere / build.LIBRARY).write_bytes(content)
    told = library.problem()
    assert told.startswith(f"{build.LIBRARY} was built ")
    assert told.endswith(f"`{build.COMMAND}` builds it anew")
    assert ("from other sources" in told) == (stale != "headers")
    assert ("newer than the installed" in told) == (stale == "headers")


def test_the_digest_changes_with_every_file_and_name(tmp_path):
    native = tmp_path / "native"
    shutil.copytree(build.FOLDER / "native", native)
    first = build.digest(native)
    assert first == build.digest()
    (native / "table.h").write_text((native / "table.h").read_text() + "\n")
    second = build.digest(native)
    (native / "table.h").rename(native / "tables.h")
    assert len({first, second, build.digest(native)}) == 3
    assert not build.is_current(build.FOLDER / build.LIBRARY, "0.10.2", native)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CXX": "/bin/false"}, r"no C\+\+17 compiler was found \(CXX=/bin/false does not work\)"),
        ({"CXX": "", "PATH": ""}, r"no C\+\+17 compiler was found \(tried c\+\+, g\+\+, clang"),
        ({build.SWITCH: "0"}, "RCNN_JAX_BUILD_KERNELS=0 was set"),
        ({build.SWITCH: "no"}, "RCNN_JAX_BUILD_KERNELS='no' must be 0"),
    ],
)
def test_without_a_compiler_the_report_says_so(environment, reason, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / build.LIBRARY).write_bytes(b"an old one")
    assert re.match(reason, build.build_into(tmp_path))
    assert re.match(reason, (tmp_path / build.REPORT).read_text())
    assert not (tmp_path / build.LIBRARY).exists()


@pytest.mark.skipif(build.compiler() is None, reason="there is no compiler")
@pytest.mark.one_row
def test_a_failing_compilation_keeps_the_messages_and_a_good_one_the_digest(tmp_path):
    native = tmp_path / "native"
    native.mkdir()
    shutil.copy(build.FOLDER / "native" / "built_from.cc", native)
    assert build.build_into(tmp_path, native) == ""
    assert re.match(r"built by .+ with the headers of jaxlib [\d.]+$", report(tmp_path)[0])
    assert build.is_current(tmp_path / build.LIBRARY, build.headers().version, native)
    (native / "faulty.cc").write_text("int main() { return nothing; }\n")
    reason = build.build_into(tmp_path, native)
    assert "failed" in reason
    assert "nothing" in reason
    assert report(tmp_path)[0] == reason
    assert any("faulty.cc" in line and "-std=c++17" in line for line in report(tmp_path)[1:])
    assert not list(tmp_path.glob(f"{build.LIBRARY}*"))


def report(folder):
    return (folder / build.REPORT).read_text().splitlines()


NAMES = {"base": "the compiler's vectors", "avx2": "AVX2", "avx512": "AVX-512"}


@built
@pytest.mark.one_row
def test_the_instruction_set_is_limited_by_the_environment():
    code = "from rcnn_jax.kernels import library; print(library.instruction_set())"
    widest = list(NAMES.values()).index(library.instruction_set())
    told = []
    for limit in NAMES:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "RCNN_JAX_KERNELS_ISA": limit},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        told.append(done.stdout.strip())
    assert told == [list(NAMES.values())[min(n, widest)] for n in range(3)]


def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KERNELS_ISA", "sse")
    with pytest.raises(UsageError, match="ISA='sse' must be one of base, avx2, avx512"):
        library.problem()


@built
def test_a_call_gives_what_xla_does():
    x, w = floats(3, 7, 9, 32), floats(3, 3, 32, 48)
    assert_close(jax.jit(convolution)(x, w), by_xla(x, w))


@built
@pytest.mark.parametrize(
    ("x", "packed", "named"),
    [
        ((2, 4, 4, 16), (36, 1, 32, 16), "packed kernel does not fit"),
        ((2, 4, 4, 8), (36, 1, 8, 16), "channels in multiples of 16"),
        ((2, 4, 16), (36, 1, 16, 16), "four axes"),
    ],
)
def test_wrong_shapes_raise(x, packed, named):
    call = Call(
        "RcnnConvolve",
        (ROWS, WHOLE),
        (Result(lambda x, packed: (*x.shape[:-1], 16 * packed.shape[1])),),
    )
    with pytest.raises(Exception, match=f"a kernel of rcnn_jax: .*{named}"):
        jax.block_until_ready(call(jnp.zeros(x), jnp.zeros(packed)))


@built
def test_vmap_runs_one_call_after_the_other():
    x, w = floats(2, 3, 5, 6, 16), floats(3, 3, 16, 32)
    y, gradient = jax.vmap(convolution, in_axes=(0, None))(x, w)
    for n in range(2):
        assert_close((y[n], gradient[n]), by_xla(x[n], w))


@built
@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit])
def test_on_a_mesh_every_device_computes_its_own_images(axes):
    x, w = floats(8, 6, 6, 16), floats(3, 3, 16, 32)
    mesh = jax.make_mesh((4, 1), ("data", "fsdp"), axis_types=(axes, axes))
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    whole = jax.device_put(w, NamedSharding(mesh, PartitionSpec()))
    program = jax.jit(convolution).lower(spread, whole).compile()
    text = program.as_text()
    assert "all-gather" not in text
    assert "all-reduce" in text  # of the kernel gradient
    y, gradient = program(spread, whole)
    assert y.sharding.spec[0] == "data"
    assert gradient.sharding.is_fully_replicated
    assert_close((y, gradient), by_xla(x, w))


@built
def test_pmap_and_shard_map_call_it_on_every_device():
    x, w = floats(8, 6, 6, 16), floats(3, 3, 16, 32)
    expected = by_xla(x, w)
    y, gradient = jax.pmap(convolution, in_axes=(0, None))(x.reshape(4, 2, 6, 6, 16), w)
    assert_close((y.reshape(8, 6, 6, 32), gradient.sum(axis=0)), expected)
    mesh = jax.make_mesh((4,), ("data",))
    rows = PartitionSpec("data")

    def local(x, w):
        y, gradient = convolution(x, w)
        return y, jax.lax.psum(gradient, "data")

    mapped = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(rows, PartitionSpec()),
        out_specs=(rows, PartitionSpec()),
        check_vma=False,
    )
    x = jax.device_put(x, NamedSharding(mesh, rows))
    assert_close(jax.jit(mapped)(x, w), expected)
