"""Strings and pictures with which encoders are compared: ordinary ones, and all kinds of odd ones."""

import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

NUM_STRINGS = 1000
NUM_PICTURES = 256

WORDS = (
    "a", "the", "two", "red", "green", "blue", "small", "large", "old", "shiny", "apple", "dog", "cat",
    "bicycle",
    "train", "mountain", "river", "person", "woman", "man", "child", "smiling", "sleeping", "running",
    "drawing",
    "photo", "sketch", "of", "with", "under", "beside", "behind", "on", "in", "and", "no",
)  # fmt: skip
SCRIPTS = (
    "красное яблоко на столе", "ένα κόκκινο μήλο ΣΤΟΝ ΔΡΟΜΟΣ", "一只红苹果", "赤いりんごと青い車", "빨간 사과",
    "تفاحة حمراء على الطاولة", "תפוח אדום", "लाल सेब", "แอปเปิ้ลสีแดง", "ਲਾਲ ਸੇਬ", "червоне яблуко",
    "q\u0131rm\u0131z\u0131 ALMA", "\u0130STANBUL \u0131\u015f\u0131k", "Straße in Köln",
    "naïve café à Besançon", "smörgåsbord på ön",
    "кольоровий ПТАХ", "გამარჯობა", "բարև աշխարհ", "táo đỏ ở trên bàn", "ሰላም ዓለም", "ลูกแมว", "ኣ ab ב",
    "\uff41\uff42\uff43 \uff11\uff12\uff13",
)  # fmt: skip
EMOJI = (
    "\N{RED APPLE}", "\N{DOG FACE}\N{CAT FACE}", "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
    "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}",
    "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}",
    "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}",
    "1\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}", "\N{GRINNING FACE}" * 3,
)  # fmt: skip
ODD = (
    "", " ", "\t\n", ".", "...", "!?", "_", "a_b__c", "</s>", "<unk>", "<pad> a dog", "A", "a", "THE DOG",
    "tHe DoG",
    "don't", "it's a dog's life", "dog,cat;bird", "e-mail: a@b.c", "50% off!", "C:\\path\\to",
    "{curly} [square] (round)", "&amp; &lt;b&gt; &quot;", "<script>alert(1)</script>",
    "#hashtag @name", "1234567890", "3.14159", "1/2", "2 + 2 = 4",
    "a\u00a0b", "a\u2003b\u3000c", "a\u200bb", "a\u00adb", "\ufeffdog", "a\r\nb", "\x07bell", "\x1fseparated",
    "\u2028line", "cafe\u0301", "\u212bngstr\u00f6m", "\ufb01sh", "\u00bd cup", "x\u00b2", "\u2122\u00ae\u00a9",
    "\u0130",
    "\u03a3", "A\u03a3", "\u2581dog", "dog\u2581", "\u1112\u1161\u11ab", "\u304b\u3099", "\uff76\uff9e",
    "\U0001d4d0\U0001d4d1",
    "\u202eabc\u202c", "dog " * 300, "abcdefghijklmnopqrstuvwxyz" * 40, "\N{SNOWMAN} " * 100, "word," * 200,
)  # fmt: skip


def golden_strings() -> list[str]:
    """A thousand different strings: empty, long, emoji, capitals, punctuation, many scripts, plain captions."""
    found = dict.fromkeys((*ODD, *SCRIPTS, *EMOJI))
    for string in _endless_strings(random.Random(0)):
        found[string] = None
        if len(found) == NUM_STRINGS:
            return list(found)
    raise AssertionError("there is no end of strings")


def _endless_strings(numbers: random.Random) -> Iterator[str]:
    while True:
        words = [numbers.choice(WORDS) for _ in range(numbers.randint(1, 12))]
        kind = numbers.random()
        if kind < 0.1:
            words[0] = numbers.choice(SCRIPTS)
        elif kind < 0.2:
            words.append(numbers.choice(EMOJI[:-1]))
        elif kind < 0.3:
            words = [word.upper() if numbers.random() < 0.5 else word.title() for word in words]
        elif kind < 0.4:
            words = [word + numbers.choice(".,;:!?-'\"") for word in words]
        elif kind < 0.5:
            words = [str(numbers.randint(0, 10**6)), *words]
        elif kind < 0.55:
            # Any letters and signs at all, of many scripts, with accents where none belong.
            words = ["".join(chr(numbers.randint(0x21, 0x2FFF)) for _ in range(6))]
        yield " ".join(words)


def golden_picture(number: int) -> Image.Image:
    """One of 256 pictures: of all shapes from one pixel to a thread, and of all modes that files have."""
    numbers = np.random.default_rng(number)
    shapes = {
        0: (1, 1), 1: (1, 500), 2: (500, 1), 3: (2, 3000), 4: (3000, 3), 5: (7, 7), 6: (640, 480), 7: (301, 707),
    }  # fmt: skip
    width, height = shapes.get(number % 32, tuple(numbers.integers(2, 150, size=2).tolist()))
    pixels = _pixels(numbers, width, height)
    picture = Image.fromarray(pixels)
    mode = ("RGB", "RGB", "L", "RGBA", "P", "LA", "1", "CMYK", "I;16", "RGB")[number % 10]
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(_pixels(numbers, width, height)[..., 0]))
        return picture
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return picture.quantize(16) if mode == "P" else picture.convert(mode)


def _pixels(numbers: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Coarse coloured squares, a slope, and fine noise: uint8 [height, width, 3]."""
    side = int(numbers.integers(1, 40))
    squares = numbers.integers(0, 256, (-(-height // side), -(-width // side), 3))
    coarse = squares.repeat(side, 0).repeat(side, 1)[:height, :width]
    slope = np.linspace(0, 255, width, dtype=np.int64)[None, :, None]
    fine = numbers.integers(0, 256, (height, width, 3))
    mixed = (coarse * 5 + slope * 2 + fine) // 8
    return mixed.astype(np.uint8)
