"""Chromium without a window, driven by its debugging protocol over a pipe: no driver is needed."""

import atexit
import base64
import json
import os
import pathlib
import shutil
import subprocess
import time

import harness

# None of these looks for anything on a network.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
         "--hide-scrollbars", "--remote-debugging-pipe"]


class Browser:
    """A browser with one page. Events that have come are kept in "events"."""

    def __init__(self):
        harness.need("chromium")
        self.folder = harness.folder()
        self.events = []
        self._number = 0
        self._buffer = b""
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "sh", shutil.which("chromium"), *FLAGS,
             f"--user-data-dir={self.folder}", "about:blank"],
            pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(self.folder / "stderr", "wb"))
        os.close(to_browser)
        os.close(from_browser)
        atexit.register(self.close)
        self._session = None
        pages = harness.wait_for(
            lambda: [t for t in self.tell("Target.getTargets")["targetInfos"] if t["type"] == "page"], "a page")
        self._session = self.tell("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.tell(f"{domain}.enable")

    def close(self):
        harness.stop(self._process)

    def _next(self):
        """Waits for the next message."""
        while b"\0" not in self._buffer:
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("chromium has ended: " + (self.folder / "stderr").read_text()[-2000:])
            self._buffer += more
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def tell(self, method, **params):
        """Sends a command and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, expression):
        """Evaluates JavaScript in the page and returns its value."""
        result = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{result['exceptionDetails']}")
        return result["result"].get("value")

    def look(self, width, height, scheme, phone=False):
        """Sets the size of the window, and whether light or dark is preferred."""
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address):
        """Loads a page and waits until it is there."""
        self.events.clear()
        self.tell("Page.navigate", url=address)
        end = time.monotonic() + harness.LIMIT
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            if time.monotonic() > end:
                raise TimeoutError(f"gave up waiting for {address}")
            self.events.append(self._next())

    def seen(self, method):
        """Returns what is known of the events of a kind since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def screenshot(self, path):
        """Takes a picture of the whole page."""
        data = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))
