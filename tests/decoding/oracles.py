"""CTC by its definition: every path is listed. And the forward algorithm in logarithms."""

import functools
import itertools

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def labelling(path, blank):
    return tuple(int(k) for k, _ in itertools.groupby(path) if k != blank)


class Paths:
    """All paths through `time` frames, and whose labelling each has."""

    def __init__(self, time, classes, blank):
        self.blank = blank
        self.paths = np.array(list(itertools.product(range(classes), repeat=time)), int)
        self.paths = self.paths.reshape(classes**time, time)
        of_path = [labelling(path, blank) for path in self.paths]
        self.labellings = sorted(set(of_path))
        index = {labels: i for i, labels in enumerate(self.labellings)}
        self.owner = np.array([index[labels] for labels in of_path])

    def path_probs(self, logits):
        """[batch, paths]."""
        scores = log_softmax(logits)
        return np.exp(scores[:, np.arange(scores.shape[1]), self.paths].sum(-1))

    def probs(self, logits):
        """[batch, labellings]."""
        return self.path_probs(logits) @ np.eye(len(self.labellings))[self.owner]

    def posterior(self, logits, chosen):
        """[batch, time, classes] given the labelling numbered `chosen` of each sequence."""
        weight = self.path_probs(logits) * (self.owner == chosen[:, None])
        hot = np.eye(logits.shape[2])[self.paths]
        total = weight.sum(1)[:, None, None]
        return np.einsum("bp,ptk->btk", weight, hot) / total

    def padded(self, chosen, width, fill=0):
        """Labels [batch, width] and their lengths of the labellings numbered `chosen`."""
        labels = np.full((len(chosen), width), fill, np.int32)
        for row, number in enumerate(chosen):
            found = self.labellings[number]
            labels[row, : len(found)] = found
        return labels, np.array([len(self.labellings[n]) for n in chosen], np.int32)


paths = functools.cache(Paths)


def unpadded(labels, lengths):
    return [
        tuple(int(k) for k in row[:n])
        for row, n in zip(np.asarray(labels), np.asarray(lengths), strict=True)
    ]


def forward(logits, frames, labels, lengths, blank):
    """-log p [batch] in float64, by the chain of 2 labels + 1 places, in logarithms."""
    scores = log_softmax(logits)
    batch, width = labels.shape
    chain = np.full((batch, 2 * width + 1), blank)
    chain[:, 1::2] = np.clip(labels, 0, scores.shape[2] - 1)
    skips = np.zeros(chain.shape, bool)
    skips[:, 2:] = (chain[:, 2:] != blank) & (chain[:, 2:] != chain[:, :-2])
    alpha = np.full(chain.shape, -np.inf)
    alpha[:, 0] = 0  # before the first frame
    for t in range(scores.shape[1]):
        one = np.full(chain.shape, -np.inf)
        two = np.full(chain.shape, -np.inf)
        one[:, 1:] = alpha[:, :-1]
        two[:, 2:] = alpha[:, :-2]
        reach = np.logaddexp(np.logaddexp(alpha, one), np.where(skips, two, -np.inf))
        after = reach + np.take_along_axis(scores[:, t], chain, 1)
        alpha = np.where((t < frames)[:, None], after, alpha)
    row = np.arange(batch)
    in_label = np.where(lengths > 0, alpha[row, np.maximum(2 * lengths - 1, 0)], -np.inf)
    return -np.logaddexp(alpha[row, 2 * lengths], in_label)
