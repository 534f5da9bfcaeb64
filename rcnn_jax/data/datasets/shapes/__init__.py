"""Generated world of coloured shapes: pictures with captions, regions, questions and labels.

    a small red circle to the left of the blue star
    the ring is green and the moon is small
    three of the five shapes are yellow

`dataset` holds the `DatasetSpec`, `world` defines scenes, `stamps` and `drawing` make their
pictures, `captions` and `questions` describe them, `language` parses sentences, and `scene_truth`
compares their claims with a scene. No file is read and only NumPy is needed: example i of a split
is a function of (seed, split, i).
"""
