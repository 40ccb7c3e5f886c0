"""Debian's chromium without a window, told what to do over a pipe (Chrome DevTools Protocol).

`--remote-debugging-pipe`: messages are JSON, a zero byte behind each; the browser reads descriptor
3 and writes descriptor 4. No port is opened, and no driver is needed.
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

LIMIT = 60  #: seconds that one answer, or a condition, may take
MARGIN = 32  #: pixels below what a picture ends with
CHROMIUM = shutil.which("chromium")
MISSING = "this machine has no chromium (apt-get install chromium)"


class Browser:
    """One tab. What pages complain about is kept in `complaints`."""

    def __init__(self, write, read):
        self._write, self._read, self._buffer = write, read, b""
        self._numbers = itertools.count(1)
        self.complaints = []
        tab = self._send("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._send("Target.attachToTarget", {"targetId": tab, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.do(f"{domain}.enable")

    def do(self, method, **words):
        """One command to the tab; its answer."""
        return self._send(method, words, self._session)

    def open(self, address, width=1280, height=900, dark=False, phone=False):
        """Loads a page under a colour scheme, in a viewport of so many CSS pixels."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip
        self.do("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def tell(self, script):
        """The value of an expression, which may be a promise, in the page."""
        done = self.do(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True,
            userGesture=True,
        )  # fmt: skip
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script):
        """Waits until an expression is true."""
        deadline = time.monotonic() + LIMIT
        while not (said := self.tell(script)):
            late = time.monotonic() >= deadline
            assert not late, (script, self.complaints, self.tell("document.body?.innerText"))
            time.sleep(0.1)
        return said

    def until_complained(self, word):
        """Waits until the page complained of something with `word` in it; that is forgotten."""
        deadline = time.monotonic() + LIMIT
        while not any(word in str(one) for one in self.complaints):
            assert time.monotonic() < deadline, self.complaints
            self.tell("null")  # what came meanwhile is heard
            time.sleep(0.1)
        self.complaints.clear()

    def press(self, key):
        """A key, down and up: Tab, Enter or Escape."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27}[key]
        words = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        self.do("Input.dispatchKeyEvent", type="keyDown", **words, **text)
        self.do("Input.dispatchKeyEvent", type="keyUp", **words)

    def picture(self, width, down_to="body"):
        """The page as PNG, from its top to the end of what a selector names."""
        end = self.tell(
            f"document.querySelector({json.dumps(down_to)}).getBoundingClientRect().bottom"
            " + window.scrollY"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": end + MARGIN, "scale": 1}
        shot = self.do(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip
        )
        return base64.b64decode(shot["data"])

    def _send(self, method, words, session=None):
        number = next(self._numbers)
        said = {"id": number, "method": method, "params": words}
        if session:
            said["sessionId"] = session
        self._write.write(json.dumps(said).encode() + b"\0")
        deadline = time.monotonic() + LIMIT
        while True:
            heard = self._hear(deadline)
            if heard.get("id") == number:
                assert "error" not in heard, (method, heard)
                return heard["result"]
            if heard.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(heard["params"])

    def _hear(self, deadline):
        while b"\0" not in self._buffer:
            ready = select.select([self._read], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, "the browser says nothing"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser ended"
            self._buffer += more
        raw, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(raw)


@contextmanager
def browser(profile):
    """A browser with a profile of its own, ended at the end."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    ends = f"3<&{theirs_in} 4>&{theirs_out}"  # where the browser looks for them
    command = [
        "bash", "-c", f'exec "$0" "$@" {ends}', CHROMIUM,
        "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--hide-scrollbars", f"--user-data-dir={profile}",
    ]  # fmt: skip
    with subprocess.Popen(
        command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process, os.fdopen(ours_out, "wb", buffering=0) as write:  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(write, ours_in)
        finally:
            process.terminate()
            process.wait(LIMIT)
            os.close(ours_in)
