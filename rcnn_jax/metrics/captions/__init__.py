"""Metrics for captions of pictures: BLEU, ROUGE-L, CIDEr-D and METEOR."""

from rcnn_jax.metrics.captions.meteor import meteor
from rcnn_jax.metrics.captions.scores import corpus_scores

__all__ = ["corpus_scores", "meteor"]
