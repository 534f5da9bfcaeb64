"""Captioning of pictures: cross-entropy of words, beam search and caption metrics."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.data.encoders.captions import MADE
from rcnn_jax.data.text.vocabulary import BOS, EOS, PAD, UNK
from rcnn_jax.decoding.beam import beam_search
from rcnn_jax.decoding.sampling import sample
from rcnn_jax.decoding.top_k import top_k
from rcnn_jax.layers.masks import time_mask
from rcnn_jax.layers.randomness import example_keys
from rcnn_jax.metrics import captions as scores
from rcnn_jax.metrics import novelty
from rcnn_jax.metrics.tokens import token_sums
from rcnn_jax.tasks.base import Batch, PyTree, found_answers, real_examples
from rcnn_jax.tasks.summed import SummedTask

SENTENCES = ("one", "all")
SHOWN = 64  # number of captions in evaluation.json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(SummedTask):
    """Generates a sentence for each picture.

    A batch has the feature that `inputs` names, images `[batch, height, width, channels]` or
    vectors `[batch, size]`; `captions` `[batch, sentences, steps]`, ids with `EOS` as the last one,
    and `caption_lengths` `[batch, sentences]`, 0 where a picture has fewer sentences; `references`
    and `reference_lengths`, the uncut sentences for the metrics; and `mask` `[batch]` (0 for
    padding). `rcnn_jax.data.encoders.captions` makes these features. The model is a `Captioner`.

    The loss is the mean cross-entropy of a word in nats, where EOS counts as a word; its
    exponential is the perplexity.

    Attributes:
        words: Vocabulary: the word of each id, including ids beyond the classes of the model, which
            belong to words that occur in references only.
        training_captions: Sentences of the training split, tokens separated by spaces, which
            measure how much of the generated text is copied from them. Empty: this is not measured.
        inputs: Name of the feature that the model reads.
        sentences: Which sentences of a picture a training step uses: `one`, drawn anew at each
            step, or `all`, which takes more memory for the logits of every word of the batch.
        beam_width: Number of sentences in the beam of `predict`; 1 is greedy decoding.
        max_steps: Largest number of ids of a generated sentence, including EOS.
        length_power: Power of the length by which log-probabilities are divided to compare
            sentences; see `rcnn_jax.decoding.beam.beam_search`.
        temperature: Temperature of sampling; see `rcnn_jax.decoding.sampling.sample`. 0: sentences
            are found by beam search instead.
        top_k: Number of most probable words to sample from; 0 samples from all.
        drawing_seed: Seed of sampling. A sample depends on it and on the picture alone.
        n_best: Number of sentences that `predict` returns for a picture.
        judge: Import path of a function or another callable that evaluates captions by further
            features of their examples, `judge(captions, features) -> {metric: value}`. Its
            attribute `reads` names these features, which it receives as stacked arrays. Empty: no
            judge.
    """

    words: Sequence[str]
    training_captions: Sequence[str] = ()
    inputs: str = "image"
    sentences: str = "one"
    beam_width: int = 7
    max_steps: int = 20
    length_power: float = 0.0
    temperature: float = 0.0
    top_k: int = 0
    drawing_seed: int = 0
    n_best: int = 1
    judge: str = ""
    unit: str = "pictures"

    def __post_init__(self):
        super().__post_init__()
        if self.sentences not in SENTENCES:
            raise ValueError(
                f"config.task.sentences is one of {', '.join(SENTENCES)}, got {self.sentences!r}."
            )
        for name in ("beam_width", "max_steps", "n_best"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}: see config.decoding "
                    "and config.task."
                )
        if not 0 <= self.temperature < np.inf or self.top_k < 0 or self.drawing_seed < 0:
            raise ValueError(
                "temperature, top_k and drawing_seed are at least 0, got "
                f"{self.temperature}, {self.top_k} and {self.drawing_seed}: see config.decoding."
            )
        classes = getattr(self.model, "classes", 0)
        if not EOS < classes <= len(self.words):
            raise ValueError(
                f"the {len(self.words)} words of the data do not fit a model with classes={classes}"
            )
        if self.judge and not hasattr(self._judge, "reads"):
            raise ValueError(
                f"config.task.judge={self.judge!r} has no attribute `reads`, the names of the "
                "features that it is handed, as in judge.reads = ('objects',)."
            )

    @functools.cached_property
    def _judge(self) -> Any:
        return importing.resolve(self.judge, "config.task.judge")

    @property
    def _judged(self) -> tuple[str, ...]:
        return tuple(self._judge.reads) if self.judge else ()

    def model_call_arguments(self) -> tuple[str, ...]:
        """Returns `targets`."""
        return ("targets",)

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that the data set has pictures with sentences, and what the judge reads.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A feature is missing.
        """
        hint = "; see config.task.inputs and config.encoder"
        self.require_features(features, "captioning", (self.inputs, *MADE), hint)
        hint = "; see config.task.judge"
        self.require_features(features, f"the judge {self.judge}", self._judged, hint)

    def training_batch(self, batch: Batch, key: jax.Array) -> Batch:
        """Transforms a batch and, with `sentences="one"`, draws one sentence of each picture.

        Args:
            batch: Dict of arrays `[batch, ...]` as the data set stores them, with a `mask`.
            key: Random key of the batch, for the transforms and the choice of sentences.

        Returns:
            The transformed batch, whose `captions` are `[batch, 1, steps]` with `sentences="one"`.
        """
        if self.sentences == "all" or "captions" not in batch:
            return super().training_batch(batch, key)
        transform_key, sentence_key = jax.random.split(key)
        batch = super().training_batch(batch, transform_key)
        counts = (batch["caption_lengths"] > 0).sum(axis=1)

        def draw(key: jax.Array, count: jax.Array) -> jax.Array:
            return jax.random.randint(key, (), 0, jnp.maximum(count, 1))

        row = jax.vmap(draw)(example_keys(sentence_key, counts.shape[0]), counts)
        columns = {name: _row(batch[name], row) for name in ("captions", "caption_lengths")}
        return {**batch, **columns}

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
        """Returns the pictures, and their sentences for teacher forcing.

        Args:
            batch: Dict of arrays `[batch, ...]` after the transforms.

        Returns:
            A pair of the pictures and a dict with `targets`, None for pictures without sentences,
            which can only be predicted.
        """
        return batch[self.inputs], {"targets": batch.get("captions")}

    def sums(self, logits: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns `loss` and `error`, counted by word; see `SummedTask.sums`.

        Args:
            logits: Output of the model, `[batch, sentences, steps, classes]`, in float32 or wider.
            batch: The batch that the model saw; rows whose `mask` is 0 enter no sum.

        Returns:
            A dict from `loss` and `error` to (sum, count), both `[]`.
        """
        pictures, sentences, steps, classes = logits.shape
        rows = pictures * sentences
        mask = time_mask(batch["caption_lengths"].reshape(rows), steps)
        mask &= jnp.repeat(batch["mask"] > 0, sentences)[:, None]
        ids = batch["captions"].reshape(rows, steps)
        return token_sums(logits.reshape(rows, steps, classes), ids, mask)

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns sentences for each picture, the best first; see `BaseTask.predict`.

        Never emits UNK or BOS.

        Returns:
            `ids` `int32[batch, n_best, max_steps]`, -1 after the end; `lengths`
            `int32[batch, n_best]`, including EOS, 0 where fewer sentences were found; and
            `log_probs` `[batch, n_best]`, the natural logarithms of their probabilities, -inf where
            fewer sentences were found. A sentence with a word that has no distribution, because a
            logit is NaN or inf, has no ids and the logarithm NaN; beam search then has no sentence
            of that picture.
        """
        batch = self.evaluation_transform(batch, None)
        model: Any = self.model
        variables = {"params": params, **model_state}

        def step(ids: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
            logits, state = model.apply(
                variables, ids[:, None], state, train=False, method="decode"
            )
            return logits[:, 0], state

        pictures = batch[self.inputs]
        state = model.apply(variables, pictures, train=False, method="begin")
        # Never emits UNK or BOS.
        rules = {
            "steps": self.max_steps,
            "start_id": BOS,
            "end_id": EOS,
            "banned": (UNK, BOS),
        }
        sequences: Any
        if self.temperature:
            sequences = self._drawn(step, state, picture_keys(self.drawing_seed, pictures), rules)
        else:
            search = {"n_best": self.n_best, "length_power": self.length_power}
            width = self.beam_width
            sequences = beam_search(step, state, pictures.shape[0], width=width, **search, **rules)
        return {
            "ids": sequences.ids,
            "lengths": sequences.lengths,
            "log_probs": sequences.log_probs,
        }

    def _drawn(self, step: Any, state: PyTree, keys: jax.Array, rules: Mapping[str, Any]) -> Any:
        """Samples `n_best` sentences a picture, `[batch, n_best, ...]`, the most probable first."""
        row_keys = jax.vmap(lambda key: jax.random.split(key, self.n_best))(keys).reshape(-1)
        state = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.n_best, axis=0), state)
        drawn = sample(
            step, state, row_keys, temperature=self.temperature, top_k=self.top_k, **rules
        )
        drawn = jax.tree.map(
            lambda leaf: leaf.reshape(keys.shape[0], self.n_best, *leaf.shape[1:]), drawn
        )
        _, order = top_k(drawn.log_probs, self.n_best)
        return jax.tree.map(lambda leaf: _rows(leaf, order), drawn)

    def sentence(self, ids: Iterable[int]) -> str:
        """Returns ids as text, up to EOS or PAD.

        Args:
            ids: Ids of words of the vocabulary.

        Returns:
            The words before the first EOS or PAD, separated by spaces.
        """
        words = []
        for number in ids:
            if number in (EOS, PAD):
                break
            words.append(self.words[int(number)])
        return " ".join(words)

    def said_of(self, example: Mapping[str, np.ndarray]) -> list[str]:
        """Returns the reference sentences of an example.

        Args:
            example: Example of the encoded data set, with `references` and `reference_lengths`.

        Returns:
            Its sentences as text, without unused rows of padding.
        """
        sentences = zip(example["references"], example["reference_lengths"], strict=True)
        return [self.sentence(ids[:count].tolist()) for ids, count in sentences if count]

    def further(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the features that the judge reads.

        Args:
            features: Mapping from names to features of examples.

        Returns:
            The entries that the judge reads; empty without a judge.
        """
        return {name: features[name] for name in self._judged}

    @property
    def evaluates_on_host(self) -> bool:
        """True, because sentences are compared as text."""
        return True

    @property
    def keeps(self) -> tuple[str, ...]:
        """References, file names where the data set has them, and what the judge reads."""
        return ("references", "reference_lengths", "file", *self._judged)

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Returns caption metrics of a split; see `BaseTask.evaluate`.

        Args:
            predictions: Pairs (predictions, batch) of NumPy arrays, one for each batch of the
                split.

        Returns:
            `bleu_1` to `bleu_4`, `rouge_l` and `cider_d`; `exact`, the share of captions that equal
            a reference of their picture; the statistics of `rcnn_jax.metrics.novelty`; and the
            metrics of the judge.
        """
        captions, references, features = self._read(predictions)
        return self.measure(captions, references, features) if captions else {}

    def measure(
        self,
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
        features: Mapping[str, np.ndarray],
    ) -> dict[str, float]:
        """Returns the metrics of `evaluate` for captions from any source.

        Args:
            captions: One sentence for each picture, tokens separated by spaces; at least one.
            references: Reference sentences of each picture.
            features: Features of the examples that the judge reads, stacked.

        Returns:
            A dict from the name of each metric to its value.
        """
        measured = scores.corpus_scores(dict(enumerate(captions)), dict(enumerate(references)))
        result = {name: value for name, value in measured.items() if not name.endswith("_each")}
        pairs = zip(captions, references, strict=True)
        result["exact"] = sum(caption in sentences for caption, sentences in pairs) / len(captions)
        result |= novelty.statistics(captions, self.training_captions)
        if self.judge:
            result |= self._judge(captions, features)
        return result

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """Returns the first `SHOWN` captions of a split; see `BaseTask.tables`.

        Args:
            predictions: Pairs (predictions, batch) of NumPy arrays, one for each batch of the
                split.

        Returns:
            `captions`, a list of `{"example", "file", "caption", "references", "cider_d"}`, where
            `example` is the index of the example within its split and `file` its name in the data
            set.
        """
        predictions = list(predictions)
        captions, references, _ = self._read(predictions)
        if not captions:
            return {"captions": []}
        numbers = real_examples(predictions)
        each = scores.corpus_scores(dict(enumerate(captions)), dict(enumerate(references)))
        files = _file_names(predictions)
        return {
            "captions": [
                {
                    "example": number,
                    "file": files[index] if files else "",
                    "caption": captions[index],
                    "references": references[index],
                    "cider_d": each["cider_d_each"][index],
                }
                for index, number in enumerate(numbers[:SHOWN])
            ]
        }

    def _read(
        self, predictions: Iterable[tuple[dict, dict]]
    ) -> tuple[list[str], list[list[str]], dict[str, np.ndarray]]:
        """Returns best captions, references and the judge's features of all real pictures."""
        captions, references, columns = [], [], {}
        for predicted, batch in predictions:
            real = np.flatnonzero(np.asarray(batch["mask"]) > 0)
            captions += [self.sentence(predicted["ids"][row, 0].tolist()) for row in real]
            stored = {name: batch[name] for name in ("references", "reference_lengths")}
            references += [self.said_of({k: v[row] for k, v in stored.items()}) for row in real]
            for name, values in self.further(batch).items():
                columns.setdefault(name, []).append(np.asarray(values)[real])
        return captions, references, {name: np.concatenate(v) for name, v in columns.items()}

    @property
    def reads(self) -> tuple[str, ...]:
        """The feature that `inputs` names."""
        return (self.inputs,)

    def answering(self, n_best: int) -> Self:
        """Returns a task with `n_best` sentences for each picture, and a beam at least as wide.

        Args:
            n_best: Number of sentences that are requested for each picture.

        Returns:
            A task of the same kind.
        """
        width = max(self.beam_width, n_best)
        return dataclasses.replace(self, n_best=n_best, beam_width=width)

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """Returns captions and their probabilities; see `BaseTask.answers`.

        Args:
            predicted: Arrays that `predict` returned, copied to the host.
            features: Not used.
            n_best: Largest number of sentences for each picture.

        Returns:
            For each picture a list of dicts with `caption` and `probability`, the best first.
        """
        del features
        answers = []
        for ids, log_probs in zip(predicted["ids"], predicted["log_probs"], strict=True):
            candidates = [
                {"caption": self.sentence(one.tolist()), "probability": float(np.exp(log_prob))}
                for one, log_prob in zip(ids, log_probs, strict=True)
            ]
            answers.append(found_answers(candidates, "probability", n_best))
        return answers


def _row(values: jax.Array, row: jax.Array) -> jax.Array:
    """Selects one row of each example, `[batch, rows, ...]` and `[batch]` -> `[batch, 1, ...]`."""
    return _rows(values, row[:, None])


def _rows(values: jax.Array, rows: jax.Array) -> jax.Array:
    """Selects rows of each example, `[batch, rows, ...]` and `[batch, n]` -> `[batch, n, ...]`."""
    indices = rows.reshape(*rows.shape, *([1] * (values.ndim - 2)))
    return jnp.take_along_axis(values, indices, axis=1)


def picture_keys(seed: int, pictures: jax.Array) -> jax.Array:
    """Derives a random key from the pixels of each picture, whatever its batch or position.

    Args:
        seed: Seed that all keys depend on.
        pictures: Real numbers of any dtype, `[batch, ...]`.

    Returns:
        Typed keys `[batch]`.
    """
    flat = pictures.reshape(pictures.shape[0], -1).astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(flat, jnp.uint32)
    # The factors differ by position, so that moving a value changes the total, and are odd, so
    # that multiplication modulo 2**32 loses no bit.
    factors = jnp.arange(bits.shape[1], dtype=jnp.uint32) * jnp.uint32(2654435769) | jnp.uint32(1)
    totals = (bits * factors[None]).sum(axis=1, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), totals)


def _file_names(predictions: Iterable[tuple[dict, dict]]) -> list[str]:
    """Returns the data set's names of all real pictures; empty where it has none."""
    return [
        name[name > 0].astype(np.uint8).tobytes().decode(errors="replace")
        for _, batch in predictions
        if "file" in batch
        for name in np.asarray(batch["file"])[np.asarray(batch["mask"]) > 0]
    ]
