"""The long suite of the compiled kernels: random shapes, with sanitizers, against float64.

    python tests/kernels/random_shapes.py --minutes=5 --seed=0

Builds the library once more with AddressSanitizer and UndefinedBehaviorSanitizer, and starts a
process for each instruction set that this CPU has, into which the sanitizers are preloaded. Each
process draws shapes (sides of 1 to 20, 1 to 9 images, channels in multiples of 16) and numbers,
runs the calls of convolutions, of batch normalization, of local response normalization and of
max-pooling, and compares every result with NumPy in float64. All results are kept, scratch memory
too, so that each has memory of its own with guarded ends; scratch memory of the threads is as large
as it must be.

Prints a line for each instruction set: calls, the largest error relative to the largest entry of a
result, and what was found. The exit code is 1 if a sanitizer reported anything or an error was too
large.
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve()
SANITIZERS = ("-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g", "-O1")
EXACT = "-DRCNN_EXACT_SCRATCH"
# Relative to the largest entry of a result whose terms may cancel.
BOUND = 1e-4


def pixels(x):
    """The windows of 3 x 3 of images: [batch, height, width, 9, channels]."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.stack(
        [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=3
    )


def convolve(x, w):
    batch, height, width = x.shape[:3]
    windows = pixels(x).reshape(batch * height * width, -1)
    return (windows @ w.reshape(-1, w.shape[3])).reshape(batch, height, width, -1)


def kernel_gradient(x, g):
    windows = pixels(x).reshape(-1, 9 * x.shape[3])
    return (windows.T @ g.reshape(-1, g.shape[3])).reshape(3, 3, x.shape[3], g.shape[3])


def normal(z, norm):
    return (z - norm[0]) * norm[1] + norm[2]


def moments(z):
    mean = z.mean(axis=(1, 2))
    return np.stack([mean, ((z - mean[:, None, None]) ** 2).sum(axis=(1, 2))], axis=1)


def normalize_gradient(g, z, norm):
    return norm[3] * g * (normal(z, norm) > 0) + norm[4] * (z - norm[0]) + norm[5]


def gradient_sums(g, z, norm):
    through = g * (normal(z, norm) > 0)
    return np.stack([through.sum(axis=(1, 2)), (through * (z - norm[0])).sum(axis=(1, 2))], axis=1)


def window(values, before, after):
    """Sums of the channels k - before .. k + after."""
    sums = np.concatenate([np.zeros_like(values[..., :1]), values.cumsum(axis=-1)], axis=-1)
    k = np.arange(values.shape[-1])
    first = np.maximum(k - before, 0)
    last = np.minimum(k + after + 1, values.shape[-1])
    return sums[..., last] - sums[..., first]


def respond(z, bias, size, quarters, rectify, alpha, k):
    a = np.maximum(z + bias, 0) if rectify else z + bias
    d = k + alpha / size * window(a**2, size // 2, size - 1 - size // 2)
    return a * d ** (-quarters / 4)


def respond_gradient(g, z, bias, size, quarters, rectify, alpha, k):
    before, beta = size // 2, quarters / 4
    after = size - 1 - before
    a = np.maximum(z + bias, 0) if rectify else z + bias
    d = k + alpha / size * window(a**2, before, after)
    inner = window(g * a * d ** (-beta - 1), after, before)
    through = g * d**-beta - 2 * alpha * beta / size * a * inner
    return (z + bias > 0) * through if rectify else through


def max_pool(x, window, strides, pads, pooled):
    """Maxima of windows, and the number of the first place in the window that has each."""
    batch, channels = x.shape[0], x.shape[-1]
    y = np.empty((batch, *pooled, channels), np.float32)
    places = np.empty(y.shape, np.int8)
    for at in np.ndindex(*pooled):
        begin = [n * stride - pad for n, stride, pad in zip(at, strides, pads, strict=True)]
        first = [max(b, 0) for b in begin]
        part = x[:, first[0] : begin[0] + window[0], first[1] : begin[1] + window[1]]
        flat = part.reshape(batch, -1, channels)
        row, column = np.unravel_index(flat.argmax(axis=1), part.shape[1:3])
        y[:, *at] = flat.max(axis=1)
        places[:, *at] = (row + first[0] - begin[0]) * window[1] + column + first[1] - begin[1]
    return y, places


def max_pool_gradient(g, places, shape, window, strides, pads):
    gradient = np.zeros(shape)
    image, channel = np.ogrid[: shape[0], : shape[3]]
    for at in np.ndindex(*g.shape[1:3]):
        row, column = np.divmod(places[:, *at].astype(int), window[1])
        row += at[0] * strides[0] - pads[0]
        column += at[1] * strides[1] - pads[1]
        np.add.at(gradient, (image, row, column, channel), g[:, *at].astype(np.float64))
    return gradient


class Trials:
    """Draws shapes and numbers, calls the library and compares."""

    def __init__(self, seed: int, verbose: bool):
        import jax

        from rcnn_jax.kernels import library

        self.jax, self.library = jax, library
        self.dice = np.random.default_rng(seed)
        self.verbose = verbose
        self.calls: collections.Counter[str] = collections.Counter()
        self.worst: dict[str, float] = {}
        self.wrong: list[str] = []

    def floats(self, *shape):
        return self.dice.standard_normal(shape).astype(np.float32)

    def call(self, name, arrays, shapes, expected, **attributes):
        """Calls a function; `expected` holds None for a result that is scratch memory."""
        if self.verbose:
            print(name, [a.shape for a in arrays], attributes, flush=True)
        results = [
            self.jax.ShapeDtypeStruct(
                shape, np.int8 if getattr(other, "dtype", None) == np.int8 else np.float32
            )
            for shape, other in zip(shapes, expected, strict=True)
        ]
        registered = self.library._registered(name)
        found = self.jax.ffi.ffi_call(registered, results)(*arrays, **attributes)
        self.calls[name] += 1
        for value, other in zip(found, expected, strict=True):
            if other is None:
                continue
            other = np.asarray(other, np.float64)
            scale = max(float(np.abs(other).max(initial=0)), 1e-3)
            difference = np.asarray(value, np.float64) - other
            error = float(np.abs(difference).max(initial=0)) / scale
            self.worst[name] = max(self.worst.get(name, 0), error)
            if not error <= BOUND:
                self.wrong.append(f"{name} {[a.shape for a in arrays]} {attributes}: {error:.2g}")
        return [np.asarray(value) for value in found]

    def side(self):
        return int(self.dice.integers(1, 21))

    def channels(self):
        return 16 * int(self.dice.integers(1, 8))

    def norm(self, rows, channels):
        norm = self.floats(rows, channels)
        norm[1] = np.abs(norm[1]) + 0.1
        return norm

    def clear(self, z, norm):
        """Moves values of z away from where `normal` is 0, whose sign float32 may not know."""
        wide = np.float64(1)
        value = normal(z * wide, norm * wide)
        return np.where(np.abs(value) < 1e-3, z + 0.1 / norm[1], z).astype(np.float32)

    def trial(self):
        self.convolutions()
        self.pools()
        self.patches()
        self.loops()

    def pools(self):
        batch, channels = int(self.dice.integers(1, 10)), self.channels()
        sides, strides = (self.side(), self.side()), self.dice.integers(1, 5, size=2).tolist()
        window = self.dice.integers(1, 12, size=2).tolist()
        pads = [int(self.dice.integers(0, side)) for side in window]
        # Windows may end beyond the padding, but all begin before the last pixel or at it.
        pooled = tuple(
            int(self.dice.integers(1, (side - 1 + pad) // stride + 2))
            for side, pad, stride in zip(sides, pads, strides, strict=True)
        )
        # Several equal values: the first of them counts.
        shape = (batch, *sides, channels)
        x = np.round(2 * self.floats(*shape)).astype(np.float32)
        y, places = max_pool(x, window, strides, pads, pooled)
        geometry = np.array([*window, *strides, *pads], np.int64)
        self.call("RcnnPool", (x,), [y.shape, y.shape], [y, places], geometry=geometry)
        g = self.floats(*y.shape)
        expected = max_pool_gradient(g, places, shape, window, strides, pads)
        self.call("RcnnPoolGradient", (g, places), [shape], [expected], geometry=geometry)

    def patches(self):
        batch, height, width = int(self.dice.integers(1, 10)), self.side(), self.side()
        rows, columns = (2 * self.dice.integers(0, 5, size=2) + 1).tolist()
        inputs, outputs = int(self.dice.integers(1, 16)), self.channels()
        x, w = (
            self.floats(batch, height, width, inputs),
            self.floats(rows, columns, inputs, outputs),
        )
        answer = (batch, height, width, outputs)
        g = self.floats(*answer)
        across = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))
        padded = np.pad(np.float64(1) * x, across)
        y, gradient = np.zeros(answer), np.zeros(w.shape)
        for i, j in np.ndindex(rows, columns):
            part = padded[:, i : i + height, j : j + width]
            y += part @ w[i, j]
            gradient[i, j] = np.einsum("nhwc,nhwk->ck", part, g)
        depth, parts = rows * columns * inputs, int(self.dice.integers(1, batch + 3))
        results = [answer, (outputs // 16, depth, 16)]
        self.call("RcnnConvolvePatches", (x, w), results, [y, None])
        results = [w.shape, (parts, depth, outputs)]
        self.call("RcnnPatchesGradient", (x, g), results, [gradient, None])

    def loops(self):
        """Recurrent loops through their functions, whose calls take many arrays."""
        from rcnn_jax.layers.recurrent import gated_cells, layer, simple_cells

        jax = self.jax
        batch, time_, inputs = (int(self.dice.integers(1, top)) for top in (10, 8, 40))
        hidden = self.channels()
        cells = [gated_cells.LSTM(hidden), gated_cells.GRU(hidden)]
        cells += [simple_cells.Elman(hidden, a) for a in ("tanh", "relu", "sigmoid", "identity")]
        cell = cells[self.dice.integers(len(cells))]
        shapes = {n: shape for group in cell.weights(inputs) for n, (_, shape) in group.items()}
        weights = {n: self.floats(*shape) / 8 for n, shape in shapes.items()}
        carry = {n: self.floats(batch, size) for n, size in cell.carry_features().items()}
        x, weight = self.floats(batch, time_, inputs), self.floats(batch, time_, hidden)
        lengths = self.dice.integers(0, time_ + 1, size=batch) if self.dice.integers(2) else None
        reverse = bool(self.dice.integers(2))

        def everything(implementation, dtype):
            def loss(weights, carry, x):
                y, last = layer.run_cell(
                    cell, weights, x, carry, lengths=lengths, reverse=reverse,
                    implementation=implementation,
                )  # fmt: skip
                return (y * weight).sum() + sum(value.sum() for value in last.values()), y

            given = jax.tree.map(lambda a: jax.numpy.asarray(a, dtype), (weights, carry, x))
            value = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
            return jax.tree.leaves(jax.jit(value)(*given))

        found = everything("scan", "float32")
        with jax.enable_x64(True):
            expected = everything("autodiff", "float64")
        name = f"loop of {type(cell).__name__}"
        self.calls[name] += 1
        for value, other in zip(found, expected, strict=True):
            wide, other = np.float64(1) * np.asarray(value), np.asarray(other)
            scale = max(float(np.abs(other).max(initial=0)), 1e-1)
            error = float(np.abs(wide - other).max(initial=0)) / scale
            self.worst[name] = max(self.worst.get(name, 0), error)
            if not error <= BOUND:
                self.wrong.append(f"{name} {batch, time_, inputs, hidden, reverse}: {error:.2g}")

    def convolutions(self):
        batch, height, width = int(self.dice.integers(1, 10)), self.side(), self.side()
        inputs, outputs = self.channels(), self.channels()
        x, w = self.floats(batch, height, width, inputs), self.floats(3, 3, inputs, outputs)
        wide = lambda *arrays: [np.asarray(a, np.float64) for a in arrays]  # noqa: E731
        image, answer = (batch, height, width, inputs), (batch, height, width, outputs)
        packing = [(36, outputs // 16, inputs, 16)]
        (packed,) = self.call("RcnnTransformKernel", (w,), packing, [None])
        x8, w8 = wide(x, w)
        self.call("RcnnConvolve", (x, packed), [answer], [convolve(x8, w8)])

        g, drive = self.floats(*answer), self.floats(*answer)
        parts = int(self.dice.integers(1, batch + 3))
        results = [w.shape, (parts, 36, inputs, outputs)]
        g8 = np.float64(1) * g
        self.call("RcnnKernelGradient", (x, g), results, [kernel_gradient(x8, g8), None])

        norm = self.norm(3, inputs)
        z = self.clear(x, norm)
        z8, norm8 = wide(z, norm)
        active = np.maximum(normal(z8, norm8), 0)
        expected = [kernel_gradient(active, g8), None]
        self.call("RcnnKernelGradientNormal", (z, norm, g), results, expected)
        after = drive + convolve(active, w8)
        arrays, sums = (z, norm, drive, packed), moments(after)
        self.call("RcnnStepNormal", arrays, [answer, (batch, 2, outputs)], [after, sums])
        self.call("RcnnStepNormal", arrays, [answer, (batch, 0, outputs)], [after, None])
        self.call("RcnnMoments", (z,), [(batch, 2, inputs)], [moments(z8)])
        sums = gradient_sums(x8, z8, norm8)
        self.call("RcnnGradientSums", (x, z, norm), [(batch, 2, inputs)], [sums])

        norm, before = self.norm(6, inputs), self.norm(3, outputs)
        z, y = self.clear(x, norm), self.clear(drive, before)
        slope = self.floats(*image)
        slope8, z8, norm8, y8, before8 = wide(slope, z, norm, y, before)
        inner = normalize_gradient(slope8, z8, norm8)
        outer = convolve(inner, w8)
        results = [image, answer, (batch, 2, outputs)]
        expected = [inner, outer, gradient_sums(outer, y8, before8)]
        self.call("RcnnBackNormal", (slope, z, norm, packed, y, before), results, expected)

        options = {
            "size": int(self.dice.integers(1, min(2 * inputs, 40))),
            "quarters": int(self.dice.integers(1, 5)),
            "rectify": int(self.dice.integers(2)),
            "alpha": float(self.dice.choice([1e-3, 0.1, 1.0])),
            "k": float(self.dice.choice([1.0, 2.0])),
        }
        typed = dict.fromkeys(("size", "quarters", "rectify"), np.int64)
        typed |= {"alpha": np.float32, "k": np.float32}
        attributes = {name: typed[name](value) for name, value in options.items()}
        bias = self.floats(inputs)
        z = self.clear(x, np.stack([-bias, np.ones_like(bias), np.zeros_like(bias)]))
        z8, bias8 = wide(z, bias)
        state, back = respond(z8, bias8, **options), respond_gradient(slope8, z8, bias8, **options)
        expected = [state, drive + convolve(state, w8)]
        results = [image, answer]
        self.call("RcnnStepResponse", (z, bias, drive, packed), results, expected, **attributes)
        expected = [back, convolve(back, w8)]
        self.call("RcnnBackResponse", (slope, z, bias, packed), results, expected, **attributes)
        flat = [a.reshape(-1, inputs) for a in (slope, z, state, back)]
        shape = flat[0].shape
        self.call("RcnnRespond", (flat[1], bias), [shape], [flat[2]], **attributes)
        self.call("RcnnRespondGradient", (*flat[:2], bias), [shape], [flat[3]], **attributes)


def work(library_file: pathlib.Path, minutes: float, seed: int, verbose: bool) -> int:
    """The life of a process: trials until the time is up, then a line of JSON."""
    from rcnn_jax.kernels import library

    library.FILE = library_file
    problem = library.problem()
    assert not problem, problem
    trials = Trials(seed, verbose)
    ends = time.monotonic() + 60 * minutes
    count = 0
    while time.monotonic() < ends:
        trials.trial()
        count += 1
    report = {
        "isa": library.instruction_set(),
        "trials": count,
        "calls": trials.calls,
        "worst": trials.worst,
        "wrong": trials.wrong,
    }
    print(json.dumps(report))
    return 1 if trials.wrong else 0


def sanitizer(command: list[str]) -> str:
    """The files to preload: the sanitizers must be there before Python allocates."""
    files = []
    for name in ("libasan.so", "libubsan.so", "libstdc++.so"):
        told = subprocess.run(
            [*command, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        )
        files.append(str(pathlib.Path(told.stdout.strip()).resolve()))
    return ":".join(files)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="of all processes together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="without sanitizers, many more trials")
    parser.add_argument("--verbose", action="store_true", help="prints each call before it is made")
    parser.add_argument("--library", type=pathlib.Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.library:
        return work(given.library, given.minutes, given.seed, given.verbose)
    from rcnn_jax.kernels import build

    command = build.compiler()
    assert command is not None, "there is no compiler"
    failed = False
    limits = ["base", "avx2", "avx512"] if platform.machine() == "x86_64" else ["base"]
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch, build.LIBRARY)
        print(build.build(file, extra=(EXACT, *(() if given.plain else SANITIZERS))), flush=True)
        env = dict(os.environ, JAX_PLATFORMS="cpu", TF_CPP_MIN_LOG_LEVEL="2")
        env.pop("RCNN_JAX_KERNELS", None)
        if not given.plain:
            env["LD_PRELOAD"] = sanitizer(command)
            # Python and jaxlib leave memory behind; jaxlib was not built with sanitizers.
            env["ASAN_OPTIONS"] = "detect_leaks=0:detect_stack_use_after_return=0"
            env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
        told = set()
        for limit in limits:
            share = given.minutes / len(limits)
            arguments = [f"--library={file}", f"--minutes={share}", f"--seed={given.seed}"]
            arguments += ["--verbose"] if given.verbose else []
            with open(f"{scratch}/output", "w+") as output:
                done = subprocess.run(
                    [sys.executable, str(HERE), *arguments],
                    env=env | {"RCNN_JAX_KERNELS_ISA": limit},
                    stdout=output, stderr=subprocess.STDOUT, check=False,
                )  # fmt: skip
                output.seek(0)
                text = output.read()
            lines = text.splitlines()
            report = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None
            if report is None or done.returncode:
                failed = True
                begin = max(text.find("ERROR: "), text.find("runtime error"), 0)
                print(f"{limit}: exit code {done.returncode}\n{text[begin : begin + 8000]}")
                continue
            if report["isa"] in told:
                print(f"{limit}: this CPU has only {report['isa']}")
            told.add(report["isa"])
            worst = max(report["worst"], key=report["worst"].get)
            print(
                f"{report['isa']}: {report['trials']} trials, {sum(report['calls'].values())} "
                f"calls of {len(report['calls'])} functions, nothing found; the largest error, "
                f"relative to the largest entry, is {report['worst'][worst]:.2g} ({worst})",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
