"""Summarizes the results of a run of `gpu.py` as two tables and as JSON."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import checkout
import gpu_recipe

from rcnn_jax.output import results

PRODUCT = "gpu_matrix_product_bfloat16"
ROWS_FILE = "rcnn_rows.json"


def summarize(out: pathlib.Path) -> dict[str, Any]:
    """Gathers the results of a folder.

    Args:
        out: Folder of the results.

    Returns:
        `bfloat16_tflop_per_s`: the GPU's rate in the faster of the two matrix products, None if
        none was measured; `rows` and `trainings`: lists of rows of a table, in which `share` is the
        rate of arithmetic as a share of that rate.
    """
    rows = checkout.benchmark("report").load(out / ROWS_FILE)
    rate = _rate(rows.get(PRODUCT))
    lines = []
    # In the order in which they are measured, the most informative first.
    for name, row in checkout.benchmark("row").discover().items():
        if name in rows and name != PRODUCT:
            lines += _lines(row, rows[name], rate)
    trainings = [line for stage in gpu_recipe.STAGES for line in _trainings(out, stage, rate)]
    return {"bfloat16_tflop_per_s": rate, "rows": lines, "trainings": trainings}


def _rate(product: Mapping[str, Any] | None) -> float | None:
    sides = product["points"][0]["sides"].values() if product else ()
    return max((s["per_s"] / 1e3 for s in sides if s["state"] == "measured"), default=None)


def _share(tflop_per_s: float, rate: float | None) -> float | None:
    return tflop_per_s / rate if rate else None


def _lines(row: Any, measured: Mapping[str, Any], rate: float | None) -> list[dict[str, Any]]:
    """Makes a line for each side of an RCNN row."""
    (point,) = measured["points"]
    ratios = {ratio["other"]: ratio["ratio"] for ratio in point["ratios"]}
    given = {**row.sides[0].arguments, **(row.quick if measured["quick"] else {})}
    shape = {"features": 96, "steps": 3} | {
        key: given[key] for key in ("batch", "size", "features", "steps") if key in given
    }
    inputs = checkout.benchmark("rcnn_inputs")
    training = row.name.startswith("gpu_rcnn_train")
    gflop = (inputs.training_gflop if training else inputs.inference_gflop)(**shape)
    lines = []
    for name, side in point["sides"].items():
        line = {"row": row.name.removeprefix("gpu_rcnn_"), "side": name}
        if side["state"] != "measured":
            text = f"{name}: {side['state']}: {side['message']}"
            lines.append(line | {"side": text} | dict.fromkeys(_MEASURED))
            continue
        tflop_per_s = gflop / side["seconds"] / 1e3
        values = (
            1e3 * side["seconds"],
            shape["batch"] / side["seconds"],
            tflop_per_s,
            _share(tflop_per_s, rate),
            ratios.get(name),
            side["compile_s"],
            side["peak_mib"],
        )
        lines.append(line | dict(zip(_MEASURED, values, strict=True)))
    return lines


_MEASURED = ("ms", "images_per_s", "tflop_per_s", "share", "ours / it", "compile_s", "peak_mib")


def _trainings(out: pathlib.Path, stage: str, rate: float | None) -> list[dict[str, Any]]:
    """Makes a line for each training of a network."""
    path = out / f"{stage}.json"
    if not path.exists():
        return []
    results_of_stage = json.loads(path.read_text())
    return [
        {
            "net": stage,
            "seed": run["seed"],
            "evaluated": results_of_stage["data"]["evaluated"],
            "error": run["error"],
            "published_error": results_of_stage["recipe"]["published"],
            "epochs": run["epochs"],
            "seconds": run["seconds"],
            "to_published_s": run["seconds_to_published"],
            "images_per_s": run["images_per_s"],
            "tflop_per_s": run["tflop_per_s"],
            "share": _share(run["tflop_per_s"], rate),
            "compile_s": run["compile_s"],
            "stopped": run["stopped"],
        }
        for run in results_of_stage["runs"]
    ]


def show(summary: Mapping[str, Any]) -> None:
    """Prints the tables that have rows.

    Args:
        summary: Result of `summarize`.
    """
    for title, key in (("RCNN-96 beside PyTorch", "rows"), ("CIFAR-10", "trainings")):
        if summary[key]:
            results.show(title, summary[key], limit=len(summary[key]))
    if summary["bfloat16_tflop_per_s"]:
        rate = summary["bfloat16_tflop_per_s"]
        print(f"share: of {rate:.4g} TFLOP/s, the card's own product of matrices in bfloat16")
