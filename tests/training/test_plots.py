"""Label tables are read as they stand, and the figures show their counts with hard edges."""

from __future__ import annotations

import builtins
import csv
import sys
from decimal import Decimal

import cv2
import numpy as np
import pytest

from blurgate.errors import EnvironmentLackError, InputError
from blurgate.training import plots

HEAD = "file clean_file identity split method parameters seed index label embedder".split()  # noqa: SIM905


def write_table(folder, method, labels, *, embedder="arcface@0123456789ab"):
    table = folder / f"label_{method}" / "label" / "data_label.csv"
    table.parent.mkdir(parents=True)
    with table.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(HEAD)
        for i, label in enumerate(labels):
            split = "val" if i % 5 == 0 else "train"
            names = [f"blur_{method}/a_{i}.png", "clean/a.png", "a", split, method]
            rows.writerow([*names, '{"blur": {"x": 1, "y": [2, 3]}}', 7, i, label, embedder])
    return table


def test_tables_are_read_by_method(tmp_path):
    write_table(tmp_path, "linear", ["0.25", "1", "0"])
    write_table(tmp_path, "defocus", ["0.5"] * 6, embedder="other")
    found = plots.read_labels(tmp_path)
    assert list(found) == ["defocus", "linear"]
    linear = found["linear"]
    assert linear.label.tolist() == [0.25, 1.0, 0.0]
    assert linear.file == tuple(f"blur_linear/a_{i}.png" for i in range(3))
    assert linear.clean_file == ("clean/a.png",) * 3
    assert (len(linear), linear.n_val) == (3, 1)
    assert (linear.embedders, found["defocus"].embedders) == (("arcface@0123456789ab",), ("other",))
    assert found["defocus"].n_val == 2
    assert plots.all_labels(found).tolist() == [0.5] * 6 + [0.25, 1.0, 0.0]


def test_a_table_without_rows(tmp_path):
    write_table(tmp_path, "linear", [])
    found = plots.read_labels(tmp_path)
    assert len(found["linear"]) == 0
    assert plots.histogram(found["linear"].label).tolist() == [0] * 20


def test_bars_hold_their_lower_bound_whatever_its_binary_form():
    texts = [f"{i / 1000:g}" for i in range(1001)]
    wanted = [0] * 20
    for text in texts:
        wanted[min(int(Decimal(text) * 20), 19)] += 1
    assert wanted == [50] * 19 + [51]
    assert plots.histogram(np.array([float(text) for text in texts])).tolist() == wanted


@pytest.mark.parametrize("label", ["", "x", "nan", "-0.1", "1.01"])
def test_a_label_that_is_none_is_an_error(tmp_path, label):
    write_table(tmp_path, "linear", ["0.5", label])
    with pytest.raises(InputError, match=r"line 3 of .*data_label\.csv: the label .* in \[0, 1\]"):
        plots.read_labels(tmp_path)


def test_damaged_tables_are_errors(tmp_path):
    with pytest.raises(InputError, match=r"nowhere is not a folder of .*: there is no such folder"):
        plots.read_labels(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no label_\*/label/data_label\.csv in it"):
        plots.read_labels(tmp_path)
    table = write_table(tmp_path, "linear", ["0.5", "0.6"])
    whole = table.read_text()
    table.write_text(whole[: whole.rindex(",")])  # as a kill in the middle of a write leaves it
    with pytest.raises(InputError, match=r"line 3 of .* has not 10 fields"):
        plots.read_labels(tmp_path)
    table.write_text(whole.replace("clean_file", "clean"))
    with pytest.raises(InputError, match="other columns than a label table"):
        plots.read_labels(tmp_path)
    table.write_text("")
    with pytest.raises(InputError, match="other columns than a label table"):
        plots.read_labels(tmp_path)


def test_figures_have_hard_edges_and_the_right_heights(tmp_path):
    pytest.importorskip("matplotlib", reason="figures need the extra `plot`")
    labels = np.repeat(np.arange(20) / 20 + 0.01, np.arange(1, 21))
    write_table(tmp_path, "linear", [f"{v:g}" for v in labels])
    write_table(tmp_path, "$x^$", ["0.5"])  # no formula to matplotlib, whatever it looks like
    paths = plots.plot_labels(tmp_path, tmp_path / "out" / "figures")
    names = ["labels.png", "labels_$x^$.png", "labels_linear.png"]
    assert [path.name for path in paths] == names
    image = cv2.imread(str(paths[-1]))
    assert image.shape == (600, 960, 3)
    bar = np.array([0xB3, 0x6D, 0x2F], np.uint8)
    blue = (image == bar).all(2)
    # Heights of the bars in pixels rise by equal steps, and there is no seam between them.
    columns = np.flatnonzero(blue.any(0))
    assert (np.diff(columns) == 1).all()
    middles = columns[0] + (np.arange(20) + 0.5) * len(columns) / 20
    tall = np.array([np.ptp(np.flatnonzero(blue[:, int(x)])) + 1 for x in middles])
    np.testing.assert_allclose(tall / tall[-1], np.arange(1, 21) / 20, atol=0.01)
    # An edge is hard: right of the axis and above the bars nothing is half blue.
    inside = image[60 : blue.nonzero()[0].max() + 1, columns[0] + 1 : columns[-1]].astype(int)
    blend = (inside[..., 0] > inside[..., 2] + 8) & ~(inside == bar).all(2)
    assert not blend.any()


def test_figures_ignore_the_users_settings(tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="figures need the extra `plot`")
    write_table(tmp_path, "linear", ["0.5", "0.7"])
    first = [path.read_bytes() for path in plots.plot_labels(tmp_path, tmp_path / "a")]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        second = [path.read_bytes() for path in plots.plot_labels(tmp_path, tmp_path / "b")]
    assert first == second


def test_without_matplotlib_the_command_is_named(tmp_path, monkeypatch):
    write_table(tmp_path, "linear", ["0.5"])
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def no_matplotlib(name, *rest):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(EnvironmentLackError, match=r'pip install "blurgate\[plot\]"'):
        plots.plot_labels(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
