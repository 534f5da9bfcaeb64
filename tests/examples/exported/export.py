"""Writes a trained run's predictions as a program: python export.py WORKDIR FILE.

`jax.export.deserialize` runs it on a CPU, a GPU or a TPU, without this package and its data. It
needs `pip install flatbuffers`.
"""

import pathlib
import sys

import jax
from jax import export

import rcnn_jax

run = rcnn_jax.load(sys.argv[1])
shapes = run.batch_shapes(*export.symbolic_shape("rows"))
batch = {name: shapes[name] for name in (*run.task.reads, "mask")}
predict = jax.jit(lambda batch: run.task.predict(run.params, run.model_state, batch))
program = export.export(predict, platforms=["cpu", "cuda", "tpu"])(batch)
pathlib.Path(sys.argv[2]).write_bytes(program.serialize())
