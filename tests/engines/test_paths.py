"""`ScorePaths` gives the rows of `blurgate score`, whatever kind of batch it gets."""

from __future__ import annotations

import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.engines import SPARK_SCHEMA, ScorePaths
from blurgate.engines import paths as paths_module
from blurgate.engines.parts import PartFolder, manifest_of, part_name, paths_digest, stretches
from blurgate.errors import ConfigError
from blurgate.tables import SCORE_COLUMNS, open_table

NAMES = [column.name for column in SCORE_COLUMNS]


@pytest.fixture
def pictures(marker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for i in range(10):
        image = np.full((160, 320, 3), 60, np.uint8)
        for face in range(i % 3):
            marker.draw(image, 10 + 150 * face, 20, 120, sharp=i % 2 == 0, seed=i)
        assert cv2.imwrite(f"in/{i}.png", image)
    (tmp_path / "in/4.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return sorted(f"in/{i}.png" for i in range(10))


@pytest.fixture
def scorer():
    return ScorePaths(model="laplacian", detector="marker", workers=2)


@pytest.fixture
def local(run, pictures):
    ran = run("score", "in", "--detector", "marker", "--model", "laplacian", "--csv", "-", "-q")
    assert ran.code == 4
    return ran.out


def as_csv(rows, path):
    with open_table("csv", path, SCORE_COLUMNS, None) as table:
        for row in rows:
            table.write(row)
    return path.read_text()


def test_rows_are_those_of_the_command(scorer, pictures, local, tmp_path):
    assert as_csv(scorer.rows(pictures), tmp_path / "o.csv") == local


def test_arrow_batches(scorer, pictures, local, tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = scorer(pa.table({"path": pictures, "other": range(10)}))
    assert table.column_names == NAMES
    assert as_csv(table.to_pylist(), tmp_path / "o.csv") == local
    assert scorer(pa.table({"path": pa.array([], pa.string())})).num_rows == 0


def test_columns_of_arrays(scorer, pictures, local, tmp_path):
    columns = scorer({"path": np.array(pictures)})
    assert list(columns) == NAMES
    rows = [dict(zip(NAMES, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    assert as_csv(rows, tmp_path / "o.csv") == local


def test_pandas_batches_and_spark(scorer, pictures, local, tmp_path):
    pd = pytest.importorskip("pandas")
    frames = scorer.frames(pd.DataFrame({"path": pictures[i : i + 4]}) for i in range(0, 10, 4))
    whole = pd.concat(list(frames))
    rows = whole.to_dict("records")
    assert as_csv(rows, tmp_path / "o.csv") == local
    assert SPARK_SCHEMA.startswith("file string, face bigint, x1 double")
    assert len(SPARK_SCHEMA.split(", ")) == len(NAMES)


def batch_of(kind, paths):
    if kind == "dict":
        array = np.empty(len(paths), object)
        array[:] = paths
        return {"path": array}
    module = pytest.importorskip(kind)
    columns = {"path": paths}
    return module.table(columns) if kind == "pyarrow" else module.DataFrame(columns)


@pytest.mark.parametrize("kind", ["dict", "pyarrow", "pandas"])
def test_a_null_is_a_path_that_cannot_be_read(scorer, pictures, kind):
    given = scorer(batch_of(kind, [pictures[1], None, pictures[2]]))
    rows = given.to_pydict() if kind == "pyarrow" else given
    assert list(rows["file"]) == [pictures[1], "", pictures[2], pictures[2]]
    assert list(rows["status"]) == ["ok", "unreadable", "ok", "ok"]


def test_not_a_number_is_a_null(scorer, pictures):
    assert list(scorer(batch_of("dict", [float("nan")]))["status"]) == ["unreadable"]


@pytest.mark.parametrize("kind", ["dict", "pyarrow", "pandas"])
def test_paths_may_be_bytes(scorer, pictures, kind):
    given = scorer(batch_of(kind, [pictures[1].encode(), b"no\xe9"]))
    rows = given.to_pydict() if kind == "pyarrow" else given
    assert list(rows["status"]) == ["ok", "unreadable"]
    assert rows["file"][0] == pictures[1]


def test_a_batch_without_paths_is_refused(scorer):
    with pytest.raises(ConfigError, match="no column 'path' but file; name"):
        scorer({"file": ["a"]})
    with pytest.raises(ConfigError, match="must hold columns, and this is list"):
        scorer(["a.png"])


def test_models_are_loaded_once_per_process(scorer, marker, pictures, monkeypatch):
    from blurgate import zoo

    paths_module._models.cache_clear()
    loaded = []
    open_scorer = zoo.open_scorer

    def counted(*arguments):
        loaded.append(arguments)
        return open_scorer(*arguments)

    monkeypatch.setattr(zoo, "open_scorer", counted)
    for name in pictures[:3]:
        list(scorer.rows([name]))
    list(ScorePaths(model="laplacian", detector="marker", column="x").rows(pictures[:1]))
    assert len(loaded) == 1


def test_it_can_be_sent_before_and_after_use(scorer, pictures):
    before = bytes(ForkingPickler.dumps(scorer))  # what Ray and Spark do with it
    list(scorer.rows(pictures[:1]))
    assert bytes(ForkingPickler.dumps(scorer)) == before
    assert ForkingPickler.loads(before) == scorer
    assert len(before) < 1000


def test_importing_it_imports_no_engine(printed):
    code = (
        "import sys, blurgate.engines, blurgate.engines.ray\n"
        "print(sorted({'ray', 'pyarrow', 'pandas', 'onnxruntime', 'fsspec'} & set(sys.modules)))"
    )
    assert printed(code).strip() == "[]"


# Folders of parts

SETTINGS = {"model": "laplacian", "table": "parquet"}


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("pyarrow")
    return PartFolder(str(tmp_path / "parts"))


def fill(folder, scorer, pictures, length=4, leave_out=()):
    cut = list(stretches(pictures, length))
    folder.begin(manifest_of(pictures, length, SETTINGS), resume=True)
    for index, names in enumerate(cut):
        if index not in leave_out:
            folder.write_part(index, names, scorer.table(names), SETTINGS)
    return cut


def test_parts_join_to_the_table_of_one_run(run, folder, scorer, pictures, local, tmp_path):
    fill(folder, scorer, pictures)
    assert as_csv(folder.rows(), tmp_path / "o.csv") == local
    ran = run("merge", folder.place, "--out", "all.csv")
    assert ran.code == 0, ran.err
    assert (tmp_path / "all.csv").read_text() == local
    (tmp_path / "mine.csv").write_text("Dear all,\n")
    ran = run("merge", folder.place, "--out", tmp_path / "mine.csv")
    assert (ran.code, "mine.csv is not a table of `blurgate score`" in ran.err) == (2, True)
    assert (tmp_path / "mine.csv").read_text() == "Dear all,\n"


def test_only_whole_parts_of_the_same_list_are_trusted(folder, scorer, pictures, tmp_path):
    cut = fill(folder, scorer, pictures, leave_out=[1])
    assert [folder.is_done(i, names, SETTINGS) for i, names in enumerate(cut)] == [
        True,
        False,
        True,
    ]
    assert not folder.is_done(0, cut[1], SETTINGS)
    assert not folder.is_done(0, cut[0], {**SETTINGS, "model": "other"})
    path = tmp_path / "parts" / part_name(2)
    path.write_bytes(path.read_bytes()[:-20])
    assert not folder.is_done(2, cut[2], SETTINGS)
    with pytest.raises(ConfigError, match=r"part-00000001\.parquet is missing; finish it with"):
        list(folder.rows())


def test_parts_of_another_list_are_not_joined(run, folder, scorer, pictures, tmp_path):
    """A run that goes on with another list of the same length, and ends before it writes a part."""
    fill(folder, scorer, pictures[:9])
    fill(folder, scorer, [*pictures[:8], pictures[9]], leave_out=[0, 1, 2])
    ran = run("merge", folder.place, "--out", "all.csv")
    assert (ran.code, "parts holds parts of another list of files; finish it with" in ran.err) == (
        2,
        True,
    )
    assert not (tmp_path / "all.csv").exists()
    fill(folder, scorer, [*pictures[:8], pictures[9]], leave_out=[0, 1])
    assert run("merge", folder.place, "--out", "all.csv").code == 0
    assert pictures[9] in (tmp_path / "all.csv").read_text()


def test_a_folder_that_is_not_ours(folder, scorer, pictures, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/x").touch()
    whole = {"settings": SETTINGS, "files": 1, "parts": 1, "length": 4}
    with pytest.raises(ConfigError, match="holds no parts of blurgate score"):
        folder.begin(whole, resume=False)
    (tmp_path / "parts/x").unlink()
    folder.begin(whole, resume=False)
    with pytest.raises(ConfigError, match="holds parts: use --resume"):
        folder.begin(whole, resume=False)
    with pytest.raises(ConfigError, match="was begun with model = 'laplacian', now it is 'b'"):
        folder.begin({**whole, "settings": {**SETTINGS, "model": "b"}}, resume=True)


def test_a_kill_while_the_manifest_is_written_costs_nothing(folder, tmp_path, monkeypatch):
    whole = {"settings": SETTINGS, "files": 1, "parts": 1, "length": 4}

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        folder.begin(whole, resume=False)
    (left,) = (tmp_path / "parts").iterdir()
    folder.begin(whole, resume=False)
    assert folder.manifest() == whole
    assert left.name.startswith(".parts.json.")


def test_a_kill_while_the_manifest_goes_to_an_address_costs_nothing():
    fsspec = pytest.importorskip("fsspec")
    whole = {"settings": SETTINGS, "files": 1, "parts": 1, "length": 4}
    memory, folder = fsspec.filesystem("memory"), PartFolder("memory://out/parts")
    try:
        memory.pipe("/out/parts/.parts.json.uploading", b"{")
        folder.begin(whole, resume=False)
        assert folder.manifest() == whole
        memory.rm("/out/parts/parts.json")
        memory.pipe("/out/parts/x", b"")
        with pytest.raises(ConfigError, match="holds no parts of blurgate score"):
            folder.begin(whole, resume=False)
    finally:
        memory.store.clear()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"settings": {}}', '{"settings": {"a": [1]}, "files": 1, "parts": 1}',
     '{"settings": {}, "files": 1, "parts": "1", "length": 4}', '{"settings": ' + "[" * 200_000],
)  # fmt: skip
def test_a_damaged_manifest_is_one_line(run, folder, scorer, pictures, text):
    cut = fill(folder, scorer, pictures)
    folder.write("parts.json", text.encode())
    with pytest.raises(ConfigError, match=r"parts\.json is damaged; use another folder"):
        folder.begin({"settings": SETTINGS, "files": 1, "parts": 1, "length": 4}, resume=True)
    ran = run("merge", folder.place, "--out", "all.csv")
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert folder.is_done(0, cut[0], SETTINGS)


@pytest.mark.parametrize("note", [b"", b"[" * 200_000, b"[1]", b'{"settings": {}}'])
def test_a_part_with_a_damaged_note_is_missing(folder, scorer, pictures, note):
    import pyarrow.parquet as pq

    cut = fill(folder, scorer, pictures)
    path = Path(folder.place) / part_name(1)
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"blurgate": note}), path)
    assert not folder.is_done(1, cut[1], SETTINGS)
    with pytest.raises(ConfigError, match=r"part-00000001\.parquet is missing; finish it with"):
        list(folder.rows())


def test_parts_at_an_address(scorer, pictures, local, tmp_path):
    pytest.importorskip("pyarrow")
    fsspec = pytest.importorskip("fsspec")
    folder = PartFolder("memory://out/parts")
    try:
        cut = fill(folder, scorer, pictures)
        assert all(folder.is_done(i, names, SETTINGS) for i, names in enumerate(cut))
        assert as_csv(folder.rows(), tmp_path / "o.csv") == local
        listed = fsspec.filesystem("memory").ls("/out/parts", detail=False)
        assert sorted(name.rpartition("/")[2] for name in listed) == [
            *(part_name(i) for i in range(len(cut))),
            "parts.json",
        ]
    finally:
        fsspec.filesystem("memory").store.clear()


def test_digests_tell_lists_apart():
    assert paths_digest(["a", "b"]) != paths_digest(["ab"])
    assert paths_digest(["\udcff"]) == paths_digest(["\udcff"])


def test_what_the_ray_engine_cannot_do(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").touch()
    for wrong in (["--csv", "a.csv"], ["--parquet", "d", "--shard", "1/2"], []):
        ran = run("score", "x.png", "--engine", "ray", *wrong)
        assert (ran.code, "folder of Parquet parts" in ran.err) == (2, True)
    ran = run("score", "x.png", "--actors", 2)
    assert (ran.code, "are for --engine ray" in ran.err) == (2, True)
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = run("score", "x.png", "--engine", "ray", "--parquet", "d", "--model", "laplacian")
    assert (ran.code, 'pip install "blurgate[ray]"' in ran.err) == (5, True)
