"""The page in a real browser, without a network. Needs Debian's chromium and chromium-driver; .ci/run installs them."""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import urllib.request

import outcomes  # tests/exporter/modules
import pytest
from PIL import Image

from keraship.exporter.report import page

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    not (DRIVER and BROWSER),
    reason="NO BROWSER WAS TRIED: install one with `apt-get install chromium chromium-driver`",
)

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip

WIDTHS = (400, 1400)

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxies the environment names


class Browser:
    """A session of the WebDriver protocol."""

    def __init__(self, port, profile):
        self.url = f"http://127.0.0.1:{port}/session"
        chrome = {"binary": BROWSER, "args": [*OPTIONS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = self.ask("", {"capabilities": {"alwaysMatch": wanted}})
        self.url += f"/{session['sessionId']}"

    def ask(self, path, body=None, method="POST"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with DIRECT.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def command(self, name, **parameters):
        """A command of the DevTools protocol."""
        return self.ask("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def run(self, script):
        """What a script returns."""
        return self.ask("/execute/sync", {"script": script, "args": []})

    def show(self, path, width, scheme="light"):
        """Open a file at this width of the window."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.errors(), self.requests()  # those of the page before, or of the browser's own first one
        self.ask("/url", {"url": path.as_uri()})

    def picture(self):
        """What is seen of it."""
        return Image.open(io.BytesIO(base64.b64decode(self.ask("/screenshot", method="GET")))).convert("RGB")

    def errors(self):
        """What the console says since it was last asked."""
        return [entry["message"] for entry in self.ask("/se/log", {"type": "browser"})]

    def requests(self):
        """The addresses that were asked for since this was last asked."""
        events = [json.loads(entry["message"])["message"] for entry in self.ask("/se/log", {"type": "performance"})]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all pages; its profile is new."""
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = next(match[1] for line in driver.stdout if (match := re.search(r"successfully on port (\d+)", line)))
        session = Browser(port, tmp_path_factory.mktemp("profile"))
        session.ask("/url", {"url": "about:blank"})
        yield session
        with contextlib.suppress(OSError):
            session.ask("", method="DELETE")
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()


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
