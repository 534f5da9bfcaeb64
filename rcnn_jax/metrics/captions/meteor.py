"""METEOR by its authors' Java program, which the package pycocoevalcap contains."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn_jax.metrics.captions.scores import check


def meteor(
    hypotheses: Mapping[Any, str], references: Mapping[Any, Sequence[str]]
) -> tuple[float, dict[Any, float]]:
    """Computes METEOR 1.5 for English.

    Args:
        hypotheses: Dict from the id of a picture to its tokenised sentence, words separated by one
            space.
        references: Dict from the same ids to at least one tokenised sentence each.

    Returns:
        A pair of the score of the corpus, which is not a mean over pictures, and a dict from each
        id to the score of its picture; all in 0..1.

    Raises:
        ValueError: The ids differ, there are none, a picture has no reference, the package or Java
            is missing, a sentence contains a separator of the program (`|||` or a line break), or
            the program fails.

    References:
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
        output = program.stderr.read().decode(errors="replace").strip().splitlines()
        raise ValueError(f"METEOR's program failed: {output[-1] if output else error}") from error
    finally:
        # On collection the scorer ends its process and closes its stdin, but not these two pipes.
        program.stdout.close()
        program.stderr.close()
    return whole, dict(zip(hypotheses, each, strict=True))
