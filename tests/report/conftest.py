"""A headless Chromium, driven over its DevTools protocol through two pipes: no package needed.

Protocol: https://chromedevtools.github.io/devtools-protocol/ (messages are JSON, ended by NUL).
"""

from __future__ import annotations

import base64
import csv
import json
import os
import select
import shutil
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from blurgate.report.results import read_results
from blurgate.report.thumbs import make_thumbs
from blurgate.report.view import write_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
# The protocol's pipes are the file descriptors 3 (to the browser) and 4 (from it).
# They are first copied out of the way: one of them might be 3 or 4 already.
LAUNCH = (
    "import fcntl, os, sys; "
    "a, b = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]); "
    "os.dup2(a, 3); os.dup2(b, 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
SECONDS = 90  # a busy machine starts a browser slowly


class Browser:
    """One browser; each `open` is a tab of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        inward, self._to = os.pipe()
        self._from, outward = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(inward), str(outward), program, *FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(inward, outward), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(inward)
        os.close(outward)
        self._number = 0
        self._rest = b""
        self.events = []

    def close(self) -> None:
        try:
            self.call("Browser.close")
        except (RuntimeError, OSError, TimeoutError):
            self._process.kill()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._to)
        os.close(self._from)

    def call(self, method, session=None, **parameters):
        """Send a command and give its result; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            answer = self._read(end - time.monotonic())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def poll(self, seconds) -> None:
        """Take in what the browser says for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._read(left)
            except TimeoutError:
                return

    def _read(self, seconds):
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise RuntimeError("the browser has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: Path, *, width=1280, height=900, dark=False, mobile=False) -> Tab:
        return Tab(self, path, width, height, dark, mobile)


class Tab:
    """A page, its console and what it asked of the network."""

    def __init__(self, browser, path, width, height, dark, mobile) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.target = target
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=2 if mobile else 1, mobile=mobile)  # fmt: skip
        started = time.monotonic()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self.js("document.documentElement?.dataset.ready") != "yes":
            if time.monotonic() - started > SECONDS:
                raise AssertionError(f"the page is not ready: {self.problems()}")
            browser.poll(0.02)
        self.ready_s = time.monotonic() - started

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def js(self, expression):
        """Give the value of an expression; an exception fails the test."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def key(self, name, *, text="") -> None:
        """Press a key."""
        codes = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "ArrowUp": 38, "Home": 36,
                 "End": 35, "PageDown": 34, "PageUp": 33, "Tab": 9, "Enter": 13}  # fmt: skip
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name,
                      windowsVirtualKeyCode=codes[name], text=text)  # fmt: skip

    def type_into(self, field, value) -> None:
        """What a user's typing comes to."""
        self.js(
            f"(() => {{ const f = byId('{field}'); f.value = '{value}';"
            " f.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def shot(self, path, *, whole=False) -> None:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole,
                         **({"clip": self._whole()} if whole else {}))["data"]  # fmt: skip
        path.write_bytes(base64.b64decode(data))

    def _whole(self):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def _events(self):
        self._browser.poll(0.1)
        return [e for e in self._browser.events if e.get("sessionId") == self._session]

    def requests(self):
        """Addresses that were asked for, the page itself and data: left out."""
        found = [e["params"]["request"]["url"] for e in self._events()
                 if e["method"] == "Network.requestWillBeSent"]  # fmt: skip
        return [url for url in found if not url.startswith("data:")][1:]

    def problems(self):
        """Exceptions, messages on the console, and remarks of the browser."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [e["params"] for e in self._events() if e["method"] in kinds]


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; skips where there is none."""
    if os.name == "nt":
        pytest.skip("the browser is driven over pipes, which Windows does not hand on like this")
    named = os.environ.get("BLURGATE_CHROMIUM")
    program = named or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium (set BLURGATE_CHROMIUM to its program)")
    chromium = Browser(program, tmp_path_factory.mktemp("profile"))
    try:
        yield chromium
    finally:
        chromium.close()


# --- results as `blurgate filter` leaves them, made without it -----------------------------------

COLUMNS = [
    "source", "frame", "time_s", "face", "track", "x1", "y1", "x2", "y2", "det_score", "face_px",
    "blur_degree", "decision", "reason", "crop",
]  # fmt: skip


def decide(degree, px, threshold, review, min_face, *, best=True):
    """The rule as docs/cli.md words it: (decision, reason).

    On decimals, as they read: 0.35 is within 0.05 of 0.4.
    """
    away = abs(Decimal(str(degree)) - Decimal(str(threshold)))
    if not best:
        return "reject", "not_best_shot"
    if float(px) < float(min_face):
        return "reject", "too_small"
    if float(review) > 0 and away <= Decimal(str(review)):
        return "review", "blur"
    return ("keep", "") if float(degree) <= float(threshold) else ("reject", "blur")


def write_run(
    folder, faces, *, threshold="0.4", review="0", min_face="0", sources=None, **settings
):
    """Write a folder of filter.

    Args:
        folder: Made here.
        faces: Dicts with source, degree and, if wanted, any column, `best` and `picture`
            (an array that becomes the crop).
        sources: Entries of the summary; made from the faces if None.
    """
    folder.mkdir(parents=True)
    rows, counts = [], {}
    for number, face in enumerate(faces):
        face = {"face_px": "80", "best": True, "picture": None, **face}
        what = decide(
            face["degree"], face["face_px"], threshold, review, min_face, best=face["best"]
        )
        crop = ""
        if face["picture"] is not None:
            crop = f"kept/{number}.png"
            (folder / "kept").mkdir(exist_ok=True)
            assert cv2.imwrite(str(folder / crop), face["picture"])
        row = dict.fromkeys(COLUMNS, "")
        row |= {"frame": "0", "face": "0", "x1": "10", "y1": "20", "x2": "90", "y2": "100"}
        row |= {"det_score": "0.9", "blur_degree": face["degree"], "crop": crop}
        row |= {"decision": what[0], "reason": what[1]}
        row |= {key: value for key, value in face.items() if key in row}
        rows.append(row)
        counts.setdefault(face["source"], []).append(what[0])
    with (folder / "faces.csv").open(
        "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as f:
        table = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    entries = sources if sources is not None else [
        {"source": name, "status": "ok", "frames": len(what), "frames_failed": 0, "error": ""}
        for name, what in counts.items()
    ]  # fmt: skip
    facts = {"version": "0.1.0", "model": "laplacian", "detector": "marker",
             "detection": "DetectorOptions(long_side=640, min_score=0.5)",
             "threshold": float(threshold), "review": float(review), "min-face": float(min_face),
             "every": 1, "table": "csv", "crops": "aligned", "keep-rejected": True,
             **settings}  # fmt: skip
    head = json.dumps({"settings": facts})
    (folder / "journal.jsonl").write_text(f"{head}\n{json.dumps({'mark': 1, 'done': entries})}\n")
    summary = {
        "model": {"name": "laplacian", "sha256": ""},
        "threshold": float(threshold),
        "sources": entries,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def many_faces(n, *, seed=0, videos=3):
    """Faces whose degrees have few digits, so that many lie exactly on a threshold."""
    random = np.random.default_rng(seed)
    faces = []
    for i in range(n):
        video = int(random.integers(videos))
        frame = i // videos
        faces.append({
            "source": f"clips/video {video}.mp4",
            "frame": str(frame), "time_s": f"{frame / 25:.6g}",
            "face": str(i % videos), "track": str(int(random.integers(4))) if video else "",
            "degree": f"{random.integers(0, 201) / 200:.6g}" if i % 2 else f"{random.random():.6g}",
            "face_px": f"{random.uniform(20, 120):.6g}", "best": bool(random.random() > 0.05),
        })  # fmt: skip
    return faces


@pytest.fixture(scope="session")
def make():
    """The functions above, for the tests: a test folder is no package."""
    return SimpleNamespace(decide=decide, write_run=write_run, many_faces=many_faces)


@pytest.fixture(scope="session")
def write_report():
    """Write the page of some results; gives its path."""

    def write(path, out, *, thumbs=5000, start=None):
        results = read_results(path)
        write_page(results, make_thumbs(results, thumbs), out, start=start)
        return out

    return write
