"""Draws configs/results/iterations.png: what an RCNN sees and says at each iteration.

python -m rcnn_jax.train --config=rcnn_digits --workdir=runs/digits
python configs/results/iterations.py runs/digits
"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import jax
import numpy as np
from matplotlib import pyplot

import rcnn_jax

run = rcnn_jax.load(sys.argv[1])
test = rcnn_jax.open_source("digits", "test").gather(np.arange(360))
steps = run.model.steps
chances = np.stack(
    [np.asarray(jax.nn.softmax(run.apply(test["image"], steps=t))) for t in range(steps + 1)]
)
# The image whose right class gains most from the iterations.
right = chances[:, np.arange(360), test["label"]]
chosen = int(np.argmax(right[-1] - right[0]))
image, label = test["image"][chosen], int(test["label"][chosen])
_, states = run.apply(test["image"][chosen : chosen + 1], states=True)
maps = np.asarray(states["rcl4"])[:, 0]
strongest = np.argsort(maps[-1].max(axis=(0, 1)))[-16:]

figure, axes = pyplot.subplots(2, steps + 2, figsize=(2.1 * (steps + 2), 4.2), dpi=110)
axes[0, 0].imshow(image[..., 0], cmap="gray_r")
axes[0, 0].set_title("input", fontsize=10)
axes[1, 0].axis("off")
axes[1, 0].text(
    0,
    0.5,
    f"above: 16 maps of the\nlast RCL\nbelow: its answer\n(true: {label})",
    va="center",
    fontsize=9,
)
for t in range(steps + 1):
    tiles = maps[t][..., strongest].transpose(2, 0, 1)
    tiles = np.pad(tiles, ((0, 0), (0, 1), (0, 1)))
    side = tiles.shape[1]
    grid = tiles.reshape(4, 4, side, side).swapaxes(1, 2).reshape(4 * side, 4 * side)
    axes[0, t + 1].imshow(grid, cmap="viridis", vmin=0, vmax=maps[..., strongest].max())
    axes[0, t + 1].set_title(f"x({t})", fontsize=10)
    colours = ["#d55e00" if digit == label else "#56788f" for digit in range(10)]
    axes[1, t + 1].bar(range(10), chances[t, chosen], color=colours)
    axes[1, t + 1].set(ylim=(0, 1), xticks=range(10))
    axes[1, t + 1].tick_params(labelsize=7)
for axis in axes[0]:
    axis.set(xticks=[], yticks=[])
figure.tight_layout()
figure.savefig(pathlib.Path(__file__).with_suffix(".png"))
print("image", chosen, "of class", label, right[:, chosen].round(3).tolist())
