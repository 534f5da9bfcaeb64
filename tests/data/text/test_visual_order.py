"""Visual order: by hand, against python-bidi, and back. Capitals stand for Hebrew or Arabic."""

import random
import unicodedata

import numpy as np
import pytest
from bidi import get_display

from rcnn_jax.data.text import bidirectional
from rcnn_jax.data.text.bidirectional import clusters, displayed, lay_out
from rcnn_jax.data.text.readings import readings
from rcnn_jax.data.text.visual_order import VisualOrder
from rcnn_jax.data.text.word_pairs import WordPairs

pytestmark = pytest.mark.one_row

HEBREW = "אבגדהוזחטיכלמנסעפצקרשתךםןף"
ARABIC = "ابتثجحخدذرزسشصضطظعغفقكلمنه"
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def he(text):
    """Capitals are Hebrew letters, ~ is a point."""
    return text.translate(str.maketrans(CAPITALS + "~", HEBREW + "\u05b8"))


def ar(text):
    """Capitals are Arabic letters, ~ is a vowel and _ a zero-width non-joiner."""
    return text.translate(str.maketrans(CAPITALS + "~_", ARABIC + "\u064e\u200c"))


FROM_RIGHT = [
    (he, "ABC DEF", "FED CBA"),
    (he, "AB, CD!", "!DC ,BA"),
    # A mark follows the letter that it belongs to; a joiner stays between its letters.
    (he, "A~BC~D e\u0301", "e\u0301 DC~BA~"),
    (ar, "A~B_C\u0651~D", "DC\u0651~_BA~"),
    (ar, "AB\u200d~C", "CB\u200d~A"),
    # The shape that is seen.
    (he, "AB (CD) [E] «F»", "«F» [E] (DC) BA"),
    (he, "AB f(x) < CD", "DC > f(x) BA"),
    (he, "AB (usb) CD", "DC (usb) BA"),
    (he, "AB 12.50 CD 12/05/2024.", ".12/05/2024 DC 12.50 BA"),
    (he, "AB 5% $7 -8 +972-3-555", "972-3-555+ 8- $7 5% BA"),
    (ar, "AB 5% 3-4 ٣٫٥ ٢/٣", "٢/٣ ٣٫٥ 4-3 %5 BA"),
    (ar, "AB ۱۴۰۲/۰۵/۱۲ CD", "DC ۱۴۰۲/۰۵/۱۲ BA"),
    (he, "AB usb 3 CD", "DC usb 3 BA"),
    (he, "AB 5 gb, CD", "DC ,gb 5 BA"),
    (he, 'A-B "covid-19" C', 'C "covid-19" B-A'),
    (he, "usb AB", "BA usb"),
    (ar, "٣ - ٤", "٤ - ٣"),
    (he, "A\tB", "B\tA"),
    (he, "\U0001f600 AB \U0001d11e", "\U0001d11e BA \U0001f600"),
]
FROM_LEFT = [
    (he, "see AB 12 CD now.", "see DC 12 BA now."),
    (he, "see (AB CD) 5", "see (DC BA) 5"),
    (he, "see AB (usb) CD", "see BA (usb) DC"),
    (ar, "x A~B_C 5% D", "x D %5 C_BA~"),
]


@pytest.mark.parametrize("direction", ["R", "L"])
def test_what_is_seen_and_back(direction):
    for letters, text, seen in FROM_RIGHT if direction == "R" else FROM_LEFT:
        text, seen = letters(text), letters(seen)
        assert displayed(text, direction) == seen
        assert text in readings(seen, direction)
        order = VisualOrder("auto", direction)
        assert order.visual(text) == seen
        if "5 gb" not in text:
            assert order.logical(seen) == text
    # Characters that only control directions have their effect, and are not seen.
    order = VisualOrder("auto", "R")
    assert order.visual(he("AB C\u200f usb!")) == he("!usb C BA")
    assert order.visual(he("AB usb!\u200e")) == he("usb! BA")
    assert order.visual(he("\u202bAB \u2066usb!\u2069 C\u202c")) == he("C usb! BA")


def test_order_is_that_of_python_bidi():
    """All classes, whatever the neighbours; what python-bidi does not do is done without it."""
    rng = random.Random(0)
    pool = he("ABC") + ar("ABC") + "abc019٣٤۱۲ ..,:/-+%$#!?&=־،؛\u00a0\u200e\u200f\u061c"
    for _ in range(1500):
        text = "".join(rng.choices(pool, k=rng.randint(1, 20))).rstrip()
        for direction in "LR":
            own = displayed(text, direction)
            assert own == bidirectional.visible(get_display(text, base_dir=direction)), ascii(text)
    # Brackets keep their place, and are mirrored where they are reversed.
    pool += "()[]<>" * 3
    for _ in range(500):
        text = "".join(rng.choices(pool, k=rng.randint(1, 20))).rstrip()
        for direction in "LR":
            layout = lay_out(clusters(text), direction)
            shown = get_display(text, base_dir=direction)
            assert "".join(text[i] for i in layout.order) == shown, ascii(text)
            assert all(
                layout.reversed[i] == (unicodedata.bidirectional(text[i]) in ("R", "AL"))
                for i in range(len(text))
                if unicodedata.bidirectional(text[i]) in ("R", "AL", "L", "AN")
            )


def test_base_direction():
    auto, left = VisualOrder("auto", "R"), VisualOrder("auto", "L")
    for order in (auto, left, VisualOrder("line", "R"), VisualOrder("R", "R")):
        for text in ("", "Only (Latin) 12.", "12 - 34", "۱۲ - ۳۴"):
            assert order.visual(text) == order.logical(text) == text
    # Letters of one direction decide; of two, what the training split is.
    assert [each.visual(he("AB!")) for each in (auto, left)] == [he("!BA")] * 2
    assert VisualOrder("L", "L").visual(he("AB!")) == he("BA!")
    assert [each.visual(he("usb AB!")) for each in (auto, left)] == [he("!BA usb"), he("usb BA!")]
    assert [each.logical(he("usb BA!")) for each in (auto, left)] == [he("!AB usb"), he("usb AB!")]
    # By the first letter, which is not seen: it is guessed as in the training split.
    lines = [he(text) for text in ("AB usb!", "CD usb!", "usb AB!", "usb", "EF.")]
    order = VisualOrder.fit(lines, "line")
    assert order.direction == "R"
    assert [order.visual(line) for line in lines] == list(
        map(he, ("!usb BA", "!usb DC", "usb BA!", "usb", ".FE"))
    )
    assert [order.logical(order.visual(line)) for line in lines] == [
        *lines[:2], he("!AB usb"), *lines[3:],
    ]  # fmt: skip
    assert VisualOrder.fit(lines).direction == "R"
    assert VisualOrder.fit([he("usb AB"), he("AB"), he("usb")]).direction == "L"
    assert VisualOrder.fit([he("AB")]).direction == VisualOrder.fit(["usb"]).direction == "R"
    assert VisualOrder.fit([he("AB")], "L").direction == "L"


def test_texts_that_look_alike_are_read_as_in_the_training_split():
    seen = [he("gb 5 BA"), he(",gb 77 DC"), he("BA usb 5"), he("usb 3.0 BA"), he("px 3 BA")]
    assert readings(seen[0], "R") == [he("AB gb 5"), he("AB 5 gb")]
    lines = [
        he(text) for text in ("A 5 gb B", "C 12 gb", "D 99 gb.", "A usb 2", "usb 4 B", "C 1 km")
    ]
    order = VisualOrder.fit(lines)
    again = VisualOrder.from_array(order.to_array())
    assert again == order
    told = [he("AB 5 gb"), he("CD 77 gb,"), he("usb 5 AB"), he("AB usb 3.0"), he("AB 3 px")]
    assert [order.logical(each) for each in seen] == [again.logical(each) for each in seen] == told
    # Without an example, a number follows the word.
    fresh = VisualOrder("auto", "R")
    assert [fresh.logical(each) for each in seen[1:3]] == [he("CD gb 77,"), he("usb 5 AB")]
    assert fresh.logical(he("covid-19 BA")) == he("AB covid-19")
    assert fresh.logical(he("f(x) BA")) == he("AB f(x)")
    assert VisualOrder.fit([he("CD (y)g")]).logical(he("f(x) BA")) == he("AB (x)f")
    # Brackets are closed where that is possible.
    assert fresh.logical(he("usb (3) BA")) == he("AB usb (3)")
    assert WordPairs().choose(["(a b", "(a) b"], "R") == "(a) b"


WORDS = ("Windows", "USB", "Python", "COVID", "C++", "e-mail", "AT&T", "www.example.com", "café")
UNITS = ("GB", "km", "px", "Hz")


def mixed_line(rng):
    """Words, numbers, dates, prices, Latin words, brackets and quotes, as they come in texts."""
    letters, marks, digits = rng.choice(
        [
            (HEBREW, "", "0123456789"),
            (HEBREW, "\u05b0\u05b7\u05b8\u05bc", "0123456789"),
            (ARABIC, "", "0123456789"),
            (ARABIC, "\u064e\u0651", "٠١٢٣٤٥٦٧٨٩"),
            ("پچژگ" + ARABIC, "\u200c", "۰۱۲۳۴۵۶۷۸۹"),
        ]
    )

    def word():
        made = "".join(
            rng.choice(letters) + (rng.choice(marks) if marks and rng.random() < 0.3 else "")
            for _ in range(rng.randint(1, 6))
        )
        return made.rstrip("\u200c")

    def number():
        form = rng.choice(
            ["9", "99", "9,999", "99.99", "99/99/9999", "99:99", "99%", "$99", "-9", "+99-999-99"]
        )
        return "".join(rng.choice(digits) if each == "9" else each for each in form)

    def phrase():
        one, count = rng.choice(WORDS), str(rng.randint(1, 99))
        return rng.choice([one, f"{one} {count}", f"{one}-{count}", f"{count} {rng.choice(UNITS)}"])

    parts, last = [], word
    for _ in range(rng.randint(2, 6)):
        # Where a number of its own met a Latin word by chance, nobody could say which was first.
        last = word if last is not word else rng.choice([word, word, number, phrase])
        part = last() + rng.choice(["-" + word(), *[""] * 5] if last is word else [""])
        around = rng.choice(["()", "[]", "«»", '""', *[""] * 12])
        parts.append(f"{around[:1]}{part}{around[1:]}" + rng.choice([",", ":", *[""] * 8]))
    return " ".join(parts) + rng.choice(["", ".", "?"])


def test_mixed_lines_come_back():
    """At least 999 of 1,000, also of lines that the order was not fitted on."""
    rng = random.Random(3)
    lines = [mixed_line(rng) for _ in range(2000)]
    other = [mixed_line(rng) for _ in range(500)]
    order = VisualOrder.fit(lines)
    for split in (lines, other):
        found = list(order.differing(split))
        assert len(found) == sum(map(bidirectional.has_right_to_left, split)) > 0.95 * len(split)
        assert sum(each is not None for each in found) <= 0.001 * len(found)
    assert sum(len(bidirectional.letter_directions(line)) == 2 for line in lines) > 500
    # From left to right the numbers on both sides of a phrase have more than one place.
    left = VisualOrder.fit(lines[:100], "L")
    assert sum(each is not None for each in left.differing(lines[:100])) <= 1


def test_texts_that_do_not_come_back_are_told_apart_from_those_that_do():
    lines = [he(text) for text in ("AB 5 gb", "AB gb 5", "CD gb 5", "AB", "usb")]
    order = VisualOrder.fit(lines)
    found = list(order.differing(lines))
    assert len(found) == 4
    assert [each is None for each in found].count(False) == 1
    text, back = next(each for each in found if each is not None)
    assert order.visual(text) == order.visual(back)
    assert text in lines
    assert text != back
    assert list(order.differing([he("A\u200fB")])) == [None]


def test_any_answer_can_be_told():
    """A wrong answer may be anything; its characters stay, but for the shape of brackets."""
    rng = random.Random(1)
    pool = he("AB~") + ar("AB") + 'ab12٣۴ .,:/-+%$()[]<>"\ufffd\u200c\u200e\u0301\t'
    shape = str.maketrans(")]>", "([<")
    for order in (VisualOrder("auto", "R"), VisualOrder("auto", "L"), VisualOrder("line", "R")):
        for _ in range(30):
            seen = "".join(rng.choices(pool, k=rng.randint(1, 30)))
            told = order.logical(seen)
            assert sorted(told.translate(shape)) == sorted(seen.translate(shape))
    brackets = "(1) " * 200 + he("A")
    assert len(VisualOrder("auto", "R").logical(brackets)) == len(brackets)


def test_what_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"a line of 32,769 characters cannot be turned"):
        VisualOrder("auto", "R").visual(he("A") * 32_768 + "1")
    for content in (b"", b"[]", b'{"base": "auto", "direction": "up", "pairs": {"counts": []}}'):
        with pytest.raises(ValueError, match="an order of texts is stored as JSON"):
            VisualOrder.from_array(np.frombuffer(content, np.uint8))
    monkeypatch.setitem(__import__("sys").modules, "bidi", None)
    bidirectional._library.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"python-bidi .*pip install 'rcnn-jax\[bidi\]'"):
            VisualOrder("auto", "R").visual(he("AB"))
        assert VisualOrder("auto", "R").visual("ab") == "ab"
    finally:
        bidirectional._library.cache_clear()
