"""Hostile and many names of sources, in a real browser and in a real shell."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

ODD = [
    "plain.mp4",
    "two words.mp4",
    "it's.mp4",
    'a "quoted" $(touch hit) `id` $HOME.mp4',
    "back\\slash*?.mp4",
    "line\nend\tand 7.mp4",
    "latin\udce9 1.mp4",
    "-dash.mp4",
    "\u4eba\u8138 \U0001f600.mp4",
    "\u202egnp.mp4",
    "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>",
    "<!--<script>",
    "@data@ {{x}} ${window.hit=1}",
]


@pytest.fixture(scope="module")
def odd(make, write_report, browser, tmp_path_factory):
    """Results whose every name is hostile."""
    folder = tmp_path_factory.mktemp("odd") / "<b>run's $(x)"
    faces = [
        {"source": name, "degree": f"{(i + 1) / 20:.6g}", "reason": "", "track": str(i)}
        for i, name in enumerate(ODD)
    ]
    sources = [
        {"source": name, "status": "partial", "frames": 1, "frames_failed": 1,
         "error": f"{name}: <img src=x onerror=window.hit=1> ended early"}
        for name in ODD
    ]  # fmt: skip
    make.write_run(folder, faces, sources=sources, model="</script><script>window.hit=1</script>")
    tab = browser.open(write_report(folder, folder / "report.html"))
    yield tab
    assert tab.problems() == []
    assert tab.requests() == []


def test_names_are_text_and_never_markup(odd):
    assert odd.js("typeof window.hit") == "undefined"
    assert odd.js("document.querySelectorAll('img, b:not(#bar b), iframe, object').length") == 0
    assert odd.js("document.scripts.length") == 3
    assert odd.js("document.title") == "Filtered faces: <b>run's $(x)"
    names = odd.js("[...byId('sources').querySelectorAll('button.plain')].map((b) => b.title)")
    assert names == [
        *ODD[:5],
        "line\\u000aend\\u0009and 7.mp4",
        "latin\\xe9 1.mp4",
        *ODD[7:9],
        "\\u202egnp.mp4",
        *ODD[10:],
    ]
    # All ended alike, so they stand in one line, whatever their own names are.
    kinds = odd.js(
        "[...byId('failures').querySelectorAll('tbody')[1].rows].map((r) => r.cells[1].textContent)"
    )
    assert kinds == ["\u2026: <img src=x onerror=window.hit=1> ended early"]
    text = odd.js("document.querySelector('.note').textContent")
    assert "model </script><script>window.hit=1</script>" in text


def test_the_policy_refuses_what_is_not_the_pages_own(odd):
    broken = odd.js("""(async () => {
      const found = [];
      document.addEventListener('securitypolicyviolation', (e) => found.push(e.effectiveDirective));
      const image = new Image();
      image.src = 'http://127.0.0.1:9/x.png';
      try { await fetch('http://127.0.0.1:9/'); } catch { /* refused */ }
      try { document.body.innerHTML += '<p>'; } catch { found.push('trusted types'); }
      await new Promise((done) => setTimeout(done, 200));
      return found;
    })()""")
    assert {"img-src", "connect-src", "trusted types"} <= set(broken)
    assert odd.js("typeof window.hit") == "undefined"
    odd._browser.events.clear()  # what was tried here is no fault of the page


def test_the_command_is_quoted_for_a_shell(odd, tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    odd.type_into("exact", "0.37")
    odd.type_into("review", "0.05")
    command = odd.js("byId('command').textContent")
    script = "blurgate() { printf '%s\\0' \"$@\"; }\n" + command
    ran = subprocess.run([bash, "-c", script], cwd=tmp_path, capture_output=True, check=True)
    words = ran.stdout.split(b"\0")[:-1]
    split = words.index(b"--")
    assert words[: split - 2] == b"filter --threshold 0.37 --review 0.05 --keep-rejected".split()
    assert words[split - 2] == b"--out"
    assert words[split - 1].endswith(b"<b>run's $(x)-0.37")
    assert words[split + 1 :] == [name.encode("utf-8", "surrogateescape") for name in ODD]
    assert list(tmp_path.iterdir()) == []  # nothing was expanded or run
    odd.js("byId('shell').value = 'ps'; byId('shell').dispatchEvent(new Event('change'))")
    line = odd.js("byId('command').textContent")
    assert "'it''s.mp4'" in line
    assert "'a \"quoted\" $(touch hit) `id` $HOME.mp4'" in line


def test_many_sources_go_through_a_list(make, write_report, browser, tmp_path):
    names = [f"clips/{i:03d} é.mp4" for i in range(39)] + ["clips/\udcff.mp4"]
    faces = [{"source": name, "degree": "0.1"} for name in names]
    folder = make.write_run(tmp_path / "run", faces)
    tab = browser.open(write_report(folder, folder / "report.html"))
    assert tab.js("byId('command').textContent").endswith("-0.4 - < sources.txt")
    tab.js("byId('shell').value = 'ps'; byId('shell').dispatchEvent(new Event('change'))")
    told, read, line = re.split("; |[|] ", tab.js("byId('command').textContent"))
    assert (told, read) == (
        "$OutputEncoding = [Text.UTF8Encoding]::new()",
        "Get-Content -Encoding UTF8 sources.txt ",
    )
    assert line.endswith("-0.4 -")
    tab._browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.js("byId('save-list').click()")
    for _ in range(50):
        tab._browser.poll(0.1)
        if (tmp_path / "sources.txt").exists():
            break
    lines = (tmp_path / "sources.txt").read_bytes().split(b"\n")
    assert lines == [name.encode("utf-8", "surrogateescape") for name in names] + [b""]
    assert tab.js("byId('sources').querySelectorAll('tbody tr').length") == 25
    tab.js("byId('sources').querySelector('.pager button').click()")
    assert tab.js("byId('sources').querySelectorAll('tbody tr').length") == 40
    assert tab.problems() == []
