"""Connectionist temporal classification: loss, posteriors, alignment and decoders."""

from rcnn_jax.decoding.ctc.alignment import Alignment, forced_alignment
from rcnn_jax.decoding.ctc.beam import Beams, beam_search
from rcnn_jax.decoding.ctc.best_path import best_path
from rcnn_jax.decoding.ctc.language_model import LanguageModel, Lexicon, lexicon_of
from rcnn_jax.decoding.ctc.likelihood import feasible, loss, posteriors
from rcnn_jax.decoding.ctc.prefix_search import prefix_search

__all__ = [
    "Alignment",
    "Beams",
    "LanguageModel",
    "Lexicon",
    "beam_search",
    "best_path",
    "feasible",
    "forced_alignment",
    "lexicon_of",
    "loss",
    "posteriors",
    "prefix_search",
]
