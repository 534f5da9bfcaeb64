"""Words as Stanford's tokeniser writes them, COCO's list of punctuation left out."""

import hashlib
import json

import pytest

from rcnn_jax.data.text.ptb import PUNCTUATION, tokenize

# Each was read from `edu.stanford.nlp.process.PTBTokenizer -lowerCase` of CoreNLP 3.4.1.
SENTENCES = {
    "A man's dog can't run, it's tired.": "a man 's dog ca n't run it 's tired",
    "I don't, won't; they'd've": "i do n't wo n't they 'd 've",
    "He'll we've they're I'm I'd DOGS' ain't": "he 'll we 've they 're i 'm i 'd dogs ai n't",
    "cannot gonna wanna gotta gimme 'tis 'twas": "can not gon na wan na got ta gim me 't is 't was",
    "gonnas cannots": "gonnas cannots",
    "rock'n'roll rock 'n' roll o'clock O'Brien hors d'oeuvre": (
        "rock 'n' roll rock 'n' roll o'clock o'brien hors d'oeuvre"
    ),
    "l'amour ho'ohu pe'e ma'am y'all": "l'amour ho'ohu pe'e ma'am y' all",
    "A \"quoted\" word, ``this'' and 'that'": "a quoted word this and that",
    "“curly” ‘single’ it’s can’t «so»": "curly single it 's ca n't so",
    "a T-shirt, tri-colored -- and a dash - here—em – en --- done": (
        "a t-shirt tri-colored and a dash here em en done"
    ),
    "half-eaten , semi- and -looking well---known": "half-eaten semi and looking well known",
    "black/white and/or a/ /b 24/7": "black/white and/or a / / b 24/7",
    "1,000,000 at 4:21 on 3/4 and 10-29-2011 in 10.14": (
        "1,000,000 at 4:21 on 3/4 and 10-29-2011 in 10.14"
    ),
    "5:54pm 5pm 12th 1980s '80s 10-year-old 3.5-inch 4x4": (
        "5:54 pm 5pm 12th 1980s '80s 10-year-old 3.5-inch 4x4"
    ),
    "a 1/2-eaten cake, a 20-oz. bottle, a 3-lb. dog": (
        "a 1/2-eaten cake a 20-oz bottle a 3-lb dog"
    ),
    "$3.50 or 50% of #41 & -5 .5 5+5=x": "$ 3.50 or 50 % of # 41 & -5 .5 5 +5 = x",
    "5'10\" tall": "5 10 tall",
    "Mr. Smith of St. Ave. vs. Dec. the T.V. and U.S.A flag, e.g. D.V.D": (
        "mr. smith of st. ave. vs. dec. the t.v. and u.s.a flag e.g. d.v.d"
    ),
    "plan B. then the U.S.": "plan b. then the u.s.",
    "It is in the ground.a dog .hit by tv.": "it is in the ground.a dog hit by tv",
    "AT&T R&B b&b": "at&t r&b b & b",
    "wow!! what?! end... and.. so. yes! no?": "wow !! what ?! end and so yes no",
    "(a) [b] {c} <b>x</b> <end>": "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb- <b> x </b> <end>",
    "see http://a.example/b?c=d or www.example.com, me@example.com @home": (
        "see http://a.example/b?c=d or www.example.com me@example.com @home"
    ),
    "naïve café groß красный 红色的猫 हिन्दी ประเทศ العربية": (
        "naïve café groß красный 红色的猫 हिन्दी ประเทศ العربية"
    ),
    "  many\t spaces\u00a0here \n": "many spaces here",
    "": "",
    " ... . \" ' -- ": "",
}


def test_sentences():
    for sentence, words in SENTENCES.items():
        assert tokenize(sentence) == words.split(), sentence


def test_a_single_letter_at_the_end_loses_its_dot():
    # As in captions at hand; Stanford's looks at the capitals of the next sentence.
    assert tokenize("a sign that reads K.")[-1] == "k"
    assert tokenize("12th Ave S. and K. street") == ["12th", "ave", "s.", "and", "k.", "street"]


def test_some_abbreviations_keep_their_dot_before_a_figure_alone():
    """By the rule of the tokeniser: `no.`, a space or none, and a digit."""
    for sentence, words in {
        "bus No. 5, no.7 and (no. 8)": "bus no. 5 no. 7 and -lrb- no. 8 -rrb-",
        "nos. 3 and 4; fig. 2": "nos. 3 and 4 fig. 2",
        "No. It says no. five no.": "no it says no five no",
        "casino. 5 piano. 6 e-no. 7": "casino 5 piano 6 e-no 7",
    }.items():
        assert tokenize(sentence) == words.split(), sentence


def test_an_accent_in_two_signs_belongs_to_its_letter():
    assert tokenize("cafe\u0301 nai\u0308ve-looking") == ["cafe\u0301", "nai\u0308ve-looking"]


def test_words_stay_words():
    for sentence in SENTENCES:
        words = tokenize(sentence)
        assert not PUNCTUATION.intersection(words)
        # A tokenised sentence is written with spaces and read again by scorers.
        assert " ".join(words).split() == words


@pytest.mark.realdata
def test_all_captions_at_hand_are_those_of_the_reference(real_data):
    """SHA-256 of what CoreNLP 3.4.1 makes of them, its no-break spaces taken as spaces."""
    content = json.loads((real_data / "coco_mini/annotations/captions_val2017.json").read_bytes())
    lines = (real_data / "flickr8k/Flickr8k_text/Flickr8k.token.txt").read_text("utf-8")
    for sentences, expected in (
        (
            [annotation["caption"] for annotation in content["annotations"]],
            "eada4f345a6fd168820f77f5a6ffab04c85ea7b8aff985b360cac19c3cb35ccb",
        ),
        (
            [line.split("\t")[1] for line in lines.split("\n") if line],
            "97a192e0a93bdb69ceda6188e83ebadc1aba187b6cde43366251bffb8e367482",
        ),
    ):
        text = "\n".join(" ".join(tokenize(sentence)) for sentence in sentences)
        assert hashlib.sha256(text.encode()).hexdigest() == expected
