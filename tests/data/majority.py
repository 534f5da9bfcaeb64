"""Tagging from a table: each word has the tag it has most often in training, an unknown word O."""

import collections


def majority_answers(training, words):
    """Tags of each sentence of `words`; `training` is (words of each sentence, tags of each)."""
    counts = collections.defaultdict(collections.Counter)
    for sentence, tags in zip(*training, strict=True):
        for word, tag in zip(sentence, tags, strict=True):
            counts[word][tag] += 1
    table = {word: found.most_common(1)[0][0] for word, found in counts.items()}
    return [[table.get(word, "O") for word in sentence] for sentence in words]
