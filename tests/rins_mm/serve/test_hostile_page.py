"""The served page over pictures with hostile names, labels and captions, and asked in hostile words."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import chromium
import pytest
import tiny
from hostile_words import RAN, hostile_words, listening_canary
from serving import Site, serving
from small_index import write_small_index

from eval.encoder import DualEncoder
from rins_mm.index.search import open_index
from rins_mm.serve.service import SearchService

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium.program() is None, reason="there is no Chromium here"),
]
CARDS = "document.querySelectorAll('button.card').length"
ANSWERED = "document.getElementById('timing').textContent != ''"


@pytest.fixture(scope="module")
def canary() -> Iterator[tuple[str, list[str]]]:
    with listening_canary() as found:
        yield found


@pytest.fixture(scope="module")
def hostile_site(
    canary: tuple[str, list[str]], encoder: DualEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    words = hostile_words(canary[0])
    shown = {
        f"{word.replace('/', chr(92)).encode()[:150].decode(errors='ignore')} {n}.png": (
            tiny.pixels(n, height=20 + 10 * n), word, words[-1 - n],
        )
        for n, word in enumerate(words)
    }  # fmt: skip
    place = write_small_index(
        folder / "index", folder / "pictures", shown, encoder, image_signature="AB", text_signature="AAAB"
    )  # fmt: skip
    index = open_index(place)
    # What an index from elsewhere says of its model.
    model = replace(index.facts.model, name=words[3], path=words[0])
    index.facts = replace(index.facts, model=model)
    service = SearchService(
        index, encoder, depths=("AB", "AAAB"), usual_depth="AAAB", deadline_seconds=20.0
    )
    with serving(service) as site:
        yield site


@pytest.mark.parametrize("width", [400, 1400])
def test_hostile_words_are_words_on_the_served_page(
    hostile_site: Site, canary: tuple[str, list[str]], width: int, tmp_path: Path
) -> None:
    words = hostile_words(canary[0])
    with chromium.opened_tab(tmp_path / "profile") as tab:
        tab.look(width=width, height=1000)
        tab.go(f"{hostile_site.address}/")
        tab.wait_for(f"{CARDS} == {len(words)}")
        assert (
            len(tab.evaluate("[...document.querySelectorAll('.label')].map(e => e.textContent)"))
            > 20
        )
        tab.screenshot(tmp_path / "start.png")
        for word in (*words[:17], "w" * 300):
            tab.evaluate("document.getElementById('words').select()")
            tab.press("/")
            tab.write(word)
            tab.press("Enter")
            tab.wait_for(f"document.title.includes({word[:12]!r}) && {CARDS} > 0 && {ANSWERED}")
            wide = tab.evaluate(
                "[...document.querySelectorAll('body *')].filter(e => e.offsetParent && e.className !== 'skip'"
                f" && e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML.slice(0, 90))"
            )
            assert (tab.evaluate("document.documentElement.scrollWidth"), wide) == (width, []), word
        tab.screenshot(tmp_path / "asked.png")
        assert tab.evaluate(f"window.{RAN}") is None
        assert tab.evaluate(
            "[...new Set([...document.querySelectorAll('#results *')].map(e => e.localName))].sort()"
        ) == ["button", "img", "li", "ol", "span"]
        assert (
            tab.evaluate(
                "document.querySelectorAll('script, style, base, iframe, form, object').length"
            )
            == 2  # its own script, and its own form
        )
        assert tab.complaints == []
        assert {a.split("/")[2] for a in tab.addresses if "://" in a} == {
            f"127.0.0.1:{hostile_site.port}"
        }
    assert canary[1] == []
