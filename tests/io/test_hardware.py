"""Decoding on a GPU: what is asked of PyAV, and what happens where there is none.

Only PyAV's list of devices and its `open` are replaced; no GPU takes part.
"""

from __future__ import annotations

import logging

import av
import numpy as np
import pytest
from av.codec import hwaccel

from blurgate.io import sources, video
from blurgate.io.video import read_video
from blurgate.runtime import video_decoder
from blurgate.types import Frame, SourceEnd


@pytest.fixture(autouse=True)
def cuda_listed(monkeypatch):
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["vaapi", "cuda"])


def shown(path, device):
    *frames, end = read_video(str(path), device=device)
    assert isinstance(end, SourceEnd)
    assert (end.status, end.frames) == ("ok", 30)
    return [frame.image for frame in frames if isinstance(frame, Frame)]


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_only_a_gpu_that_is_named_decodes(device):
    assert video_decoder(device) is None


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_the_gpu_that_is_named_decodes(monkeypatch, device, number):
    asked = []
    monkeypatch.setattr(hwaccel, "HWAccel", lambda *args, **more: asked.append((args, more)))
    video_decoder(device)
    assert asked == [(("cuda",), {"device": str(number), "allow_software_fallback": True})]


def test_pyav_takes_these_settings():
    assert isinstance(video_decoder("cuda:1"), hwaccel.HWAccel)


def test_without_cuda_in_pyav_the_processor_decodes(monkeypatch, caplog):
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["vaapi"])
    assert video_decoder("cuda") is None
    assert "this PyAV was built without CUDA" in caplog.text


def test_a_gpu_that_cannot_be_opened_is_told_and_done_without(tmp_path, media, monkeypatch, caplog):
    path = media.counting(tmp_path / "a.mp4")
    wanted = shown(path, "cpu")
    really, tried = av.open, []

    def without_gpu(*args, **more):
        tried.append(more["hwaccel"] is not None)
        if tried[-1]:
            raise PermissionError(1, "Operation not permitted")
        return really(*args, **more)

    monkeypatch.setattr(av, "open", without_gpu)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(shown(path, "cuda"), wanted)
    assert tried == [True, False]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{path} is decoded on the processor: Operation not permitted"


def test_a_format_that_the_gpu_does_not_know_is_told(tmp_path, media, monkeypatch, caplog):
    path = media.counting(tmp_path / "a.mkv", codec="ffv1")
    really = av.open
    monkeypatch.setattr(
        av, "open", lambda *args, hwaccel=None, **more: really(*args, **more)
    )  # PyAV, too, opens such a stream without the GPU
    assert len(shown(path, "cuda")) == 30
    assert "is decoded on the processor: its format is not one of the GPU's" in caplog.text


def test_what_no_decoder_reads_is_the_files_fault(tmp_path, caplog):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"not a video" * 100)
    (end,) = read_video(str(path), device="cuda")
    assert isinstance(end, SourceEnd)
    assert end.status == "failed"
    assert "cannot be read as a video" in end.error
    assert not caplog.records


def test_the_device_reaches_the_decoder(tmp_path, media, monkeypatch):
    asked = []
    monkeypatch.setattr(video, "video_decoder", lambda device: asked.append(device))
    path = media.counting(tmp_path / "a.mp4", 3)
    found = sources.expand([str(path)])
    items = list(sources.read_sources(found, every=1, workers=1, device="cuda:2"))
    assert len(items) == 4
    assert asked == ["cuda:2"]
