"""Judge of captions for `rcnn_jax.tasks.captioning`: which of their claims are true."""

from collections.abc import Mapping, Sequence

import numpy as np

from rcnn_jax.data.datasets.shapes.language import facts
from rcnn_jax.data.datasets.shapes.scene_truth import truth

PARTS = ("grammatical", "objects_true", "colours_true", "relations_true", "all_true")


class Judge:
    """Compares captions with their scenes.

    Attributes:
        reads: Names of the features of an example that it reads.
    """

    reads = ("objects", "held_out")

    def __call__(
        self, captions: Sequence[str], features: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """Compares captions with their scenes.

        Args:
            captions: One caption for each scene.
            features: `objects` `[scenes, 6, 6]` and `held_out` `[scenes]` of the data set, stacked.

        Returns:
            The share of captions for which each of `PARTS` holds; `mentioned`, the mean number of
            phrases for objects in a caption, because a caption with few claims is easily true; and
            where there are both scenes with and scenes without a pair of shape and colour that
            training never has, `all_true_held_out` and `all_true_others`, the shares among these
            two groups.

        Raises:
            ValueError: There is no caption, or a feature is missing or of another length.
        """
        missing = set(self.reads) - set(features)
        if missing or not captions or any(len(features[n]) != len(captions) for n in features):
            raise ValueError(
                f"the judge of shapes needs captions and as many objects and held_out, got "
                f"{len(captions)} captions and { {n: len(v) for n, v in features.items()} }"
            )
        verdicts = [
            truth(caption, objects)
            for caption, objects in zip(captions, features["objects"], strict=True)
        ]
        table = np.array([[getattr(one, part) for part in PARTS] for one in verdicts], np.float64)
        means = table.mean(axis=0).tolist()
        shares: dict[str, float] = {
            str(part): mean for part, mean in zip(PARTS, means, strict=True)
        }
        claims = [facts(caption) for caption in captions]
        shares["mentioned"] = float(
            np.mean([0 if one is None else len(one.phrases) for one in claims])
        )
        held_out = features["held_out"] > 0
        for name, rows in (("held_out", held_out), ("others", ~held_out)):
            if held_out.any() and rows.any():
                shares[f"all_true_{name}"] = float(table[rows, -1].mean())
        return shares


judge = Judge()
