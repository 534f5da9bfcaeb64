"""Lists of captions in other forms, recognised so that messages name the form and the way out."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcnn_jax.data.files.images import SUFFIXES

_PICTURE = re.compile(
    r"images?|img|file|path|photo|picture|(image|img|file|photo|picture)[_ ]?(name|path|file|id)s?",
    re.IGNORECASE,
)
_CAPTION = re.compile(
    r"captions?|texts?|comments?|sentences?|descriptions?|label|raw", re.IGNORECASE
)
_LISTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".token")
_MARKS = {",": "commas", ";": "semicolons", "|": "bars"}
_KNOWN = {
    ",": " such as Kaggle's captions.txt of Flickr8k",
    "|": " such as Flickr30k's results.csv",
}
OWN = (
    "write a line for each caption, the picture, a tab, the caption, and read it as captioned:FILE"
)
"""The way out from a form that nothing reads."""


def of_lines(path: Path, lines: Sequence[str]) -> str:
    """Says what a file is whose lines are no pairs of a picture and a caption.

    Args:
        path: Path of the file.
        lines: Its first lines, at least one.

    Returns:
        A clause such as "it looks like a table with commas ...", or `""`.

    Example:
        >>> from pathlib import Path
        >>> from rcnn_jax.data.datasets.captioned.layouts import of_lines
        >>> of_lines(Path("a.json"), ['{"images": [{'])
        'it looks like JSON, which karpathy:FILE and coco_captions:FILE read'
    """
    first = lines[0].strip()
    if first[:1] in ("{", "["):
        if len(lines) > 1 and all(map(_is_json, lines)):
            return f"it looks like JSON lines: {OWN}"
        return "it looks like JSON, which karpathy:FILE and coco_captions:FILE read"
    if re.match(r"[^\t]+\.\w+#\d+\t", first):
        return "it looks like the tokens of Flickr8k or Flickr30k, which flickr8k:FILE reads"
    for mark, name in _MARKS.items():
        cells = [cell.strip().strip('"') for cell in first.split(mark)]
        headed = any(map(_PICTURE.fullmatch, cells)) and any(map(_CAPTION.fullmatch, cells))
        if len(cells) > 1 and (headed or _is_picture(cells[0])):
            known = _KNOWN.get(mark, "") if headed else ""
            return (
                f"it looks like a table with {name}{known}: {_by_pandas(path, cells, mark, headed)}"
            )
    if "\t" in first:
        cells = [cell.strip() for cell in first.split("\t")]
        headed = any(map(_PICTURE.fullmatch, cells)) and any(map(_CAPTION.fullmatch, cells))
        if headed and len(cells) > 2:
            return f"it looks like a table with a header: {_by_pandas(path, cells, chr(9), True)}"
    return ""


def of_folder(folder: Path) -> str:
    """Says which other list of captions lies in a folder without one of the expected names.

    Args:
        folder: The folder.

    Returns:
        A clause that begins with the list's path, or `""` if there is none.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _LISTS or path.name[0] == "." or not path.is_file():
            continue
        with path.open("rb") as file:
            start = file.read(4096).decode("utf-8-sig", errors="replace").split("\n")
        lines = [line for line in start if line.strip()][:2]
        name, tab, sentence = lines[0].partition("\t") if lines else ("", "", "")
        if tab and _is_picture(name.strip()) and sentence.strip() and "\t" not in sentence.strip():
            return f"{path} looks like a list of captions, which captioned:{path} reads"
        if what := of_lines(path, lines) if lines else "":
            return f"{path} is there, but {what}"
    return ""


def of_row(name: str, sentence: str, number: int) -> str:
    """Says what is wrong with the two fields of a line that are no picture and caption.

    Args:
        name: The first field.
        sentence: The second field.
        number: Number of the line, from 1.

    Returns:
        A clause, or `""` if nothing is known to be wrong.

    Example:
        >>> from rcnn_jax.data.datasets.captioned.layouts import of_row
        >>> of_row("image", "caption", 1)
        'it is a header, and a list has none: take it out'
        >>> of_row("a.jpg", "caption", 1)
        ''
    """
    name, sentence = name.strip(), sentence.strip()
    if number == 1 and _PICTURE.fullmatch(name) and _CAPTION.fullmatch(sentence):
        return "it is a header, and a list has none: take it out"
    if re.fullmatch(r"https?://\S+", sentence):
        return (
            "it is a caption and an address, as in Conceptual Captions: fetch the pictures, and "
            f"{OWN}"
        )
    if _is_picture(sentence) and not _is_picture(name) and " " not in sentence:
        return "the picture stands behind the caption: the first column is the picture"
    if re.search(r"\.\w+#\d+$", name):
        return "it is a line of Flickr8k's or Flickr30k's tokens, which flickr8k:FILE reads"
    return ""


def of_json(content: Any) -> str:
    """Says what kind of file of pictures a JSON file is.

    Args:
        content: Content of the file.

    Returns:
        The end of a sentence that begins with "it is", or `""` for an unknown kind.

    Example:
        >>> from rcnn_jax.data.datasets.captioned.layouts import of_json
        >>> of_json({"images": [], "annotations": [{"bbox": [1, 2, 3, 4]}]})
        "COCO's list of objects (instances_*.json): captions_*.json beside it holds the captions"
    """
    if isinstance(content, list):
        return _of_list(_first(content))
    if not isinstance(content, dict):
        return ""
    images, notes = _first(content.get("images")), _first(content.get("annotations"))
    if "sentences" in images:
        return "a dataset.json of Karpathy's distribution: karpathy:FILE reads it"
    if "caption" in notes:
        return "COCO's list of captions: coco_captions:FILE reads it"
    beside = "captions_*.json beside it holds the captions"
    for key, name in (
        ("keypoints", f"COCO's list of people (person_keypoints_*.json): {beside}"),
        ("segments_info", f"COCO's list of segments (panoptic_*.json): {beside}"),
        ("bbox", f"COCO's list of objects (instances_*.json): {beside}"),
        ("category_id", f"COCO's list of objects (instances_*.json): {beside}"),
        ("answers", "a list of answers to questions (VQA), without captions"),
    ):
        if key in notes:
            return name
    if _first(content.get("questions")):
        return "a list of questions (VQA), without captions"
    if {"file_name", "filename"} & set(images) and not content.get("annotations"):
        return "a list of pictures without captions, as COCO's image_info_test*.json"
    values = [value if isinstance(value, list) else [value] for value in content.values()]
    if values and all(isinstance(each, str) for value in values[:20] for each in value):
        return f"a mapping from pictures to captions: {OWN}"
    return ""


def _of_list(first: dict[str, Any]) -> str:
    if {"image_id", "caption"} <= set(first) and not {"image", "file_name"} & set(first):
        return "a list of results for the COCO server, with captions that a model said"
    if {"image_id", "score"} <= set(first):
        return "a list of objects that a model found, without captions"
    picture = next((key for key in first if _PICTURE.fullmatch(key)), None)
    caption = next((key for key in first if _CAPTION.fullmatch(key)), None)
    if picture and caption:
        return f"a list of objects with {picture!r} and {caption!r}: {OWN}"
    return ""


def is_json_lines(text: str) -> bool:
    """Returns whether a text is JSON in each of its first lines.

    Args:
        text: Content of a file.
    """
    lines = [line for line in text.split("\n", 3)[:2] if line.strip()]
    return len(lines) > 1 and all(map(_is_json, lines))


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _first(entries: Any) -> dict[str, Any]:
    first = entries[0] if isinstance(entries, list) and entries else {}
    return first if isinstance(first, dict) else {}


def _is_picture(text: str) -> bool:
    return text.lower().endswith(SUFFIXES)


def _by_pandas(path: Path, cells: Sequence[str], mark: str, headed: bool) -> str:
    """Returns how pandas writes the columns of pictures and captions of a table as a list."""
    given = [json.dumps(path.name)]
    if mark != ",":
        given.append(f"sep={json.dumps(mark)}, skipinitialspace=True")
    columns = [0, len(cells) - 1]
    if headed:
        columns = [next(filter(kind.fullmatch, cells)) for kind in (_PICTURE, _CAPTION)]
    else:
        given.append("header=None")
    return (
        "write its columns of pictures and captions with tabs and without a header, in pandas by "
        f"read_csv({', '.join(given)})[{json.dumps(columns)}].to_csv("
        '"captions.tsv", sep="\\t", header=False, index=False), and read it as '
        "captioned:captions.tsv"
    )
