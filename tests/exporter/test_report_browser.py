"""The page in a real browser, without a network. Needs Debian's chromium and chromium-driver; .ci/run installs them."""

import re

import outcomes  # tests/exporter/modules
import pytest
from browsers import needs_browser  # tests/tools

from keraship.exporter.report import page

pytestmark = needs_browser

WIDTHS = (400, 1400)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Each of the outcomes as a file."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("example", "bare", "hostile", "large"):
        (folder / f"{name}.html").write_text(page(getattr(outcomes, name)()), encoding="utf-8")
    return folder


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["example", "bare", "hostile", "large"])
def test_pages_render(browser, pages, name, width):
    """No console error, no request to anything else, nothing wider than the window, and something to be seen."""
    browser.show(pages / f"{name}.html", width)
    assert browser.errors() == []
    outside = [url for url in browser.requests() if not url.startswith(("file:", "data:"))]
    assert outside == []
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.querySelectorAll('script, img, iframe').length") == 0
    colours = browser.picture().getcolors(1 << 24)
    assert len(colours) > 20
    assert max(count for count, _ in colours) < 0.97 * width * 900


def test_names_are_text(browser, pages):
    """A stranger's name that is HTML is read as it was written."""
    browser.show(pages / "hostile.html", 1400)
    assert browser.run("return document.querySelector('h1').textContent").startswith("</script><script>alert(1)")
    assert browser.run("return document.title").startswith("</script>")


def test_links_and_pictures(browser, pages):
    """Each link leads to a part of the page; no picture is empty."""
    browser.show(pages / "example.html", 1400)
    targets = "return [...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).length"
    assert browser.run(targets) == 0
    sizes = browser.run("return [...document.querySelectorAll('section > div svg')].map(s => s.getBBox().height)")
    assert len(sizes) >= 17
    assert min(sizes) > 50


def test_texts_of_drawn_graphs_stay_in_their_boxes(browser, pages):
    """Long names of layers are cut before they run into what stands beside them."""
    browser.show(pages / "large.html", 1400)
    script = """return [...document.querySelectorAll('.graph g')].filter(g => {
        const box = g.querySelector('rect').getBBox();
        return [...g.querySelectorAll('text')].some(t => t.getBBox().width && t.getBBox().x + t.getBBox().width > box.x + box.width + 1);
    }).length"""  # noqa: E501
    assert browser.run(script) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser, pages, scheme):
    """The page follows the reader's choice; its text stands out against what is behind it."""
    browser.show(pages / "example.html", 1400, scheme)
    script = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    ink, back = (luminance(colour) for colour in browser.run(script))
    assert (ink > back) == (scheme == "dark")
    assert (max(ink, back) + 0.05) / (min(ink, back) + 0.05) > 7  # WCAG AAA


def luminance(colour):
    """WCAG's relative luminance of rgb(r, g, b)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
