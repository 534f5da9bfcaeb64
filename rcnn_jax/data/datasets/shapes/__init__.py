"""A made-up world of coloured shapes: pictures with sentences, regions, questions and labels.

    a small red circle to the left of the blue star
    the ring is green and the moon is small
    three of the five shapes are yellow

`dataset` holds the `DatasetSpec`, `world` says what a scene is, `stamps` and `drawing` make its
picture, `captions` and `questions` speak about it, `language` reads sentences back, and
`scene_truth` holds what they claim against the scene. Nothing is read from disk and NumPy alone is
needed: example i of a split is a function of (seed, split, i).
"""
