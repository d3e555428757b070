"""How often the interval of a drop over a data set covers the true drop, on models of a zoo.

    python tests/benchmarks/set_metrics.py PATH_OF_THE_ZOO [MODEL ...] [--samples 64] [--repeats 200]

Each model is compared with itself with weights of fewer bits. The drop on all samples is taken as the true one. Then
data sets of as many samples as `--samples` says are drawn from them with replacement, as a population much larger than
the data set would give them, and the 95 % interval of each is asked whether it covers the true drop: the interval of a
tune, that from contributions of samples alone (the same but for macro accuracy, which a tune smooths by margins), and
that between the 2.5 % and 97.5 % quantiles of a bootstrap.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from autoprec.metrics.metric import load_metric
from autoprec.metrics.offered import Decoding, class_margins
from autoprec.metrics.over_set import OverSet, Rows, scored_rows
from autoprec.metrics.sequences import error_rate, greedy_ctc
from autoprec.stats.drop import set_drop, smoothed_losses, smoothed_set_drop
from autoprec.stats.resampling import drawn_differences, effect_of

Array = np.ndarray
SPACE = 6624
"""The class of PP-OCRv4 for a space; its texts are compared without."""
CASES: dict[str, tuple[str, str | None, tuple[int, ...]]] = {
    "yolox_nano": ("map", "yolox", (7, 6)),
    "ppocr_rec": ("cer", "ctc", (6, 5)),
    "stories260k": ("perplexity", None, (6, 4)),
    "kwt1": ("macro-accuracy", None, (4, 3)),
    "resnet20_cifar10": ("macro-accuracy", None, (4, 3)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    sys.path.insert(0, str(options.zoo))
    import zoo

    print("model, metric, bits: FP32, true drop; coverage (mean width) of a tune, of contributions, of quantiles")
    for name in options.models or CASES:
        metric_name, decoder, bits = CASES[name]
        metric = load_metric(metric_name, None, Decoding(decoder=decoder))
        assert metric.over_set is not None
        task, over_set = zoo.load(name), metric.over_set
        if name == "ppocr_rec":  # its texts are compared without spaces, which are the last class
            over_set = error_rate(without_spaces, by_word=False)
        labels = labels_of(name, task, options.zoo)
        before = rows_of(task, over_set, labels, None)
        for count in bits:
            after = rows_of(task, over_set, labels, count)
            sign = 1.0 if metric.higher_is_better else -1.0
            report(f"{name}, {metric_name}, {count}", over_set, before, after, sign, options)


def rows_of(task: Any, over_set: OverSet, labels: Array, bits: int | None) -> tuple[Rows, Array | None]:
    """The statistics of each sample and its margin, of the model with weights of so many bits."""
    model = onnx.load(task.model)
    for weights in model.graph.initializer if bits else ():
        array = numpy_helper.to_array(weights)
        if array.ndim > 1 and array.dtype == np.float32 and min(array.shape[:2]) > 1:
            scale = np.abs(array).reshape(len(array), -1).max(axis=1).reshape(-1, *[1] * (array.ndim - 1))
            steps = 2 ** (bits - 1) - 1
            weights.CopyFrom(
                numpy_helper.from_array(
                    (np.rint(array / np.where(scale > 0, scale, 1) * steps) * scale / steps).astype(np.float32),
                    weights.name,
                )
            )
    set_up = onnxruntime.SessionOptions()
    set_up.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), set_up)
    tally, count, margins = over_set.tally(), len(labels), []
    for start in range(0, count, task.batch):
        part = slice(start, start + task.batch)
        outputs = session.run(None, {name: array[part] for name, array in task.eval.items()})
        tally.add(dict(zip("yz", outputs, strict=False)), labels[part], len(labels[part]))
        if labels.ndim == 1:
            margins.append(class_margins({"y": outputs[0]}, labels[part]))
    rows = tally.score().rows
    assert rows is not None
    return rows, np.concatenate(margins) if margins else None


def report(name: str, over_set: OverSet, before: Any, after: Any, sign: float, options: argparse.Namespace) -> None:
    generator, started = np.random.default_rng(0), time.process_time()
    (first, first_margins), (second, second_margins) = before, after
    truth = sign * (scored_rows(over_set, first).figure - scored_rows(over_set, second).figure)
    found: dict[str, list[tuple[float, float]]] = {"tune": [], "contributions": [], "quantiles": []}
    for number in range(options.repeats):
        picks = generator.integers(0, len(first), options.samples)
        sides = [tuple(rows[index] for index in picks) for rows in (first, second)]
        scores = [scored_rows(over_set, side) for side in sides]
        loss = sign * (scores[0].contributions - scores[1].contributions)
        drop = set_drop(loss, scores[0].groups, effect=effect_of(scores[0].contributions))
        found["contributions"].append((drop.low, drop.high))
        worth = over_set.worth(sides[1])
        if worth is not None and first_margins is not None and second_margins is not None:
            smooth = worth * smoothed_losses(first_margins[picks], second_margins[picks])
            drop = smoothed_set_drop(drop, loss, smooth, 0.95)
        found["tune"].append((drop.low, drop.high))
        if number % 4 == 0:
            low, high = np.quantile(differences(over_set, sides[0], sides[1], sign), [0.025, 0.975])
            found["quantiles"].append((low, high))
    text = "; ".join(
        f"{np.mean([low <= truth <= high for low, high in spans]):.3f} ({np.mean([h - low for low, h in spans]):.4f})"
        for spans in found.values()
    )
    figure = scored_rows(over_set, first).figure
    print(f"{name}: {figure:.4f}, {truth:+.4f}; {text}  [{time.process_time() - started:.0f} s]", flush=True)


def differences(over_set: OverSet, before: Rows, after: Rows, sign: float) -> Array:
    size = sum(map(len, before)) + sum(map(len, after))
    return drawn_differences(
        lambda weights: sign * (over_set.figures(before, weights) - over_set.figures(after, weights)),
        len(before),
        size,
    )


def labels_of(name: str, task: Any, zoo: Path) -> Array:
    """The labels of a task, which the zoo keeps in its own forms."""
    if name == "yolox_nano":
        rows = [image["boxes"] for image in json.loads((zoo / name / "eval.json").read_text())]
        labels = np.full((len(rows), max(map(len, rows)), 5), -1.0)
        for label, boxes in zip(labels, rows, strict=True):
            label[: len(boxes)] = np.reshape(boxes, (-1, 5))
        return labels
    if name == "ppocr_rec":
        data = np.load(zoo / "large" / "ppocr_rec.npz", allow_pickle=False)
        numbers = {character: index for index, character in enumerate(["", *data["characters"].item(), " "])}
        lines = [[numbers.get(c, 10**6) for c in "".join(line.split())] for line in data["eval_text"]]
        labels = np.full((len(lines), max(map(len, lines))), -1)
        for label, line in zip(labels, lines, strict=True):
            label[: len(line)] = line
        return labels
    data = np.load(zoo / name / "data.npz")
    return data["eval_ids"][:, 1:].astype(np.int64) if name == "stories260k" else data["eval_y"].astype(np.int64)


def judged_as_a_set(task: Any, zoo: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A built-in metric over the data set, as `search` takes it, and labels; None where scores of samples are known."""
    if task.name == "yolox_nano":
        return {"metric": "map", "decode": "yolox"}, {"labels": labels_of(task.name, task, zoo)}
    if task.name == "ppocr_rec":
        return {"metric": "cer", "decode": without_spaces}, {"labels": labels_of(task.name, task, zoo)}
    if task.name == "smollm2_wikitext":  # the model itself gives the log-likelihood of each token
        return {"metric": "perplexity"}, {}
    return None


def without_spaces(outputs: dict[str, Any]) -> list[Any]:
    """The characters of each line, by the best class of each column, without spaces."""
    return [row[row != SPACE] for row in greedy_ctc(outputs)]


if __name__ == "__main__":
    main()
