"""Compare tracks with people that were labelled by hand.

    python scripts/check_tracks.py ../shared/data/video --detector scrfd_500m_bnkps.onnx

tests/data/track_labels.json says, for some frames of each clip, where which person's face is:
[frame, x, y, person]. The people were told apart by looking at the frames. Between two labels of a
person that are at most 30 frames apart the place is interpolated. A detected face belongs to the
label that is nearest, if that is within half a face; faces without a label (people far back) are
left out.

Printed per clip, for `--every` 1 and more, and for all clips joined by hard cuts: the number of
people and tracks; identity switches (a person's track is not the one it had when last seen; coming
back after more than a second out of sight is counted apart, since no track is meant to survive
that); mergers (tracks that hold more than one person); IDF1 (Ristani et al. 2016), which matches
people and tracks one to one over everything.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from blurgate.assignment import pair_up
from blurgate.gate import Gate
from blurgate.io.sources import Source, read_sources
from blurgate.tracking import GAP_S, Tracker
from blurgate.types import Detections, Frame, SourceEnd

LABELS = Path(__file__).parent.parent / "tests" / "data" / "track_labels.json"
LONGEST_STEP = 30

Sighting = tuple[float, int, int]
"""Time in seconds, person, track."""


def place_of(labels: list[list[int]], frame: int) -> dict[int, tuple[float, float]]:
    """Say where the labelled people are in a frame."""
    places = {}
    for person in {label[3] for label in labels}:
        own = sorted(label for label in labels if label[3] == person)
        for label in own:
            if label[0] == frame:
                places[person] = (float(label[1]), float(label[2]))
        for a, b in itertools.pairwise(own):
            if a[0] < frame < b[0] and b[0] - a[0] <= LONGEST_STEP:
                share = (frame - a[0]) / (b[0] - a[0])
                places[person] = (a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2]))
    return places


def who_is_who(
    boxes: np.ndarray, places: dict[int, tuple[float, float]]
) -> Iterator[tuple[int, int]]:
    """Match faces with labelled people: (face, person), one to one."""
    people = sorted(places)
    if not people or not len(boxes):
        return
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    sizes = (boxes[:, 2:] - boxes[:, :2]).mean(1)
    at = np.array([places[person] for person in people])
    apart = np.linalg.norm(middles[:, None] - at[None], axis=-1) / sizes[:, None]
    for face, column in pair_up(0.5 - apart):
        yield face, people[column]


def follow(
    frames: Iterable[tuple[Detections, dict[int, tuple[float, float]]]],
) -> tuple[list[Sighting], int]:
    """Track, and list who was seen as which track; with the number of all tracks."""
    tracker = Tracker()
    seen: list[Sighting] = []
    numbers: set[int] = set()
    for detections, places in frames:
        ids = tracker.update(detections).ids
        numbers.update(ids)
        at_s = detections.frame.pts_s
        assert at_s is not None
        seen += [(at_s, person, ids[face]) for face, person in who_is_who(detections.boxes, places)]
    return seen, len(numbers)


def figures(seen: list[Sighting]) -> dict[str, float]:
    """Count switches and mergers, and compute IDF1."""
    last: dict[int, tuple[float, int]] = {}
    owners: dict[int, set[int]] = {}
    switches = returns = 0
    for at_s, person, number in seen:
        if person in last and last[person][1] != number:
            away = at_s - last[person][0] > GAP_S
            returns += away
            switches += not away
        last[person] = at_s, number
        owners.setdefault(number, set()).add(person)
    people, numbers = sorted(last), sorted(owners)
    together = np.zeros((len(people), len(numbers)))
    for _, person, number in seen:
        together[people.index(person), numbers.index(number)] += 1
    right = sum(together[pair] for pair in pair_up(together))
    return {
        "faces": len(seen),
        "people": len(people),
        "tracks": len(numbers),
        "switches": switches,
        "returns": returns,
        "mergers": sum(len(who) > 1 for who in owners.values()),
        "IDF1": float(right / len(seen)) if seen else float("nan"),
    }


def detected(video: Path, detector: str) -> list[Detections]:
    """Find the faces of a clip; pictures are kept small."""
    gate = Gate(threshold=1.0, detector=detector, scorer="laplacian")
    found = []
    for item in read_sources([Source(str(video), "video")], every=1, workers=1):
        if not isinstance(item, SourceEnd):
            (detections,) = gate.detector([item])
            step = max(1, min(item.size) // 144)
            small = np.ascontiguousarray(item.image[::step, ::step])
            found.append(replace(detections, frame=replace(item, pixels=small)))
    return found


def joined(
    clips: dict[str, list[Detections]], labels: dict[str, list[list[int]]]
) -> Iterator[tuple[Detections, dict[int, tuple[float, float]]]]:
    """Put clips one behind the other, with a hard cut between; nobody is in two of them."""
    index, start_s = 0, 0.0
    for number, (name, found) in enumerate(clips.items()):
        for detections in found:
            old = detections.frame
            at_s = start_s + (old.pts_s or 0.0)
            frame = Frame(old.pixels, "joined", index, at_s)
            places = place_of(labels[name], old.index)
            yield (
                replace(detections, frame=frame),
                {100 * number + person: place for person, place in places.items()},
            )
            index += 1
        start_s = at_s + 0.04


def check(folder: Path, detector: str, names: Iterable[str] = ()) -> dict[str, dict[str, float]]:
    """Compute all figures, by name of clip or "joined", and by every how many frames."""
    labels = json.loads(LABELS.read_text())
    names = list(names) or list(labels)
    clips = {name: detected(folder / name, detector) for name in names}
    results = {}
    for every in (1, 3, 6):
        for name, found in clips.items():
            frames = ((d, place_of(labels[name], d.frame.index)) for d in found[::every])
            seen, _ = follow(frames)
            results[f"{name} every {every}"] = figures(seen)
        some = {name: found[::every] for name, found in clips.items()}
        results[f"joined every {every}"] = figures(follow(joined(some, labels))[0])
    return results


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds the clips")
    parser.add_argument("--detector", required=True)
    arguments = parser.parse_args()
    results = check(arguments.folder, arguments.detector)
    print(f"{'':52}" + "".join(f"{key:>9}" for key in next(iter(results.values()))))
    for name, row in results.items():
        print(f"{name:52}" + "".join(f"{value:9.4g}" for value in row.values()))


if __name__ == "__main__":
    main()
