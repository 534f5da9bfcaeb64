"""What can be said of the world of shapes without understanding it.

    PYTHONPATH=tests python -m data.shapes_neighbours --train=5000 --test=300

compares two baselines, each with the share of its answers that are right in percent: the sentences
of the nearest training picture, of which one is right if any of the five references is the same;
and the commonest answer of training to the same question, with no picture at all. Measured:

    scenes of training / test     nearest by blurred, histograms     commonest answer
    5,000 / 300                   0.07, 0.00                         28.33
    20,000 / 2,000                0.01, 0.09                         28.35
"""

import argparse
import collections

import numpy as np

from rcnn_jax.data.datasets.shapes.dataset import SHAPES_WORLD


def read(split: str, number: int):
    """The first examples of a split: pictures, five sentences of each, questions, answers."""
    columns = SHAPES_WORLD.columns(None, split)
    texts = {
        name: [columns[name][i].tobytes().decode() for i in range(number)]
        for name in ("captions", "question", "answer")
    }
    images = np.stack([columns["image"][i] for i in range(number)])
    return images, [text.split("\n") for text in texts["captions"]], texts


def blurred(images):
    """Mean colours of blocks of 4 x 4 pixels, float32 `[images, 768]`."""
    blocks = images.reshape(len(images), 16, 4, 16, 4, 3)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1)


def histograms(images):
    """How many pixels have each of 512 colours, float32 `[images, 512]`."""
    bins = (images // 32).astype(np.int64) @ [64, 8, 1]
    return np.stack([np.bincount(own.ravel(), minlength=512) for own in bins]).astype(np.float32)


def nearest(train, test):
    """For each row of `test` the row of `train` at the least distance."""
    squares = (train**2).sum(axis=1) - 2 * test @ train.T
    return squares.argmin(axis=1)


def repeated(train, test, features):
    """Percent of the neighbours' sentences that are among the references."""
    rows = nearest(features(train[0]), features(test[0]))
    pairs = zip(rows, test[1], strict=True)
    return 100 * np.mean([said in own for row, own in pairs for said in train[1][row]])


def guessed(train, test):
    """Percent of questions whose commonest answer in training is right."""
    counts = collections.defaultdict(collections.Counter)
    for asked, answer in zip(train[2]["question"], train[2]["answer"], strict=True):
        counts[asked][answer] += 1
        counts[asked.split()[0]][answer] += 1  # for questions that training has not
    right = []
    for asked, answer in zip(test[2]["question"], test[2]["answer"], strict=True):
        known = counts[asked] if asked in counts else counts[asked.split()[0]]
        right.append(known.most_common(1)[0][0] == answer)
    return 100 * np.mean(right)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--test", type=int, default=300)
    sizes = vars(parser.parse_args())
    parts = [read(split, sizes[split]) for split in ("train", "test")]
    for features in (blurred, histograms):
        print(f"nearest by {features.__name__}: {repeated(*parts, features):.2f} %")
    print(f"commonest answer: {guessed(*parts):.2f} %")


if __name__ == "__main__":
    main()
