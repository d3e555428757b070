"""Image folders: the preprocessing number by number, labels from files and folders, and broken folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoprec.data.dataset import Dataset
from autoprec.data.images import read_image
from autoprec.data.sources import load_data
from autoprec.errors import DataError
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.recipes.image import ImageRecipe
from autoprec.recipes.ranging import CalibrationRecipe

MODEL = Interface((TensorSpec("image", np.dtype(np.float32), ("N", 3, 4, 4)),), ())
PLAIN = ImageRecipe(scale=1.0)
RECIPE = CalibrationRecipe(name="mine", image=PLAIN)


def save(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def load(folder: Path) -> Dataset:
    return load_data(folder, MODEL, RECIPE)


def reds(data: Dataset) -> list[int]:
    return [int(value) for batch in data.batches(2) for value in batch.inputs["image"][:, 0, 0, 0]]


def labels(data: Dataset) -> list[int]:
    return [int(label) for batch in data.batches(2) for label in np.asarray(batch.labels)]


@pytest.fixture(name="gradient")
def _gradient(tmp_path: Path) -> Path:
    """4 wide, 6 high; red is the column, green the row, blue 200."""
    pixels = np.zeros((6, 4, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = np.arange(4), np.arange(6)[:, None], 200
    Image.fromarray(pixels).save(tmp_path / "gradient.png")
    return tmp_path / "gradient.png"


def test_layout_and_order_of_channels(gradient: Path) -> None:
    nchw = read_image(gradient, PLAIN)
    nhwc = read_image(gradient, replace(PLAIN, layout="NHWC"))
    bgr = read_image(gradient, replace(PLAIN, channels="bgr"))

    assert (nchw.shape, nchw.dtype) == ((3, 6, 4), np.float32)
    assert nchw[0, 5].tolist() == [0, 1, 2, 3]
    assert nchw[1, :, 3].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(nhwc, nchw.transpose(1, 2, 0))
    assert np.array_equal(bgr, nchw[::-1])
    assert all(image.flags.c_contiguous for image in (nchw, nhwc, bgr))


def test_gray_is_one_channel_of_luma(gradient: Path) -> None:
    """ITU-R 601: L = 0.299 R + 0.587 G + 0.114 B, rounded."""
    gray = read_image(gradient, replace(PLAIN, channels="gray"))

    assert gray.shape == (1, 6, 4)
    assert gray[0, 5, 3] == pytest.approx(0.299 * 3 + 0.587 * 5 + 0.114 * 200, abs=1)


def test_scale_then_mean_then_std_per_channel(gradient: Path) -> None:
    recipe = ImageRecipe(scale=1 / 200, mean=(0.0, 0.1, 0.5), std=(1.0, 0.5, 0.25))
    image = read_image(gradient, recipe)

    assert image[:, 4, 2] == pytest.approx([2 / 200, (4 / 200 - 0.1) / 0.5, (1 - 0.5) / 0.25], rel=1e-5)


def test_means_follow_the_order_of_channels(gradient: Path) -> None:
    """With bgr, the first mean is blue's."""
    image = read_image(gradient, replace(PLAIN, channels="bgr", mean=(200.0, 0.0, 0.0)))

    assert image[0].max() == 0


def test_the_crop_is_the_centre(gradient: Path) -> None:
    image = read_image(gradient, replace(PLAIN, crop=(4, 2)))

    assert image[0, 0].tolist() == [1, 2]
    assert image[1, :, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((40, 60), 20, (3, 30, 20)),
        ((60, 40), 20, (3, 20, 30)),
        ((50, 75), 33, (3, 49, 33)),
        ((40, 60), (24, 16), (3, 24, 16)),
        ((40, 60), None, (3, 60, 40)),
    ],
)
def test_resize_is_of_the_shorter_side_or_exact(
    tmp_path: Path, size: tuple[int, int], resize: int | tuple[int, int] | None, expected: tuple[int, ...]
) -> None:
    save(tmp_path / "a.png", (9, 9, 9), size)

    assert read_image(tmp_path / "a.png", replace(PLAIN, resize=resize)).shape == expected


def test_interpolation_is_the_recipes(tmp_path: Path) -> None:
    stripes = np.zeros((6, 4, 3), np.uint8)
    stripes[:, ::2] = 240
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    images = [
        read_image(tmp_path / "stripes.png", replace(PLAIN, resize=(12, 8), interpolation=how))
        for how in ("nearest", "bilinear", "bicubic")
    ]

    assert set(np.unique(images[0][0])) == {0, 240}
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[1], images[2])


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "CMYK"])
def test_any_mode_of_file_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (4, 4), (90, 90, 90)).convert(mode, palette=Image.Palette.ADAPTIVE).save(path)

    assert read_image(path, PLAIN)[:, 1, 1] == pytest.approx([90, 90, 90], abs=2)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "webp", "PNG"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"a.{suffix}", (120, 120, 120))

    assert reds(load(tmp_path))[0] == pytest.approx(120, abs=2)


def test_images_of_a_folder_come_in_order_of_name(tmp_path: Path) -> None:
    for number, name in enumerate(["c.png", "a.png", "b.bmp"]):
        save(tmp_path / name, (number, 0, 0))
    (tmp_path / "notes.md").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    data = load(tmp_path)

    assert (reds(data), data.has_labels, data.input_names) == ([1, 2, 0], False, ("image",))
    assert reds(data.subset([2, 0, 2])) == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.tsv", "b.png\t7\na.png\t-3\n\n"),
        ("labels.csv", "file,label\na.png,-3\n b.png , 7 \n"),
        ("labels.csv", "\ufeffa.png,-3,extra\r\nb.png,7\r\n"),
    ],
)
def test_labels_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    save(tmp_path / "a.png", (1, 0, 0))
    save(tmp_path / "b.png", (2, 0, 0))
    (tmp_path / name).write_text(text, encoding="utf-8")
    data = load(tmp_path)

    assert (reds(data), labels(data)) == ([1, 2], [-3, 7])
    assert labels(data.subset([1])) == [7]


def test_a_label_file_may_name_images_in_sub_folders(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", (1, 0, 0))
    (tmp_path / "labels.tsv").write_text("images/a.png\t5\n")

    assert labels(load(tmp_path)) == [5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png\t1\n", "1 images have no label in .*labels.tsv, the first is b.png"),
        ("a.png\t1\nb.png\t2\nc.png\t3\n", "line 3 of .*labels.tsv names 'c.png', which is not an image"),
        (
            "a.png\t1\nb.png\tcat\n",
            r"line 2 of .* must hold a file and an integer label, got \['b.png', 'cat'\]",
        ),
        ("a.png\tcat\nb.png\t1\n", "line 1 of"),
        ("a.png 1\nb.png 2\n", "line 2 of .*integer label"),
        ("a.png\t1\na.png\t2\nb.png\t1\n", "line 2 of .* gives 'a.png' a second label"),
    ],
)
def test_a_label_file_that_does_not_fit_names_the_line(tmp_path: Path, text: str, words: str) -> None:
    save(tmp_path / "a.png", (1, 0, 0))
    save(tmp_path / "b.png", (2, 0, 0))
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(DataError, match=words):
        load(tmp_path)


def test_two_label_files_are_one_too_many(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (1, 0, 0))
    (tmp_path / "labels.tsv").write_text("a.png\t1")
    (tmp_path / "labels.csv").write_text("a.png,1")
    with pytest.raises(DataError, match=r"has both labels.tsv and labels.csv; keep one"):
        load(tmp_path)


def test_classes_are_sub_folders_in_order_of_name(tmp_path: Path) -> None:
    for number, name in enumerate(["dog/2.png", "cat/9.png", "dog/1.png", "eel/deep/0.png"]):
        save(tmp_path / name, (number, 0, 0))
    data = load(tmp_path)

    assert (reds(data), labels(data)) == ([1, 2, 0, 3], [0, 1, 1, 2])


def test_classes_txt_gives_the_numbers(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "a.png", (1, 0, 0))
    save(tmp_path / "dog" / "b.png", (2, 0, 0))
    (tmp_path / "classes.txt").write_text("eel\ndog\n\ncat\n")

    assert labels(load(tmp_path)) == [2, 1]


def test_one_sub_folder_is_a_place_and_no_class(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", (1, 0, 0))

    assert not load(tmp_path).has_labels


@pytest.mark.parametrize(
    ("classes", "words"),
    [("cat\n", "sub-folder 'dog' of .* is not in classes.txt"), ("cat\ncat\ndog", "list each class once")],
)
def test_classes_txt_must_fit(tmp_path: Path, classes: str, words: str) -> None:
    save(tmp_path / "cat" / "a.png", (1, 0, 0))
    save(tmp_path / "dog" / "b.png", (2, 0, 0))
    (tmp_path / "classes.txt").write_text(classes)
    with pytest.raises(DataError, match=words):
        load(tmp_path)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            None,
            r"need a calibration recipe with an \[image\] .* no calibration recipe was given; use --recipe",
        ),
        (
            CalibrationRecipe(name="entropy"),
            r"\[image\] table .* the recipe 'entropy' has none; use --recipe NAME_OR_FILE",
        ),
    ],
)
def test_images_need_a_recipe(tmp_path: Path, recipe: CalibrationRecipe | None, words: str) -> None:
    save(tmp_path / "a.png", (1, 0, 0))
    with pytest.raises(DataError, match=words):
        load_data(tmp_path, MODEL, recipe)


def test_images_feed_one_input_only(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (1, 0, 0))
    model = Interface((*MODEL.inputs, TensorSpec("mask", np.dtype(np.float32), ("N", 1))), ())
    with pytest.raises(DataError, match="can feed one input, but the model has 'image', 'mask'"):
        load_data(tmp_path, model, RECIPE)


def test_a_shape_that_does_not_fit_points_to_the_recipe(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (1, 0, 0), size=(8, 8))
    with pytest.raises(DataError, match=r"must have shape \(samples, 3, 4, 4\).*\[image\] table of recipe 'mine'"):
        load(tmp_path)


def test_images_must_end_in_one_size(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (1, 0, 0), size=(4, 4))
    save(tmp_path / "b.png", (1, 0, 0), size=(4, 5))
    with pytest.raises(DataError, match=r"one size after the recipe, .*b.png has \(3, 5, 4\); set crop"):
        list(load(tmp_path).batches(2))


def test_an_image_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (1, 0, 0), size=(4, 6))
    with pytest.raises(DataError, match=r"a.png is 6 x 4 pixels before the crop of 5 x 5; set a larger resize"):
        read_image(tmp_path / "a.png", replace(PLAIN, crop=(5, 5)))


def test_means_must_fit_the_channels(gradient: Path) -> None:
    with pytest.raises(DataError, match="one number per channel of 'gray'"):
        read_image(gradient, replace(PLAIN, channels="gray", mean=(1.0, 2.0, 3.0)))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot decode the image .*bad.png"):
        load(tmp_path)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "bad.jpg")
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "bad.jpg").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cannot decode the image .*bad.jpg"):
        load(tmp_path)


def test_mixed_folders_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (1, 0, 0))
    save(tmp_path / "below" / "b.png", (1, 0, 0))
    with pytest.raises(DataError, match="images of its own and in sub-folders"):
        load(tmp_path)
    np.savez(tmp_path / "a.npz", image=np.zeros((1, 3, 4, 4)))
    with pytest.raises(DataError, match=r"two of \.npz files, \.npy files and images"):
        load(tmp_path)


def test_images_are_decoded_batch_by_batch(tmp_path: Path) -> None:
    """A broken image far behind does not matter until it is read."""
    save(tmp_path / "a.png", (5, 0, 0))
    (tmp_path / "b.png").write_bytes(b"broken")
    batches = load(tmp_path).batches(1)

    assert next(batches).inputs["image"][0, 0, 0, 0] == 5
    with pytest.raises(DataError, match=r"b\.png"):
        next(batches)
