"""The page in a headless Chromium: what it shows, how keys move it, and that words from outside stay words."""

from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO

import chromium
import numpy as np
import pytest
from PIL import Image
from serving import Site

from rins_mm.index.search import Index

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.program() is None, reason="there is no Chromium here"),
]

CARDS = "document.querySelectorAll('button.card').length"
FOCUSED = "Number(document.activeElement.dataset.number ?? -1)"
ANSWERED = "document.getElementById('timing').textContent != ''"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.opened_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: chromium.Tab, site: Site) -> Iterator[chromium.Tab]:
    """The page as it opens; afterwards, nothing may have gone wrong and nobody else been asked."""
    browser.look(width=1400, height=1000)
    browser.complaints.clear()
    browser.addresses.clear()
    browser.go("about:blank")
    browser.wait_for("location.href == 'about:blank'")
    browser.go(f"{site.address}/")
    browser.wait_for(f"{CARDS} == 24")
    yield browser
    assert browser.complaints == []
    assert {address.split("/")[2] for address in browser.addresses if "://" in address} == {
        f"127.0.0.1:{site.port}"
    }


def search(tab: chromium.Tab, words: str) -> None:
    tab.press("/")
    tab.write(words)
    tab.press("Enter")
    tab.wait_for(f"document.title.includes({words!r}) && {CARDS} > 0 && {ANSWERED}")


def test_words_from_outside_are_shown_as_words(tab: chromium.Tab, index: Index) -> None:
    search(tab, "<img src=x onerror=alert(4)>")
    assert (
        tab.evaluate("document.querySelector('h2').textContent") == "“<img src=x onerror=alert(4)>”"
    )
    labels = tab.evaluate("[...document.querySelectorAll('.label')].map(e => e.textContent)")
    rows = [index.row(number) for number in index.numbers.tolist()]
    assert "<script>document.title='run'</script>" in labels
    assert len(labels) == len(rows)
    # Elements are those that the page makes; none came out of a caption.
    assert tab.evaluate(
        "[...new Set([...document.querySelectorAll('#results *')].map(e => e.localName))].sort()"
    ) == ["button", "img", "li", "ol", "span"]
    assert tab.evaluate("document.querySelectorAll('script').length") == 1
    # Changes of direction and a terminal's commands do not arrive at all.
    shown = tab.evaluate("document.body.innerText")
    assert not any(mark in shown for mark in "\u202e\u2067\x1b\x00")
    assert tab.evaluate(
        "[...document.querySelectorAll('.outside')].every(e => getComputedStyle(e).unicodeBidi == 'isolate')"
    )


def test_the_policy_stops_markup_and_addresses_that_would_be_put_into_the_page(
    tab: chromium.Tab,
) -> None:
    for written in (
        "document.body.innerHTML = '<img src=x onerror=window.ran=1>'",
        "document.querySelector('button.card').setAttribute('onclick', 'window.ran = 1')",
        "document.querySelector('button.card').insertAdjacentHTML('afterend', '<b>x</b>')",
    ):
        attempt = (
            f"(() => {{ try {{ {written}; return '' }} catch (error) {{ return error.name }} }})()"
        )
        assert tab.evaluate(attempt) == "TypeError"
    assert tab.evaluate("fetch('http://127.0.0.1:1/').then(() => 'sent', error => error.name)")
    tab.evaluate(
        "new Promise(done => { const image = new Image(); image.onerror = done;"
        " image.src = 'http://127.0.0.1:1/x.png' }).then(() => true)"
    )
    assert tab.evaluate("window.ran") is None
    refused = " ".join(tab.complaints)
    assert "connect-src" in refused and "img-src" in refused
    # What was refused was never sent.
    tab.complaints.clear()
    tab.addresses[:] = [address for address in tab.addresses if "127.0.0.1:1/" not in address]


def test_keys_alone_search_move_go_deeper_and_come_back(tab: chromium.Tab) -> None:
    search(tab, "a red apple")
    order = tab.evaluate(
        "[...document.querySelectorAll('button.card')].map(e => Number(e.dataset.number))"
    )
    tab.press("ArrowDown")
    assert tab.evaluate(FOCUSED) == order[0]
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    tab.press("ArrowLeft")
    assert tab.evaluate(FOCUSED) == order[1]
    columns = tab.evaluate(
        "getComputedStyle(document.querySelector('.grid')).gridTemplateColumns.split(' ').length"
    )
    tab.press("ArrowDown")
    assert tab.evaluate(FOCUSED) == order[1 + columns]
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    tab.press("Enter")
    tab.wait_for(f"location.search == '?like={order[1 + columns]}' && {CARDS} == 23 && {ANSWERED}")
    assert tab.evaluate(FOCUSED) != -1
    tab.press("Escape")
    tab.wait_for(f"location.search == '?words=a+red+apple' && {FOCUSED} == {order[1 + columns]}")
    tab.press("ArrowUp")
    tab.press("ArrowUp")
    assert tab.evaluate("document.activeElement.id") == "words"
    tab.press("Escape")
    assert tab.evaluate(FOCUSED) != -1
    tab.press("Escape")
    tab.wait_for("location.search == ''")


def test_the_slider_asks_again_at_another_depth_and_shows_its_milliseconds(
    tab: chromium.Tab,
) -> None:
    search(tab, "a red apple")
    assert "to encode at AAAB" in tab.evaluate("document.getElementById('timing').textContent")
    tab.evaluate("document.getElementById('depth').focus()")
    tab.press("ArrowLeft")
    tab.wait_for("document.getElementById('timing').textContent.includes('to encode at AAB ')")
    assert tab.evaluate("new URLSearchParams(location.search).get('depth')") == "AAB"
    stops = tab.evaluate(
        "[...document.querySelectorAll('#depths li')].map(e => e.innerText.split('\\n'))"
    )
    assert [name for name, _ in stops] == ["AB", "AAB", "AAAB"]
    assert all(time.endswith(" ms") for _, time in stops)


def test_a_filter_that_nothing_meets_says_so_and_can_be_dropped(
    tab: chromium.Tab, site: Site
) -> None:
    tab.go(f"{site.address}/?words=apple&where=label~%22nowhere%22")
    tab.wait_for("!document.getElementById('message').hidden")
    said = tab.evaluate("document.getElementById('message').innerText")
    assert "No picture is like that." in said and "label contains “nowhere”" in said
    tab.evaluate("document.querySelector('#message button').click()")
    tab.wait_for(f"{CARDS} == 24")
    assert tab.evaluate("location.search") == "?words=apple"


def test_a_refused_question_is_shown_with_its_reason(tab: chromium.Tab, site: Site) -> None:
    tab.go(f"{site.address}/?like=99999")
    tab.wait_for("document.getElementById('message').getAttribute('role') == 'alert'")
    assert "there is no picture 99999" in tab.evaluate(
        "document.getElementById('message').innerText"
    )
    # The browser's own note of the refusals: of the question, and of its picture.
    assert all("status of 40" in line for line in tab.complaints)
    tab.complaints.clear()


def test_a_dropped_picture_finds_its_own_copy(tab: chromium.Tab) -> None:
    tab.evaluate(
        "fetch('/pictures/7').then(answer => answer.blob()).then(blob => {"
        " const carried = new DataTransfer();"
        " carried.items.add(new File([blob], '\"><b>name.webp', {type: 'image/webp'}));"
        " dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true})) })"
    )
    tab.wait_for(f"document.title.startsWith('More like') && {CARDS} > 0 && {ANSWERED}")
    assert tab.evaluate("document.querySelector('h2').textContent") == 'More like "><b>name.webp'
    assert tab.evaluate("Number(document.querySelector('button.card').dataset.number)") == 7


def test_a_question_that_turns_its_direction_turns_nothing_else(
    tab: chromium.Tab, site: Site
) -> None:
    tab.go(f"{site.address}/?words=%E2%80%AEtac&minus=%D7%A9%D7%9C%D7%95%D7%9D")
    tab.wait_for(ANSWERED)
    heading = tab.evaluate("document.querySelector('h2').textContent")
    assert heading == "“\ufffdtac” minus “שלום”"
    assert tab.evaluate("[...document.querySelectorAll('h2 bdi')].length") == 2
    assert "\u202e" not in tab.evaluate("document.title")


def test_every_frame_is_square_whatever_the_form_of_its_picture(tab: chromium.Tab) -> None:
    frames = "[...document.querySelectorAll('.frame')].map(e => [e.offsetWidth, e.offsetHeight])"
    tab.wait_for(
        "[...document.querySelectorAll('.frame img')].slice(0, 7).every(e => e.naturalWidth)"
    )
    assert all(abs(width - height) <= 1 for width, height in tab.evaluate(frames))


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(tab: chromium.Tab, width: int) -> None:
    tab.look(width=width, height=900)
    search(tab, "w" * 300)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    wide = tab.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => e.offsetParent && e.className !== 'skip'"
        f" && e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


def luminance(colour: str) -> float:
    """Relative luminance of rgb(r, g, b), by the accessibility guidelines."""
    channels = np.array([float(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_in_light_and_in_dark(tab: chromium.Tab, dark: bool) -> None:
    tab.look(width=1400, height=1000, dark=dark)
    pairs = {
        "h2": "body", "#timing": "body", ".label": ".card", ".name": ".card", ".line": ".card", ".rank": ".card",
        "button.strong": "button.strong", "#words": "#words", "#depths .chosen": "body", "footer": "body",
    }  # fmt: skip
    search(tab, "a cat")
    for text, ground in pairs.items():
        front, back = tab.evaluate(
            f"[getComputedStyle(document.querySelector({text!r})).color,"
            f" getComputedStyle(document.querySelector({ground!r})).backgroundColor]"
        )
        lighter, darker = sorted([luminance(front), luminance(back)], reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, front, back)
    page = tab.call("Page.captureScreenshot", format="png")["data"]
    corner = np.array(Image.open(BytesIO(b64decode(page))).convert("L"))[-1, 0]
    assert (corner < 60) == dark
