"""CTC beam search by a decoder in a compiled language, a sequence at a time as it takes them."""

import concurrent.futures
import pathlib

import ctc_inputs
import machine
import numpy as np
from row import AbsentError, Prepared


def rust(folder: pathlib.Path, *, width: int, **sizes: int) -> Prepared:
    """`fast-ctc-decode`; arguments as for ours. It takes probabilities, which are not timed."""
    del folder
    try:
        import fast_ctc_decode  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise AbsentError(f"fast-ctc-decode is not installed ({error})") from error
    logits = ctc_inputs.sure_logits(**sizes).astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)
    alphabet = [chr(0x100 + number) for number in range(sizes["classes"])]

    def decode(line: np.ndarray) -> list[int]:
        text, _ = fast_ctc_decode.beam_search(line, alphabet, width, 0.0)
        return [ord(character) - 0x100 for character in text]

    now: dict[str, list[list[int]]] = {}
    # As many threads as ours has, should the decoder let them run.
    pool = concurrent.futures.ThreadPoolExecutor(len(machine.cores()))

    def run() -> None:
        now["found"] = list(pool.map(decode, probabilities))

    def answers() -> dict[str, np.ndarray]:
        table = np.zeros((sizes["batch"], sizes["time"]), np.float32)
        for row, labels in zip(table, now["found"], strict=True):
            row[: len(labels)] = labels
        return {"labels": table}

    return Prepared(run, answers, work=sizes["batch"], unit="sequences")
