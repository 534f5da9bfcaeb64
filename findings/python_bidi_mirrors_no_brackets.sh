#!/usr/bin/env bash
# python-bidi 0.6: of its two functions `get_display`, one mirrors brackets and the other does not.
#
# `get_display` returns text in visual order, for what lays characters out from left to right. Rule L4
# of the Unicode bidirectional algorithm (UAX 9) shows a bracket at an odd level by its mirrored
# glyph, and whoever gets the result no longer knows the levels. `bidi.algorithm.get_display`, the
# implementation in Python, mirrors such characters; `bidi.get_display`, the one in Rust that the
# package's page shows first, leaves them: the bracket that opens a Hebrew word then looks like a
# closing one. Both leave a combining mark before its base after the reversal (rule L3).
#
# Seen on 2026-11-30 with python-bidi 0.6.12 and Python 3.11, for the code points 28 5d0 5d1 29:
# 28 5d1 5d0 29 in Python, 29 5d1 5d0 28 in Rust. `rcnn_jax/data/text/bidirectional.py` mirrors by
# itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check python-bidi==0.6.12 six==1.17.0
"$folder/env/bin/python" - <<'P'
import sys

import bidi
import bidi.algorithm

EXPECTED = {
    "bidi.algorithm.get_display": ("28 5d1 5d0 29", "5d1 5b7 5d0"),
    "bidi.get_display": ("29 5d1 5d0 28", "5d1 5b7 5d0"),
}
functions = {
    "bidi.algorithm.get_display": bidi.algorithm.get_display, "bidi.get_display": bidi.get_display,
}
fails = 0
for name, function in functions.items():
    seen = tuple(
        " ".join(f"{ord(c):x}" for c in function(text, base_dir="R"))
        for text in ("(\u05d0\u05d1)", "\u05d0\u05b7\u05d1")
    )
    print(f"{name}: {'; '.join(seen)}")
    fails += seen != EXPECTED[name]
sys.exit(fails)
P
