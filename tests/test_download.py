from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blurgate import download
from blurgate.download import Promise, fetch, public_form
from blurgate.errors import ChecksumError, ConfigError, MissingModelError

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes
RESUMABLE = "run the command again to go on"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    """What the local server says; a test changes it between two calls."""

    body: bytes = BODY
    etag: str | None = '"v1"'
    modified: str | None = None
    ranges: bool = True
    heeds_if_range: bool = True
    cut_after: int | None = None
    """Bytes after which the server closes the connection."""
    claim: int | None = None
    """Content-Length that it claims instead of the true one."""
    no_length: bool = False
    status: int = 200
    redirect: str | None = None
    wrong_start: bool = False
    address: str = ""
    asked: list[str | None] = field(default_factory=list)
    """The Range header of each request."""


def handler_of(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.asked.append(wanted)
            if site.redirect is not None and self.path != "/moved":
                self.send_response(302)
                self.send_header("Location", site.redirect)
                self.end_headers()
                return
            if site.status != 200:
                self.send_response(site.status)
                self.end_headers()
                self.wfile.write(b"an error page")
                return
            body, total = site.body, len(site.body)
            current = site.etag or site.modified
            start = 0
            same = self.headers.get("If-Range") == current or not site.heeds_if_range
            if wanted and site.ranges and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= total:
                    self.send_response(416)
                    self.end_headers()
                    return
                self.send_response(206)
                first = start + (7 if site.wrong_start else 0)
                self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
            else:
                self.send_response(200)
            if site.etag:
                self.send_header("ETag", site.etag)
            if site.modified:
                self.send_header("Last-Modified", site.modified)
            if not site.no_length:
                length = total - start if site.claim is None else site.claim
                self.send_header("Content-Length", str(length))
            self.end_headers()
            rest = body[start:]
            if site.cut_after is not None:
                rest = rest[: site.cut_after]
            with contextlib.suppress(OSError):  # a client may hang up on too large a file
                self.wfile.write(rest)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on the loopback interface."""
    monkeypatch.setenv("no_proxy", "*")
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(site))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_port}/pack.zip"
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def get(site: Site, tmp_path: Path) -> Callable[..., str]:
    def call(sha256: str = digest(BODY), size: int | None = None, **options: object) -> str:
        promise = Promise(size, sha256)
        return fetch(site.address, tmp_path / "file", promise, named_by_user=True, **options)

    return call


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- one file over HTTP ---


def test_a_file_arrives_whole_and_alone(site: Site, get, tmp_path: Path):
    seen: list[tuple[int, int | None]] = []
    assert get(size=len(BODY), progress=lambda *a: seen.append(a)) == digest(BODY)
    assert (tmp_path / "file").read_bytes() == BODY
    assert left(tmp_path) == ["file"]
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert site.asked == [None]


def test_a_cut_off_transfer_is_continued_where_it_stopped(site: Site, get, tmp_path: Path):
    site.cut_after = 300_000
    with pytest.raises(MissingModelError, match=rf"stopped at 300000 of 1024000.*{RESUMABLE}"):
        get()
    assert left(tmp_path) == ["file.part", "file.part.json"]
    with pytest.raises(MissingModelError, match="stopped at 600000 of 1024000"):
        get()
    site.cut_after = None
    assert get() == digest(BODY)
    assert (tmp_path / "file").read_bytes() == BODY
    assert site.asked == [None, "bytes=300000-", "bytes=600000-"]
    assert left(tmp_path) == ["file"]


def test_a_part_is_continued_by_date_where_there_is_no_tag(site: Site, get):
    site.etag, site.modified = None, "Mon, 02 Nov 2026 10:00:00 GMT"
    site.cut_after = 1000
    with pytest.raises(MissingModelError):
        get()
    site.cut_after = None
    assert get() == digest(BODY)
    assert site.asked == [None, "bytes=1000-"]


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_firm_tag_it_starts_over(site: Site, get, tag):
    site.etag = tag
    site.cut_after = 1000
    with pytest.raises(MissingModelError):
        get()
    site.cut_after = None
    assert get() == digest(BODY)
    assert site.asked == [None, None]


def test_a_file_that_changed_meanwhile_is_not_glued_to_the_old_part(site: Site, get, tmp_path):
    site.cut_after = 300_000
    with pytest.raises(MissingModelError):
        get()
    site.body, site.etag, site.cut_after = BODY[::-1], '"v2"', None
    assert get(sha256=digest(BODY[::-1])) == digest(BODY[::-1])
    assert (tmp_path / "file").read_bytes() == BODY[::-1]


def test_a_server_that_ignores_if_range_is_caught_by_its_tag(site: Site, get, tmp_path: Path):
    site.cut_after, site.heeds_if_range = 300_000, False
    with pytest.raises(MissingModelError):
        get()
    site.body, site.etag, site.cut_after = BODY[::-1], '"v2"', None
    assert get(sha256="") == digest(BODY[::-1])
    assert site.asked == [None, "bytes=300000-", None]


def test_a_server_that_ignores_if_range_is_caught_by_the_length(site: Site, get, tmp_path: Path):
    site.cut_after, site.heeds_if_range = 300_000, False
    with pytest.raises(MissingModelError):
        get()
    site.body, site.cut_after = BODY + BODY, None
    assert get(sha256="") == digest(BODY + BODY)
    assert site.asked == [None, "bytes=300000-", None]


def test_an_old_part_does_not_survive_a_new_beginning(site: Site, get, tmp_path: Path, monkeypatch):
    (tmp_path / "file.part").write_bytes(b"old" * 1000)

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_pour", stop)
    with pytest.raises(KeyboardInterrupt):
        get()
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")
    assert get(sha256="") == digest(BODY)


def test_a_wrong_span_is_not_appended(site: Site, get, tmp_path: Path):
    site.cut_after = 300_000
    with pytest.raises(MissingModelError):
        get()
    site.cut_after, site.wrong_start = None, True
    assert get() == digest(BODY)
    assert site.asked == [None, "bytes=300000-", None]


def test_a_server_without_ranges_starts_over(site: Site, get, tmp_path: Path):
    site.cut_after, site.ranges = 300_000, False
    with pytest.raises(MissingModelError):
        get()
    site.cut_after = None
    assert get() == digest(BODY)
    assert (tmp_path / "file").read_bytes() == BODY
    assert site.asked == [None, "bytes=300000-"]


def test_a_complete_part_is_not_asked_for_again(site: Site, get, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(BODY)
    state = {"address": site.address, "validator": '"v1"', "bytes": len(BODY)}
    (tmp_path / "file.part.json").write_text(json.dumps(state))
    assert get() == digest(BODY)
    assert site.asked == []


def test_a_part_longer_than_the_file_is_thrown_away(site: Site, get, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(BODY + b"!")
    for size in (None, len(BODY)):
        state = {"address": site.address, "validator": '"v1"', "bytes": size}
        (tmp_path / "file.part.json").write_text(json.dumps(state))
        assert get() == digest(BODY)


@pytest.mark.parametrize(
    "state",
    [
        "", "[]", "{}", '{"address": 1, "validator": 2, "bytes": 3}', "[" * 100_000,
        '{"address": "HERE", "validator": ["x"], "bytes": null}',
        '{"address": "HERE", "validator": "\\nv1", "bytes": null}',
        '{"address": "HERE", "validator": "\\u20ac", "bytes": null}',
    ],
    ids=["empty", "list", "object", "numbers", "nested", "no text", "line end", "no header"],
)  # fmt: skip
def test_a_damaged_state_means_to_start_over(site: Site, get, tmp_path: Path, state):
    (tmp_path / "file.part").write_bytes(b"nonsense")
    (tmp_path / "file.part.json").write_text(state.replace("HERE", site.address))
    assert get() == digest(BODY)
    assert site.asked == [None]


def test_a_part_of_another_address_is_not_continued(site: Site, get, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(b"nonsense")
    state = {"address": "https://example.org/x", "validator": '"v1"', "bytes": len(BODY)}
    (tmp_path / "file.part.json").write_text(json.dumps(state))
    assert get() == digest(BODY)
    assert site.asked == [None]


def test_a_tampered_file_is_refused_and_not_kept(site: Site, get, tmp_path: Path):
    site.body = BODY[:-1] + b"!"
    message = rf"SHA-256 is {digest(site.body)}, not {digest(BODY)}: it was changed"
    with pytest.raises(ChecksumError, match=message) as caught:
        get(size=len(BODY))
    assert caught.value.exit_code == 5
    assert left(tmp_path) == []


def test_a_length_that_is_not_the_promised_one_is_refused_at_once(site: Site, get, tmp_path):
    site.claim = 999
    with pytest.raises(ChecksumError, match=r"has 999 bytes and not 1024000; it was not fetched"):
        get(size=len(BODY))
    assert left(tmp_path) == []


def test_a_length_that_is_too_small_is_caught_by_the_checksum(site: Site, get, tmp_path: Path):
    site.claim = 999
    with pytest.raises(ChecksumError, match=rf"SHA-256 is {digest(BODY[:999])}"):
        get()
    assert left(tmp_path) == []


def test_a_length_that_is_too_large_is_a_cut_off_transfer(site: Site, get):
    site.claim = len(BODY) + 10
    with pytest.raises(MissingModelError, match="stopped at 1024000 of 1024010"):
        get()


def test_a_stream_without_a_length_is_capped(site: Site, get, tmp_path: Path, monkeypatch):
    site.no_length = True
    assert get() == digest(BODY)
    with pytest.raises(ChecksumError, match=r"is larger than 5000 bytes; nothing was kept"):
        get(size=5000)
    assert left(tmp_path) == ["file"]
    monkeypatch.setattr(download, "LARGEST", 4000)
    with pytest.raises(ChecksumError, match="is larger than 4000 bytes"):
        get()
    site.no_length = False
    with pytest.raises(ChecksumError, match="has 1024000 bytes, more than the 4000 allowed"):
        get()
    assert left(tmp_path) == ["file"]


def test_a_stream_without_a_length_that_is_cut_fails_the_promise(site: Site, get, tmp_path: Path):
    site.no_length, site.cut_after = True, 1000
    with pytest.raises(ChecksumError, match=r"gave 1000 bytes and not 1024000"):
        get(size=len(BODY))
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [404, 403, 500, 204])
def test_an_error_of_the_server_is_named(site: Site, get, tmp_path: Path, status):
    site.status = status
    with pytest.raises(MissingModelError, match=rf"pack\.zip: the server answers {status}"):
        get()
    assert left(tmp_path) == []


def test_a_refused_connection_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody can connect
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/x"
        with pytest.raises(MissingModelError, match=r"cannot reach http://127\.0\.0\.1:\d+/x: "):
            fetch(address, tmp_path / "file", Promise(), named_by_user=True)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 200 OK\r\n", b"garbage\r\n\r\n"])
def test_a_server_that_talks_nonsense_is_named(tmp_path: Path, monkeypatch, answer):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)
                # Close with a reset, which a lost connection looks like.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        with pytest.raises((MissingModelError, ChecksumError)):
            fetch(address, tmp_path / "file", Promise(5, "00"), named_by_user=True)
        thread.join()


# --- addresses ---


@pytest.mark.parametrize(
    "address",
    [
        "ftp://example.org/x", "file:///etc/passwd", "data://x", "gopher://x/y", "https://", "://",
        "http:///nohost", "javascript://x", "https://[::1",
    ],
)  # fmt: skip
def test_other_schemes_are_refused(tmp_path: Path, address):
    for by_user in (True, False):
        with pytest.raises(ConfigError, match=r"cannot fetch|is not an address"):
            fetch(address, tmp_path / "file", Promise(), named_by_user=by_user)
    assert left(tmp_path) == []


def test_plain_http_needs_a_user_and_a_promise_or_the_loopback(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"cannot fetch http://127.0.0.1/x: .* https://"):
        fetch("http://127.0.0.1/x", tmp_path / "f", Promise(1, "00"))
    with pytest.raises(ConfigError, match=r"http://example\.org/x is plain HTTP and nobody"):
        fetch("http://example.org/x", tmp_path / "f", Promise(), named_by_user=True)


def test_a_path_needs_a_user(tmp_path: Path):
    with pytest.raises(ConfigError, match="is not an HTTPS address"):
        fetch("/etc/hostname", tmp_path / "f", Promise())


def test_a_redirect_is_followed_but_not_to_other_schemes(site: Site, get):
    site.redirect = "/moved"
    assert get() == digest(BODY)
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        site.redirect = target
        with pytest.raises((ConfigError, MissingModelError), match=r"redirects to|server answers"):
            get()


@pytest.mark.parametrize("target", ["http://[::1", "http://h:port/x"])
def test_a_redirect_to_nonsense_is_named(site: Site, get, target):
    site.redirect = target
    with pytest.raises(MissingModelError, match=r"cannot ask for .*redirects to, is not an addr"):
        get()


def test_https_is_not_left_by_a_redirect():
    request = download.urllib.request.Request("https://example.org/a")
    follow = download._Redirects().redirect_request
    with pytest.raises(ConfigError, match=r"org/a redirects to http://example\.org/b: refused"):
        follow(request, io.BytesIO(), 302, "Found", {}, "http://example.org/b")
    assert follow(request, io.BytesIO(), 302, "Found", {}, "https://example.org/b") is not None


def test_the_loopback_is_not_left_for_plain_http_that_nobody_vouches_for(site: Site, tmp_path):
    site.redirect = "http://h.invalid/x"
    with pytest.raises(ConfigError, match=r"redirects to http://h\.invalid/x: refused"):
        fetch(site.address, tmp_path / "file", Promise(), named_by_user=True)
    site.redirect = "/moved"
    assert fetch(site.address, tmp_path / "file", Promise(), named_by_user=True) == digest(BODY)


def test_the_opener_opens_nothing_but_http():
    assert not {"file", "ftp", "data"} & set(download._opener().handle_open)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:secret@h.org:8443/a/b.zip?sig=s3#f", "https://h.org:8443/a/b.zip"),
        ("https://h.org/a", "https://h.org/a"),
        ("dir/file.zip", "dir/file.zip"),
        ("https://user:secret@[::1/x?sig=s3", "https://[::1/x"),
        ("https://user:secret@h.org:99999/x", "https://h.org:99999/x"),
    ],
)
def test_what_may_be_secret_in_an_address_is_not_shown(address, shown):
    assert public_form(address) == shown


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1", "h:99999", "h:port"])
def test_a_login_in_an_address_is_refused_and_not_shown(tmp_path: Path, host):
    with pytest.raises(ConfigError, match=r"no user or password is sent|is not an address") as told:
        fetch(f"https://user:s3cr3t@{host}/x", tmp_path / "f", Promise(1, "00"), named_by_user=True)
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize("name", ["a b", "\u00e9"])
def test_a_query_is_not_shown_where_an_address_cannot_be_asked_for(site: Site, tmp_path, name):
    address = f"{site.address}/{name}?sig=s3cr3t"
    with pytest.raises(MissingModelError, match=r"written as %20") as told:
        fetch(address, tmp_path / "f", Promise(1, "00"), named_by_user=True)
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize("kept", [0, 100])
def test_a_copy_that_fails_leaves_nothing_to_go_on_from(
    site: Site, get, tmp_path: Path, monkeypatch, kept
):
    site.cut_after = 1000 if kept else 0
    with pytest.raises(MissingModelError, match=RESUMABLE):
        get()
    (tmp_path / "source").write_bytes(BODY[::-1])

    def broken(done: int, total: int | None) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(MissingModelError, match=r"cannot copy .*source"):
        fetch(str(tmp_path / "source"), tmp_path / "file", Promise(), named_by_user=True,
              progress=broken)  # fmt: skip
    assert left(tmp_path) == ["source"]
    site.cut_after = None
    assert get() == digest(BODY)


def test_a_full_disk_is_named_by_the_file_that_does_not_fit(site: Site, tmp_path, monkeypatch):
    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "source").write_bytes(BODY)
    monkeypatch.setattr(download.os, "fsync", no_room)
    for address in (site.address, str(tmp_path / "source")):
        with pytest.raises(MissingModelError, match=r"^cannot write .*file\.part: No space"):
            fetch(address, tmp_path / "file", Promise(), named_by_user=True)


def test_a_file_on_this_machine_is_copied_and_checked(tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(BODY)
    (target := tmp_path / "models").mkdir()
    promise = Promise(len(BODY), digest(BODY))
    assert fetch(str(source), target / "f", promise, named_by_user=True) == digest(BODY)
    assert (target / "f").read_bytes() == BODY
    source.write_bytes(BODY[::-1])
    with pytest.raises(ChecksumError, match=r"source gave a file whose SHA-256 is"):
        fetch(str(source), target / "g", promise, named_by_user=True)
    with pytest.raises(MissingModelError, match=r"cannot copy .*absent: "):
        fetch(str(tmp_path / "absent"), target / "g", promise, named_by_user=True)
    assert left(target) == ["f"]
