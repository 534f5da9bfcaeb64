"""Which form of a kernel runs, as it is noted while a program is traced."""

import jax
import jax.numpy as jnp

from rcnn_jax.kernels import forms, library


def noted(kernel, form, why=""):
    def operation(x):
        forms.note(kernel, form, why)
        return x + 1

    return operation


def test_choices_are_counted_while_a_program_is_traced(monkeypatch):
    monkeypatch.setattr(library, "instruction_set", lambda: "AVX2")
    small = noted("convolution 3 x 3", forms.COMPILED)
    large = noted("convolution 3 x 3", forms.XLA, "5 x 5 window")
    cell = noted("LSTM", forms.XLA, "bfloat16")
    program = jax.jit(lambda x: cell(large(small(small(x)))))
    with forms.collect() as outer:
        with forms.collect() as inner:
            program(jnp.zeros(2))
        program(jnp.zeros(2))  # It is traced once.
        cell(0)
    assert inner.rows() == [
        ("LSTM", "1 XLA (bfloat16)"),
        ("convolution 3 x 3", "2 compiled (AVX2), 1 XLA (5 x 5 window)"),
    ]
    assert outer.rows()[0] == ("LSTM", "2 XLA (bfloat16)")
    assert outer.rows()[1:] == inner.rows()[1:]
    cell(0)
    assert outer.counts.total() == 5


def test_a_library_that_was_not_built_is_said_once(monkeypatch, capsys):
    reason = "the library was not built: no C++17 compiler was found"
    monkeypatch.setattr(library, "missing", lambda: reason)
    monkeypatch.setattr(forms, "_told", set())
    for why in (reason, "5 x 5 window", reason):
        forms.note("convolution 3 x 3", forms.XLA, why)
    told = capsys.readouterr()
    assert not told.out
    assert told.err == f"note: kernels are compiled by XLA, which is slower: {reason}\n"
