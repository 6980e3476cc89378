"""Pictures made to break their decoder, or what calls itself so."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from hostile_cases import Case, zipped
from PIL import Image


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
            lambda: jpeg + zipped({"a.py": b"open('canary', 'w')"}), taken + "48 x 64"
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
