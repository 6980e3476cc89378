import numpy as np
import pytest
from PIL import Image

from data_pipelines.resize import resize_picture


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (200, 90), (17, 300), (1, 1), (20, 20)])
def test_resizing_is_within_one_level_of_pillow_bicubic(height, width):
    pixels = picture(height, width)
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC))
    resized = resize_picture(pixels, 32)
    assert resized.is_contiguous()
    assert np.abs(resized.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_a_picture_of_the_right_size_keeps_its_pixels():
    pixels = picture(32, 32)
    np.testing.assert_array_equal(resize_picture(pixels, 32).permute(1, 2, 0).numpy(), pixels)
