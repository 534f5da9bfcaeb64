"""Transcription of lines by connectionist temporal classification (CTC)."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from rcnn_jax.data.encoders.transcripts import MADE
from rcnn_jax.data.text.visual_order import VisualOrder
from rcnn_jax.decoding import ctc
from rcnn_jax.decoding.top_k import top_k
from rcnn_jax.metrics import edit_distance
from rcnn_jax.tasks.base import Batch, PyTree, found_answers, real_examples
from rcnn_jax.tasks.summed import SummedTask

SHOWN_CONFUSIONS = 50
SHOWN_LINES = 48
_SEARCHED = 16  # least beam width where several answers are requested


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcription(SummedTask):
    """Transcribes lines of text or speech.

    A batch has the feature that `inputs` names, images `[batch, height, width, channels]` or frames
    `[batch, time, bins]`; `length` `[batch]`, their width or number of frames without padding;
    `labels` `[batch, most]`, ids of characters from 1; `label_length` `[batch]`; and `mask`
    `[batch]` (0 for padding). `rcnn_jax.data.encoders.transcripts` makes these features. The
    model's call takes `lengths`, and the model has a method `output_lengths`; its class 0 is the
    blank.

    Two kinds of lines have no loss: those that need more time steps than the model gives them, one
    for each character and one between equal neighbours (`infeasible`), and those with a character
    that is not a class of the model (`unknown`). They enter neither the sum nor the count of the
    loss; their shares are metrics, also in training. Evaluation treats them like all other lines,
    and a character that the model cannot output counts as an error.

    CTC reads pictures from left to right, so that the labels of lines with characters from right to
    left, such as Hebrew and Arabic, are in visual order; see `visual_order`. Whatever is told is in
    logical order, the order of the files: answers, references, tables, and the texts whose edits
    make up the error rates. References are the labels turned back, as answers are, so that an
    answer that equals the labels has no error. Loss, confidence and beam search compare labels.

    The confidence of an answer is its probability, the sum over all paths of its labelling:
    `exp(-loss)` of the answer itself. CTC maximises this for the true labelling. In a trained
    network it usually exceeds the share of lines that are correct; `calibration_error` measures by
    how much.

    Attributes:
        alphabet: Characters, where the character of id i is at index i - 1.
        visual_order: Turns labels to logical order; None where they are in logical order.
        inputs: Name of the feature that the model reads.
        beam_width: Number of prefixes in the beam that searches for the most probable labelling. 0:
            the labelling of the most probable path, which is faster and usually the same.
        n_best: Number of answers that `predict` returns for a line; more than one need a beam.
    """

    alphabet: Sequence[str]
    visual_order: VisualOrder | None = None
    inputs: str = "image"
    beam_width: int = 0
    n_best: int = 1
    unit: str = "lines"

    def __post_init__(self):
        super().__post_init__()
        if not hasattr(self.model, "output_lengths"):
            raise ValueError(
                f"transcription needs a model with output_lengths, {type(self.model).__name__} has "
                "none."
            )
        classes, wanted = getattr(self.model, "classes", None), len(self.alphabet) + 1
        if classes not in (None, wanted):
            raise ValueError(
                f"config.model.classes={classes}, but {len(self.alphabet)} characters and the "
                f"blank are {wanted} classes."
            )
        if self.beam_width < 0 or not 1 <= self.n_best <= max(self.beam_width, 1):
            raise ValueError(
                "config.task.n_best is at least 1, and more than 1 only up to the beam_width, got "
                f"n_best={self.n_best} and beam_width={self.beam_width}."
            )

    def model_call_arguments(self) -> tuple[str, ...]:
        """Returns `lengths`."""
        return ("lengths",)

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that the data set has lines with text.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A feature is missing.
        """
        hint = "; see config.task.inputs and config.encoder"
        self.require_features(features, "transcription", (self.inputs, *MADE), hint)

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the lines, and the width or number of frames of each as `lengths`.

        Args:
            batch: Dict of arrays `[batch, ...]` after the transforms.

        Returns:
            A pair of the lines and a dict with `lengths`.
        """
        return batch[self.inputs], {"lengths": batch["length"]}

    def _frames(self, batch: Batch) -> jax.Array:
        """Returns the number of time steps of the model's output for each line, `[batch]`."""
        model: Any = self.model
        return model.output_lengths(batch["length"])

    def _known(self, labels: Array, counts: Array) -> Bool[Array, "batch"]:
        """Returns whether all characters of each line are classes of the model."""
        counted = jnp.arange(labels.shape[1], dtype=counts.dtype)[None] < counts[:, None]
        return jnp.all(~counted | ((labels > 0) & (labels <= len(self.alphabet))), axis=1)

    def sums(self, logits: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns `loss` and the shares of lines that have none, counted by line.

        Args:
            logits: Output of the model, `[batch, time, classes]`, in float32 or wider.
            batch: The batch that the model saw; rows whose `mask` is 0 enter no sum.

        Returns:
            A dict from `loss`, `infeasible` and `unknown` to (sum, count), both `[]`; see
            `SummedTask.sums`.
        """
        labels, counts, frames = batch["labels"], batch["label_length"], self._frames(batch)
        real = batch["mask"] > 0
        known = self._known(labels, counts)
        feasible = ctc.feasible(frames, labels, counts)
        learnt = real & known & feasible
        # Labels of a line without a loss may be invalid: replaces them by a class that exists.
        labels = jnp.where(learnt[:, None], labels, 1)
        losses = ctc.loss(logits, frames, labels, counts, infeasible="zero")
        lines, dtype = real.sum(), losses.dtype

        def share(which: Array) -> tuple[jax.Array, jax.Array]:
            return (which & real).sum().astype(dtype), lines.astype(dtype)

        return {
            "loss": (jnp.where(learnt, losses, 0).sum(), learnt.sum().astype(dtype)),
            "infeasible": share(~feasible),
            "unknown": share(~known),
        }

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns answers to each line, the most confident first; see `BaseTask.predict`.

        Returns:
            `labels` `int32[batch, n_best, time]`, ids, 0 after the last; `label_lengths`
            `[batch, n_best]`; and `confidences` `[batch, n_best]` in 0..1, 0 where a beam found
            fewer answers. A line with a time step that has no distribution, because a logit is NaN
            or inf, has no labels and the confidence NaN.
        """
        logits, batch = self.logits(params, model_state, batch)
        frames = self._frames(batch)
        if self.beam_width:
            beams = ctc.beam_search(logits, frames, width=self.beam_width, n_best=self.n_best)
            labels, counts = beams.labels, beams.lengths
            exists = beams.log_probs != -jnp.inf
        else:
            path, lengths, _ = ctc.best_path(logits, frames)
            labels, counts = path[:, None], lengths[:, None]
            exists = jnp.ones(counts.shape, bool)
        # A beam sums over the paths that stayed in it only; the loss sums over all paths.
        losses = jax.vmap(
            lambda own, many: ctc.loss(logits, frames, own, many), in_axes=1, out_axes=1
        )(labels, counts)
        confidences = jnp.where(exists, jnp.exp(-losses), 0)
        confidences, order = top_k(confidences, confidences.shape[1])
        return {
            "labels": jnp.take_along_axis(labels, order[..., None], axis=1),
            "label_lengths": jnp.take_along_axis(counts, order, axis=1),
            "confidences": confidences,
        }

    def text(self, ids: Iterable[int]) -> str:
        """Returns ids as text; an unknown id becomes a character that is not in the alphabet.

        Args:
            ids: Ids of characters, from 1, in the order of labels.

        Returns:
            One character for each id, in logical order. Brackets among characters from right to
            left are mirrored.
        """
        characters, stranger = self._characters, self._stranger
        text = "".join(characters.get(int(number), stranger) for number in ids)
        return text if self.visual_order is None else self.visual_order.logical(text)

    @functools.cached_property
    def _characters(self) -> dict[int, str]:
        return dict(enumerate(self.alphabet, start=1))

    @functools.cached_property
    def _stranger(self) -> str:
        # The replacement character, or one for private use where the alphabet contains that.
        private = (chr(code) for code in range(0xE000, 0xF8FF))
        return next(c for c in ("\ufffd", *private) if c not in self.alphabet)

    @property
    def evaluates_on_host(self) -> bool:
        """True, because edit distances are not compiled."""
        return True

    @property
    def keeps(self) -> tuple[str, ...]:
        """The labels, and the lengths that determine which lines have no loss."""
        return MADE

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Returns error rates of characters and words, accuracy and calibration of a split.

        Args:
            predictions: Pairs (predictions, batch) of NumPy arrays, one for each batch of the
                split.

        Returns:
            `cer` and `wer`, edits per character and per word of the references;
            `sequence_accuracy`, the share of lines that are correct; and `calibration_error`, the
            expected calibration error of the confidences over ten intervals, NaN where a confidence
            is not finite.
        """
        references, answers, confidences = self._read(predictions)
        characters = edit_distance.character_errors(references, answers)
        table = _calibration(references, answers, confidences)
        return {
            "cer": characters.rate,
            "wer": edit_distance.word_errors(references, answers).rate,
            "sequence_accuracy": characters.sequence_accuracy,
            "calibration_error": math.nan if table is None else table.expected_error,
        }

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """Returns tables with the details of the metrics of `evaluate`.

        Args:
            predictions: Pairs (predictions, batch) of NumPy arrays, one for each batch of the
                split.

        Returns:
            `confusions`, the most frequent of `{"written", "read", "times"}`, where None marks a
            character that was omitted or added; `calibration`,
            `{"above", "up_to", "lines", "confidence", "accuracy"}` of intervals of the confidence;
            `without_loss`, `{"why", "lines"}`, the lines that training could not learn from, empty
            where there are none; and `lines`, `{"example", "text", "reference", "confidence"}` of
            the first lines that were read wrongly and then of the first others, `SHOWN_LINES` in
            all. `example` is the index of the line within its split.
        """
        predictions = list(predictions)
        references, answers, confidences = self._read(predictions)
        confusions = edit_distance.confusions(references, answers)
        rows = [
            *((one, other, times) for (one, other), times in confusions.substituted.items()),
            *((one, None, times) for one, times in confusions.deleted.items()),
            *((None, other, times) for other, times in confusions.inserted.items()),
        ]
        rows.sort(key=lambda row: (-row[2], row[0] or "", row[1] or ""))
        table = _calibration(references, answers, confidences)
        left_out = {"too few time steps": 0, "a character that is not in the alphabet": 0}
        for _, batch in predictions:
            real = np.asarray(batch["mask"]) > 0
            labels, counts = jnp.asarray(batch["labels"]), jnp.asarray(batch["label_length"])
            feasible = np.asarray(ctc.feasible(self._frames(batch), labels, counts))
            known = np.asarray(self._known(labels, counts))
            for why, lines in zip(left_out, (real & ~feasible, real & ~known), strict=True):
                left_out[why] += int(lines.sum())
        return {
            "confusions": [
                {"written": one, "read": other, "times": times}
                for one, other, times in rows[:SHOWN_CONFUSIONS]
            ],
            "calibration": [
                {
                    "above": interval.low,
                    "up_to": interval.high,
                    "lines": interval.count,
                    "confidence": interval.confidence,
                    "accuracy": interval.accuracy,
                }
                for interval in (table.bins if table else ())
            ],
            "without_loss": [
                {"why": why, "lines": lines} for why, lines in left_out.items() if lines
            ],
            "lines": _shown_lines(real_examples(predictions), references, answers, confidences),
        }

    def _read(
        self, predictions: Iterable[tuple[dict, dict]]
    ) -> tuple[list[str], list[str], list[float]]:
        """Returns references, best answers and their confidences, of all real lines."""
        references, answers, confidences = [], [], []
        for predicted, batch in predictions:
            for row in np.flatnonzero(np.asarray(batch["mask"]) > 0):
                labels, count = batch["labels"][row], batch["label_length"][row]
                references.append(self.text(labels[: int(count)]))
                labels, count = predicted["labels"][row, 0], predicted["label_lengths"][row, 0]
                answers.append(self.text(labels[: int(count)]))
                confidences.append(float(predicted["confidences"][row, 0]))
        return references, answers, confidences

    @property
    def reads(self) -> tuple[str, ...]:
        """The feature that `inputs` names."""
        return (self.inputs,)

    def answering(self, n_best: int) -> Self:
        """Returns a task with `n_best` answers to each line, and a beam if it needs one.

        Args:
            n_best: Number of answers that are requested for each line.

        Returns:
            A task of the same kind.
        """
        width = max(self.beam_width, _SEARCHED, n_best) if n_best > 1 else self.beam_width
        return dataclasses.replace(self, n_best=n_best, beam_width=width)

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """Returns texts and their confidences; see `BaseTask.answers`.

        Args:
            predicted: Arrays that `predict` returned, copied to the host.
            features: Not used.
            n_best: Largest number of answers for each line.

        Returns:
            For each line a list of dicts with `text` and `confidence`, the best first.
        """
        del features
        answers = []
        names = ("labels", "label_lengths", "confidences")
        for line in zip(*(predicted[name] for name in names), strict=True):
            candidates = [
                {"text": self.text(ids[: int(count)]), "confidence": float(confidence)}
                for ids, count, confidence in zip(*line, strict=True)
            ]
            answers.append(found_answers(candidates, "confidence", n_best))
        return answers


def _shown_lines(
    numbers: Sequence[int],
    references: Sequence[str],
    answers: Sequence[str],
    confidences: Sequence[float],
) -> list[dict[str, Any]]:
    """Returns rows of the table `lines`, those that were read wrongly first."""
    rows = [
        {"example": number, "text": answer, "reference": reference, "confidence": confidence}
        for number, reference, answer, confidence in zip(
            numbers, references, answers, confidences, strict=True
        )
    ]
    # The sort is stable: wrong lines first, each group in the order of the split.
    return sorted(rows, key=lambda row: row["text"] == row["reference"])[:SHOWN_LINES]


def _calibration(
    references: Sequence[str], answers: Sequence[str], confidences: Sequence[float]
) -> edit_distance.Calibration | None:
    """Compares confidences with accuracy; None where a confidence is not finite."""
    if not np.isfinite(confidences).all():
        return None
    right = [one == other for one, other in zip(references, answers, strict=True)]
    return edit_distance.calibration(confidences, right)
