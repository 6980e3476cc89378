"""Inputs made to break a reader of shards: each with what must come of it. Made when asked, never kept."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hostile input."""

    kind: str
    """tar, picture, record, spec, sidecar or tokenizer: which reader it is given to."""
    name: str
    make: Callable[[], bytes] = field(repr=False)
    """Its bytes; for a spec its text in UTF-8."""
    expected: str
    """A regular expression for what the reader says of it."""


def cases() -> list[Case]:
    """The whole corpus, every name once."""
    makers = (tars, pictures, records, specs, sidecars, tokenizers)
    return [case for maker in makers for case in maker()]


# --- tar files


def header(
    name: bytes, size: bytes | int = 0, kind: bytes = b"0", *, prefix: bytes = b"", broken: int = 0
) -> bytes:
    """A header block of a tar; `size` may be the raw field, `broken` is added to the checksum."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[156:157] = kind
    block[157:165] = b"/etc/pwd" if kind in b"12" else bytes(8)
    block[257:265] = b"ustar\x0000"
    block[345 : 345 + len(prefix)] = prefix
    total = sum(block) - sum(block[148:156]) + 8 * 32 + broken
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def member(name: bytes, content: bytes, kind: bytes = b"0", **more: bytes) -> bytes:
    """A header and its content, filled up to whole blocks."""
    return header(name, len(content), kind, **more) + content + bytes(-len(content) % BLOCK)


def sample(key: bytes = b"good", **changes: bytes) -> bytes:
    """A whole sample; `changes` replace parts or add some."""
    parts = {"png": png(), "txt": b"a cat", **changes}
    return b"".join(member(key + b"." + kind.encode(), data) for kind, data in parts.items())


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    """An extended header with these records."""
    return member(b"././@PaxHeader", records, kind)


def record(key: bytes, value: bytes) -> bytes:
    """One record of an extended header, its own length in front."""
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def pax_bomb(number: int) -> bytes:
    """So many extended headers of 3,500 records each, all under other names, before one member."""
    return b"".join(
        pax(b"".join(record(b"k%07d" % (n + 3500 * m), b"") for n in range(3500)))
        for m in range(number)
    )


def tars() -> Iterator[Case]:
    """Shards; `good` in what is expected tells that the whole sample in front was kept."""
    closing = bytes(2 * BLOCK)
    damaged = "UserError: .* is damaged: "
    one = r"samples 1 "
    whole = sample()
    tails: dict[str, tuple[bytes, str]] = {
        "negative size in octal": (header(b"a.png", b"-0000001000\0") + closing, damaged),
        "negative size in base 256": (header(b"a.png", b"\xff" * 11 + b"\x00"), damaged),
        "size of 2^88 in base 256": (header(b"a.png", b"\x80" + b"\xff" * 11), one + ".*torn end"),
        "base 256 with more bits in front": (header(b"a.png", b"\xc0" + b"\xff" * 11), damaged),
        "8 GiB in a file of 2.5 KB": (header(b"a.png", b"77777777777\0"), one + ".*torn end"),
        "digits that are not octal": (header(b"a.png", b"00000000999\0"), damaged),
        "size with a letter": (header(b"a.png", b"0000000x000\0"), damaged),
        "wrong checksum": (header(b"a.png", broken=1), damaged + "a header whose checksum"),
        "checksum that is no number": (
            header(b"a.png")[:148] + b"zzzzzzzz" + header(b"a.png")[156:], damaged
        ),
        "random bytes behind a sample": (np.random.default_rng(1).bytes(4096), damaged),
        "HTML behind a sample": (b"<html>503</html>" * 64, damaged),
        "symbolic link": (header(b"a.png", 0, b"2") + closing, one + ".*link: 1"),
        "hard link with a size": (header(b"a.png", 10**9, b"1") + closing, one + ".*link: 1"),
        "character device": (header(b"a.png", 0, b"3") + closing, one + ".*special file: 1"),
        "block device": (header(b"a.png", 0, b"4") + closing, one + ".*special file: 1"),
        "pipe in the file system": (header(b"a.png", 0, b"6") + closing, one + ".*special file: 1"),
        "folder with a size": (header(b"a.png/", 10**9, b"5") + closing, one + ".*folder: 1"),
        "unknown kind of member": (member(b"a.png", b"x", b"Z") + closing, one + ".*special file"),
        "old sparse file": (header(b"a.png", 0, b"S") + closing, one + ".*special file: 1"),
        "pax sparse file": (
            pax(record(b"GNU.sparse.size", b"9" * 15)) + member(b"a.png", b"x") + closing,
            one + ".*special file: 1",
        ),
        "pax size of 19 digits": (
            pax(record(b"size", b"9" * 19)) + header(b"a.png"), one + ".*torn end"
        ),
        "pax size of 10,000 digits": (
            pax(record(b"size", b"9" * 10_000)) + header(b"a.png"), damaged
        ),
        "negative pax size": (pax(record(b"size", b"-512")) + header(b"a.png"), damaged),
        "pax record that reaches too far": (pax(b"999 path=a.png\n") + whole, damaged),
        "pax record of length 0": (pax(b"0 path=a.png\n") + whole, damaged),
        "pax record without a length": (pax(b"path=a.png\n") + whole, damaged),
        "pax header of 1 MB": (pax(record(b"comment", b"x" * 10**6)) + closing, damaged),
        "long name that never ends": (
            member(b"././@LongLink", b"n" * 70_000, b"L") + closing, damaged
        ),
        "long name without a member": (member(b"././@LongLink", b"x.png\0", b"L"), one),
        "global header that renames all": (
            pax(record(b"path", b"../../canary"), b"g") + sample(b"b"), "samples 2 "
        ),
        "name that climbs out": (sample(b"../../../../canary"), "samples 2 "),
        "absolute name": (sample(b"/canary"), "samples 2 "),
        "NUL in a pax name": (
            pax(record(b"path", b"a\0b.png")) + member(b"a.png", b"x") + closing,
            one + ".*bad name: 1",
        ),
        "name of NULs": (member(b"", b"x") + closing, one + ".*bad name: 1"),
        "escape sequence in a name": (member(b"\x1b[2J.png", b"x"), one + ".*bad name: 1"),
        "name without UTF-8": (sample(b"\xff\xfe"), "samples 2 "),
        "name with a command": (sample(b"$(touch canary);|touch canary"), "samples 2 "),
        "key met 1,000 times": (
            b"".join(sample(b"b", txt=b"%d" % n) for n in range(1000)), r"samples 1001 .*met twice: 999"
        ),
        "2,000 inventions for part types": (
            b"".join(member(b"b.x%d" % n, b"") for n in range(2000)), one + ".*other part: …: "
        ),
        "20,000 empty members": (
            b"".join(member(b"%d.png" % n, b"") for n in range(20_000)) + closing, "samples 20001 .*no caption: 20000"
        ),
        "pickles as parts": (
            member(b"b.pyd", b"cos\nsystem\n(S'touch canary'\ntR.") + sample(b"c"), "samples 2 .*pyd: 1"
        ),
        "samples behind the end marker": (closing + sample(b"b"), one),
        "cut inside a header": (sample(b"b")[:300], one + ".*torn end"),
        "cut at a header's end": (sample(b"b")[:512], one + ".*torn end"),
        "cut inside a picture": (sample(b"b")[:560], one + ".*torn end"),
        "cut between two parts": (member(b"b.png", png()), one + ".*torn end"),
        "cut one byte before the end": (sample(b"b", txt=b"x" * BLOCK)[:-1], one + ".*torn end"),
    }  # fmt: skip
    for name, (tail, expected) in tails.items():
        yield _bytes("tar", name, whole + tail, expected)
    large: dict[str, tuple[Callable[[], bytes], str]] = {
        "pax bomb of 350,000 names": (lambda: pax_bomb(100) + sample(b"b"), "samples 2 "),
        "chain of long links": (
            lambda: member(b"././@LongLink", b"n" * 60_000 + b"\0", b"L") * 100 + sample(b"b"),
            one + ".*name too long: 1",
        ),
        "50,000 folders": (lambda: header(b"a/", 0, b"5") * 50_000, one + ".*folder: 50000"),
        "30,000 extended headers": (
            lambda: pax(record(b"path", b"b.png")) * 30_000 + sample(b"b"), "samples "
        ),
        "zero blocks without end": (lambda: bytes(16 * 2**20), one),
        "caption of 10 MB": (
            lambda: sample(b"b", txt=b"x" * 10**7), "samples 2 .*caption file too large: 1"
        ),
        "picture of 65 MB": (
            lambda: sample(b"b", png=bytes(65 * 2**20)), "samples 2 .*picture file too large: 1"
        ),
    }  # fmt: skip
    for name, (make, expected) in large.items():
        yield Case(kind="tar", name=name, make=lambda m=make: whole + m(), expected=expected)
    lone = {
        "nothing": (b"", "UserError: .*has 0 bytes"),
        "half a block": (bytes(256), "UserError: .*not a tar"),
        "nothing but zeros": (bytes(BLOCK * 100), "UserError: .*no samples"),
        "compressed": (b"\x1f\x8b\x08" + bytes(1000), "UserError: .*not a tar"),
        "zip": (b"PK\3\4" + bytes(1000), "UserError: .*not a tar"),
        "links alone": (header(b"a.png", 0, b"2") * 10, "UserError: .*no samples"),
    }
    for name, (content, expected) in lone.items():
        yield _bytes("tar", name, content, expected)


def _bytes(kind: str, name: str, content: bytes, expected: str) -> Case:
    return Case(kind=kind, name=name, make=lambda: content, expected=expected)


# --- pictures


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG with its checksum."""
    crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def png(
    width: int = 2,
    height: int = 2,
    extra: bytes = b"",
    pixels: bytes | None = None,
    tail: bytes = b"",
) -> bytes:
    """A PNG of RGB pixels, black where none are given; `extra` stands before them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    lines = bytes((3 * width + 1) * height) if pixels is None else pixels
    body = chunk(b"IDAT", zlib.compress(lines)) + tail + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + extra + body


def encoded(
    kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: object
) -> bytes:
    """A sound picture as Pillow writes it."""
    stream = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def exif_bomb(num_tags: int, size: int) -> bytes:
    """EXIF whose tags each claim all of the bytes: read as told, they are num_tags * size bytes."""
    tags = b"".join(struct.pack(">HHII", 0x8000 + n, 7, size - 100_000, 8) for n in range(num_tags))
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", num_tags) + tags + bytes(size - 12 * num_tags)


def segment(marker: int, content: bytes) -> bytes:
    """One segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def with_segments(picture: bytes, *segments: bytes) -> bytes:
    """The JPEG with these segments behind its first marker."""
    return picture[:2] + b"".join(segments) + picture[2:]


def jpeg_with_exif(exif: bytes) -> bytes:
    """A JPEG whose EXIF is cut into segments, as Pillow joins them again."""
    pieces = [exif[at : at + 65_000] for at in range(0, len(exif), 65_000)]
    return with_segments(encoded("JPEG"), *(segment(0xE1, b"Exif\0\0" + piece) for piece in pieces))


def many_scans(number: int, side: int = 3000) -> bytes:
    """A large progressive JPEG with its last scan, of a few KB, repeated."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * number + data[-2:]


def webp_canvas(width: int, height: int) -> bytes:
    """An extended WebP that claims a canvas of this size around a small picture."""
    small = encoded("WEBP", lossless=True)[12:]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + small
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pictures() -> Iterator[Case]:
    """Pictures, or what calls itself so."""
    bad = "BadSample: "
    taken = "picture "
    compressed_text = b"k\0\0" + zlib.compress(bytes(1_000_000), 9)
    profile = b"k\0\0" + zlib.compress(bytes(100_000_000), 9)
    frames = [Image.new("RGB", (4, 4), (100 * n, 0, 0)) for n in range(3)]
    jpeg = encoded("JPEG")
    giant_jpeg = jpeg.replace(struct.pack(">HH", 48, 64), b"\xff\xff\xff\xff", 1)
    makers: dict[str, tuple[Callable[[], bytes], str]] = {
        "PNG of 50,000 x 50,000": (lambda: png(50_000, 50_000, pixels=b""), bad + "too many pixels"),
        "PNG of 2^31 x 2^31": (lambda: png(2**31 - 1, 2**31 - 1, pixels=b""), bad),
        "PNG of 0 x 0": (lambda: png(0, 0), bad),
        "PNG of one pixel": (lambda: png(1, 1), taken + "1 x 1"),
        "PNG of one line of 2^30": (lambda: png(2**30, 1, pixels=b""), bad + "too many pixels"),
        "PNG with a profile of 100 MB": (lambda: png(extra=chunk(b"iCCP", profile)), bad + "broken picture"),
        "PNG with 100 texts of 1 MB": (
            lambda: png(extra=chunk(b"zTXt", compressed_text) * 100), bad + "broken picture"
        ),
        "PNG with 100 texts behind": (lambda: png(tail=chunk(b"zTXt", compressed_text) * 100), bad),
        "PNG with 300,000 chunks": (lambda: png(extra=chunk(b"abCd", b"") * 300_000), bad),
        "PNG with EXIF that unfolds": (lambda: png(extra=chunk(b"eXIf", exif_bomb(5000, 10**6))), taken),
        "PNG chunk of 4 GB": (lambda: png(extra=b"\xff\xff\xff\xfftEXt"), bad),
        "PNG whose pixels unfold to 100 MB": (lambda: png(pixels=bytes(10**8)), taken + "2 x 2|" + bad),
        "PNG with wrong checksums": (lambda: png().replace(b"IDAT", b"IDAT\0"), bad),
        "PNG that ends early": (lambda: png(64, 64)[:-30], bad + "truncated picture"),
        "PNG header alone": (lambda: png()[:33], bad),
        "animated PNG": (
            lambda: _animated(frames, "PNG"), bad + "animated picture"
        ),
        "animated WebP": (lambda: _animated(frames, "WEBP"), bad + "animated picture"),
        "WebP that claims 16,384 x 16,384": (lambda: webp_canvas(16_384, 16_384), bad),
        "WebP that claims 2^24 x 100": (lambda: webp_canvas(2**24, 100), bad),
        "WebP that claims 8,000 x 7,999": (lambda: webp_canvas(8000, 7999), bad),
        "WebP cut short": (lambda: encoded("WEBP")[:100], bad + "truncated picture"),
        "WebP header alone": (lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 ", bad),
        "JPEG of 65,535 x 65,535": (lambda: giant_jpeg, bad + "too many pixels"),
        "JPEG with EXIF that unfolds": (lambda: jpeg_with_exif(exif_bomb(5000, 10**6)), taken),
        "JPEG with EXIF of noise": (
            lambda: jpeg_with_exif(b"MM\0*" + np.random.default_rng(2).bytes(500)), taken + "48 x 64"
        ),
        "JPEG with EXIF that points to itself": (
            lambda: jpeg_with_exif(b"MM\0*\0\0\0\x08" + b"\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08" + b"\0\0\0\x08"),
            taken + "48 x 64",
        ),
        "JPEG of 1,000 scans": (lambda: many_scans(1000), bad + "too many scans"),
        "large JPEG of 60 scans": (lambda: many_scans(60, 8000), bad + "too many scans"),
        "JPEG in four inks": (lambda: encoded("JPEG", "CMYK"), taken + "48 x 64"),
        "JPEG cut short": (lambda: jpeg[: len(jpeg) // 2], bad + "truncated picture"),
        "JPEG markers alone": (lambda: b"\xff\xd8" + b"\xff" * 10**6, bad),
        "JPEG with a comment cut short": (lambda: b"\xff\xd8\xff\xfe\xff\xff", bad),
        "JPEG and zip in one": (
            lambda: jpeg + _zip({"a.py": b"open('canary', 'w')"}), taken + "48 x 64"
        ),
        "JPEG and HTML in one": (
            lambda: with_segments(jpeg, segment(0xFE, b"<script>canary</script>")), taken + "48 x 64"
        ),
        "GIF and JavaScript in one": (lambda: b"GIF89a/*" + bytes(50) + b"*/=1", bad + "not a picture"),
        "FITS": (lambda: b"SIMPLE  =                    T" + bytes(2850), bad + "not a picture"),
        "PSD": (lambda: b"8BPS\0\1" + bytes(100), bad + "not a picture"),
        "GIF": (lambda: encoded("GIF", "P"), bad + "not a picture"),
        "TIFF": (lambda: encoded("TIFF"), bad + "not a picture"),
        "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n(canary) (w) file", bad + "not a picture"),
        "SVG that reads files": (
            lambda: b'<svg xmlns:x="x"><image x:href="file:///etc/passwd"/></svg>', bad + "not a picture"
        ),
        "pickle": (lambda: b"\x80\4cposix\nsystem\n(S'touch canary'\ntR.", bad + "not a picture"),
        "nothing": (lambda: b"", bad + "not a picture"),
    }  # fmt: skip
    for name, (make, expected) in makers.items():
        yield Case(kind="picture", name=name, make=make, expected=expected)


def _animated(frames: list[Image.Image], kind: str) -> bytes:
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


# --- captions and their records


def records() -> Iterator[Case]:
    """The json of a sample, whose label is its caption."""
    bad = "BadSample: "
    contents = {
        "10,000 brackets": (b"[" * 10_000, bad + "bad json"),
        "10,000 objects in one another": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, bad + "bad json"),
        "a million brackets in a string": (b'{"label": "' + b"[" * 10**6 + b'"}', bad + "bad json"),
        "349,000 empty lists": (b'{"label": "x", "a": [' + b"[]," * 349_000 + b"0]}", "caption 'x'"),
        "NaN": (b'{"label": NaN}', bad + "bad json"),
        "endless number": (b'{"label": "x", "n": -Infinity}', bad + "bad json"),
        "number of 100,000 digits": (b'{"label": "x", "n": ' + b"9" * 10**5 + b"}", bad + "bad json"),
        "exponent of 10^9": (b'{"label": "x", "n": 1e999999999}', "caption 'x'"),
        "one name twice": (b'{"label": "first", "label": "second"}', "caption 'second'"),
        "half a surrogate": (b'{"label": "\\ud800"}', bad + "bad utf-8"),
        "surrogate in UTF-8": (b'{"label": "\xed\xa0\x80"}', bad + "bad utf-8"),
        "overlong UTF-8": (b'{"label": "\xc0\xaf"}', bad + "bad utf-8"),
        "UTF-16": ('{"label": "x"}'.encode("utf-16"), bad + "bad utf-8"),
        "mark of byte order": (b'\xef\xbb\xbf{"label": "x"}', bad + "bad json"),
        "NUL in a caption": (b'{"label": "a\\u0000b"}', r"caption 'a\\x00b'"),
        "text turned around": ('{"label": "a\u202eb"}'.encode(), r"caption 'a\\u202eb'"),
        "spaces alone": (b'{"label": " \\u3000 \\n"}', bad + "empty caption"),
        "caption of a megabyte": (b'{"label": "' + b"x" * 10**6 + b'"}', bad + "caption too long"),
        "number as a caption": (b'{"label": 1}', bad + "no caption"),
        "list as a record": (b"[1, 2]", bad + "bad json"),
        "object as a caption": (b'{"label": {"__class__": "os.system"}}', bad + "no caption"),
        "80,000 names": (
            b'{"label": "x"' + b"".join(b',"%06x":0' % n for n in range(80_000)) + b"}", "caption 'x'"
        ),
        "JSON cut short": (b'{"label": "x', bad + "bad json"),
        "nothing": (b"", bad + "bad json"),
    }  # fmt: skip
    for name, (content, expected) in contents.items():
        yield _bytes("record", name, content, expected)


# --- names of shards


def specs() -> Iterator[Case]:
    """What stands where shards are named; `good.tar` is in the working folder."""
    error = "UserError: "
    command = error + ".*commands are never run"
    texts = {
        "command": ("pipe:touch canary", command),
        "command in capitals": ("PIPE:touch canary", command),
        "command behind a space": (" pipe:touch canary", command),
        "command behind colons": ("::pipe:touch canary", error),
        "command behind a pack": ("emoji:pipe:touch canary", error),
        "command behind a shard": ("good.tar,pipe:touch canary", command),
        "command behind two colons": ("good.tar::pipe:touch canary", error),
        "command in braces": ("{pipe:touch canary,good.tar}", error),
        "command half in braces": ("{p,q}ipe:touch canary", error),
        "bar in front": ("|touch canary", command),
        "bar behind": ("touch canary |", command),
        "command for a shell": ("$(touch canary).tar", error),
        "backticks": ("`touch canary`.tar", error),
        "semicolon": ("good.tar;touch canary", error),
        "variable": ("${HOME}/x.tar", error),
        "home": ("~root/x.tar", error),
        "address of a file": ("file:///etc/passwd", error),
        "address of a file, short": ("file:etc/passwd", error),
        "address with a command": ("gopher://x/pipe:touch", error),
        "range of 10^9": ("x-{0..999999999}.tar", error + ".*limit"),
        "range of 5,000 digits": ("x-{0.." + "9" * 5000 + "}.tar", error),
        "product of ranges": ("{0..99}" * 20, error + ".*limit"),
        "product of pairs": ("{a,b}" * 200, error + ".*limit"),
        "a million commas in braces": ("{" + "," * 10**6 + "}", error),
        "a hundred thousand long names": ("{0..99999}" + "x" * 10_000, error),
        "every name long, and as many as may be": ("{0..99999}" + "x" * 4000, error),
        "50,000 files that are missing": ("x-{00000..49999}.tar", error + ".*are missing"),
        "100,000 globs to nowhere": ("/nowhere/{0..99999}/*.tar", error),
        "200,000 names": (",".join(f"x-{n}.tar" for n in range(200_000)), error),
        "nested braces": ("{a,{b,{c,d}}}" * 50, error),
        "ten thousand open braces": ("{" * 10_000, error),
        "range that runs backwards": ("{9..0}", error),
        "name of 5,000 letters": ("x" * 5000, error),
        "glob of 5,000 letters": ("*" * 5000, error),
        "glob to nowhere": ("/nowhere/**/*.tar", error + "no file matches"),
        "glob of brackets": ("[" * 3000, error),
        "NUL": ("good.tar\0", error),
        "NUL in a glob": ("*\0.tar", error),
        "NUL in a range": ("{0..3}\0.tar", error),
        "half a surrogate": ("\udcff.tar", error),
        "device without an end": ("/dev/zero", error),
        "device by a glob": ("/dev/zer[o]", error),
        "pipe in the file system": ("fifo.tar", error),
        "link to a device": ("link.tar", error),
        "folder": ("/etc", error + ".*is a folder"),
        "line break": ("good.tar\nerror: all is well", error),
    }
    for name, (text, expected) in texts.items():
        yield _bytes("spec", name, text.encode("utf-8", "surrogateescape"), expected)


# --- kept indexes


def _zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(dtype: str, shape: str, content: bytes = b"") -> bytes:
    """An array file with any header."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + content


def plain(array: np.ndarray) -> bytes:
    """An array file as numpy writes it."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


class _Canary:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("canary"),)


def index_arrays(**changes: bytes) -> dict[str, bytes]:
    """The files of an index that fits size and time of the shard `sample()`, some of them changed."""
    arrays = {
        "format_version": np.array(1),
        "sha256": np.array("0" * 64),
        "shard_bytes_and_mtime_ns": np.array([len(sample()), 0]),
        "key_bytes": np.frombuffer(b"good", dtype=np.uint8),
        "key_ends": np.array([4]),
        "part_types": np.array(["png", "txt"]),
        "offsets": np.zeros((2, 1), dtype=np.int64),
        "sizes": np.ones((2, 1), dtype=np.int64),
        "skipped_causes": np.array([], dtype="U1"),
        "skipped_counts": np.array([], dtype=np.int64),
    }
    files = {name: plain(array) for name, array in arrays.items()} | changes
    return {f"{name}.npy": content for name, content in files.items()}


def sidecars() -> Iterator[Case]:
    """Files where the index of a sound shard is looked for: all are as good as none."""
    nothing_wide = npy("'<U0'", "(1000000000,)")
    makers: dict[str, Callable[[], bytes]] = {
        "zip bomb": lambda: _zip({"sizes.npy": bytes(10**8)}),
        "10,000 entries": lambda: _zip({f"{n}.npy": b"" for n in range(10_000)}),
        "pickled objects": lambda: _zip(index_arrays(sha256=plain(np.array([_Canary()], dtype=object)))),
        "pickle alone": lambda: b"cposix\nsystem\n(S'touch canary'\ntR.",
        "array of 80 GB in 100 bytes": lambda: _zip(index_arrays(sizes=npy("'<i8'", "(10**10,)"))),
        "lying shape": lambda: _zip(index_arrays(sizes=npy("'<i8'", "(10000000000,)"))),
        "negative shape": lambda: _zip(index_arrays(sizes=npy("'<i8'", "(-1, 1)", bytes(16)))),
        "shape past 64 bits": lambda: _zip(index_arrays(sizes=npy("'<i8'", "(4294967296, 4294967296)"))),
        "10^9 empty causes": lambda: _zip(index_arrays(skipped_causes=nothing_wide)),
        "10^9 empty part types": lambda: _zip(index_arrays(part_types=nothing_wide)),
        "10^9 keys of no bytes": lambda: _zip(index_arrays(key_ends=npy("'|V0'", "(1000000000,)"))),
        "version without end": lambda: _zip(index_arrays(format_version=plain(np.array(np.inf)))),
        "counts without end": lambda: _zip(
            index_arrays(skipped_causes=plain(np.array(["a"])), skipped_counts=plain(np.array([np.inf])))
        ),
        "header that is never closed": lambda: _zip(index_arrays(sizes=npy("(((", "((("))),
        "header with a call": lambda: _zip(index_arrays(sizes=npy("__import__('os')", "()"))),
        "header of 1,000 brackets": lambda: _zip(index_arrays(sizes=npy("(" * 4000, "()"))),
        "structured numbers": lambda: _zip(index_arrays(sizes=npy("[('a', '<i8', (10**9,))]", "(1,)"))),
        "damaged LZMA": lambda: _zip(index_arrays(), zipfile.ZIP_LZMA).replace(b"\x5d\0\0", b"\x5e\xff\xff"),
        "damaged bzip2": lambda: _zip(index_arrays(), zipfile.ZIP_BZIP2).replace(b"BZh9", b"BZh0"),
        "unknown compression": lambda: _zip(index_arrays()).replace(b"\x08\0", b"\x63\0"),
        "cut short": lambda: _zip(index_arrays())[:-40],
        "names that climb out": lambda: _zip({"../../canary.npy": plain(np.array(1))}),
        "80 MB of nothing": lambda: bytes(80 * 10**6),
    }  # fmt: skip
    for name, make in makers.items():
        yield Case(kind="sidecar", name=name, make=make, expected="samples 1 $")
    lies = {
        "places behind the end": {"offsets": np.full((2, 1), 10**6)},
        "places before the start": {"offsets": np.full((2, 1), -512)},
        "sizes past the largest number": {"sizes": np.full((2, 1), 2**63 - 1)},
        "keys that run backwards": {"key_ends": np.array([-4])},
        "keys behind their bytes": {"key_ends": np.array([10**6])},
        "part types that are not known": {"part_types": np.array(["pkl", "txt"])},
        "one part type twice": {"part_types": np.array(["txt", "txt"])},
        "more part types than places": {"part_types": np.array(["png", "txt", "json"])},
        "places in floating point": {"offsets": np.zeros((2, 1))},
        "no samples": {"key_ends": np.zeros(0, dtype=np.int64)},
        "version of tomorrow": {"format_version": np.array(2**62)},
        "hash that is none": {"sha256": np.array("g" * 64)},
    }
    for name, arrays in lies.items():
        changes = {key: plain(array) for key, array in arrays.items()}
        files = index_arrays(**changes)
        yield Case(kind="sidecar", name=name, make=lambda f=files: _zip(f), expected="samples 1 $")
    # Stamped like the shard, and inside of it: taken at its word, and found out as any bad sample.
    believed = _zip(index_arrays())
    yield _bytes("sidecar", "places that are others", believed, "samples 1 not a picture: 1$")


# --- tokenizers


def tokenizers() -> Iterator[Case]:
    """`tokenizer.json` and `tokenizer.model` in one zip, only for the way: the folder gets both."""
    error = "UserError: "
    sound = {"canonicalize": "lower", "context_length": 16, "pad_token": None}

    def folder(described: object, model: bytes = b"\x0a\x02a") -> Callable[[], bytes]:
        text = described if isinstance(described, bytes) else json.dumps(described).encode()
        return lambda: _zip({"tokenizer.json": text, "tokenizer.model": model})

    def settings(model: bytes = b"\x0a\x02a", **changes: object) -> Callable[[], bytes]:
        described = {"format_version": 1, "kind": "sentencepiece", "settings": {**sound, **changes}}
        return folder(described, model)

    makers = {
        "10,000 brackets": folder(b"[" * 10_000),
        "100,000 brackets": folder(b"[" * 100_000),
        "80 MB of settings": lambda: folder(b'"' + b"x" * (80 * 10**6) + b'"')(),
        "number of 10,000 digits": folder(b'{"format_version": ' + b"1" * 10_000 + b"}"),
        "no UTF-8": folder(b"\xff\xfe{}"),
        "class to be made": folder({"format_version": 1, "kind": "os.system", "settings": "touch canary"}),
        "settings that are a list": folder({"format_version": 1, "kind": "clip", "settings": [1]}),
        "list as a kind": folder({"format_version": 1, "kind": ["clip"], "settings": {}}),
        "unknown settings": settings(trust_remote_code=True),
        "length without end": settings(context_length=float("inf")),
        "text as a length": settings(context_length="16"),
        "vocabulary that is not CLIP's": folder({"format_version": 1, "kind": "clip", "settings": {}}),
        "empty model": settings(b""),
        "model of noise": settings(np.random.default_rng(3).bytes(10_000)),
        "model with a piece of 2 GB": settings(b"\x0a\xff\xff\xff\xff\x07" + bytes(100)),
        "model that is a pickle": settings(b"\x80\4cposix\nsystem\n(S'touch canary'\ntR."),
        "model of 80 MB": lambda: settings(bytes(80 * 10**6))(),
        "model of 100,000 nested groups": settings(b"\x0b" * 100_000),
    }  # fmt: skip
    for name, make in makers.items():
        yield Case(kind="tokenizer", name=name, make=make, expected=error)
