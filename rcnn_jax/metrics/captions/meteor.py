"""METEOR by its authors' Java program, which the package pycocoevalcap brings along."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn_jax.metrics.captions.scores import check


def meteor(
    hypotheses: Mapping[Any, str], references: Mapping[Any, Sequence[str]]
) -> tuple[float, dict[Any, float]]:
    """METEOR 1.5 for English.

    Args and errors on them are those of `rcnn_jax.metrics.captions.corpus_scores`.

    Returns:
        The score of the corpus, which is no mean, and id to the score of each picture; 0 to 1.

    Raises:
        ValueError: the package or Java is missing, a sentence holds what separates sentences for
            the program, or the program fails.

    Reference:
        Denkowski & Lavie, Meteor universal: language specific translation evaluation for any
        target language, WMT 2014.
    """
    check(hypotheses, references)
    for name, sentence in hypotheses.items():
        for text in (sentence, *references[name]):
            if "|||" in text or len(text.splitlines()) > 1:
                raise ValueError(f"METEOR reads no sentence with '|||' or a line break: {text!r}")
    try:
        from pycocoevalcap.meteor.meteor import Meteor  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"METEOR needs pycocoevalcap ({error}): pip install 'rcnn-jax[captions]'"
        ) from error
    if shutil.which("java") is None:
        raise ValueError("METEOR needs Java: there is no program 'java' on the PATH")
    scorer = Meteor()
    program = scorer.meteor_p
    try:
        whole, each = scorer.compute_score(
            {name: list(references[name]) for name in hypotheses},
            {name: [sentence] for name, sentence in hypotheses.items()},
        )
    except (OSError, ValueError) as error:
        program.kill()
        said = program.stderr.read().decode(errors="replace").strip().splitlines()
        raise ValueError(f"METEOR's program failed: {said[-1] if said else error}") from error
    finally:
        # The scorer ends its process and its input when it is collected, not the other two pipes.
        program.stdout.close()
        program.stderr.close()
    return whole, dict(zip(hypotheses, each, strict=True))
