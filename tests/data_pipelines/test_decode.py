import struct
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_pipelines.bad_samples import BadSample
from data_pipelines.decode import decode_picture

KINDS = ("JPEG", "PNG", "WEBP")


def smooth(height=24, width=40, channels=3):
    y, x = np.mgrid[:height, :width]
    planes = [x * 5, y * 9, (x + y) * 3, 255 - x * 4]
    return (np.stack(planes[:channels], axis=2) % 256).astype(np.uint8)


def encoded(image, kind, **options):
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def cause_of(data, **options):
    with pytest.raises(BadSample) as caught:
        decode_picture(data, **options)
    return caught.value.cause


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_what_pillow_reads(kind):
    data = encoded(Image.fromarray(smooth()), kind)
    pixels = decode_picture(data)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(BytesIO(data)).convert("RGB")))
    assert (pixels.shape, pixels.dtype, pixels.flags.writeable) == ((24, 40, 3), np.uint8, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(smooth()), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(decode_picture(data), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_leaves_the_picture_as_it_is():
    image = Image.fromarray(smooth())
    data = encoded(image, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode_picture(data), decode_picture(encoded(image, "JPEG")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_laid_on_white(kind):
    pixels = smooth(channels=4)
    data = encoded(Image.fromarray(pixels), kind, lossless=True, exact=True)
    alpha = pixels[:, :, 3:] / 255
    expected = pixels[:, :, :3] * alpha + 255 * (1 - alpha)
    assert np.abs(decode_picture(data) - expected).max() <= 1


def test_palettes_greys_and_their_transparency_are_followed():
    grey = Image.fromarray(smooth()[:, :, 0])
    np.testing.assert_array_equal(decode_picture(encoded(grey, "PNG"))[:, :, 1], np.asarray(grey))
    with_alpha = decode_picture(encoded(grey.convert("LA"), "PNG"))
    np.testing.assert_array_equal(with_alpha[:, :, 2], np.asarray(grey))
    palette = Image.fromarray(smooth()).quantize(8)
    plain = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_picture(encoded(palette, "PNG")), plain)
    see_through = decode_picture(encoded(palette, "PNG", transparency=3))
    hidden = np.asarray(palette) == 3
    assert hidden.any()
    assert (see_through[hidden] == 255).all()
    np.testing.assert_array_equal(see_through[~hidden], plain[~hidden])
    black_and_white = Image.fromarray(smooth()[:, :, 0]).convert("1")
    assert set(np.unique(decode_picture(encoded(black_and_white, "PNG")))) == {0, 255}


def test_sixteen_bits_keep_their_upper_eight():
    deep = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68
    pixels = decode_picture(encoded(Image.fromarray(deep), "PNG"))
    np.testing.assert_array_equal(pixels, np.repeat((deep >> 8)[:, :, None], 3, axis=2))


def test_a_print_jpeg_in_four_inks_becomes_rgb():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(decode_picture(encoded(red, "JPEG")).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animated_picture_is_refused(kind):
    frames = [Image.fromarray(smooth()), Image.fromarray(255 - smooth())]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert cause_of(data) == "animated picture"


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_pixels_are_refused(kind):
    data = encoded(Image.fromarray(smooth()), kind)
    assert cause_of(data, max_pixels=24 * 40 - 1) == "too many pixels"
    assert decode_picture(data, max_pixels=24 * 40).shape == (24, 40, 3)


def png(width, height, content):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header_without_memory():
    tracemalloc.start()
    assert cause_of(png(50_000, 50_000, bytes(1000))) == "too many pixels"
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_picture_is_told_from_a_broken_one(kind):
    data = encoded(Image.fromarray(smooth(200, 200)), kind)
    for length in (len(data) // 4, len(data) // 2, len(data) - 70):
        assert cause_of(data[:length]) == "truncated picture"
    assert cause_of(data[:20] + bytes(len(data) - 40) + data[-20:]) == "broken picture"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_no_pictures_here_whatever_their_name(kind):
    assert cause_of(encoded(Image.fromarray(smooth()), kind)) == "not a picture"


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"<!DOCTYPE html>" * 100, b"RIFF\0\0\0\0WAVE"])
def test_what_is_no_picture_is_called_so(data):
    assert cause_of(data) == "not a picture"


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b""]),
    st.binary(max_size=300),
)
def test_any_bytes_give_a_cause_and_no_other_error(start, rest):
    assert cause_of(start + rest) in {"not a picture", "truncated picture", "broken picture"}


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(KINDS), st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_damage_in_a_picture_gives_pixels_or_a_cause(kind, at, content):
    data = encoded(Image.fromarray(smooth()), kind)
    at %= len(data)
    try:
        pixels = decode_picture(data[:at] + content + data[at + len(content) :], max_pixels=10_000)
    except BadSample:
        return
    assert pixels.ndim == 3
