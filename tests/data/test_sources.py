"""Everything a user may give as data: archives, folders of them, functions, arrays, data sets."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprec.data.dataset import Dataset
from autoprec.data.sources import load_data
from autoprec.errors import DataError, UsageError
from autoprec.graph.interface import Interface, TensorSpec

MODEL = Interface((TensorSpec("x", np.dtype(np.float32), ("N", 2)),), ())


def rows(start: int, count: int) -> np.ndarray:
    """Sample i is [i, i]."""
    return np.repeat(np.arange(start, start + count, dtype=np.float64)[:, None], 2, axis=1)


def content(data: Dataset, size: int = 4) -> list[int]:
    return [int(value) for batch in data.batches(size) for value in batch.inputs["x"][:, 0]]


def labels(data: Dataset, size: int = 4) -> list[int]:
    return [int(label) for batch in data.batches(size) for label in np.asarray(batch.labels)]


@pytest.fixture(name="archives")
def _archives(tmp_path: Path) -> Path:
    """Ten samples with labels 100 to 109 in files of 4, 1 and 5, among other files."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for name, start, count in (("b.npz", 4, 1), ("a.npz", 0, 4), ("c.npz", 5, 5)):
        np.savez(folder / name, x=rows(start, count), labels=np.arange(100 + start, 100 + start + count))
    (folder / "README.txt").write_text("ten samples")
    return folder


@pytest.fixture(name="module")
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a module with a function `data` into the current folder; returns "module:data"."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(f"import numpy as np\nx = np.arange(8.0).reshape(4, 2)\n{text}\n")
        return f"{name}:data"

    return write


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_an_archive_holds_inputs_and_labels(tmp_path: Path, compress: bool, as_text: bool) -> None:
    path = tmp_path / "calib.npz"
    (np.savez_compressed if compress else np.savez)(path, x=rows(0, 5), labels=np.arange(5))
    data = load_data(str(path) if as_text else path, MODEL)

    assert (content(data), labels(data)) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert data.origin == str(path)
    assert next(data.batches(2)).inputs["x"].dtype == np.float32


def test_labels_that_are_an_input_are_an_input(tmp_path: Path) -> None:
    model = Interface((*MODEL.inputs, TensorSpec("labels", np.dtype(np.int64), ("N",))), ())
    data = load_data({"x": rows(0, 3), "labels": np.arange(3)}, model)
    np.savez(tmp_path / "0.npz", x=rows(0, 3), labels=np.arange(3))

    assert (data.input_names, data.has_labels) == (("x", "labels"), False)
    assert load_data(tmp_path, model).input_names == ("x", "labels")


def test_the_wrong_name_of_a_single_array_is_no_guess(tmp_path: Path) -> None:
    np.savez(tmp_path / "calib.npz", images=rows(0, 3), labels=np.arange(3))
    with pytest.raises(DataError, match=r"calib.npz names its array 'images', but the model's only input is 'x'"):
        load_data(tmp_path / "calib.npz", MODEL)
    with pytest.raises(DataError, match=r"names its array 'images', but the model's only input is 'x'"):
        load_data(tmp_path, MODEL)


def test_a_folder_of_archives_is_one_data_set_in_order_of_name(archives: Path) -> None:
    data = load_data(archives, MODEL)

    assert (data.count, data.has_labels, data.origin) == (10, True, str(archives))
    assert (content(data, 3), labels(data, 3)) == (list(range(10)), list(range(100, 110)))
    assert next(data.batches(2)).inputs["x"].dtype == np.float32


def test_a_folder_is_read_in_any_order(archives: Path) -> None:
    order = [9, 0, 4, 3, 3, 8, 1]
    view = load_data(archives, MODEL).subset(order)

    assert content(view, 7) == content(view, 2) == order
    assert labels(view) == [100 + index for index in order]


def test_a_folder_has_the_identity_of_its_samples(archives: Path) -> None:
    whole = load_data({"x": rows(0, 10), "labels": np.arange(100, 110)}, MODEL)

    assert load_data(archives, MODEL).fingerprint() == whole.fingerprint()


def test_memory_does_not_grow_with_the_number_of_archives(tmp_path: Path) -> None:
    """Twelve files of 2 MB: reading them all, twice, needs less than three files at once."""
    model = Interface((TensorSpec("x", np.dtype(np.float32), ("N", 1000)),), ())
    for number in range(12):
        np.savez(tmp_path / f"{number:02}.npz", x=np.full((500, 1000), number, np.float32))
    tracemalloc.start()
    try:
        data = load_data(tmp_path, model)
        data.digests()
        total = sum(float(batch.inputs["x"].sum()) for batch in data.batches(16))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert total == 500_000 * sum(range(12))
    assert peak_bytes < 3 * 2e6


def test_bad_samples_of_a_folder_are_named_by_their_number(archives: Path) -> None:
    bad = rows(5, 5)
    bad[2, 0] = np.nan
    np.savez(archives / "c.npz", x=bad, labels=np.arange(5))
    data = load_data(archives, MODEL)

    with pytest.raises(DataError, match="holds NaN in sample 7"):
        content(data)
    with pytest.raises(DataError, match="holds NaN in sample 7"):
        content(data.subset([9, 7]))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": rows(0, 2)}, r"same arrays, but d.npz holds \['x'\] and a.npz \['labels', 'x'\]"),
        (
            {"x": np.zeros((2, 3, 1)), "labels": np.arange(2)},
            r"d.npz has float64\[3, 1\] and a.npz has float64\[2\]",
        ),
        ({"x": np.zeros((2, 2), "i4"), "labels": np.arange(2)}, r"d.npz has int32\[2\]"),
        ({"x": rows(0, 2), "labels": np.arange(3)}, r"d.npz must have .* but 'x' has 2, 'labels' has 3"),
        ({"x": np.float64(1), "labels": np.arange(3)}, "'x' has no axis, 'labels' has 3"),
    ],
)
def test_archives_of_a_folder_must_be_alike(archives: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(archives / "d.npz", **arrays)
    with pytest.raises(DataError, match=words):
        load_data(archives, MODEL)


def broken_bytes(kind: str, good: bytes) -> bytes:
    return {
        "text": b"hello",
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "damaged": good[:200] + bytes(byte ^ 0xFF for byte in good[200:260]) + good[260:],
    }[kind]


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "damaged"])
@pytest.mark.parametrize("folder", [False, True])
def test_a_broken_archive_is_an_error_with_its_name(tmp_path: Path, kind: str, folder: bool) -> None:
    path = tmp_path / "calib.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((50, 2)))
    path.write_bytes(broken_bytes(kind, path.read_bytes()))
    with pytest.raises(DataError, match=r"calib\.npz must be a \.npz archive of arrays, but cannot be read"):
        load_data(tmp_path if folder else path, MODEL)


@pytest.mark.parametrize("folder", [False, True])
def test_pickled_objects_are_never_loaded(tmp_path: Path, folder: bool) -> None:
    np.savez(tmp_path / "calib.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"'x' of .*pickled Python objects, which are never loaded"):
        load_data(tmp_path if folder else tmp_path / "calib.npz", MODEL)


def promising(path: Path, shape: str, data: bytes) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("shape", ["(600000000, 4, 8, 8)", "(-1, 2)", "(1099511627776, 1099511627776)", "(3, 2.5)"])
def test_a_header_that_promises_what_does_not_follow_is_refused_before_memory_is_taken(
    tmp_path: Path, shape: str, folder: bool
) -> None:
    promising(tmp_path / "calib.npz", shape, bytes(100))

    with pytest.raises(DataError, match=r"calib\.npz must be a \.npz archive of arrays, but cannot be read"):
        load_data(tmp_path if folder else tmp_path / "calib.npz", MODEL)


def test_an_archive_that_a_few_bytes_blow_up_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprec.data.archives._BOMB_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "calib.npz", x=np.zeros((200_000, 2), np.float32))

    with pytest.raises(DataError, match="would fill 1,600,000 in memory"):
        load_data(tmp_path / "calib.npz", MODEL)


def test_an_archive_that_does_not_fit_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprec.data.archives.free_memory_bytes", lambda: 10)
    np.savez(tmp_path / "calib.npz", x=rows(0, 3))

    with pytest.raises(DataError, match=r"must fit into memory, but its arrays need 48 bytes; keep the samples in"):
        load_data(tmp_path / "calib.npz", MODEL)


def test_a_function_of_data_that_ends_the_program_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaving_data.py").write_text("import sys\ndef data():\n    sys.exit(0)\n    yield {}\n")

    with pytest.raises(DataError, match=r"data function 'leaving_data:data' raised SystemExit: 0"):
        load_data("leaving_data:data", MODEL)


def test_a_generator_may_fill_the_same_array_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reusing_data.py").write_text(
        "import numpy as np\nx = np.zeros((1, 2), 'f4')\n"
        "def data():\n    for n in range(3):\n        x[...] = n\n        yield {'x': x}\n"
    )
    data = load_data("reusing_data:data", MODEL)

    assert data.read([0, 1, 2]).inputs["x"][:, 0].tolist() == [0.0, 1.0, 2.0]


def test_an_archive_without_arrays_is_empty(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "calib.npz", "w") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(DataError, match=r"calib\.npz holds no arrays"):
        load_data(tmp_path / "calib.npz", MODEL)


@pytest.mark.parametrize("folder", [False, True])
def test_no_samples_are_an_error(tmp_path: Path, folder: bool) -> None:
    np.savez(tmp_path / "calib.npz", x=rows(0, 0))
    with pytest.raises(DataError, match="has no samples; give at least one"):
        load_data(tmp_path if folder else tmp_path / "calib.npz", MODEL)


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "calib.npy").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no such file or folder: 'clib\.npz'; give a \.npz file, .*module:function"):
        load_data("clib.npz", MODEL)
    with pytest.raises(DataError, match=r"calib\.npy must be a \.npy file of numbers, but cannot be read"):
        load_data(tmp_path / "calib.npy", MODEL)
    with pytest.raises(DataError, match=r"empty has no data; put \.npz or \.npy files there, or images"):
        load_data(tmp_path / "empty", MODEL)
    with pytest.raises(DataError, match="got int"):
        load_data(3, MODEL)


@pytest.mark.parametrize(
    "body",
    [
        "return {'x': x, 'labels': [0, 1, 2, 3]}",
        "return {'x': x.tolist(), 'labels': np.arange(4)}",
        "return [{'x': x[:3], 'labels': np.arange(3)}, {'x': x[3:], 'labels': np.array([3])}]",
        "yield {'x': x[:1], 'labels': [0]}\n    yield {'x': x[1:], 'labels': [1, 2, 3]}",
        "from autoprec.data.dataset import Dataset\n    return Dataset.from_arrays({'x': x}, np.arange(4))",
    ],
)
def test_a_function_returns_arrays_batches_or_a_data_set(
    module: Callable[[str, str], str], body: str, request: pytest.FixtureRequest
) -> None:
    name = f"data_module_{abs(hash(request.node.name))}"
    data = load_data(module(name, f"def data():\n    {body}"), MODEL)

    assert (content(data), labels(data)) == ([0, 2, 4, 6], [0, 1, 2, 3])


def test_a_function_may_import_its_neighbours_when_called(module: Callable[[str, str], str]) -> None:
    module("data_neighbour", "")
    name = module("data_importing", "def data():\n    import data_neighbour\n    return {'x': data_neighbour.x}")

    assert load_data(name, MODEL).count == 4


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "data_bad_a",
            "def data():\n    return 1 / 0",
            "'data_bad_a:data' raised ZeroDivisionError: division by",
        ),
        (
            "data_bad_b",
            "def data(n):\n    return {}",
            "'data_bad_b:data' is called without arguments, but it takes .n.",
        ),
        (
            "data_bad_c",
            "def data():\n    yield {'x': x}\n    raise RuntimeError('disk')",
            "raised RuntimeError: disk",
        ),
        (
            "data_bad_d",
            "def data():\n    return 3",
            "data must be .*, got int from the data function 'data_bad_d:data'",
        ),
        ("data_bad_e", "def data():\n    return [(x, x, x)]", "batch 0 of .* must be a .*got a tuple of 3"),
        ("data_bad_f", "def data():\n    return []", "data_bad_f:data' has no samples"),
        ("data_bad_g", "data = 3", "must be a function, but is a int"),
        ("data_bad_h", "import no_such_thing_at_all", "cannot import 'data_bad_h' .*no_such_thing_at_all"),
        ("data_bad_i", "def other(): pass", "module 'data_bad_i' has no 'data'"),
        (
            "data_bad_j",
            "def data():\n    return [{'x': x}, {'x': x, 'labels': x}]",
            "batch 1 holds .*'labels'",
        ),
        (
            "data_bad_k",
            "def data():\n    return [{'x': x}, {'x': x[:, :1]}]",
            r"input 'x' must have shape \(samples, 2\), got \(4, 1\)",
        ),
        ("data_bad_l", "def data():\n    return {'x': [[1.0], [1.0, 2.0]]}", "'x' of .* must be an array"),
        (
            "data_bad_m",
            "def data():\n    return {'x': np.array([None, 2])}",
            "array of numbers, got Python objects",
        ),
        ("data_bad_n", "def data():\n    return {'x': x, 'labels': 3}", "labels of .* are a single number"),
        ("data_bad_o", "def data():\n    return None", "got NoneType from"),
    ],
)
def test_a_function_that_misbehaves_is_named(
    module: Callable[[str, str], str], name: str, text: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        load_data(module(name, text), MODEL)


def test_a_functions_own_autoprec_error_keeps_its_words(module: Callable[[str, str], str]) -> None:
    name = module(
        "data_own_error",
        "from autoprec.errors import UsageError\ndef data():\n    raise UsageError('set DATA_ROOT')",
    )
    with pytest.raises(UsageError, match=r"^set DATA_ROOT$"):
        load_data(name, MODEL)


def test_a_mapping_may_leave_its_labels_out() -> None:
    assert not load_data({"x": rows(0, 2), "labels": None}, MODEL).has_labels


def test_a_data_set_is_checked_and_cast() -> None:
    given = Dataset.from_arrays({"x": rows(0, 6)}, np.arange(6), "mine").subset([4, 2])
    data = load_data(given, MODEL)

    assert (content(data), labels(data), data.origin) == ([4, 2], [4, 2], "mine")
    assert next(data.batches(1)).inputs["x"].dtype == np.float32
    with pytest.raises(DataError, match="mine names its array 'y'"):
        load_data(Dataset.from_arrays({"y": rows(0, 2)}, origin="mine"), MODEL)
    with pytest.raises(DataError, match="must be float32, got uint8 in mine"):
        load_data(Dataset.from_arrays({"x": np.zeros((2, 2), np.uint8)}, origin="mine"), MODEL)


def test_a_model_fixed_to_a_batch_still_takes_any_data_set() -> None:
    """How many samples go into one run is for whoever runs the model to arrange."""
    fixed = Interface((TensorSpec("x", np.dtype(np.float32), (8, 2)),), ())

    assert load_data({"x": rows(0, 20)}, fixed).count == 20
