"""One small index, with words in it that want to be more than words, and its page."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from serving import Site, serving
from small_index import write_small_index

from eval.encoder import DualEncoder
from rins_mm.index.search import Index, open_index
from rins_mm.serve.service import SearchService

SCRIPT = "<script>document.title='run'</script>"
HOSTILE = {
    '"onerror="alert(1).png': (SCRIPT, "</span><img src=x onerror=alert(2)>"),
    "\u202egnp.exe.png": ("\u202edesrever\u202c and on", "javascript:alert(3)"),
    "<b>bold<!--.png": ("&lt;b&gt; &amp; ' \" `", "{{7*7}} ${7*7}\nsecond line\x00\x1b[31m"),
    "long" + "x" * 200 + ".png": ("w" * 3000, "word " * 2000),
    "שלום.png": (
        "مرحبا",
        "\u2067both\u2069 \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    ),
}
"""Name of a file, with label and caption."""
DEPTHS = ("AB", "AAB", "AAAB")


@pytest.fixture(scope="session")
def encoder() -> DualEncoder:
    """Fresh weights; their vectors are as good as any for order and security."""
    return tiny.encoder().as_dual_encoder()


@pytest.fixture(scope="session")
def index(encoder: DualEncoder, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Five hostile pictures and nineteen plain ones; the last two are nearly the same."""
    folder: Path = tmp_path_factory.mktemp("served")
    shown = {name: (tiny.pixels(n), *said) for n, (name, said) in enumerate(HOSTILE.items())}
    for number in range(18):
        pixels = tiny.pixels(50 + number, height=30 + 10 * number, width=60)
        shown[f"plain-{number:02d}.png"] = (pixels, f"plain {number}", f"caption {number}")
    twin = np.clip(pixels.astype(int) + 1, 0, 255).astype(np.uint8)
    shown["plain-17-again.png"] = (twin, "plain 17", "once more")
    return open_index(
        write_small_index(
            folder / "index", folder / "pictures", shown, encoder, image_signature="AB",
            text_signature="AAAB",
        )
    )  # fmt: skip


@pytest.fixture(scope="session")
def service(index: Index, encoder: DualEncoder) -> SearchService:
    """The index with its model."""
    found = SearchService(index, encoder, depths=DEPTHS, usual_depth="AAAB", deadline_seconds=20.0)
    found.warm_up()
    return found


@pytest.fixture(scope="session")
def site(service: SearchService) -> Iterator[Site]:
    """The page, listening."""
    with serving(service) as listening:
        yield listening
