"""A real browser for tests of pages: Debian's chromium, by the WebDriver protocol, with no network but this machine.

Needs chromium and chromium-driver; .ci/run installs them.
"""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import time
import urllib.request

import pytest

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")

needs_browser = pytest.mark.skipif(
    not (DRIVER and BROWSER),
    reason="NO BROWSER WAS TRIED: install one with `apt-get install chromium chromium-driver`",
)

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip

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

    def show(self, page, width, scheme="light"):
        """Open a file, or an address, at this width of the window."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.errors(), self.requests()  # those of the page before, or of the browser's own first one
        self.ask("/url", {"url": page if isinstance(page, str) else page.as_uri()})

    def wait(self, script, seconds=20):
        """What a script returns once that is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, (
                f"{script} stayed {found!r}; the page: {self.run('return document.body.innerText')}"
            )
            time.sleep(0.05)
        return found

    def find(self, selector):
        """The path to an element, for `ask`."""
        (reference,) = self.ask("/element", {"using": "css selector", "value": selector}).values()
        return f"/element/{reference}"

    def click(self, selector):
        """As a user clicks it."""
        self.ask(f"{self.find(selector)}/click", {})

    def type(self, selector, text):
        """As a user types it; into a file input, the path of a file."""
        self.ask(f"{self.find(selector)}/value", {"text": text})

    def picture(self):
        """What is seen of it."""
        from PIL import Image  # the client's tests run without it

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
    """One browser for all pages of a module; its profile is new."""
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
