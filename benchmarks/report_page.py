"""Size of the page of `blurgate report`, and how fast a headless Chromium shows and moves it.

    python benchmarks/report_page.py [--faces 5000 20000] [--thumbs 5000]

Draws faces (noise, blurred more and more), writes them as `blurgate filter` would, makes the page
and opens it. Prints the page's size, the seconds to write it, from navigation to the moment all
controls work, and the milliseconds of one step of the slider with everything that follows from it,
and of a jump in the list. The last three are the least of several: other work on the machine only
adds to them. POSIX only, as the tests' browser is.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
import conftest as tests  # the browser and the writer of results that the tests use

LEAST = """(() => {
  let least = Infinity;
  for (let k = 0; k < 40; k++) {
    const started = performance.now();
    %s;
    least = Math.min(least, performance.now() - started);
  }
  return least;
})()"""
STEP = LEAST % "setRule({threshold: (k + 1) / 42})"
SCROLL = LEAST % "box.scrollTop = (k + 1) * box.scrollHeight / 42; drawTiles()"


def drawn(seed: int, degree: float) -> np.ndarray:
    """Draw something as hard to compress as a face: smoothed noise, 112x112."""
    noise = np.random.default_rng(seed).integers(0, 256, (28, 28, 3)).astype(np.uint8)
    large = cv2.resize(noise, (112, 112), interpolation=cv2.INTER_CUBIC)
    return cv2.GaussianBlur(large, (0, 0), 1 + 8 * degree).astype(np.uint8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--faces", type=int, nargs="+", default=[5_000, 20_000])
    parser.add_argument("--thumbs", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chromium", default="chromium")
    options = parser.parse_args()
    print(f"{platform.machine()}, {platform.system()}; at most {options.thumbs} pictures")
    with tempfile.TemporaryDirectory() as name:
        browser = tests.Browser(options.chromium, Path(name) / "profile")
        try:
            for n in options.faces:
                measure(browser, Path(name) / str(n), n, options)
        finally:
            browser.close()


def measure(browser: tests.Browser, folder: Path, n: int, options: argparse.Namespace) -> None:
    """Measure one number of faces."""
    faces = tests.many_faces(n, videos=8)
    for i in np.linspace(0, n - 1, min(n, options.thumbs)).astype(int).tolist():
        face = faces[i]
        face["picture"] = drawn(i, float(face["degree"]))
    tests.write_run(folder, faces, review="0.05", min_face="30")
    started = time.perf_counter()
    results = tests.read_results(folder)
    thumbs = tests.make_thumbs(results, options.thumbs)
    page = folder / "report.html"
    tests.write_page(results, thumbs, page)
    written = time.perf_counter() - started
    ready, step, scroll = [], [], []
    for _ in range(options.rounds):
        tab = browser.open(page)
        ready.append(tab.ready_s)
        step.append(tab.js(STEP))
        scroll.append(tab.js(SCROLL))
        tab.call("Page.close")
    print(
        f"{n:6,} faces, {len(thumbs.jpeg):5,} pictures: {page.stat().st_size / 1e6:5.1f} MB, "
        f"written in {written:4.1f} s; ready in {min(ready):.2f} s, slider step "
        f"{min(step):.0f} ms, scroll step {min(scroll):.1f} ms"
    )


if __name__ == "__main__":
    main()
