import contextlib
import struct
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_pipelines import decode
from data_pipelines.bad_samples import BadSample
from data_pipelines.decode import decode_picture
from data_pipelines.jpeg import plain_size
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.resize import resize_picture

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


def photo_like(height, width, mode="RGB"):
    """Smooth areas, edges and noise, so that every step of a decoder has something to do."""
    draws = np.random.default_rng(height * width)
    coarse = draws.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(image) + draws.normal(0, 8, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_every_kind_of_jpeg_has_pillows_pixels_to_the_bit(mode, progressive, subsampling, quality):
    for height, width in [(64, 64), (131, 97), (1, 50), (17, 8)]:
        data = encoded(
            photo_like(height, width, mode), "JPEG", quality=quality, subsampling=subsampling,
            progressive=progressive,
        )  # fmt: skip
        expected = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(decode_picture(data), expected)


def test_pillow_judges_faulty_jpegs_alone(monkeypatch):
    sound = encoded(photo_like(40, 40), "JPEG")
    judged = []
    monkeypatch.setattr(decode, "BytesIO", lambda data: judged.append(data) or BytesIO(data))
    assert decode_picture(sound).shape == (40, 40, 3)
    assert judged == []
    assert cause_of(sound[:-30]) == "truncated picture"
    assert judged == [sound[:-30]]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_truncated(progressive):
    data = encoded(photo_like(60, 70), "JPEG", progressive=progressive)
    for length in {*range(200, len(data) - 70, 97), len(data) - 10}:
        assert cause_of(data[:length]) == "truncated picture", length


def test_scaled_decoding_stays_above_the_size_that_is_wanted():
    data = encoded(photo_like(403, 801), "JPEG")
    shapes = {size: decode_picture(data, least_size=size).shape[:2] for size in (50, 51, 100, 101)}
    assert shapes == {50: (51, 101), 51: (101, 201), 100: (101, 201), 101: (202, 401)}
    assert decode_picture(data, least_size=202).shape == (403, 801, 3)
    assert decode_picture(data, least_size=10_000).shape == (403, 801, 3)


def test_scaled_decoding_gives_nearly_the_same_picture():
    large = photo_like(30, 30).resize((480, 480), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)
    full = resize_picture(decode_picture(data), 100).int()
    scaled = resize_picture(decode_picture(data, least_size=100), 100).int()
    assert (full - scaled).abs().double().mean() < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_jpeg_is_turned_upright_too(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = Image.fromarray(decode_picture(encoded(photo_like(64, 96), "JPEG"), least_size=30))
    turned = decode_picture(encoded(photo_like(64, 96), "JPEG", exif=exif), least_size=30)
    plain.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(plain)))


def test_a_jpeg_of_endlessly_many_scans_is_refused_before_decoding():
    data = encoded(photo_like(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    many = data[:last] + data[last:-2] * 200 + data[-2:]
    assert cause_of(many) == "too many scans"


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=6))
def test_a_header_that_both_readers_take_has_one_size(at, content):
    data = encoded(photo_like(24, 40), "JPEG")
    at %= len(data)
    damaged = data[:at] + content + data[at + len(content) :]
    size = plain_size(damaged)
    if size is not None:
        with contextlib.suppress(Exception), Image.open(BytesIO(damaged)) as image:
            assert (image.height, image.width) == size


@pytest.mark.parametrize("scaled", [False, True])
def test_the_loader_scales_only_when_it_is_asked_to(tmp_path, dataset_in, tokenizer, scaled):
    data = encoded(photo_like(64, 96), "JPEG")
    dataset = dataset_in(tmp_path, [("a", {"jpg": data, "txt": b"cat"})])
    config = DataConfig(scaled_decoding=scaled)
    stream = train_batches(
        config, dataset, tokenizer, image_size=30, batch_size=1, seed=0, start_step=0, num_steps=1,
        rank=0, world_size=1,
    )  # fmt: skip
    (batch,) = stream
    pixels = decode_picture(data, least_size=30 if scaled else None)
    assert pixels.shape[:2] == ((32, 48) if scaled else (64, 96))
    np.testing.assert_array_equal(batch.images[0], resize_picture(pixels, 30))
