"""Against a local S3-compatible server (moto), through s3fs."""

from __future__ import annotations

import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed")
server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
# The libraries' own remarks are none of ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def bucket(marker, tmp_path, monkeypatch):
    """An empty bucket; the current folder holds the pictures."""
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server.ThreadedMotoServer(port=port, verbose=False)
    running.start()
    for key, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "BLURGATE_WORK_DIR": str(tmp_path / "work"),
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    files.mkdir("faces")
    for i in range(6):
        image = np.full((160, 320, 3), 60, np.uint8)
        for face in range(i % 3):
            marker.draw(image, 10 + 150 * face, 20, 120, sharp=i % 2 == 0, seed=i)
        assert cv2.imwrite(f"{i}.png", image)
        files.put_file(f"{i}.png", f"faces/in/{i}.png")
    yield files
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def test_score_filter_and_merge_in_a_bucket(run, bucket, tmp_path):
    models = ["--detector", "marker", "--model", "laplacian", "--quiet"]
    assert run("score", "s3://faces/in", "--csv", "here.csv", *models).code == 0
    here = (tmp_path / "here.csv").read_bytes()
    assert here.count(b"s3://faces/in/") == 8
    listed = run("score", "s3://faces/in/[0-9].png", "--csv", "-", *models)
    assert listed.out.encode() == here
    for i in (1, 2, 3):
        part = f"s3://faces/out/p{i}.csv"
        ran = run("score", "s3://faces/in", "--csv", part, "--shard", f"{i}/3", *models)
        assert ran.code == 0, ran.err
    ran = run("merge", "s3://faces/out/p*", "--out", "s3://faces/all.csv")
    assert ran.code == 0, ran.err
    assert bucket.cat_file("faces/all.csv") == here
    sample = Path(__file__).parents[2] / "examples/sample.mp4"
    bucket.put_file(str(sample), "faces/clip.mp4")
    ran = run("filter", "s3://faces/clip.mp4", "s3://faces/in", "--out", "s3://faces/f", *models)
    assert ran.code == 0, ran.err
    found = {name.removeprefix("faces/f/") for name in bucket.find("faces/f")}
    assert {"faces.csv", "journal.jsonl", "summary.json"} < found
    missing = run("score", "s3://faces/none.png", *models)
    assert (missing.code, "s3://faces/none.png cannot be read" in missing.err) == (3, True)
    ran = run("score", "s3://nobucket/none/", *models)
    assert (ran.code, "s3://nobucket/none" in ran.err) == (3, True)
