"""Recipes that come with autoprec are right; broken ones are refused with the key, the file and the cure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autoprec.errors import RecipeError, UsageError
from autoprec.precision import Precision
from autoprec.recipes.image import ImageRecipe
from autoprec.recipes.ranging import CalibrationRecipe, calibration_recipe_names, load_calibration_recipe
from autoprec.recipes.space import Pin, load_search_space, parse_pin, search_space_names

ROOT = Path(__file__).resolve().parents[2]
FP32, FP16, BF16, FP8, INT8 = (Precision(name) for name in ("fp32", "fp16", "bf16", "fp8", "int8"))
SPACE = 'precisions = ["fp32", "int8"]\ncarrier = "fp32"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "precisions", "carrier", "backend"),
    [
        ("cpu", (FP32, INT8), FP32, "ort-cpu"),
        ("tensorrt", (FP32, FP16, INT8), FP16, None),
        ("tensorrt-fp8", (FP32, FP16, BF16, FP8, INT8), FP16, None),
        ("float", (FP32, BF16, FP16), FP32, None),
    ],
)
def test_search_spaces_that_come_with_autoprec(
    name: str, precisions: tuple[Precision, ...], carrier: Precision, backend: str | None
) -> None:
    space = load_search_space(name)

    assert (space.name, space.precisions, space.carrier, space.backend) == (
        name,
        precisions,
        carrier,
        backend,
    )
    assert space.description
    assert space.pins == ()


@pytest.mark.parametrize("name", ["minmax", "percentile", "entropy", "mse"])
def test_calibration_recipes_named_after_their_method(name: str) -> None:
    recipe = load_calibration_recipe(name)

    assert recipe == CalibrationRecipe(name=name, description=recipe.description, method=name)  # type: ignore[arg-type]
    assert recipe.description


def test_recipes_of_means_have_their_weights() -> None:
    assert load_calibration_recipe("average").smoothing == 0.1
    assert load_calibration_recipe("blend").blend == (("minmax", 0.5), ("mse", 0.5))


def test_a_blend_without_weights_is_refused_and_others_keep_their_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"\[blend\] must give some of minmax, .* a weight"):
        load_calibration_recipe(write(tmp_path, 'method = "blend"\n'))
    with pytest.raises(RecipeError, match="must be a number above 0"):
        load_calibration_recipe(write(tmp_path, 'method = "blend"\n[blend]\nmse = 0\n'))
    plain = CalibrationRecipe(name="a", method="mse")
    assert replace(plain, smoothing=0.5).fingerprint == plain.fingerprint
    one, two = (CalibrationRecipe(name="a", method="average", smoothing=share) for share in (0.1, 0.5))
    assert one.fingerprint != two.fingerprint


def test_the_default_recipe_chooses_the_method_itself() -> None:
    recipe = load_calibration_recipe("default")

    assert (recipe.method, recipe.samples, recipe.batch, recipe.image) == ("auto", 512, 16, None)


def test_the_imagenet_recipe_is_torchvisions() -> None:
    recipe = load_calibration_recipe("imagenet")

    assert recipe.method == "auto"
    assert recipe.image == ImageRecipe(
        resize=256, crop=(224, 224), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def test_every_file_of_the_data_packages_is_a_recipe() -> None:
    """The names come from the installed package, the files from the checkout: both must be the same."""
    for folder, names in (
        ("search_spaces", search_space_names()),
        ("calibration", calibration_recipe_names()),
    ):
        assert list(names) == sorted(path.stem for path in (ROOT / folder).glob("*.toml"))


def test_a_recipe_from_a_file_is_named_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, SPACE + '[[pins]]\npattern = "^/head/"\nprecision = "fp32"\n')
    monkeypatch.chdir(tmp_path)

    for source in (path, str(path), "mine.toml", "./mine.toml"):
        space = load_search_space(source)
        assert (space.name, space.pins) == ("mine", (Pin("^/head/", FP32),))


def test_a_whole_calibration_recipe(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'description = "d"\nmethod = "Percentile"\npercentile = 99\nsamples = 7\nbatch = 2\n'
        "[image]\nresize = [30, 40]\ncrop = [3, 4]\nscale = 1\nmean = 127.5\nstd = [1, 2, 3.5]\n"
        'layout = "nhwc"\nchannels = "bgr"\ninterpolation = "bicubic"\n',
    )
    image = ImageRecipe(
        resize=(30, 40),
        crop=(3, 4),
        scale=1.0,
        mean=(127.5,) * 3,
        std=(1.0, 2.0, 3.5),
        layout="NHWC",
        channels="bgr",
        interpolation="bicubic",
    )

    assert load_calibration_recipe(path) == CalibrationRecipe(
        name="mine", description="d", method="percentile", percentile=99.0, samples=7, batch=2, image=image
    )


def test_an_empty_calibration_recipe_has_the_defaults(tmp_path: Path) -> None:
    assert load_calibration_recipe(write(tmp_path, "")) == CalibrationRecipe(name="mine")


def test_gray_images_have_one_mean(tmp_path: Path) -> None:
    image = load_calibration_recipe(write(tmp_path, '[image]\nchannels = "gray"\nmean = [0.5]\n')).image

    assert image is not None
    assert (image.mean, image.std) == ((0.5,), (1.0,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SPACE + "precission = 1", r"unknown key 'precission' in .*mine\.toml; did you mean 'precisions'\? "),
        (
            SPACE + "zzz = 1",
            r"mine\.toml; The allowed keys are description, precisions, carrier, backend, pins",
        ),
        (
            SPACE + '[[pins]]\npatern = "a"',
            r"unknown key 'patern' in the table \[pins\[0\]\] of .*'pattern'\?",
        ),
        ('carrier = "fp32"', r"'precisions' is missing in .*mine\.toml; it must be a list"),
        ('precisions = "fp32"\ncarrier = "fp32"', "'precisions' in .* must be a list, got 'fp32'"),
        (
            'precisions = ["fp32", "int4"]',
            "different precisions out of fp32, fp16, bf16, fp8, int8, .*got .*'int4'",
        ),
        ('precisions = ["fp32", "fp32"]', "list of different precisions"),
        ('precisions = [["fp32"]]', "list of different precisions"),
        ("precisions = []", "list of different precisions"),
        ('precisions = ["fp32"]', "'carrier' is missing .* 'fp32', 'fp16', 'bf16'"),
        (
            'precisions = ["int8"]\ncarrier = "int8"',
            "'carrier' in .* one of 'fp32', 'fp16', 'bf16', got 'int8'",
        ),
        ('precisions = ["fp32"]\ncarrier = "fp16"', "one of the float types in 'precisions', got 'fp16'"),
        (SPACE + "backend = 3", "'backend' in .* must be a string, got 3"),
        (SPACE + "pins = 3", "'pins' in .* must be a list, got 3"),
        (SPACE + "pins = [3]", r"'pins' in .* must be a list of tables, written \[\[pins\]\]"),
        (SPACE + '[[pins]]\nprecision = "fp32"', r"'pattern' is missing in the table \[pins\[0\]\]"),
        (SPACE + '[[pins]]\npattern = "("\nprecision = "fp32"', r"valid regular expression \(.*\), got '\('"),
        (
            SPACE + '[[pins]]\npattern = "a"\nprecision = "half"',
            "'precision' in .* one of .*'int8', .*got 'half'",
        ),
        ("precisions = [", r"mine\.toml must be a TOML file: "),
    ],
)
def test_a_broken_search_space_names_key_file_and_cure(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_search_space(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sample = 3", r"unknown key 'sample' in .*mine\.toml; did you mean 'samples'\?"),
        (
            'method = "minmix"',
            "'method' in .* must be one of 'auto', 'minmax', 'percentile', 'entropy', 'mse', 'average', 'blend', got",
        ),
        ("method = 3", "'method' in"),
        ("samples = 0", "'samples' in .* must be an integer of at least 1, got 0"),
        ("samples = true", "must be an integer of at least 1, got True"),
        ("samples = 1.5", "must be an integer of at least 1, got 1.5"),
        ('batch = "16"', "'batch' in .* must be an integer of at least 1, got '16'"),
        ("percentile = 101", "'percentile' in .* must be a number above 50 and at most 100, got 101"),
        ("percentile = 50", "above 50"),
        ("percentile = nan", "above 50"),
        ("description = 1", "'description' in .* must be a string"),
        ("image = 3", "'image' in .* must be a table, got 3"),
        ("[image]\nsize = 224", r"unknown key 'size' in the table \[image\] of .*resize, crop, scale, mean"),
        ("[image]\nresize = 0", r"'resize' in the table \[image\] of .* at least 1, or a pair .*got 0"),
        ("[image]\ncrop = [224]", r"'crop' in .* pair \[height, width\]"),
        ("[image]\ncrop = [224, 2.5]", r"'crop' in .* pair \[height, width\]"),
        ("[image]\nscale = 0", "'scale' in .* must be a number above 0, got 0"),
        ("[image]\nmean = [1, 2]", "'mean' in .* a number, or a list of 3 numbers for channels = 'rgb'"),
        ('[image]\nchannels = "gray"\nmean = [1, 2, 3]', "a list of 1 numbers for channels = 'gray'"),
        ("[image]\nstd = [1, 0, 1]", "'std' in .* must be above 0 in every channel"),
        ('[image]\nmean = ["a", 1, 2]', "'mean' in"),
        ('[image]\nlayout = "CHW"', "'layout' in .* must be one of 'NCHW', 'NHWC', got 'CHW'"),
        ('[image]\nchannels = "yuv"', "one of 'rgb', 'bgr', 'gray'"),
        ('[image]\ninterpolation = "best"', "one of 'nearest', 'bilinear', 'bicubic'"),
    ],
)
def test_a_broken_calibration_recipe_names_key_file_and_cure(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_calibration_recipe(write(tmp_path, text))


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no search space 'tensort'; did you mean 'tensorrt'\? Available are cpu, "):
        load_search_space("tensort")
    with pytest.raises(RecipeError, match=r"no calibration recipe 'qq'; Available are average, .*\.toml file"):
        load_calibration_recipe("qq")
    with pytest.raises(RecipeError, match=r"cannot read the search space .*no\.toml: No such file"):
        load_search_space(tmp_path / "no.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"mine\.toml must be a TOML file in UTF-8"):
        load_search_space(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("^/head/=fp32", Pin("^/head/", FP32)),
        (r"conv(?=\.1)=INT8", Pin(r"conv(?=\.1)", INT8)),
        ("a=b=fp16", Pin("a=b", FP16)),
    ],
)
def test_pins(text: str, pin: Pin) -> None:
    assert parse_pin(text) == pin


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("head", "form REGEX=PRECISION, .*got 'head'"),
        ("=fp32", "form REGEX=PRECISION"),
        ("head=", "a precision must be one of .*, got ''"),
        ("head=half", "a precision must be one of .*, got 'half'"),
        ("*head=fp32", r"valid regular expression, got '\*head': nothing to repeat"),
    ],
)
def test_a_broken_pin_says_what_a_pin_is(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_pin(text)


def test_a_pin_finds_its_pattern_anywhere_unless_anchored() -> None:
    assert Pin("head", FP32).matches("/model/head/conv")
    assert not Pin("^head", FP32).matches("/model/head/conv")


def test_the_fingerprint_is_of_what_changes_results() -> None:
    recipe = CalibrationRecipe(name="a", description="one")
    others = [
        replace(recipe, method="mse"),
        replace(recipe, percentile=99.0),
        replace(recipe, samples=5),
        replace(recipe, batch=5),
        replace(recipe, image=ImageRecipe()),
        replace(recipe, image=ImageRecipe(crop=(2, 2))),
    ]

    assert replace(recipe, name="b", description="two").fingerprint == recipe.fingerprint
    assert len({other.fingerprint for other in [recipe, *others]}) == 1 + len(others)
