"""Every page that is written, with hostile words in all places, in a headless Chromium.

No script runs, nothing is asked of anybody, and nothing is wider than a telephone's screen.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import chromium
import pytest
import tiny
from hostile_words import RAN, hostile_words, listening_canary, unescaped_page
from PIL import Image

from data_pipelines import show, stats
from data_pipelines.shard_writer import write_shard
from eval.mistakes import Thumbnail, small_copy
from eval.report import write_page
from rins_mm import report
from rins_mm.config import TrainConfig
from rins_mm.gallery import open_gallery
from rins_mm.recorded_config import write_config
from rins_mm.search import search, search_page
from rins_mm.study.analysis import analyse
from rins_mm.study.design import Claim, load_study
from rins_mm.study.page import study_page

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium.program() is None, reason="there is no Chromium here"),
]
HELPERS = Path(__file__).parents[1] / "helpers"
PAGES = ("report", "evaluation", "search", "sheet", "statistics", "study")
SHOWN_TAGS = {
    "main", "h1", "h2", "h3", "div", "section", "p", "span", "bdi", "code", "table", "thead", "tbody", "tr", "th", "td",
    "ul", "ol", "li", "dl", "dt", "dd", "figure", "figcaption", "details", "summary", "img", "footer", "pre", "br",
    "wbr", "svg", "line", "polyline", "circle", "rect", "text", "title",
}  # fmt: skip
"""What the pages are made of: no element that came out of words is among others."""


@pytest.fixture(scope="module")
def canary() -> Iterator[tuple[str, list[str]]]:
    with listening_canary() as found:
        yield found


@pytest.fixture(scope="module")
def words(canary: tuple[str, list[str]]) -> list[str]:
    return hostile_words(canary[0])


@pytest.fixture(scope="module")
def folder(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, as NAME.html."""
    folder = tmp_path_factory.mktemp("pages")
    for name in PAGES:
        place = folder / f"for the {name}"
        place.mkdir()
        WRITERS[name](words, place, folder / f"{name}.html")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.opened_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def opened(tab: chromium.Tab, page: Path, *, width: int = 1200) -> chromium.Tab:
    """The page in the tab, after all that it might want to do at once."""
    tab.look(width=width, height=1000)
    tab.go("about:blank")
    tab.complaints.clear()
    tab.addresses.clear()
    tab.go(page.as_uri())
    # A refresh in no time, an error of a picture and a fetch have all come by then.
    tab.evaluate("new Promise(done => setTimeout(() => done(1), 300))")
    return tab


def as_file_name(words: str) -> str:
    """What a file system takes of them."""
    return words.replace("/", "\\").replace("\x00", "").encode()[:200].decode(errors="ignore")


def png(seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(tiny.pixels(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def results_with(words: list[str]) -> list[dict[str, Any]]:
    """Results of two tasks at three depths, with words in every place that takes some."""
    metrics = {"acc1": 0.4, "acc5": 0.6, **{f"accuracy:{w}": 0.5 for w in words}}
    mistakes = [
        {"picture": n, "right": w, "given": words[-1 - n], "margin": 0.1}
        for n, w in enumerate(words)
    ]
    return [
        {
            "dataset": words[0], "model": words[3], "task": "zeroshot_classification", "language": words[17],
            "name": name, "variant": variant, "image_variant": "default", "metrics": metrics,
            "chance": dict.fromkeys(metrics, 0.1), "near_ties": dict.fromkeys(metrics, 0),
            "intervals": {"acc1": (0.3, 0.5)}, "num_pictures": 100, "num_classes": 20,
            "per_class": [
                {"class": w, "pictures": 5, "acc1": 0.5, "acc5": 0.9} for w in words
            ],
            "confusions": [{"right": w, "given": words[-1 - n], "count": 3} for n, w in enumerate(words)],
            "mistakes": mistakes, "skipped": {w: 2 for w in words}, "rule": words[6], "notes": words,
            "data_fingerprint": words[9], "encoder_fingerprint": words[8],
        }
        for name in (f"retrieval:{words[0]}", words[21])
        for variant in ("AB", "AAB", words[9], words[1])
    ]  # fmt: skip


def write_report(words: list[str], place: Path, out: Path) -> None:
    run = place / as_file_name(words[3])
    run.mkdir()
    config = TrainConfig()
    write_config(replace(config, run_dir=words[0]), run / "config.json")
    rows = [
        {"step": step, "loss": 9.0 / step, "samples_seen": 256 * step, "samples_per_second": 500.0,
         "gradient_norm": 1.0, "logit_scale": 10.0 + step, "text_calls": words[step % len(words)]}
        for step in range(1, 60)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {"format_version": 2, "provenance": dict(zip(words, words[::-1], strict=True)),
                "results": results_with(words)}  # fmt: skip
    (run / "eval.json").write_text(json.dumps(document))
    report.main([str(run), "--out", str(out)])


def write_evaluation(words: list[str], place: Path, out: Path) -> None:
    results = results_with(words)
    thumbnails = {
        (name, number): Thumbnail(address=small_copy(tiny.pixels(number)))
        if number % 3
        else Thumbnail(cause=words[number])
        for name in {result["name"] for result in results}
        for number in range(len(words))
    }
    write_page(out, results, {"command": words[4], **dict.fromkeys(words, words[2])}, thumbnails)


def write_search(words: list[str], place: Path, out: Path) -> None:
    for number, word in enumerate(words):
        (place / f"{as_file_name(word)}.png").write_bytes(png(number))
    (place / f"{as_file_name(words[3])}-bad.png").write_bytes(b"<html>")
    gallery = open_gallery(str(place))
    encoder = tiny.encoder().as_dual_encoder()
    found = search(encoder, gallery, [words[0], words[17], words[21]], signature="AAB", top_k=30)
    labelled = replace(gallery, label=lambda number: words[number % len(words)])
    facts = {
        "model": words[3], "text signature": words[1], "pictures": words[4], "fingerprint": words[8]
    }  # fmt: skip
    out.write_text(search_page(found, labelled, facts))


def shard_of(words: list[str], place: Path) -> Path:
    samples = [
        (f"{number:03d}", {"png": png(number), "txt": word.encode()})
        for number, word in enumerate(words)
    ]
    path = place / f"{as_file_name(words[3]).replace(',', '')[:60]}.tar"
    write_shard(path, [*samples, ("bad", {"png": b"<html>", "txt": b"bad"})])
    return path


def write_sheet(words: list[str], place: Path, out: Path) -> None:
    show.main([str(shard_of(words, place)), "--html", str(out), "--number", "24"])


def write_statistics(words: list[str], place: Path, out: Path) -> None:
    stats.main([str(shard_of([*words, words[0]], place)), "--html", str(out)])


def write_study(words: list[str], place: Path, out: Path) -> None:
    toy = load_study(str(HELPERS / "toy_study.py"), scale="cpu")
    plain, rins = words[0], words[6]
    arms = (
        replace(toy.arms[0], name=plain),
        replace(toy.arms[1], name=rins, control=plain),
        *(replace(toy.arms[1], name=word, control=plain, role="exploratory") for word in words[7:]),
    )
    endpoint = toy.endpoints[0]
    claims = tuple(
        Claim(name=word, arm=rins, control=plain, kind="gain", delta=0.02, tower="text", endpoint=endpoint)
        for word in words
    )  # fmt: skip
    controls = tuple(replace(one, arm=rins, control=plain) for one in toy.positive_controls)
    study = replace(
        toy, name=words[3], purpose=words[9], arms=arms, claims=claims, positive_controls=controls
    )
    runs = [record(arm.name, seed, words) for arm in arms for seed in range(2)]
    results = analyse(study, runs, [], [])
    results["notes"] = words
    out.write_text(study_page(study, results, runs, words[4]))


def record(arm: str, seed: int, words: list[str]) -> dict[str, Any]:
    """A run as its record says it."""
    spent = {"samples": 100.0, "flops": 1000.0, "layer_steps": 1000.0}
    metric, recall = "text_retrieval_recall@10", 0.4 + 0.01 * len(arm) % 7 + 0.01 * seed
    return {
        "arm": arm, "seed": seed, "trained_depth": "AB",
        "results": [{"name": "retrieval:emoji-val", "dataset": "emoji-val", "variant": "AB",
                     "metrics": {metric: recall}, "intervals": {metric: [0.3, 0.5]}}],
        "held_out": {"fingerprint": "same", "losses": {"AB": 5.0}},
        "curve": [{name: value * share for name, value in spent.items()}
                  | {"metrics": {f"emoji-val/AB/{metric}": recall * share}} for share in (0.5, 1.0)],
        "losses": [[50.0, 500.0, 8.5], [100.0, 1000.0, 8.0]],
        "steps": 20, "spent": spent, "training_seconds": 60.0, "parameters": 1000,
        "config": {"optimizer": {"peak_learning_rate": 1e-3}, "max_steps": 20},
        "versions": {"git_commit": words[4], "note": words[21]},
    }  # fmt: skip


WRITERS: dict[str, Callable[[list[str], Path, Path], None]] = {
    "report": write_report,
    "evaluation": write_evaluation,
    "search": write_search,
    "sheet": write_sheet,
    "statistics": write_statistics,
    "study": write_study,
}


@pytest.mark.parametrize("name", PAGES)
def test_no_script_runs_and_nothing_is_asked_of_anybody(name, folder, browser, canary, words):
    page = folder / f"{name}.html"
    tab = opened(browser, page)
    assert tab.complaints == []
    assert tab.evaluate(f"window.{RAN}") is None
    assert tab.evaluate("location.href") == page.as_uri()
    assert {a for a in tab.addresses if not a.startswith("data:")} == {page.as_uri()}
    assert canary[1] == []
    # Words made no elements, no attributes that do something, and no addresses.
    tags = tab.evaluate(
        "[...new Set([...document.body.querySelectorAll('*')].map(e => e.localName))]"
    )
    assert set(tags) <= SHOWN_TAGS
    assert tab.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => a.name.startsWith('on')"
        " || ['href', 'action', 'srcdoc', 'style'].includes(a.name)"
        " || (a.name == 'src' && !a.value.startsWith('data:image/webp;base64,'))).map(a => a.name)"
    ) == []  # fmt: skip
    assert tab.evaluate("document.querySelectorAll('style').length") == 1
    # They are all there, as words.
    text = tab.evaluate("document.documentElement.textContent")
    if name != "statistics":
        assert words[3][:30] in text and "{{7*7}}" in text


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_of_each_page_would_stop_what_escaping_let_through(
    name, folder, browser, canary, words, tmp_path
):
    text = (folder / f"{name}.html").read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert text.index(policy[0]) < text.index("<title>")
    # A refresh is nothing that a policy of the page itself could stop: escaping alone does.
    raw = "".join(word for word in words if "refresh" not in word and len(word) < 1000)
    (tmp_path / "broken.html").write_text(text.replace("</main>", f"</main>{raw}", 1))
    tab = opened(browser, tmp_path / "broken.html")
    assert tab.evaluate(f"window.{RAN}") is None
    assert canary[1] == []
    assert "Content Security Policy" in " ".join(tab.complaints)
    assert not any("dialog" in complaint for complaint in tab.complaints)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_a_small_screen(name, folder, browser, tmp_path):
    for width in (400, 1200):
        tab = opened(browser, folder / f"{name}.html", width=width)
        tab.screenshot(folder / f"{name}-{width}.png")
        assert tab.evaluate("document.documentElement.scrollWidth") == width
    # What is wider scrolls in its own frame, and words do not stand on other words' lines.
    outside = tab.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.wide, svg, details:not([open])')"
        " && e.getBoundingClientRect().right > 1200 + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


def test_the_same_words_run_and_ask_on_a_page_that_does_not_escape(browser, tmp_path):
    with listening_canary() as (address, asked):
        words = [word for word in hostile_words(address) if "refresh" not in word]
        (tmp_path / "careless.html").write_text(
            unescaped_page([w.replace(";alert(1)", "") for w in words])
        )
        tab = opened(browser, tmp_path / "careless.html")
        assert tab.evaluate(f"window.{RAN}") == 1
        assert {"/fetch", "/img", "/css", "/frame"} <= set(asked)
