"""The report page in a real browser: brushing, masking, keyboard, narrow and dark screens, print, many pairs."""

import html
import math
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import artefacts
import numpy as np
import polars as pl
import pytest

from curate.base import files
from curate.project import params
from curate.reporting.inputs import read_material
from curate.reporting.write import write_report

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TEXTS = 150  # of 400 pairs: some have texts on the page, some have not
MANY = 20_000
AXES = {"rejected": "rejected_pmi", "chosen": "chosen_pmi"}
PICTURE = "document.querySelector('.stage canvas').toDataURL()"
COLOURS = """() => {
  // [ink, ground, text] of every element that shows text of its own, and of the marks on the page; as [r, g, b].
  const pen = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = (css) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = css;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const ground = (element) => {
    const colour = rgba(getComputedStyle(element).backgroundColor);
    return colour[3] === 255 ? colour : ground(element.parentElement);
  };
  const texts = [...document.body.querySelectorAll("*")]
    .filter((e) => e.checkVisibility() && !e.closest("svg, [aria-disabled=true]"))
    .filter((e) => [...e.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()))
    .map((e) => [rgba(getComputedStyle(e).color), ground(e), e.textContent.trim().slice(0, 40)]);
  const marks = ["safe", "unsafe", "unknown", "accent"]
    .map((name) => [rgba(getComputedStyle(document.body).getPropertyValue(`--${name}`)), ground(document.body), name]);
  return {texts, marks};
}"""
REGIONS = """() => [...document.querySelectorAll("#evaluation [role=region]")]
  .map((e) => [e.getBoundingClientRect().left, e.getBoundingClientRect().right, e.scrollWidth, e.clientWidth])"""
FOCUSABLE = """() => [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")]
  .filter((e) => e.checkVisibility()).map((e, k) => (e.dataset.place = String(k)))"""


def write_page(folder, frame, wanted, trained=False):
    """The page of `frame`, through the files that the stages write; with runs and evaluations where `trained`."""
    artefacts.write_all(folder, 40)
    files.write_parquet(frame, folder / "data/weights.parquet", {})
    documents = {name: folder / f"data/{name}.json" for name in ("prepare", "weigh")}
    of_frame = {"source": frame["source"][0], "read": frame.height + 3, "kept": frame.height, "pairs": frame.height}
    for path in (documents["prepare"], documents["weigh"]):
        summary = files.read_json_object(path)
        files.write_json(summary | {name: of_frame[name] for name in of_frame.keys() & summary.keys()}, path)
    runs, evaluations = (folder / "runs", folder / "evaluations") if trained else (None, None)
    if trained:
        artefacts.write_evaluation(evaluations / "base", "base", unjudged=2)
        artefacts.write_evaluation(evaluations / "dpo", "dpo", 0, safe=0.6)
        artefacts.write_evaluation(evaluations / "long", "bdpo-with-a-name-that-has-no-end" * 3, 0, safe=0.9)
    material = read_material(folder / "data/weights.parquet", documents, runs, evaluations=evaluations)
    write_report(material, folder / "report", wanted)
    return folder / "report/index.html"


def with_texts(count):
    defaults = params.Params()
    return defaults.model_copy(update={"report": defaults.report.model_copy(update={"texts": count})})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("page"), artefacts.frame(), with_texts(TEXTS), trained=True)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, BROWSERS)), None) or driver.chromium.executable_path
        if not Path(found).exists():
            pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed, nor playwright's own")
        with driver.chromium.launch(executable_path=found, args=["--no-sandbox"]) as launched:
            yield launched


@contextmanager
def opened(browser, path, script=True, at="information", **options):
    """The page, drawn, the sections `at` unfolded; whatever it logs or asks the network for fails the test."""
    complaints = []
    context = browser.new_context(java_script_enabled=script, **options)
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))

    def only_the_file(route):
        if route.request.url.partition("#")[0] == path.as_uri():
            return route.continue_()
        complaints.append(f"request: {route.request.url}")
        return route.abort()

    page.route("**/*", only_the_file)
    page.goto(f"{path.as_uri()}#{at}" if at else path.as_uri())
    if script and at:
        page.locator("#scatter").wait_for()
    yield page
    context.close()
    assert not complaints


def unfold(page, *names):
    for name in names:
        page.locator(f".fold:has(> #{name}) > summary").click()


@pytest.fixture
def page(browser, path):
    with opened(browser, path, viewport={"width": 1280, "height": 900}) as page:
        yield page


def drag(page, start, end):
    """From one place to another of the canvas, in shares of its width and height."""
    canvas = page.locator(".stage canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    left, right = (box["x"] + at[0] * box["width"] for at in (start, end))
    top, bottom = (box["y"] + at[1] * box["height"] for at in (start, end))
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move((left + right) / 2, bottom)
    page.mouse.move(right, bottom)
    page.mouse.up()


def bounds(page):
    """Column -> (from, to) as the inputs have them; infinite where they are empty."""
    value = lambda side, end, empty: float(page.locator(f"#{side}-{end}").input_value() or empty)  # noqa: E731
    return {AXES[side]: (value(side, "from", -math.inf), value(side, "to", math.inf)) for side in AXES}


def selected(frame, limits):
    return frame.filter(*(pl.col(name).is_between(*ends) for name, ends in limits.items()))


def said(page):
    """The selection in numbers: name -> what is written."""
    page.evaluate("new Promise(requestAnimationFrame)")  # shown with the next frame
    rows = page.locator("#selection > div").all()
    return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in rows}


def listed(page):
    """The ids of all pages of the list."""
    if page.locator("#selected").get_attribute("open") is None:
        page.locator("#selected summary").click()
    found = []
    while True:
        page.locator(".pairs li").first.wait_for()
        found += page.locator(".pairs li > code").all_inner_texts()
        if page.locator("#next").get_attribute("aria-disabled") == "true":
            return found
        page.locator("#next").click()
        expect(page.locator(".pager span")).to_have_text(re.compile(f"^{len(found) + 1} to "))


def check(page, expected):
    """The page says and lists what polars finds."""
    shown = said(page)
    assert shown["selected"] == f"{expected.height} of 400 pairs"
    gap = expected["pmi_gap"].mean()
    assert shown["mean gap"] == f"{gap:+.3f} nats/token".replace("-", "−")
    shares = [f"{name} {100 * (expected['query_type'] == name).mean():.0f}%" for name in ("safe", "unsafe")]
    assert shown["query types"] == ", ".join(shares)
    for label, name in (("mean weight, chosen", "chosen_weight"), ("mean pair scale", "pair_scale")):
        assert float(shown[label]) == pytest.approx(expected[name].mean(), abs=6e-4)
    assert listed(page) == expected.sort(pl.col("pmi_gap").abs(), descending=True)["pair_id"].to_list()


def test_a_drag_selects_what_polars_selects_by_the_same_bounds(page):
    frame = artefacts.frame()
    drag(page, (0.45, 0.3), (0.7, 0.6))
    limits = bounds(page)
    assert all(map(math.isfinite, limits["chosen_pmi"] + limits["rejected_pmi"]))
    found = selected(frame, limits)
    assert 15 < found.height < 200
    check(page, found)

    drag(page, (0.6, 0.45), (0.5, 0.35))  # inside: moves it, its size stays
    moved = bounds(page)
    assert moved != limits
    for name, (low, high) in moved.items():
        assert high - low == pytest.approx(limits[name][1] - limits[name][0], abs=0.011)
    assert said(page)["selected"].split()[0] == str(selected(frame, moved).height)

    drag(page, (0.35, 0.35), (0.2, 0.5))  # its left edge
    resized = bounds(page)
    assert resized["chosen_pmi"] == moved["chosen_pmi"] and resized["rejected_pmi"][1] == moved["rejected_pmi"][1]
    assert resized["rejected_pmi"][0] < moved["rejected_pmi"][0] - 0.1

    drag(page, (0.8, 0.1), (0.995, 0.01))  # outside, to the corner: a new one, without bounds at the frame
    assert bounds(page)["chosen_pmi"][1] == math.inf and bounds(page)["rejected_pmi"][1] == math.inf
    drag(page, (0.2, 0.8), (0.2, 0.8))  # a click outside
    assert said(page)["selected"] == "400 of 400 pairs"


def test_the_keyboard_alone_selects_filters_lists_and_unmasks(page):
    press = page.keyboard.press
    drawn = page.evaluate(PICTURE)
    page.locator("#scatter input").first.focus()
    press("Space")  # no safe queries
    assert page.evaluate(PICTURE) != drawn
    press("Tab")
    press("Tab")
    press("Tab")
    press("Space")  # no held-out pairs
    for keys in ("0.2", "0.9", "-0.1", "0.8"):
        press("Tab")
        page.keyboard.type(keys)
    press("ArrowUp")
    assert bounds(page) == {"rejected_pmi": (0.2, 0.9), "chosen_pmi": (-0.1, 0.81)}
    kept = artefacts.frame().filter(query_type="unsafe", split="train")
    found = selected(kept, bounds(page))
    assert found.height > 15
    expect(page.locator("#scatter [role=status]")).to_contain_text(f"{found.height} of 400 pairs selected. Mean gap ")
    press("Tab")
    press("Tab")
    press("Enter")  # opens the list
    check(page, found)

    page.locator("#with-texts").focus()
    press("Space")
    page.locator(".pairs button").first.focus()
    press("Enter")
    id_ = page.locator(".pairs li > code").first.inner_text()
    expect(page.locator(".pairs .text").first).to_have_text(f"[user] {said_by(id_, 'prompt')}")

    page.locator("#rejected-from").fill("2")  # above the other end
    assert said(page)["selected"] == "0 of 400 pairs (a lower bound is above its upper one)"
    assert page.locator("#rejected-from").get_attribute("aria-invalid") == "true"
    assert not page.locator(".pairs li").count()
    page.locator("#clear").press("Enter")
    assert said(page)["selected"] == f"{kept.height} of 400 pairs"


def said_by(id_, side):
    return artefacts.frame().row(by_predicate=pl.col("pair_id") == id_, named=True)[side][0]["content"]


def test_tab_reaches_every_control_in_order(page):
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.locator(".pairs li").first.wait_for()
    wanted = page.evaluate(FOCUSABLE)
    assert len(wanted) > 60
    page.evaluate("document.activeElement.blur(), window.scrollTo(0, 0), getSelection().removeAllRanges()")
    page.evaluate("document.body.tabIndex = -1, document.body.focus()")
    reached = []
    while len(reached) < 2 * len(wanted):
        page.keyboard.press("Tab")
        place = page.evaluate("document.activeElement.dataset.place ?? null")
        if place is None:
            break
        reached.append(place)
    assert reached == wanted


def test_a_text_is_in_the_document_only_while_it_is_shown(page):
    page.locator("#selected summary").click()
    page.locator("#with-texts").check()
    page.locator(".pairs li").first.wait_for()
    assert not re.search("(chosen|rejected) answer|about topic", page.content())
    pairs = page.locator(".pairs li").all()[:3]
    for pair in pairs:
        id_ = pair.locator("> code").inner_text()
        for button, box, side in zip(
            pair.locator("button").all(), pair.locator(".text").all(), ("prompt", "chosen", "rejected"), strict=True
        ):
            text = said_by(id_, side)
            assert box.is_hidden() and button.inner_text().startswith("Show the ")
            button.click()
            expect(box).to_have_text(f"[user] {text}" if side == "prompt" else text)
            written = html.escape(text, quote=False)
            assert box.is_visible() and written in page.content()
            assert button.get_attribute("aria-expanded") == "true" and button.inner_text().startswith("Mask the ")
            button.click()
            expect(box).to_have_text("masked")
            assert button.get_attribute("aria-expanded") == "false" and written not in page.content()


def test_an_example_s_hostile_text_is_shown_as_text(page):
    (id_,) = artefacts.frame().sort("pmi_gap").tail(1)["pair_id"]
    unfold(page, "examples")
    example = page.locator("article", has_text=id_)
    page.locator("details.example", has_text=id_).locator("summary").click()
    example.get_by_role("button", name="Show the chosen response").click()
    shown = page.locator("article .text:not(.masked)")
    shown.wait_for()
    assert shown.all_text_contents() == [artefacts.HOSTILE] and not page.locator(".text *").count()
    assert example.get_by_role("button", name="Mask the").all_text_contents() == ["Mask the chosen response"]


def test_a_narrow_touch_screen(browser, path):
    with opened(browser, path, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as page:
        canvas = page.locator(".stage canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        session = page.context.new_cdp_session(page)
        places = [(0.4, 0.3), (0.6, 0.5), (0.8, 0.7)]
        for kind, at in zip(("touchStart", "touchMove", "touchMove"), places, strict=True):
            point = {"x": box["x"] + at[0] * box["width"], "y": box["y"] + at[1] * box["height"]}
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        found = selected(artefacts.frame(), bounds(page))
        assert 15 < found.height < 300 and said(page)["selected"].startswith(f"{found.height} of")
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        page.locator("#with-texts").check()
        page.locator(".pairs button").first.click()
        page.locator("article button").first.click()
        expect(page.locator(".text:not(.masked)")).to_have_count(2)
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
        regions = page.evaluate(REGIONS)
        assert len(regions) == 8  # of each suite the figure and its tables, of prefill three; the comparisons
        for left, right, inside, shown in regions:
            assert left >= 0 and right <= 360 and inside > shown  # wider than the screen, and scrolls by itself


def contrast(one, other):
    """WCAG 2's contrast of two sRGB colours."""
    linear = [np.array(colour[:3]) / 255 for colour in (one, other)]
    linear = [np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) for part in linear]
    dark, light = sorted(part @ (0.2126, 0.7152, 0.0722) for part in linear)
    return (light + 0.05) / (dark + 0.05)


def test_a_table_that_scrolls_squeezes_no_text_and_its_caption_stays_on_the_screen(browser, path):
    with opened(browser, path, viewport={"width": 400, "height": 900}) as page:
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        widths = page.evaluate(
            "[...document.querySelectorAll('tbody :is(td:not(.number), th)')].filter((e) => e.textContent.length > 24)"
            ".map((e) => e.clientWidth)"
        )
        assert len(widths) > 10 and min(widths) >= 200
        captions = "[...document.querySelectorAll('caption > *')].map((e) => e.getBoundingClientRect().right)"
        assert max(page.evaluate(captions)) <= 400


def test_both_colour_schemes_are_readable_and_the_scatter_follows_them(browser, path):
    grounds, pictures = [], []
    with opened(browser, path, color_scheme="light") as page:
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        page.locator("#with-texts").check()
        page.locator(".pairs button").first.click()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.evaluate("new Promise(requestAnimationFrame)")
            pictures.append(page.evaluate(PICTURE))
            colours = page.evaluate(COLOURS)
            grounds.append(colours["marks"][0][1])
            assert len(colours["texts"]) > 300
            for least, parts in ((4.5, colours["texts"]), (3, colours["marks"])):
                assert not [text for ink, ground, text in parts if contrast(ink, ground) < least], scheme
    assert contrast(*grounds) > 15 and pictures[0] != pictures[1]


def test_paper_has_the_static_figure_on_white(browser, path):
    with opened(browser, path, color_scheme="dark", viewport={"width": 720, "height": 1000}) as page:
        static = page.locator("figure", has=page.locator("#scatter")).locator(".plot")
        assert static.is_hidden() and page.locator("#scatter").is_visible()
        page.emulate_media(media="print", color_scheme="dark")
        assert static.is_visible() and page.locator("#scatter").is_hidden()
        assert not page.locator("button:visible").count()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.documentElement.scrollWidth") <= 720
        page.emulate_media(media="screen")
        assert page.locator("#scatter").is_visible()


def test_without_scripts_the_static_figure_shows(browser, path):
    with opened(browser, path, script=False) as page:
        assert page.locator("#information .plot:visible").count() == 2 == page.locator("#information .plot").count()
        assert page.locator(".first .plot").is_visible() and page.locator("#training").is_hidden()
        assert page.locator("#scatter").is_hidden() and page.locator("#selected").is_hidden()


def test_no_texts_are_held_where_none_are_wanted_and_a_source_is_shown_as_text(browser, tmp_path):
    frame = artefacts.frame(40).with_columns(source=pl.lit(artefacts.HOSTILE))
    with opened(browser, write_page(tmp_path, frame, with_texts(0))) as page:
        assert len(listed(page)) == 40
        assert not page.locator("[data-text]").count() and page.evaluate("store.texts.length") == 0
        assert "No text of a pair is on this page" in page.locator("#selected").inner_text()
        assert page.locator(".pairs dd").last.text_content().startswith(f"{artefacts.HOSTILE}, row ")
        assert not page.locator(".pairs img, .pairs script").count()


def test_twenty_thousand_pairs_are_there_within_two_seconds(browser, tmp_path):
    """Every pair with texts of 1,300 characters, which hardly compress: longer than those of most safety datasets."""
    draw = np.random.default_rng(0)
    turn = lambda role, size: [[{"role": role, "content": draw.bytes(size).hex()}] for _ in range(MANY)]  # noqa: E731
    frame = artefacts.frame(MANY).with_columns(
        pl.Series("pair_id", [draw.bytes(16).hex() for _ in range(MANY)]),
        *(pl.Series(side, turn("assistant", 300)) for side in ("chosen", "rejected")),
        prompt=pl.Series(turn("user", 50)),
    )
    path = write_page(tmp_path, frame, params.Params())
    # Numbers and ids: 65 bytes a pair, 4/3 of it as base64, 1.7 MB; texts: half a byte a hex digit, 4/3 of it,
    # 1.8 MB for 2,000 pairs; figures and the rest 0.7 MB.
    assert path.stat().st_size < 4.5e6
    with opened(browser, path) as page:
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")
        assert page.evaluate("performance.getEntriesByName('scatter').length") == 1  # it is drawn
        spent = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
        assert 0 < spent["ProcessTime"] < 2  # seconds of the processor, whatever runs beside
        drag(page, (0.45, 0.3), (0.7, 0.6))
        count = selected(frame, bounds(page)).height
        assert count > 1000 and said(page)["selected"] == f"{count:,} of {MANY:,} pairs"


FOLDED = 16_400 / 3  # CSS pixels: a third of what the page had before its sections folded


def test_the_first_screen_answers_and_everything_else_folds(browser, path):
    with opened(browser, path, at="", viewport={"width": 1280, "height": 900}) as page:
        assert page.evaluate("document.documentElement.scrollHeight") < FOLDED
        first = page.locator(".first").bounding_box()
        assert first["y"] + first["height"] < 900
        asked, told = (page.locator(f".answers {tag}").all_inner_texts() for tag in ("dt", "dd"))
        said = dict(zip(asked, told, strict=True))
        assert list(said) == ["What was asked", "What came out", "How sure that is"]
        assert "margin gap" in said["What came out"] and said["How sure that is"].startswith("One seed an arm")
        assert not page.locator(".fold > section:visible").count()
        page.locator(".fold > summary").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#pairs")).to_be_visible()
        unfold(page, "training")
        page.wait_for_function("location.hash === '#pairs+training'")
        page.reload()
        expect(page.locator("#pairs")).to_be_visible()
        expect(page.locator("#training")).to_be_visible()
        assert page.locator("#evaluation").is_hidden()
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        wide = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth).length"
        assert not page.evaluate(wide)


def test_figures_follow_the_dark_scheme(browser, path):
    ink = "getComputedStyle(document.querySelector('.first svg [stroke=\"var(--ink)\"]')).stroke"
    with opened(browser, path, color_scheme="dark") as page:
        dark = page.evaluate(ink)
        page.emulate_media(color_scheme="light")
        assert {dark, page.evaluate(ink)} == {"rgb(228, 232, 237)", "rgb(27, 31, 36)"}
