"""The room is a leaf, and light: what it may import, and when."""

import ast
import pathlib
import subprocess
import sys
import textwrap

import rcnn_jax.data

FILES = sorted(pathlib.Path(rcnn_jax.data.__file__).parent.rglob("*.py"))


# What every room may use.
LEAF = (
    "rcnn_jax.data",
    "rcnn_jax.errors",
    "rcnn_jax.output.digests",
    "rcnn_jax.output.files",
    "rcnn_jax.configuration.importing",
    "rcnn_jax.configuration.environment",
)


def test_it_imports_nothing_else_of_the_package():
    assert len(FILES) > 50
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                # `from rcnn_jax.configuration import importing` names a module.
                rooms = ("rcnn_jax", "rcnn_jax.configuration", "rcnn_jax.output")
                module = node.module or ""
                names += [f"{module}.{a.name}" for a in node.names] if module in rooms else [module]
            for name in names:
                ours = name == "rcnn_jax" or name.startswith("rcnn_jax.")
                assert not ours or name.startswith(LEAF), (file, name)


def test_memory_and_device_residency_need_numpy_and_jax_alone():
    """Everything else is made unimportable, then the whole way is gone."""
    script = """
        import importlib, pathlib, sys
        absent = ("grain", "tensorflow_datasets", "array_record", "ml_collections", "sklearn",
                  "scipy.io", "PIL", "tensorflow", "absl", "flax", "optax", "orbax")

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if any(name == a or name.startswith(a + ".") for a in absent):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Absent())
        import jax, numpy as np
        import rcnn_jax.data
        folder = pathlib.Path(rcnn_jax.data.__file__).parent
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            importlib.import_module(".".join(["rcnn_jax.data", *parts]))
        from rcnn_jax.data import catalog, pipeline, samplers, sources
        from rcnn_jax.data.transforms import chain as transforms
        source = sources.ArraySource({"image": np.ones((9, 4, 4, 1), np.uint8)})
        assets = transforms.fit_all(["standardize"], source)
        linked = transforms.build("standardize|flip|random_affine(3)", assets)
        for residency in ("memory", "device"):
            with pipeline.train_batches(
                source, samplers.Shuffled(9, 4, 0), start_step=0, num_steps=3,
                residency=residency, place=jax.device_put,
            ) as batches:
                for batch in batches:
                    linked(batch, jax.random.split(jax.random.key(0), 4))
        try:
            with pipeline.train_batches(
                source, samplers.Shuffled(9, 4, 0), start_step=0, num_steps=3,
                residency="stream", place=jax.device_put,
            ) as batches:
                next(batches)
        except ValueError as error:
            print(error)
        try:
            catalog.open_source("tfds:mnist", "train", residency="stream")
        except ValueError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grain, tfds = done.stdout.splitlines()
    assert "needs Grain (No module named 'grain')" in grain
    assert "need tensorflow-datasets (No module named 'tensorflow_datasets')" in tfds
