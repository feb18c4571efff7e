"""`run_synth`: the files, that every label belongs to its picture, and what interrupts a run."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError, UnknownNameError
from blurgate.locking import LOCK, locked
from blurgate.training import even, layout, synth
from blurgate.training.faces import FaceReader, list_faces
from blurgate.training.labels import Labeller
from blurgate.training.making import Recipe
from blurgate.training.pairs import apply_sizes, make_chain
from blurgate.training.streams import Streams
from blurgate.training.synth import run_synth

HEADER = "file,clean_file,identity,split,method,parameters,seed,index,label,embedder"
SIDES = (112, 130, 96, 160, 112, 200)


@pytest.fixture(scope="module")
def photos(tiny, tmp_path_factory):
    """26 crops of several sizes in folders with equal names; four files are no faces."""
    root = tmp_path_factory.mktemp("faces")
    for person in range(13):
        (root / f"p{person:02d}").mkdir()
        for i in range(2):
            crop = tiny.draw(SIDES[(2 * person + i) % len(SIDES)], 10 * person + i)
            cv2.imwrite(str(root / f"p{person:02d}" / f"{i}.png"), crop)
    (root / "p01" / "a_text.jpg").write_bytes(b"this is no picture")
    (root / "p03" / "empty.png").write_bytes(b"")
    cv2.imwrite(str(root / "p05" / "wide.png"), np.zeros((112, 200, 3), np.uint8))
    cv2.imwrite(str(root / "p12" / "z_dot.png"), np.zeros((20, 20, 3), np.uint8))
    return root


@pytest.fixture(scope="module")
def make(tiny, photos):
    def run(folder, *methods, where=photos, val=0.0, workers=1, batch=None, **recipe):
        options = {k: recipe.pop(k) for k in ("resume", "overwrite", "device") if k in recipe}
        run.embedder = tiny.TinyEmbedder()
        run.failures = []
        return run_synth(
            list_faces([str(where)], val=val, seed=recipe.get("seed", 0)),
            Recipe(methods or ("linear",), **recipe),
            folder,
            reader=FaceReader(160),
            labeller=Labeller(run.embedder),
            workers=workers,
            batch=batch,
            on_failure=lambda source, error: run.failures.append((Path(source).name, error)),
            **options,
        )

    return run


@pytest.fixture(scope="module", autouse=True)
def few_tracks():
    """Calibrate on less than is good for the labels, so that the tests are fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(even, "TRACKS", (3, 3))
        yield


QUICK = {"noise": False, "compression": False}
RECIPE = {"per_image": 2, "even": True, "batch": 4, **QUICK}


@pytest.fixture(scope="module")
def whole(make, few_tracks, tmp_path_factory):
    """The files of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "o"
    make(folder, "linear", "lowres", **RECIPE)
    return files(folder)


def table(folder, method):
    text = (folder / f"label_{method}/label/data_label.csv").read_text()
    assert text.splitlines()[0] == HEADER
    return list(csv.DictReader(text.splitlines()))


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_labels(tiny, folder, method, *, tolerance=2e-6):
    """Recompute every label of a table from the two files that its row names."""
    rows = table(folder, method)
    for row in rows:
        clean, blurred = (
            tiny.embed_one(cv2.imread(str(folder / row[key]))) for key in ("clean_file", "file")
        )
        wanted = 1 - float(clean.astype(float) @ blurred.astype(float))
        assert abs(float(row["label"]) - min(max(wanted, 0), 1)) <= tolerance, row
    return rows


# --- the files -------------------------------------------------------------------------------


def test_the_tree(make, tiny, photos, tmp_path):
    counts = make(tmp_path / "o", "linear", "lowres", per_image=3, seed=5, val=0.3)
    assert (counts.total, counts.done, counts.rows, counts.dropped) == (30, 30, 2 * 26 * 3, 0)
    assert counts.skipped == {"unreadable": 2, "not_square": 1, "no_face": 0, "too_small": 1}
    assert sorted(name for name, _ in make.failures) == [
        "a_text.jpg", "empty.png", "wide.png", "z_dot.png",
    ]  # fmt: skip
    found = files(tmp_path / "o")
    assert {name.split("/")[0] for name in found} == {
        "clean", "blur_linear", "blur_lowres", "label_linear", "label_lowres", "dataset.json",
    }  # fmt: skip
    for method in ("linear", "lowres"):
        rows = check_labels(tiny, tmp_path / "o", method)
        names = [row["file"] for row in rows]
        assert sorted(names) == sorted(n for n in found if n.startswith(f"blur_{method}/"))
        assert {row["clean_file"] for row in rows} == {n for n in found if n.startswith("clean/")}
        assert all(
            Path(row["file"]).stem == f"{Path(row['clean_file']).stem}_{i % 3}"
            for i, row in enumerate(rows)
        )
        # In the order of the paths, which are the identities' here.
        assert [row["identity"] for row in rows] == sorted(row["identity"] for row in rows)
        assert len({row["identity"] for row in rows}) == 13
        assert {row["seed"] for row in rows} == {"5"}
        assert {row["embedder"] for row in rows} == {"tiny"}
        assert {row["method"] for row in rows} == {method}
        parts = {(row["identity"], row["split"]) for row in rows}
        assert len(parts) == 13
        assert sum(part == "val" for _, part in parts) == 4
    index = [int(r["index"]) for m in ("linear", "lowres") for r in table(tmp_path / "o", m)]
    assert len(set(index)) == len(index)
    facts = json.loads(found["dataset.json"])
    assert facts["rows"] == 156
    assert facts["seed"] == 5
    assert facts["methods"]["linear"] == {"max_length": 100.0, "angle": None, "draw": "uniform"}
    assert facts["embedder"] == {"name": "tiny", "sha256": ""}
    assert facts["split"] == {"identities": 13, "identities_val": 4, "pictures_val": 9}
    assert [Path(lost["file"]).name for lost in facts["skipped"]] == [n for n, _ in make.failures]


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_label_belongs_to_its_picture(make, tiny, tmp_path, batch, workers):
    make(tmp_path / "o", "random", per_image=2, batch=batch, workers=workers)
    rows = check_labels(tiny, tmp_path / "o", "random")
    assert len(rows) == 52
    # A label would fit no other row: no two are alike, and clean twins differ by far.
    values = sorted(float(row["label"]) for row in rows)
    assert np.diff(values).min() > 0
    # Nothing is embedded twice, and every clean face once.
    assert make.embedder.n_crops == 26 + 52


def test_files_are_the_same_to_the_byte_whatever_the_workers(make, tmp_path):
    recipe = {"even": True, "val": 0.3}
    make(tmp_path / "1", "random", "lowres", workers=1, **recipe)
    batches = sorted(make.embedder.batches)
    make(tmp_path / "3", "random", "lowres", workers=3, **recipe)
    assert files(tmp_path / "1") == files(tmp_path / "3")
    # A recogniser's last digit may depend on what is in its batch.
    assert sorted(make.embedder.batches) == batches
    make(tmp_path / "s", "random", "lowres", seed=1, **recipe)
    assert files(tmp_path / "s") != files(tmp_path / "1")


def test_pictures_do_not_depend_on_the_batch(make, tmp_path):
    for batch in (1, 7, 64):
        make(tmp_path / str(batch), "random", batch=batch)
    one, seven, many = (files(tmp_path / str(batch)) for batch in (1, 7, 64))
    for name, data in one.items():
        if name.endswith(".png"):
            assert data == seven[name] == many[name], name


def test_a_row_repeats_its_picture(make, photos, tmp_path):
    make(tmp_path / "o", "gaussian", "linear", per_image=2, iterative=2, seed=9)
    faces = {face.name: face for face in list_faces([str(photos)])}
    for method in ("gaussian", "linear"):
        chain = make_chain(method, iterative=2)
        for row in table(tmp_path / "o", method)[::7]:
            params = json.loads(row["parameters"])
            assert len(params["blur"]["steps"]) == 2
            crop = FaceReader(160)(faces[Path(row["clean_file"]).stem].source)
            pair = apply_sizes(chain, [crop], [params])
            for key, picture in (("file", pair.degraded), ("clean_file", pair.clean)):
                assert np.array_equal(picture[0], cv2.imread(str(tmp_path / "o" / row[key])))
            assert chain.sample(Streams(9, [int(row["index"])])) == [params]


def test_switches_reach_the_chain(make, tmp_path):
    make(tmp_path / "o", "gaussian", linear=False, noise=False, compression=False)
    for row in table(tmp_path / "o", "gaussian"):
        params = json.loads(row["parameters"])
        assert params["light"] == "srgb"
        assert params["photons"] is params["codec"] is None


def test_another_picture_changes_nothing_for_those_before_it(make, photos, tmp_path):
    make(tmp_path / "a")
    shutil.copytree(photos, tmp_path / "more")
    shutil.copy(photos / "p00" / "0.png", tmp_path / "more" / "p12" / "zz.png")
    make(tmp_path / "b", where=tmp_path / "more")
    before, after = table(tmp_path / "a", "linear"), table(tmp_path / "b", "linear")
    assert len(after) == len(before) + 1
    assert [r["label"] for r in before] == [r["label"] for r in after[:-1]]


def test_torch_makes_nearly_the_same(make, tiny, tmp_path, request):
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its threads wait by spinning, which a busy machine suffers from
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    recipe = {"per_image": 1, "compression": False}
    make(tmp_path / "n", "linear", **recipe)
    make(tmp_path / "t", "linear", device=torch.device("cpu"), batch=7, **recipe)
    rows = check_labels(tiny, tmp_path / "t", "linear")
    for a, b in zip(table(tmp_path / "n", "linear"), rows, strict=True):
        assert a["parameters"] == b["parameters"]
        x, y = (cv2.imread(str(tmp_path / k / a["file"])).astype(int) for k in "nt")
        assert np.abs(x - y).max() <= 2
        assert abs(float(a["label"]) - float(b["label"])) < 0.02
    facts = json.loads((tmp_path / "t" / "dataset.json").read_text())
    assert facts["blurred_by"] == "torch on cpu"


# --- even labels -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    for i in range(40):
        cv2.imwrite(str(root / f"{i}.png"), tiny.draw(112, i))
    return root


def chi2(counts):
    """Pearson's statistic against an even distribution, per degree of freedom.

    Even labels give 1 or less; uneven ones give more, and the more of them there are.
    """
    return ((counts - counts.mean()) ** 2 / counts.mean()).sum() / (len(counts) - 1)


def test_labels_come_out_even(make, tiny, many, tmp_path, monkeypatch):
    monkeypatch.setattr(even, "TRACKS", (40, 40))
    counts = make(tmp_path / "o", where=many, per_image=16, even=True, **QUICK)
    plain = make(tmp_path / "p", where=many, per_image=8, **QUICK)
    assert plain.dropped == 0
    curve = even.Curve.of(json.loads((tmp_path / "o/dataset.json").read_text())["even"]["linear"])
    labels, others = (
        np.array([float(row["label"]) for row in table(tmp_path / name, "linear")]) for name in "op"
    )
    got, ref = (np.histogram(a, 10, (curve.low, curve.high))[0] for a in (labels, others))
    assert counts.rows == len(labels)
    assert counts.rows + counts.dropped == 640
    assert counts.dropped < 0.25 * 640  # a touch-up; most is done by drawing
    assert got.max() / got.min() < 1.4 < 3 < ref.max() / ref.min()
    assert chi2(got) < 1.5 < 5 < chi2(ref)
    assert curve.low < 0.01
    assert curve.high > 0.6
    check_labels(tiny, tmp_path / "o", "linear")
    kept = {row["file"] for row in table(tmp_path / "o", "linear")}
    assert {f"blur_linear/{p.name}" for p in (tmp_path / "o/blur_linear").iterdir()} == kept


# --- what gets in the way --------------------------------------------------------------------


@pytest.mark.parametrize(("after", "workers"), [(0, 1), (1, 2), (60, 1), (60, 2)])
def test_a_full_disk_is_an_error_and_the_run_can_go_on(
    make, tmp_path, monkeypatch, after, workers, whole
):
    write = Path.write_bytes
    left = [after]

    def full(path, data):
        left[0] -= 1
        if left[0] < 0:
            write(path, data[: len(data) // 2])  # what fits is written
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device"):
            make(tmp_path / "o", "linear", "lowres", workers=workers, **RECIPE)
    assert (tmp_path / "o" / "journal.jsonl").is_file()
    assert not list((tmp_path / "o").glob("label_*/label/*"))  # nothing that looks finished
    make(tmp_path / "o", "linear", "lowres", resume=True, **RECIPE)
    assert files(tmp_path / "o") == whole


@pytest.mark.parametrize("step", range(6))
def test_an_end_that_is_interrupted_is_repeated(make, tmp_path, monkeypatch, step, whole):
    left = [step]

    def die_before(function):
        def dying(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return dying

    with monkeypatch.context() as patch:
        patch.setattr(synth, "write_atomically", die_before(synth.write_atomically))
        patch.setattr(synth, "write_json", die_before(synth.write_json))
        patch.setattr(synth, "_rows", die_before(synth._rows))
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "o", "linear", "lowres", **RECIPE)
    with pytest.raises(ConfigError, match="not finished; continue it with --resume"):
        layout.check_finished(tmp_path / "o", {"rows": None})
    make(tmp_path / "o", "linear", "lowres", resume=True, **RECIPE)
    assert files(tmp_path / "o") == whole


@pytest.fixture
def ended(make, tmp_path, monkeypatch):
    """The folder of a run that was interrupted when only its journal was left to be removed."""

    def interrupted(journal):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synth.Journal, "remove", interrupted)
        patch.setattr("blurgate.journal.SECONDS_BETWEEN_SYNCS", 0)  # a line per batch
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "o", "linear", "lowres", **RECIPE)
    return tmp_path / "o"


@pytest.mark.parametrize(
    "change",
    [{"faces": None}, {"rows": -1}, {"skipped": [{"reason": "?"}]}, {"faces": 1_000}],
)
def test_pictures_of_which_the_journal_lacks_something_are_made_again(make, ended, whole, change):
    notes = ended / "journal.jsonl"
    head, line, *_ = notes.read_text().splitlines()
    line = json.loads(line)
    line["done"][-1].update(change)
    notes.write_text("\n".join([head, json.dumps(line), ""]))
    make(ended, "linear", "lowres", resume=True, **RECIPE)
    assert files(ended) == whole


@pytest.mark.parametrize("lost", [slice(1, 2), slice(2, 4)])
def test_a_journal_that_tells_of_fewer_rows_than_the_table_holds(make, ended, lost):
    notes = ended / "journal.jsonl"
    lines = notes.read_text().splitlines(keepends=True)
    assert len(lines) > 6
    held = len((ended / "rows.csv").read_text().splitlines()) - 1
    told = held - sum(entry["rows"] for line in lines[lost] for entry in json.loads(line)["done"])
    del lines[lost]
    notes.write_text("".join(lines))
    with pytest.raises(
        ConfigError, match=f"tells of {told} rows, and rows.csv holds {held}; use --overwrite"
    ):
        make(ended, "linear", "lowres", resume=True, **RECIPE)


def test_a_run_that_died_after_its_journal_leaves_no_trace(make, tmp_path, whole):
    make(tmp_path / "whole", "linear", "lowres", **RECIPE)
    (tmp_path / "whole" / "rows.csv").write_text("left over")
    counts = make(tmp_path / "whole", "linear", "lowres", resume=True, **RECIPE)
    assert files(tmp_path / "whole") == whole
    assert counts.was_complete
    assert counts.rows == sum(name.startswith("blur_") for name in whole)
    assert counts.n_skipped == 4
    assert make.embedder.n_crops == 0


def test_other_settings_do_not_continue_a_run(make, tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "_finish", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "o")
    monkeypatch.undo()
    for change, message in (
        ({"seed": 1}, "seed = 0, now it is 1"),
        ({"per_image": 2}, "per_image = 1, now it is 2"),
        ({"val": 0.5}, "faces = "),
        ({"noise": False}, "noise = True, now it is False"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(tmp_path / "o", resume=True, **change)
    make(tmp_path / "o", resume=True)
    with pytest.raises(ConfigError, match="is complete and was made with seed = 0, now it is 1"):
        make(tmp_path / "o", seed=1, resume=True)


def test_changed_faces_do_not_continue_a_run(make, photos, tmp_path, monkeypatch):
    shutil.copytree(photos, tmp_path / "in")
    monkeypatch.setattr(synth, "_finish", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "o", where=tmp_path / "in")
    monkeypatch.undo()
    (tmp_path / "in" / "p00" / "0.png").rename(tmp_path / "in" / "p00" / "9.png")
    with pytest.raises(ConfigError, match=r"faces = '30 pictures.*now it is '30 pictures"):
        make(tmp_path / "o", where=tmp_path / "in", resume=True)


def test_folders_of_others_are_left_alone(make, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "thesis.txt").write_text("mine")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(ConfigError, match=r"holds no dataset.*another --out"):
            make(tmp_path / "o", **options)
    assert files(tmp_path / "o") == {"thesis.txt": b"mine"}
    with pytest.raises(ConfigError, match="is a file"):
        make(tmp_path / "o" / "thesis.txt")


def test_faces_that_overwriting_would_delete_are_refused(make, tmp_path):
    make(tmp_path / "o", **QUICK)
    before = files(tmp_path / "o")
    (tmp_path / "link").symlink_to(tmp_path / "o" / "blur_linear")
    for where in (tmp_path / "o" / "clean", tmp_path / "link"):
        with pytest.raises(ConfigError, match="which --overwrite deletes; choose another --out"):
            make(tmp_path / "o", where=where, overwrite=True, **QUICK)
    assert files(tmp_path / "o") == before


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_two_runs_do_not_share_a_folder(make, tmp_path, options):
    make(tmp_path / "o", **QUICK)
    before = files(tmp_path / "o")
    with locked(tmp_path / "o" / LOCK):  # as the other run does
        with pytest.raises(ConfigError, match="another run is writing to"):
            make(tmp_path / "o", seed=1, **QUICK, **options)
        assert files(tmp_path / "o") == {**before, LOCK: b""}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / LOCK).touch()  # of a run that was killed
    make(tmp_path / "new", **QUICK, **options)
    assert files(tmp_path / "new") == before


def test_overwrite_replaces_the_dataset_and_nothing_else(make, tmp_path):
    make(tmp_path / "o", "linear", "lowres")
    (tmp_path / "o" / "cleaning").mkdir()
    (tmp_path / "o" / "cleaning" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty: use --resume"):
        make(tmp_path / "o", "gaussian")
    make(tmp_path / "o", "gaussian", overwrite=True)
    make(tmp_path / "new", "gaussian")
    found = files(tmp_path / "o")
    assert found.pop("cleaning/notes.txt") == b"mine"
    assert found == files(tmp_path / "new")


@pytest.mark.parametrize("deleted", range(3))
@pytest.mark.parametrize("finished", [True, False])
def test_what_is_killed_while_it_is_overwritten_is_no_dataset(
    make, tmp_path, monkeypatch, deleted, finished
):
    class Killed(BaseException):
        pass

    def end(*args):
        raise Killed

    with monkeypatch.context() as patch:
        if not finished:
            patch.setattr(synth, "_finish", end)
        with nullcontext() if finished else pytest.raises(Killed):
            make(tmp_path / "o", **QUICK)

    def delete(folder):
        if len(gone) == deleted:
            end()
        gone.append(folder)
        whole(folder)

    gone, whole = [], shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", delete)
        with pytest.raises(Killed):
            make(tmp_path / "o", overwrite=True, **QUICK)
    with pytest.raises(ConfigError, match="is not finished"):
        layout.check_finished(tmp_path / "o", layout.read_settings(tmp_path / "o"))
    assert not make(tmp_path / "o", resume=True, **QUICK).was_complete
    make(tmp_path / "new", **QUICK)
    assert files(tmp_path / "o") == files(tmp_path / "new")


def test_nothing_but_broken_pictures(make, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.png").write_bytes(b"broken")
    counts = make(tmp_path / "o", where=tmp_path / "in", even=True)
    assert (counts.rows, counts.n_skipped, len(make.failures)) == (0, 3, 3)
    assert table(tmp_path / "o", "linear") == []


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        ({"methods": ()}, ConfigError, "at least one"),
        ({"methods": ("linear", "linear")}, ConfigError, "each method once"),
        ({"methods": ("linaer",)}, UnknownNameError, "did you mean 'linear'"),
        ({"methods": ("linear",), "per_image": 0}, ConfigError, "--per-image is 1 to 10000"),
        ({"methods": ("linear",), "per_image": 10**20}, ConfigError, "--per-image is 1 to 10000"),
        ({"methods": ("linear",), "iterative": 101}, ConfigError, "--iterative 1 to 100"),
    ],
)
def test_a_recipe_is_checked(recipe, error, message):
    with pytest.raises(error, match=message):
        Recipe(**recipe)


@pytest.mark.shared
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_labels_of_a_real_recogniser_belong_to_their_pictures(shared, tmp_path, batch):
    ort = pytest.importorskip("onnxruntime")
    from blurgate import zoo
    from blurgate.interfaces import Runtime

    weights = shared / "data" / "weights" / "arcface.onnx"
    source = sorted((shared / "data" / "faces_train" / "generated").glob("*.jpg"))[:10]
    run_synth(
        list_faces([str(path) for path in source]),
        Recipe(("random",), per_image=2),
        tmp_path / "o",
        reader=FaceReader(224),
        labeller=Labeller(zoo.open_embedder(str(weights), Runtime("cpu"))),
        workers=2,
        batch=batch,
    )
    session = ort.InferenceSession(str(weights), providers=["CPUExecutionProvider"])

    def embed(path):
        rgb = cv2.imread(str(tmp_path / "o" / path))[:, :, ::-1].astype(np.float32)
        blob = (rgb.transpose(2, 0, 1)[None] - 127.5) / 127.5
        vector = session.run(None, {"input": blob})[0][0].astype(np.float64)
        return vector / np.linalg.norm(vector)

    rows = table(tmp_path / "o", "random")
    assert len(rows) == 20
    for row in rows:
        wanted = 1 - embed(row["clean_file"]) @ embed(row["file"])
        assert float(row["label"]) == pytest.approx(min(max(wanted, 0), 1), abs=1e-5)
        assert row["embedder"].startswith("arcface@ba91a2bb0ca6")
