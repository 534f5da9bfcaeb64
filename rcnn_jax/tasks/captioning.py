"""Sentences about pictures: cross-entropy of words, beam search, caption metrics."""

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
from rcnn_jax.layers.masks import live_steps
from rcnn_jax.layers.randomness import example_keys
from rcnn_jax.metrics import captions as scores
from rcnn_jax.metrics import novelty
from rcnn_jax.metrics.tokens import token_sums
from rcnn_jax.tasks.base import Batch, PyTree, found_answers, real_examples
from rcnn_jax.tasks.summed import SummedTask

SENTENCES = ("one", "all")
SHOWN = 64  # captions in evaluation.json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(SummedTask):
    """Writes a sentence about each picture.

    A batch has the feature that `inputs` names, images `[batch, height, width, channels]` or
    vectors `[batch, size]`; `captions` `[batch, sentences, steps]`, ids with `EOS` as the last, and
    `caption_lengths` `[batch, sentences]`, 0 where a picture has fewer sentences; `references` and
    `reference_lengths`, the whole sentences for the metrics; and `mask` `[batch]` (0 for padding),
    as `rcnn_jax.data.encoders.captions` makes them. The model is a `Captioner`.

    The loss is the mean cross-entropy of a word in nats, the end of a sentence counted as one; its
    exponential is the perplexity.

    Attributes:
        words: What each id says, also beyond the classes of the model: words of references that the
            vocabulary has not.
        training_captions: Sentences of the training split, tokens between spaces: how much of what
            is written was copied from them. Empty: it is not measured.
        inputs: Name of the feature that the model reads.
        sentences: In training, `one` sentence of each picture at a time, drawn anew at each step,
            or `all` of them, which costs more memory: logits of every word of the batch.
        beam_width: Sentences in the beam of `predict`; 1 writes the most probable word each time.
        max_steps: Longest sentence that is written, the end counted.
        length_power: See `rcnn_jax.decoding.beam.beam_search`.
        temperature: 0: sentences are searched for. Above: they are drawn instead, word by word, see
            `rcnn_jax.decoding.sampling.sample`, and the beam is not used.
        top_k: Draw from so many of the most probable words; 0: from all.
        drawing_seed: What is drawn depends on it and on the picture alone.
        n_best: How many sentences `predict` gives for a picture.
        judge: Import path of a function, or of another callable, that judges captions by other
            features of their examples: `judge(captions, features) -> {metric: value}`. Its
            attribute `reads` names these features, which it is handed as stacked arrays. Empty:
            none.
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
        """`targets`."""
        return ("targets",)

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that there are pictures with sentences.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.

        Raises:
            ValueError: A feature is missing.
        """
        hint = "; see config.task.inputs and config.encoder"
        self.require_features(features, "captioning", (self.inputs, *MADE), hint)
        hint = "; see config.task.judge"
        self.require_features(features, f"the judge {self.judge}", self._judged, hint)

    def training_batch(self, batch: Batch, key: jax.Array) -> Batch:
        """See `BaseTask.training_batch`; with `sentences="one"`, one sentence of each picture."""
        if self.sentences == "all" or "captions" not in batch:
            return super().training_batch(batch, key)
        own, chosen = jax.random.split(key)
        batch = super().training_batch(batch, own)
        counts = (batch["caption_lengths"] > 0).sum(axis=1)

        def draw(key: jax.Array, count: jax.Array) -> jax.Array:
            return jax.random.randint(key, (), 0, jnp.maximum(count, 1))

        row = jax.vmap(draw)(example_keys(chosen, len(counts)), counts)
        one = {name: _row(batch[name], row) for name in ("captions", "caption_lengths")}
        return {**batch, **one}

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
        """The pictures, and their sentences, for teacher forcing.

        Pictures that are only predicted have no sentences.
        """
        return batch[self.inputs], {"targets": batch.get("captions")}

    def sums(self, logits: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """See `SummedTask.sums`: `loss` and `error`, by word."""
        pictures, sentences, steps, classes = logits.shape
        rows = pictures * sentences
        live = live_steps(batch["caption_lengths"].reshape(rows), steps)
        live &= jnp.repeat(batch["mask"] > 0, sentences)[:, None]
        ids = batch["captions"].reshape(rows, steps)
        return token_sums(logits.reshape(rows, steps, classes), ids, live)

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """The sentences of each picture, the best first.

        Returns:
            `ids` int32 `[batch, n_best, max_steps]`, -1 behind the end; `lengths` of the same
            first axes, the end counted, 0 where fewer were found; and `log_probs`, likewise.
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
        # What stands for a word is none.
        rules = {
            "steps": self.max_steps,
            "start_id": BOS,
            "end_id": EOS,
            "banned": (UNK, BOS),
        }
        found: Any
        if self.temperature:
            found = self._drawn(step, state, picture_keys(self.drawing_seed, pictures), rules)
        else:
            search = {"n_best": self.n_best, "length_power": self.length_power}
            width = self.beam_width
            found = beam_search(step, state, len(pictures), width=width, **search, **rules)
        return {"ids": found.ids, "lengths": found.lengths, "log_probs": found.log_probs}

    def _drawn(self, step: Any, state: PyTree, keys: jax.Array, rules: Mapping[str, Any]) -> Any:
        """`n_best` sentences a picture, `[batch, n_best, ...]`, the most probable first."""
        own = jax.vmap(lambda key: jax.random.split(key, self.n_best))(keys).reshape(-1)
        state = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.n_best, axis=0), state)
        found = sample(step, state, own, temperature=self.temperature, top_k=self.top_k, **rules)
        found = jax.tree.map(
            lambda leaf: leaf.reshape(len(keys), self.n_best, *leaf.shape[1:]), found
        )
        order = jnp.argsort(-found.log_probs, axis=1)
        return jax.tree.map(lambda leaf: _rows(leaf, order), found)

    def sentence(self, ids: Iterable[int]) -> str:
        """What ids say, up to the end."""
        said = []
        for number in ids:
            if number in (EOS, PAD):
                break
            said.append(self.words[int(number)])
        return " ".join(said)

    def said_of(self, example: Mapping[str, np.ndarray]) -> list[str]:
        """The sentences of people about an example of the encoded data set."""
        sentences = zip(example["references"], example["reference_lengths"], strict=True)
        return [self.sentence(ids[:count].tolist()) for ids, count in sentences if count]

    def further(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """The features of examples that the judge reads."""
        return {name: features[name] for name in self._judged}

    @property
    def evaluates_on_host(self) -> bool:
        """True: sentences are compared as text."""
        return True

    @property
    def keeps(self) -> tuple[str, ...]:
        """References, the names of files where the data set has them, and what the judge reads."""
        return ("references", "reference_lengths", "file", *self._judged)

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Caption metrics.

        Args:
            predictions: Pairs (predictions, batch).

        Returns:
            `bleu_1` to `bleu_4`, `rouge_l` and `cider_d`; `exact`, the share of captions that
            somebody said of that picture; what `novelty` measures; and what the judge says.
        """
        captions, references, features = self._read(predictions)
        return self.measure(captions, references, features) if captions else {}

    def measure(
        self,
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
        features: Mapping[str, np.ndarray],
    ) -> dict[str, float]:
        """What `evaluate` says of captions, wherever they come from.

        Args:
            captions: One for each picture, tokens between spaces; at least one.
            references: What people said of each.
            features: What the judge reads of the examples, stacked.
        """
        measured = scores.corpus_scores(dict(enumerate(captions)), dict(enumerate(references)))
        found = {name: value for name, value in measured.items() if not name.endswith("_each")}
        pairs = zip(captions, references, strict=True)
        found["exact"] = sum(caption in said for caption, said in pairs) / len(captions)
        found |= novelty.statistics(captions, self.training_captions)
        if self.judge:
            found |= self._judge(captions, features)
        return found

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """The first captions.

        Args:
            predictions: Pairs (predictions, batch).

        Returns:
            `captions`: `{"example", "file", "caption", "references", "cider_d"}`, where `example`
            is the number of the example in its split and `file` what the data set calls it.
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
                    "file": files[place] if files else "",
                    "caption": captions[place],
                    "references": references[place],
                    "cider_d": each["cider_d_each"][place],
                }
                for place, number in enumerate(numbers[:SHOWN])
            ]
        }

    def _read(
        self, predictions: Iterable[tuple[dict, dict]]
    ) -> tuple[list[str], list[list[str]], dict[str, np.ndarray]]:
        """Best captions, references and the judge's features, of all real pictures."""
        captions, references, columns = [], [], {}
        for predicted, batch in predictions:
            real = np.flatnonzero(np.asarray(batch["mask"]) > 0)
            captions += [self.sentence(predicted["ids"][row, 0].tolist()) for row in real]
            said = {name: batch[name] for name in ("references", "reference_lengths")}
            references += [self.said_of({k: v[row] for k, v in said.items()}) for row in real]
            for name, values in self.further(batch).items():
                columns.setdefault(name, []).append(np.asarray(values)[real])
        return captions, references, {name: np.concatenate(v) for name, v in columns.items()}

    @property
    def reads(self) -> tuple[str, ...]:
        """The feature that `inputs` names."""
        return (self.inputs,)

    def answering(self, n_best: int) -> Self:
        """The same task with that many sentences to a picture, and a beam at least as wide."""
        width = max(self.beam_width, n_best)
        return dataclasses.replace(self, n_best=n_best, beam_width=width)

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """See `BaseTask.answers`: `caption` and its `probability`."""
        del features
        found = []
        for ids, log_probs in zip(predicted["ids"], predicted["log_probs"], strict=True):
            own = [
                {"caption": self.sentence(one.tolist()), "probability": float(np.exp(log_prob))}
                for one, log_prob in zip(ids, log_probs, strict=True)
            ]
            found.append(found_answers(own, "probability", n_best))
        return found


def _row(values: jax.Array, row: jax.Array) -> jax.Array:
    """One row of each example, `[batch, rows, ...]` -> `[batch, 1, ...]`."""
    return _rows(values, row[:, None])


def _rows(values: jax.Array, rows: jax.Array) -> jax.Array:
    """Rows of each example, `[batch, rows, ...]` and `[batch, n]` -> `[batch, n, ...]`."""
    places = rows.reshape(*rows.shape, *([1] * (values.ndim - 2)))
    return jnp.take_along_axis(values, places, axis=1)


def picture_keys(seed: int, pictures: jax.Array) -> jax.Array:
    """A random key for each picture, of its numbers: wherever in whichever batch it comes.

    Args:
        seed: Another one gives other keys.
        pictures: `[batch, ...]`, real numbers of any dtype.

    Returns:
        Typed keys `[batch]`.
    """
    flat = pictures.reshape(len(pictures), -1).astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(flat, jnp.uint32)
    # Odd factors that differ by place: what moves counts, and no bit is lost.
    factors = jnp.arange(bits.shape[1], dtype=jnp.uint32) * jnp.uint32(2654435769) | jnp.uint32(1)
    totals = (bits * factors[None]).sum(axis=1, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), totals)


def _file_names(predictions: Iterable[tuple[dict, dict]]) -> list[str]:
    """What the data set calls all real pictures; empty where it has no names."""
    return [
        name[name > 0].astype(np.uint8).tobytes().decode(errors="replace")
        for _, batch in predictions
        if "file" in batch
        for name in np.asarray(batch["file"])[np.asarray(batch["mask"]) > 0]
    ]
