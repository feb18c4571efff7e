"""Live sources: streams on the loopback that stall, break and come back."""

from __future__ import annotations

import functools
import http.server
import io
import itertools
import logging
import socket
import threading
import time
from contextlib import contextmanager

import av
import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError
from blurgate.io import live
from blurgate.io.address import masked
from blurgate.io.live import LiveOptions, read_live
from blurgate.io.sources import Source, expand, read_sources
from blurgate.types import Frame, SourceEnd

WAITING_FRAMES = live._WAITING_FRAMES


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.05)
    # These streams come in a burst: a machine that is busy elsewhere would drop some of it.
    monkeypatch.setattr(live, "_WAITING_FRAMES", 1000)


@pytest.fixture(scope="module")
def stream_bytes(media):
    """Encode `count` frames, of luma `media.luma_of(first + i)`, as a stream of a format."""

    def make(count, *, first=0, file_format="matroska"):
        target = io.BytesIO()
        # Without a duration in its head, or it would be a recording.
        options = {"live": "1"} if file_format == "matroska" else {}
        container = av.open(target, "w", format=file_format, options=options)
        stream = container.add_stream("libx264", rate=25, options={"g": "5", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(count):
            frame = media.grey_frame(media.luma_of(first + i))
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        container.close()
        return target.getvalue()

    return make


@contextmanager
def tcp_server(*scripts):
    """Serve one connection per script, a list of bytes (to send) and seconds (to wait).

    Yields the port. When the scripts are used up, connections are refused.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def play(connection, script):
        with connection:
            try:
                for step in script:
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    else:
                        stop.wait(step)
            except OSError:
                pass  # the client had enough

    def serve():
        players = []
        for script in scripts:
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            players.append(threading.Thread(target=play, args=(connection, script), daemon=True))
            players[-1].start()
        listener.close()
        for player in players:
            player.join()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        # Closing a listener does not wake its accept everywhere; a connection does.
        with socket.socket() as waker:
            waker.connect_ex(listener.getsockname() if listener.fileno() >= 0 else ("127.0.0.1", 9))
        listener.close()
        thread.join(5)
        assert not thread.is_alive()


def read(address, **options):
    *frames, end = read_live(address, options=LiveOptions(**options))
    assert isinstance(end, SourceEnd)
    return frames, end


@pytest.mark.parametrize("file_format", ["matroska", "mpegts"])
def test_a_stream_that_breaks_and_comes_back(media, stream_bytes, caplog, file_format):
    parts = [stream_bytes(8, first=first, file_format=file_format) for first in (0, 8)]
    with tcp_server(*([part] for part in parts)) as port, caplog.at_level(logging.ERROR):
        frames, end = read(f"tcp://127.0.0.1:{port}", reconnects=2, timeout_s=3)
    assert [media.index_of(frame.image) for frame in frames] == list(range(16))
    assert [frame.index for frame in frames] == list(range(16))
    times = [frame.pts_s for frame in frames]
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert all(step == pytest.approx(0.04, abs=0.002) for i, step in enumerate(steps) if i != 7)
    assert 0 < steps[7] < 5  # what the clock on the wall said
    assert (end.frames, end.reconnects, end.frames_dropped) == (16, 1, 0)
    assert end.status == "partial"  # nobody was there any more
    assert "gave up after 2 attempts" in end.error
    assert "back after frame 7" in caplog.text
    assert "connecting again in 0.05 s (attempt 1 of 2)" in caplog.text


def test_a_stream_that_falls_silent_is_lost_and_found(media, stream_bytes):
    scripts = ([stream_bytes(20), 30.0], [stream_bytes(20, first=20)])
    started = time.monotonic()
    with tcp_server(*scripts) as port:
        frames, end = read(f"tcp://127.0.0.1:{port}", reconnects=1, timeout_s=0.5)
        assert time.monotonic() - started < 10
    # A frame waits in the demuxer until it knows how long the one before lasts.
    assert [media.index_of(frame.image) for frame in frames][-20:] == list(range(20, 40))
    assert 38 <= end.frames <= 40
    assert [frame.index for frame in frames] == list(range(end.frames))
    assert (end.status, end.reconnects) == ("partial", 1)


def test_a_stream_that_is_lost_again_is_told_by_the_frames_of_all_connections(stream_bytes, caplog):
    scripts = ([stream_bytes(20), 30.0], [stream_bytes(20, first=20), 30.0])
    with tcp_server(*scripts) as port, caplog.at_level(logging.ERROR):
        _, end = read(f"tcp://127.0.0.1:{port}", reconnects=1, timeout_s=0.5)
    assert 38 <= end.frames <= 40
    lost, back, again = [record.getMessage() for record in caplog.records]
    assert "reading broke off after frame " in lost
    number = int(back.rpartition(" ")[2])  # "back after frame 19"
    assert f"after frame {number} (" in lost
    assert 18 <= number <= 19
    assert f"reading broke off after frame {end.frames - 1}: nothing came for" in again


def test_a_silent_stream_without_a_second_attempt(stream_bytes):
    with tcp_server([stream_bytes(20), 30.0]) as port:
        _, end = read(f"tcp://127.0.0.1:{port}", reconnects=0, timeout_s=0.5)
    assert (end.status, end.reconnects) == ("partial", 0)
    assert "nothing came for 0.5 seconds" in end.error


@pytest.mark.parametrize("scheme", ["tcp", "http", "https", "rtsp", "rtsps"])
def test_who_takes_the_connection_and_says_nothing(scheme):
    with tcp_server([30.0]) as port:
        address = f"{scheme}://127.0.0.1:{port}/1"
        frames, end = read(address, reconnects=0, timeout_s=0.5)
    assert (frames, end.status) == ([], "failed")
    assert end.error == f"{address} cannot be read as a video: nothing came for 0.5 seconds"


def test_the_time_is_up_whatever_the_stream_does(stream_bytes):
    with tcp_server([stream_bytes(40), 30.0]) as port:
        started = time.monotonic()
        frames, end = read(f"tcp://127.0.0.1:{port}", duration_s=2.0, timeout_s=60)
        took = time.monotonic() - started
    assert 2.0 <= took < 20.0
    assert (end.status, end.error) == ("ok", "")
    assert len(frames) == end.frames - end.frames_dropped
    assert end.frames >= 38


@pytest.fixture
def noise(media, tmp_path):
    """Forty frames as a transport stream, whole and with parts of frames 6 and 22 missing."""
    levels = np.random.default_rng(0).integers(16, 235, (96, 128), dtype=np.uint8)
    chroma = np.full((48, 64), 128, np.uint8)
    planes = ([np.roll(levels, i, 1), chroma, chroma] for i in range(40))
    frames = (media.yuv_frame(one, "yuv420p") for one in planes)
    path = media.encode(tmp_path / "a.ts", frames, options={"bf": "0", "g": "6"})
    whole = path.read_bytes()
    damaged = bytearray(whole)
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    for start in (starts[6], starts[22]):
        middle = start + 188 * 20  # of the packets that hold the frame
        damaged[middle + 4 : middle + 188] = bytes(184)
    return {"whole": whole, "damaged": bytes(damaged)}


@pytest.mark.parametrize(
    ("sent", "duration_s", "frames", "first"),
    [
        (["damaged"], 2.0, (35, 40), "frame 6 (0.24 s)"),
        (["damaged", "whole"], 3.0, (75, 80), "frame 6 (0.24 s)"),
        (["whole", "damaged"], 3.0, (75, 80), "frame 46"),  # of the frames of all connections
    ],
)
def test_damage_in_any_connection_is_told(noise, sent, duration_s, frames, first):
    streams = [[noise[name]] for name in sent]
    streams[-1].append(30.0)
    with tcp_server(*streams) as port:
        address = f"tcp://127.0.0.1:{port}"
        given, end = read(address, duration_s=duration_s, timeout_s=60)
    assert frames[0] <= end.frames <= frames[1]
    assert [frame.index for frame in given] == list(range(end.frames))
    assert (end.status, end.frames_failed, end.reconnects) == ("partial", 0, len(sent) - 1)
    told = f"2 of {end.frames} frames are damaged, the first is {first}"
    assert end.error == f"{address}: {told}"


def test_as_many_attempts_as_asked_for_each_after_twice_the_wait(caplog):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with caplog.at_level(logging.ERROR):
        _, end = read(f"tcp://127.0.0.1:{port}", reconnects=3)
    lines = [record.getMessage() for record in caplog.records]
    expected = [f"connecting again in {0.05 * 2**i:g} s (attempt {i + 1} of 3)" for i in range(3)]
    assert [line.rpartition("; ")[2] for line in lines] == expected
    assert end.error.endswith("gave up after 3 attempts")


def test_nothing_ever_came(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    frames, end = read(f"tcp://me:hunter2@127.0.0.1:{port}", reconnects=1)
    assert (frames, end.status, end.frames) == ([], "failed", 0)
    assert "gave up after 1 attempts" in end.error
    assert end.source == f"tcp://***@127.0.0.1:{port}"
    assert "hunter2" not in repr(end)
    monkeypatch.setattr(live, "FIRST_WAIT_S", 60)
    frames, end = read(f"tcp://127.0.0.1:{port}", duration_s=0.3)
    assert (frames, end.status) == ([], "failed")
    assert "nothing came in the time it was given" in end.error


def test_who_is_slow_gets_the_newest(media, monkeypatch, stream_bytes):
    monkeypatch.setattr(live, "_WAITING_FRAMES", WAITING_FRAMES)
    ends = []
    with tcp_server([stream_bytes(40)]) as port:
        reading = read_live(
            f"tcp://127.0.0.1:{port}", options=LiveOptions(reconnects=0), on_start=ends.append
        )
        got = []
        for item in reading:
            got.append(item)
            if len(got) == 1:
                until = time.monotonic() + 20
                while ends[0]().frames < 40 and time.monotonic() < until:
                    time.sleep(0.05)
                time.sleep(0.5)  # the last one is counted a little before it waits
        end = got.pop()
    assert end.frames == 40
    assert end.frames_dropped == 40 - len(got)
    assert 1 < len(got) <= 2 + WAITING_FRAMES
    indices = [frame.index for frame in got]
    assert indices == [indices[0], *range(41 - len(got), 40)]
    assert [media.index_of(frame.image) for frame in got] == indices


def test_what_waits_when_the_time_is_up_counts_as_dropped(stream_bytes):
    options = LiveOptions(duration_s=3.0)
    with tcp_server([stream_bytes(40), 30.0]) as port:
        got = []
        for item in read_live(f"tcp://127.0.0.1:{port}", options=options):
            got.append(item)
            if len(got) == 1:
                time.sleep(3.0)  # looks at the first frame for so long
        end = got.pop()
    assert (end.status, len(got)) == ("ok", 1)
    assert end.frames > 30
    assert end.frames_dropped == end.frames - 1


def test_every_counts_over_connections(stream_bytes):
    with tcp_server([stream_bytes(5)], [stream_bytes(5)]) as port:
        *frames, end = read_live(
            f"tcp://127.0.0.1:{port}", every=3, options=LiveOptions(reconnects=1)
        )
    assert [frame.index for frame in frames] == [0, 3, 6, 9]
    assert (end.frames, end.frames_dropped) == (10, 0)


def test_pictures_without_times_get_those_of_the_clock(media):
    picture = cv2.imencode(".jpg", np.full((96, 128, 3), media.luma_of(1), np.uint8))[1].tobytes()
    part = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
    script = [part + picture + b"\r\n", 0.25] * 12
    with tcp_server(script) as port:
        began = time.monotonic()
        frames, end = read(f"tcp://127.0.0.1:{port}", reconnects=0, timeout_s=5)
        took = time.monotonic() - began
    assert end.frames >= 10
    times = [frame.pts_s for frame in frames]
    # Not 25 a second. The first few come in a burst: FFmpeg looks at them before it gives any.
    assert times == sorted(set(times))
    assert 1 < times[-1] < took


def test_a_recording_is_waited_for(tmp_path, media):
    media.counting(tmp_path / "a.mp4", 30)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        got = []
        for item in read_live(f"http://127.0.0.1:{server.server_port}/a.mp4"):
            got.append(item)
            if len(got) == 1:
                time.sleep(0.5)
        server.shutdown()
    *frames, end = got
    assert [media.index_of(frame.image) for frame in frames] == list(range(30))
    assert [frame.pts_s for frame in frames] == pytest.approx([i / 25 for i in range(30)])
    assert (end.status, end.frames, end.frames_dropped, end.reconnects) == ("ok", 30, 0, 0)


def test_a_playlist_that_is_closed_is_not_read_again(media, stream_bytes, caplog):
    """Read like a file, as it is by then, it would give every frame twice."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXTINF:0.8,", "a.ts", ""]
    answers = {
        "/a.ts": stream_bytes(20, file_format="mpegts"),
        "/a.m3u8": "\n".join(lines).encode(),
    }

    class Camera(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = answers[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            if self.path == "/a.ts":
                answers["/a.m3u8"] = "\n".join([*lines, "#EXT-X-ENDLIST"]).encode()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = LiveOptions(reconnects=2, timeout_s=3)
        *frames, end = read_live(f"http://127.0.0.1:{server.server_port}/a.m3u8", options=options)
        server.shutdown()
    assert [media.index_of(frame.image) for frame in frames] == list(range(20))
    assert (end.status, end.frames, end.reconnects) == ("ok", 20, 0)
    assert "the stream is over" in caplog.text


def test_udp(stream_bytes, media):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = stream_bytes(200, file_format="mpegts")
    done = threading.Event()

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not done.is_set():
                for start in range(0, len(data), 1316):
                    sender.sendto(data[start : start + 1316], ("127.0.0.1", port))
                    if done.wait(0.002):
                        return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        frames, end = read(f"udp://127.0.0.1:{port}", duration_s=2.5)
    finally:
        done.set()
        thread.join()
    assert end.status == "ok"
    assert len(frames) > 5
    times = [frame.pts_s for frame in frames]
    assert times == sorted(times)


def test_options_are_checked():
    with pytest.raises(ConfigError, match="duration must be a time in seconds, got 0"):
        LiveOptions(duration_s=0)
    with pytest.raises(ConfigError, match="reconnects must be at least 0, got -1"):
        LiveOptions(reconnects=-1)
    with pytest.raises(ConfigError, match="timeout must be a time in seconds, got -1"):
        LiveOptions(timeout_s=-1)
    with pytest.raises(ConfigError, match="every must be at least 1"):
        next(read_live("tcp://127.0.0.1:1", every=0))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://door/1", "rtsp://door/1"),
        ("rtsp://u:p@door:554/1", "rtsp://***@door:554/1"),
        ("rtsp://u:p@ss/w@rd@door/1", "rtsp://***@door/1"),
        ("rtsp://u:pass?w@door/1?token=x", "rtsp://***@door/1?token=***"),
        ("rtsp://u:12?w@door/1", "rtsp://***@door/1"),
        ("rtsp://u:p/s?w@door/1", "rtsp://***@door/1"),
        ("http://[::1]:80/s?mail=me@home", "http://[::1]:80/s?mail=me@home"),
        ("http://c/s?user=me&pwd=p%40&fps=5", "http://c/s?user=***&pwd=***&fps=5"),
        (
            "rtsp://c/user=admin_password=x9_channel=1_stream=0.sdp",
            "rtsp://c/user=***_password=***_channel=1_stream=0.sdp",
        ),
        ("0", "0"),
        ("a@b.mp4", "a@b.mp4"),
    ],
)
def test_what_must_not_be_shown(address, shown):
    assert masked(address) == shown
    assert masked(shown) == shown


def test_a_source_carries_its_secret_where_it_is_not_shown(stream_bytes):
    with tcp_server([stream_bytes(3)]) as port:
        (source,) = expand([f"tcp://me:hunter2@127.0.0.1:{port}"])
        assert source == Source(f"tcp://***@127.0.0.1:{port}", "live")
        assert "hunter2" not in repr(source)
        *frames, end = read_sources([source], every=1, workers=1, live=LiveOptions(reconnects=0))
    assert [frame.source for frame in frames] == [source.name] * 3
    assert end.source == source.name


def test_streams_of_one_name_are_told_apart(stream_bytes):
    with tcp_server(*[[stream_bytes(3)]] * 3) as port:
        root = f"tcp://127.0.0.1:{port}"
        given = [f"{root}/key=a", f"{root}/key=b", f"{root}/key=a"]
        found = list(expand(given))
        names = [f"{root}/key=***", f"{root}/key=***#2", f"{root}/key=***#3"]
        assert [source.name for source in found] == names
        assert [source.address for source in found] == given
        items = list(read_sources(found, every=1, workers=1, live=LiveOptions(reconnects=0)))
    ends = [item for item in items if isinstance(item, SourceEnd)]
    assert [(end.source, end.frames) for end in ends] == [(name, 3) for name in names]
    assert [item.source for item in items if isinstance(item, Frame)] == sorted(names * 3)
    again = [f"{root}/1#2", f"{root}/1", f"{root}/1", "0", "0"]
    wanted = [f"{root}/1#2", f"{root}/1", f"{root}/1#3", "0", "0#2"]
    assert [source.name for source in expand(again)] == wanted
