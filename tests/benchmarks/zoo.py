"""Tune the models of a zoo and print one row for each.

    python tests/benchmarks/zoo.py PATH_OF_THE_ZOO [MODEL ...] [--out FOLDER] [--seed N] [--threads N]
        [--confidence C] [--fresh] [--backend NAME --target SM] [--trials N] [--samples N] [--batch N]

PATH holds a module `zoo.py` with NAMES and `load(name)`, which gives a task: `model` (path), `calib` and `eval`
(input name -> array), `metric` (its name), `score(outputs) -> one score per sample, higher is better`, `fp32` (the
known score). Every figure of a row comes from one run of the tool: drops from samples that chose nothing, as
counted with a 95 % paired bootstrap interval and as autoprec estimates them, latencies from interleaved rounds.

Classifiers are tuned by top-1 and language models by their targets, YOLOX-nano by mAP, PP-OCRv4 by character errors,
SmolLM2 by perplexity, others by their own scores. `--backend tensorrt-rtx --target sm89` builds without a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from set_metrics import judged_as_a_set

import autoprec
from autoprec.cli.screen import Screen, print_table

MAX_DROP = {"mobilenet_v1_075": 0.005, "etinynet": 0.01, "kwt1": 0.005, "stories260k": 0.01, "smollm2_wikitext": 0.5}
CALIBRATION_SAMPLES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("autoprec-runs/zoo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--confidence", type=float, help="accept only plans whose interval of the drop meets the bound, e.g. 0.95"
    )
    for option, usual in (("--trials", 40), ("--batch", 16), ("--samples", None), ("--threads", None)):
        parser.add_argument(option, type=int, default=usual)
    for option, usual in (("--backend", "ort-cpu"), ("--target", "")):
        parser.add_argument(option, default=usual)
    parser.add_argument("--fresh", action="store_true", help="do not go on from earlier runs")
    options = parser.parse_args()
    zoo = load_zoo(options.zoo)
    rows, verdicts = [], []
    for name in options.models or zoo.NAMES:
        runtime = "" if options.backend == "ort-cpu" else f"-{options.backend}"
        out = options.out / f"{name}{runtime}-{options.seed}"
        if options.fresh:
            for path in sorted(out.glob("*")):
                path.unlink()
        summary = tune(zoo.load(name), out, options)
        rows += [row(name, plan, summary) for plan in summary["candidates"]]
        verdicts.append(f"{name}, {summary['chosen']}, bound {summary['max_drop']:g}: {summary['verdict']}")
    level = 100 * (options.confidence or 0.95)
    print_table(
        [
            *("model", "plan", "score"),
            *("drop on fresh samples (95 %)", f"estimated drop ({level:g} %)", "agree", "KL"),
            "vs FP32",
            "vs best uniform",
            "MACs",
            "seconds",
        ],
        rows,
    )
    print("", *verdicts, sep="\n")
    print(f"\n{platform.platform()}, {autoprec.__version__}, batch {options.batch}, seed {options.seed}")


def load_zoo(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("zoo", folder / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module


def tune(task: Any, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    model, calib, evaluate = task.model, dict(task.calib), dict(task.eval)
    judged = judged_as_a_set(task, options.zoo)
    if judged is None:
        outputs = fp32_outputs(task)
        samples = len(task.score(outputs))
        group = len(next(iter(evaluate.values()))) // samples
        if group > 1:  # several rows of the model make one sample, as in ranking
            model = grouped(task.model, group, out / "grouped.onnx")
            calib, evaluate = ({k: v.reshape(-1, group) for k, v in feed.items()} for feed in (calib, evaluate))
        labels, score = judged_by(task, outputs, samples, group)
        judged = {"metric": score, "direction": "higher"}, {"labels": labels}
    chosen_by, labelled = judged
    calib = {name: array[:CALIBRATION_SAMPLES] for name, array in calib.items()}
    data = {name: array[: options.samples] for name, array in {**evaluate, **labelled}.items()}
    start = time.monotonic()
    screen = Screen(quiet=False)
    try:
        result = autoprec.search(
            model,
            calib=calib,
            eval=data,
            **chosen_by,
            max_drop=MAX_DROP.get(task.name, 0.01),
            confidence=options.confidence,
            out=out,
            seed=options.seed,
            threads=options.threads,
            trials=options.trials,
            batch=options.batch,
            backend=options.backend,
            targets=[target for target in options.target.split(",") if target],
            progress=screen,
        )
    finally:
        screen.close()
    summary = {**result.summary, "seconds_total": time.monotonic() - start}
    result.save()
    (out / "row.json").write_text(json.dumps(summary, default=str))
    print(f"{task.name}: {result.reason}", file=sys.stderr, flush=True)
    return summary


def row(model: str, plan: str, summary: dict[str, Any]) -> list[str]:
    record = summary["candidates"][plan]
    chosen = plan == summary["chosen"]
    ratio = record["latency_vs_fp32"]["estimate"]
    versus = f"{summary['latency_vs_best_uniform']['estimate']:.3f}" if chosen else ""
    return [
        model,
        f"{plan} *" if chosen else plan,
        f"{record['score']:.4f}",
        interval(record["drop"]),
        interval(record["estimated_drop"]),
        "-" if record["agreement"] is None else f"{record['agreement']:.4f}",
        "-" if record["kl"] is None else f"{record['kl']:.5f}",
        f"{ratio:.3f}",
        versus,
        " ".join(f"{share:.0%} {p}" for p, share in record["mac_share"].items()),
        f"{summary['seconds_total']:.0f}" if chosen else "",
    ]


def interval(drop: dict[str, Any]) -> str:
    return f"{drop['estimate']:+.4f} ({drop['low']:+.4f} .. {drop['high']:+.4f})"


def judged_by(task: Any, outputs: list[Any], samples: int, group: int) -> tuple[Any, Any]:
    """Labels and a metric that give the task's own scores, batch by batch where that is known how to do."""
    if is_classifier(task):
        return labels_of(task, outputs[0]), "top1"
    targets = next_tokens(task, outputs[0])
    if targets is not None:
        return targets, lambda made, labels: likelihood(next(iter(made.values())), labels)
    return np.arange(samples), metric(task, group)


def next_tokens(task: Any, output: Any) -> Any:
    """The token that each position of a language model must foretell, int64[samples, positions]; None for other tasks.

    Each position foretells the next input. The last one's target is in no input: scores of logits that grow with the
    token say which it is.
    """
    ids = next(iter(task.eval.values()))
    if len(task.eval) != 1 or ids.dtype.kind not in "iu" or output.ndim != 3 or output.shape[:2] != ids.shape:
        return None
    positions, tokens = output.shape[1:]
    probe = np.zeros(output.shape)
    probe[:, -1] = np.arange(tokens) / tokens
    rest = (positions - 1) * np.log(tokens) + np.log(np.exp(probe[0, -1]).sum())
    last = np.rint((np.asarray(task.score([probe])) * positions + rest) * tokens).astype(np.int64)
    if not ((last >= 0) & (last < tokens)).all():
        return None
    targets = np.concatenate([ids[:, 1:], last[:, None]], axis=1)
    return targets if np.allclose(likelihood(output, targets), task.score([output]), rtol=0, atol=1e-5) else None


def likelihood(logits: Any, targets: Any) -> Any:
    """The mean log-likelihood of each sample's targets, float64[samples]."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, np.asarray(targets)[..., None], axis=-1)[..., 0].astype(np.float64)
    return (chosen - np.log(np.exp(shifted).sum(axis=-1, dtype=np.float64))).mean(axis=1)


def is_classifier(task: Any) -> bool:
    return re.sub(r"[^a-z0-9]", "", task.metric.lower()) == "top1"


def labels_of(task: Any, output: Any) -> Any:
    """The class of each sample, int64[samples]: the one whose one-hot output the task scores as right.

    Args:
        task: a classifier of the zoo.
        output: the model's first output for all samples, [samples, classes], to check the labels against.

    Raises:
        ValueError: a sample is right for no class or for several, or the labels do not explain the score of `output`.
    """
    onehot = np.zeros((len(output), output[0].size), np.float32)
    labels, found = np.zeros(len(output), np.int64), np.zeros(len(output), np.int64)
    for place in range(onehot.shape[1]):
        onehot[:, place] = 1
        right = np.asarray(task.score([onehot.reshape(output.shape)])) == 1
        onehot[:, place] = 0
        labels[right] = place
        found += right
    if (found != 1).any():
        raise ValueError(f"{task.name}: {(found != 1).sum()} samples do not have exactly one right class")
    right = output.reshape(onehot.shape).argmax(axis=1) == labels
    if not np.array_equal(right, np.asarray(task.score([output])) == 1):
        raise ValueError(f"{task.name}: its score is not whether the largest output is at the label")
    return labels


def metric(task: Any, group: int) -> Callable[[dict[str, Any], Any], Any]:
    """The zoo scores all samples in order, so each batch is put into its places and scored whole.

    Labels are the samples' numbers.
    """
    shapes = {}

    def score(outputs: dict[str, Any], labels: Any) -> Any:
        arrays = [array.reshape(-1, *array.shape[2:]) if group > 1 else array for array in outputs.values()]
        total = samples_of(task) * group
        whole = []
        for place, array in enumerate(arrays):
            key = (place, array.shape[1:])
            if key not in shapes:
                shapes[key] = np.zeros((total, *array.shape[1:]), array.dtype)
            rows = (np.asarray(labels)[:, None] * group + np.arange(group)).reshape(-1)
            shapes[key][rows] = array
            whole.append(shapes[key])
        return score_rows(task, whole, np.asarray(labels))

    return score


def samples_of(task: Any) -> int:
    cached = _SAMPLES.get(task.name)
    if cached is None:
        cached = _SAMPLES[task.name] = len(task.score(fp32_outputs(task)))
    return cached


_SAMPLES: dict[str, int] = {}


def score_rows(task: Any, whole: list[Any], labels: Any) -> Any:
    return np.asarray(task.score(whole), np.float64)[labels]


def fp32_outputs(task: Any) -> list[Any]:
    import zoo

    return zoo.outputs(task.model, task.eval, task.batch)  # type: ignore[no-any-return]


def grouped(path: Path, group: int, target: Path) -> Path:
    """The model with inputs and outputs of shape [samples, group]: Reshape, model, Reshape."""
    model = ir.load(path)
    graph = model.graph
    flat, folded = (ir.tensor(np.array(shape, np.int64), name=f"shape_{len(shape)}") for shape in ([-1], [-1, group]))
    consts = [ir.Value(name=t.name, shape=t.shape, type=ir.TensorType(t.dtype), const_value=t) for t in (flat, folded)]
    for const in consts:
        graph.register_initializer(const)
    for place, old in enumerate(list(graph.inputs)):
        name = str(old.name)
        new = ir.Value(name=name, type=old.type, shape=ir.Shape(["N", group]))
        old.name = f"{name}_flat"
        inner = ir.node("Reshape", [new, consts[0]], outputs=[ir.Value(name=f"{name}_rows", type=old.type)])
        ir.convenience.replace_all_uses_with(old, inner.outputs[0])
        graph.inputs[place] = new
        graph.append(inner)
    for place, old in enumerate(list(graph.outputs)):
        name = str(old.name)
        old.name = f"{name}_rows"
        final = ir.Value(name=name, type=old.type, shape=ir.Shape(["N", group]))
        graph.append(ir.node("Reshape", [old, consts[1]], outputs=[final]))
        graph.outputs[place] = final
    graph.sort()
    ir.save(model, target)
    onnx.checker.check_model(str(target))
    return target


if __name__ == "__main__":
    main()
