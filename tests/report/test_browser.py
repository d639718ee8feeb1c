"""Pages in headless Chromium, used as a reader uses them."""

import shutil

import plot_results as results
import pytest

from captum_lkn import InteractionsBatch, KnowledgeChange
from captum_lkn._common.html import Html
from captum_lkn.interactions.ranges import EffectRange, EffectRanges
from captum_lkn.report import pages

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, which drives the browser, is not installed")
Service = pytest.importorskip("selenium.webdriver.chrome.service").Service
Keys = pytest.importorskip("selenium.webdriver").Keys

PROGRAMS = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    None in PROGRAMS, reason="Chromium is not installed: apt-get install chromium chromium-driver"
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1100,900",
)  # fmt: skip
VISIBLE = "return [...document.querySelectorAll('#effects tbody tr')].filter(row => !row.hidden)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location, driver = PROGRAMS
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a page of each kind, the change's and the sample's with pictures."""
    folder = tmp_path_factory.mktemp("pages")
    results.sentence().report(folder / "sample.html")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "figure", lambda *_: Html("<figure></figure>"))
        results.change(ceiling=True).report(folder / "change.html")
        results.batch().report(folder / "batch.html")
        results.quarters().report(folder / "image.html", image=results.PICTURE)
    return folder


def open_page(browser, written, name):
    browser.get((written / f"{name}.html").as_uri())
    assert browser.get_log("browser") == []


def names(browser):
    """Return the names of the interactions that the table shows, from top to bottom."""
    return browser.execute_script(f"{VISIBLE}.map(row => row.cells[1].textContent)")


def heading(browser, place):
    return browser.find_elements("css selector", "#effects th")[place]


def texts(browser, selector):
    return [found.text for found in browser.find_elements("css selector", selector) if found.is_displayed()]


@pytest.mark.parametrize("name", ["sample", "change", "batch", "image"])
def test_a_page_opens_without_errors_requests_or_overflow(browser, written, name):
    open_page(browser, written, name)
    assert browser.execute_script("return document.documentElement.className") == "ready"
    requested = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [address for address in requested if not address.startswith("data:")] == []
    # The policy holds: nothing can be loaded, and no script but the page's own runs.
    blocked = browser.execute_async_script(
        "const done = arguments[0]; const script = document.createElement('script');"
        "script.textContent = 'window.injected = true'; document.body.append(script);"
        "fetch('data:text/plain,x').then(() => done('loaded'), () => done(window.injected ? 'ran' : 'blocked'))"
    )
    assert blocked == "blocked"
    browser.get_log("browser")  # the two violations
    for width in (360, 1100):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_text_is_readable_on_light_and_dark_pages(browser, written):
    open_page(browser, written, "sample")
    for scheme, dark in (("light", False), ("dark", True)):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        colours = browser.execute_script(
            "const of = (node, name) => getComputedStyle(node)[name].match(/\\d+/g).slice(0, 3).map(Number);"
            "return [of(document.body, 'backgroundColor'), of(document.body, 'color'),"
            "of(document.querySelector('.picture svg text'), 'fill')]"
        )
        paper, ink, label = (sum(colour) / 3 for colour in colours)
        assert (paper < 60, ink > 200, label > 200) == (dark, dark, dark)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_printed_page_has_no_controls_and_pictures_that_fit(browser, written):
    open_page(browser, written, "sample")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert texts(browser, ".controls, .above, footer, .note") == []
    heights = browser.execute_script(
        "return [...document.querySelectorAll('.picture svg')].map(picture => picture.getBoundingClientRect().height)"
    )
    assert len(heights) == 6
    assert max(heights) < 650  # CSS pixels, of the 1,000 that a page of A4 has
    assert len(texts(browser, "#effects tbody tr")) == 14  # no row is hidden by scrolling
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_no_character_that_reorders_text_reaches_a_reader(browser, tmp_path):
    marks = "\u202e\u2066\u2028"
    states = {
        label: InteractionsBatch([results.found_of([f"a{marks}", f"b{marks}"], [("and", (0, 1), effect)], unit=marks)])
        for label, effect in ((f"first{marks}", 1.0), ("output", 2.0))
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "figure", lambda *_: Html("<figure></figure>"))
        KnowledgeChange(states).report(tmp_path / "marks.html")
    open_page(browser, tmp_path, "marks")
    for _ in range(2):  # the script writes the texts of each layer
        shown = browser.execute_script(
            "return [document.title, document.body.innerText, ...[...document.querySelectorAll('*')].flatMap("
            "node => [...node.attributes].filter(one => /^(title|aria|alt|placeholder)/.test(one.name))"
            ".map(one => one.value))].join(' ')"
        )
        assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028")
        assert "\\u202e" in shown
        browser.find_element("id", "layer").send_keys(Keys.ARROW_LEFT)


def test_columns_sort_both_ways_by_number_and_by_text(browser, written):
    open_page(browser, written, "sample")
    found = results.sentence()
    strongest = [one.name for one in found.top(None)]
    assert names(browser) == strongest
    assert heading(browser, 3).get_attribute("aria-sort") == "descending"
    heading(browser, 3).find_element("tag name", "button").click()
    assert heading(browser, 3).get_attribute("aria-sort") == "ascending"
    assert names(browser)[0] == strongest[-1]
    heading(browser, 1).find_element("tag name", "button").send_keys(Keys.ENTER)
    assert heading(browser, 1).get_attribute("aria-sort") == "ascending"
    assert heading(browser, 3).get_attribute("aria-sort") == "none"
    assert names(browser)[0] == "a & single"


def test_rows_are_filtered_by_text_kind_and_player(browser, written):
    open_page(browser, written, "sample")
    browser.find_element("css selector", ".filter").send_keys("good scene")
    assert names(browser) == ["not & good & scene"]
    assert texts(browser, ".count") == ["1 of 14 rows"]
    browser.find_element("css selector", ".filter").clear()
    browser.find_element("css selector", ".filter").send_keys(" ")
    browser.find_element("css selector", "button.kind[data-kind=OR]").click()
    assert names(browser) == ["not | good", "not | single", "a | single | scene"]
    browser.find_element("css selector", "button.kind[data-kind='']").click()
    player = browser.find_element("css selector", "button.player[data-player='4']")
    player.click()
    assert player.get_attribute("aria-pressed") == "true"
    assert names(browser) == ["not & good & scene", "not & scene", "scene", "a | single | scene"]


@pytest.mark.parametrize(("name", "selector"), [("sample", "button.player.lit"), ("image", "path.part.lit")])
def test_a_row_that_is_pointed_at_lights_up_its_players(browser, written, name, selector):
    open_page(browser, written, name)
    found = results.sentence() if name == "sample" else results.quarters()
    row = browser.execute_script(f"{VISIBLE}[1]")
    webdriver.ActionChains(browser).move_to_element(row).perform()
    lit = [int(node.get_attribute("data-player")) for node in browser.find_elements("css selector", selector)]
    assert lit == list(found.top(2)[1].members)
    browser.execute_script("document.activeElement.blur(); arguments[0].focus()", row)
    row.send_keys(Keys.ARROW_DOWN)
    lit = [int(node.get_attribute("data-player")) for node in browser.find_elements("css selector", selector)]
    assert lit == list(found.top(3)[2].members)


def test_a_slider_moves_through_the_layers(browser, written):
    open_page(browser, written, "change")
    change = results.change()
    slider = browser.find_element("id", "layer")
    assert texts(browser, "#layer-name") == ["output"]
    for layer in ("encoder.3", "encoder.2"):
        slider.send_keys(Keys.ARROW_LEFT)
        assert layer.endswith(texts(browser, "#layer-name")[0])
        assert slider.get_attribute("aria-valuetext") == layer.removeprefix("encoder.")
        found = change.interactions[layer][0]
        assert f"v(N) = {found.contents(0).ends[1]}" in texts(browser, ".ends")[0]
        assert names(browser)[0] == found.top(1)[0].name
        cells = "[row.dataset.members, row.cells[0].innerText, row.cells[3].innerText]"
        shown = browser.execute_script(f"{VISIBLE}.map(row => {cells})")
        for members, kind, effect in shown:
            members = [int(member) for member in members.split()]
            assert float(effect) == pytest.approx(found.effect(*members, kind=kind.lower()), abs=0.006)


def test_another_sample_is_chosen(browser, written):
    open_page(browser, written, "batch")
    batch = InteractionsBatch(list(results.batch()))
    browser.find_elements("css selector", ".pick")[3].click()
    assert texts(browser, "button.player") == list(batch[3].players)
    assert names(browser) == [one.name for one in batch[3].top(None)]
    assert browser.find_element("id", "sample").get_attribute("value") == "3"
    browser.find_elements("css selector", ".filter")[0].send_keys("dull")
    assert len([row for row in browser.find_elements("css selector", "#samples tbody tr") if row.is_displayed()]) == 2


def test_ends_of_ranges_sort_by_value_and_effects_by_strength(browser, tmp_path):
    found = results.sentence()
    top = found.top(3)
    lows = [-5.0, 1.0, -2.0]
    ranges = tuple(EffectRange(one, low, 9.0) for one, low in zip(top, lows, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "figure", lambda *_: Html("<figure></figure>"))
        found.report(tmp_path / "ranges.html", ranges=EffectRanges(ranges, 0.001))
    open_page(browser, tmp_path, "ranges")
    browser.find_element("xpath", "//table[@id='effects']//th/button[.='least']").click()
    shown = browser.execute_script(f"{VISIBLE}.slice(0, 3).map(row => parseFloat(row.cells[5].textContent))")
    assert shown == sorted(lows, reverse=True)
