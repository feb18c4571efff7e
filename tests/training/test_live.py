"""Faces that are blurred and labelled while training goes on."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='it needs: pip install "blurgate[train]"')

from blurgate.errors import ConfigError  # noqa: E402
from blurgate.training import live  # noqa: E402
from blurgate.training.dataset import LiveData  # noqa: E402
from blurgate.training.live import LiveFeed  # noqa: E402
from blurgate.training.pairs import make_chain  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def feed_of():
    """Make a live feed of five faces."""
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (112, 112, 3), np.uint8) for _ in range(5)]

    def embed(pictures):
        return torch.nn.functional.normalize(pictures[:, :, ::8, ::8].flatten(1).float(), dim=1)

    def make(on_gpu=False, **options):
        data = LiveData(crops, make_chain("gaussian"), embed, seed=1)
        data.on_gpu = on_gpu
        return LiveFeed(data, data, {}, seed=1, **options)

    return make


def degrees(batches):
    return torch.cat([batch.degrees for batch in batches])


def test_a_live_feed_blurs_every_face_anew_in_each_epoch(feed_of):
    feed = feed_of(per_face=2, val_per_face=2)
    assert feed.steps(2) == 5
    first, again, second = (list(feed.train(epoch, 2)) for epoch in (0, 0, 1))
    assert len(first) == 5
    assert all(torch.equal(a.pictures, b.pictures) for a, b in zip(first, again, strict=True))
    assert not set(degrees(first).tolist()) & set(degrees(second).tolist())
    assert len(set(degrees(first).tolist())) == 10  # each face twice, each time otherwise
    assert [len(batch.degrees) for batch in feed.val(3)] == [3, 3, 3, 1]
    shown, repeated = (degrees(feed.val(batch)) for batch in (3, 4))
    assert torch.equal(shown, repeated)
    assert len(set(shown.tolist())) == 10


def test_pictures_that_come_again_are_the_same_in_another_order(feed_of):
    feed, anew = feed_of(per_face=2, fresh=2), feed_of(per_face=2)
    epochs = [list(feed.train(epoch, 3)) for epoch in range(5)]
    assert [len(epoch) for epoch in epochs] == [3] * 5  # of ten pictures one is left out
    for epoch in (0, 1):
        made = list(anew.train(epoch, 3))
        assert torch.equal(degrees(epochs[epoch]), degrees(made))
        held = feed._held[(epoch, 0, 1)]
        every = degrees(feed_of(per_face=2).train(epoch, 10))  # another batch, other last bits
        assert torch.allclose(every.sort().values, held.degrees.sort().values, atol=1e-4)
        for again in range(epoch + 2, 5, 2):
            assert not torch.equal(degrees(epochs[again]), degrees(epochs[epoch]))
            assert set(degrees(epochs[again]).tolist()) <= set(held.degrees.tolist())
            known = {float(d): p for p, d in zip(*held, strict=True)}
            for batch in epochs[again]:
                for picture, degree in zip(*batch, strict=True):
                    assert torch.equal(picture, known[float(degree)])
    # A run that was interrupted makes them again.
    resumed = feed_of(per_face=2, fresh=2)
    list(resumed.train(2, 3))
    assert torch.equal(degrees(resumed.train(4, 3)), degrees(epochs[4]))


def test_processes_hold_their_own_share(feed_of):
    feed = feed_of(per_face=2, fresh=1)
    shares = [
        [set(degrees(feed.train(epoch, 5, rank=rank, world=2)).tolist()) for epoch in (0, 1)]
        for rank in (0, 1)
    ]
    assert shares[0][0] == shares[0][1]
    assert not shares[0][0] & shares[1][0]
    assert len(shares[0][0] | shares[1][0]) == 10


@pytest.mark.parametrize("fresh", [0, 1])
def test_clean_faces_stand_in_for_a_share_of_every_batch(feed_of, fresh):
    plain, feed = feed_of(per_face=2, fresh=fresh), feed_of(per_face=2, fresh=fresh, clean=0.4)
    twins = torch.from_numpy(feed._train.clean_pictures(range(5))).permute(0, 3, 1, 2)
    for epoch in (0, 1):
        number = np.random.default_rng([1, epoch]).permutation(10)  # as the feed orders them
        pairs = zip(feed.train(epoch, 5), plain.train(epoch, 5), strict=True)
        for at, (batch, was) in enumerate(pairs):
            assert batch.degrees[:2].tolist() == [0, 0]
            assert torch.equal(batch.degrees[2:], was.degrees[2:])
            assert torch.equal(batch.pictures[2:], was.pictures[2:])
            assert torch.equal(batch.pictures[:2], twins[number[5 * at : 5 * at + 2] % 5])
    assert torch.equal(degrees(feed.val(5)), degrees(plain.val(5)))
    assert feed._train.clean_pictures([]).shape == (0, 112, 112, 3)


def test_a_gpu_makes_the_pictures_of_many_batches_at_once(feed_of, monkeypatch):
    plain = list(feed_of(per_face=4).train(0, 3))
    monkeypatch.setattr(live, "_MADE", 7)  # two batches at once
    feed, asked = feed_of(on_gpu=True, per_face=4), []
    batch = feed._train.batch
    monkeypatch.setattr(feed._train, "batch", lambda *given: asked.append(given) or batch(*given))
    together = list(feed.train(0, 3))
    assert [len(faces) for faces, _ in asked] == [6, 6, 6]
    for one, other in zip(plain, together, strict=True):
        torch.testing.assert_close(one.degrees, other.degrees, atol=1e-4, rtol=0)


def test_pictures_without_room_are_refused(feed_of, monkeypatch):
    feed = feed_of(fresh=3)
    empty = torch.empty

    def full(shape, *args, **options):
        if options.get("dtype") is torch.uint8 and shape[0] == 5:
            raise torch.OutOfMemoryError("no memory")
        return empty(shape, *args, **options)

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(ConfigError, match="no memory for 5 more pictures on cpu: lower fresh"):
        list(feed.train(0, 2))
