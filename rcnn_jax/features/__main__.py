r"""Extracts features of pictures with a pretrained network.

    python -m rcnn_jax.features --backbone=squeezenet --weights=FILE --output=features.npz FOLDER
    python -m rcnn_jax.features --backbone=vgg16 --weights=vgg16-00b39a1b.pth \
        --output=vgg_feats.mat --images=FOLDER dataset.json
    python -m rcnn_jax.features --backbone=vgg16_torchvision --weights=vgg16-397923af.pth FOLDER

Pictures are given by folders, by the list of a data set, or one by one. They are brought to the
size and the pixel values with which the backbone was trained; rcnn_jax/interop/backbones.py states
these and the weights that each backbone expects: a torch state dict, .safetensors or .npz.
Backbones without a suffix are for the weights of the network's authors, `_torchvision` for those of
torchvision, which expect other pixels; a file of the other maker is refused. Where a file does not
tell whose weights it holds, such as a Caffe VGG under torchvision's names, --weights_from=caffe
says it. The result is an .npz file, or Karpathy's vgg_feats.mat with a column for each imgid; see
rcnn_jax/data/files/image_vectors.py. For pictures without imgid, its columns are in their order,
and the option by=position of a data set of captions reads them so.

Computed features are kept beside the output: after a stop or a kill the same command continues. A
picture that cannot be read ends the command; with --damaged=skip such pictures are named and left
out, and the exit code is then 1. So are pictures of a folder in formats that nothing here decodes,
such as .heic without the package pillow-heif; other files in a folder are counted.
"""

import pathlib
import sys

from absl import flags

from rcnn_jax.errors import UsageError
from rcnn_jax.startup import doors, xla_flags

FLAGS = flags.FlagValues()
_BACKBONE = flags.DEFINE_string(
    "backbone", "squeezenet", "Which net, see the list of an unknown one.", flag_values=FLAGS
)
_WEIGHTS = flags.DEFINE_string(
    "weights", None, "File of its weights, or 'random' to try it out.", flag_values=FLAGS
)
_WEIGHTS_FROM = flags.DEFINE_string(
    "weights_from", None, "Who trained them, caffe or torchvision, where their file does not tell.",
    flag_values=FLAGS,
)  # fmt: skip
_OUTPUT = flags.DEFINE_string(
    "output", "features.npz", "File for the features: .npz or .mat.", flag_values=FLAGS
)
_IMAGES = flags.DEFINE_string(
    "images", None, "Folder of the pictures of a list; that of the list.", flag_values=FLAGS
)
_DAMAGED = flags.DEFINE_enum(
    "damaged", "stop", ["stop", "skip"], "What a picture does that cannot be read.",
    flag_values=FLAGS,
)  # fmt: skip
_BATCH = flags.DEFINE_integer(
    "batch_size", 16, "Pictures at a time.", lower_bound=1, flag_values=FLAGS
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Begin anew, whatever is there already.", flag_values=FLAGS
)


def main(argv: list[str]) -> int:
    """Extracts the features of the pictures that the command line names.

    Args:
        argv: The command line: the program's name and the names of folders, lists and pictures.

    Returns:
        The exit code: 0, or 1 if pictures were left out.

    Raises:
        UsageError: No pictures are named.
        UserError: The features cannot be computed or written.
    """
    if not argv[1:]:
        raise UsageError(
            "no pictures are named: python -m rcnn_jax.features --backbone=NAME --weights=FILE "
            "--output=features.npz FOLDER|dataset.json|FILE..."
        )
    # Forward passes of whole networks are fastest if YNN takes over no operation.
    xla_flags.apply(xla_flags.LARGE_FEED_FORWARD)
    doors.quiet_libraries()
    from rcnn_jax.features import extraction, picture_lists
    from rcnn_jax.startup import compilation_cache

    compilation_cache.enable()
    images = None if _IMAGES.value is None else pathlib.Path(_IMAGES.value)
    inputs = [pathlib.Path(name) for name in argv[1:]]
    pictures = picture_lists.listed(inputs, images)
    left_out, others = picture_lists.left_out(inputs)
    for sentence in [*left_out, *filter(None, [others])]:
        print(f"left out: {sentence}", file=sys.stderr, flush=True)
    damaged = extraction.extract(
        _BACKBONE.value,
        _WEIGHTS.value,
        pictures,
        pathlib.Path(_OUTPUT.value),
        batch_size=_BATCH.value,
        skip=_DAMAGED.value == "skip",
        overwrite=_OVERWRITE.value,
        weights_from=_WEIGHTS_FROM.value,
        left_out=[*left_out, *filter(None, [others])],
    )
    for sentence in damaged:
        print(f"left out: {sentence}", file=sys.stderr)
    if damaged:
        print(f"{len(damaged)} of {len(pictures)} pictures could not be read", file=sys.stderr)
    return 1 if damaged or left_out else 0


if __name__ == "__main__":
    doors.run(main, FLAGS, "interrupted: the same command goes on", words=True)
