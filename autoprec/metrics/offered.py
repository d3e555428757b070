"""The built-in metrics over a data set, by name.

    map, map50       mean average precision of boxes: COCO's, and at an overlap of 0.5
    miou             mean intersection over union of classes
    f1               F1: of two classes, of many, or of many labels a sample
    macro-accuracy   accuracy of each class, averaged over classes
    recall@K         share of the right items among the K highest scores
    perplexity       of the next token; lower is better
    loglik           mean log-likelihood of a token, in nats
    wer, cer         edits over length, by words and by characters; lower is better
    edit-similarity  one less the edits over the longer length, averaged over samples
    psnr             peak signal-to-noise ratio, in dB
    pearson          correlation of outputs and labels
    spearman         correlation of their ranks

Where outputs must be read before they can be judged, a decoder does that: one of the heads of detectors in
`autoprec.metrics.detection.heads`, "ctc" or "tokens" for texts, or the user's function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprec.errors import MetricError, UsageError
from autoprec.files.functions import import_function, is_function_name
from autoprec.files.json import fingerprint
from autoprec.metrics.counts import f1, macro_accuracy, mean_iou
from autoprec.metrics.detection.average_precision import Detector, mean_average_precision
from autoprec.metrics.detection.heads import Picture, detections_of, heads
from autoprec.metrics.numbers import pearson, psnr, recall_at, spearman
from autoprec.metrics.over_set import ByStatistics
from autoprec.metrics.record import Metric
from autoprec.metrics.scores import Outputs, label_margins
from autoprec.metrics.sequences import (
    Reader,
    edit_similarity,
    error_rate,
    greedy_ctc,
    greedy_tokens,
    log_likelihood,
    perplexity,
)
from autoprec.metrics.user_code import calling, source_of
from autoprec.metrics.user_metric import contributions
from autoprec.precision import Array

_VERSION = "1"
"""The version of what these metrics compute: figures of another version are measured anew."""
_RECALL = re.compile(r"recall@([1-9]\d{0,5})")
_TEXTS: dict[str, Reader] = {"ctc": greedy_ctc, "tokens": greedy_tokens}

DecoderLike = str | Callable[[dict[str, Array]], Any]
"""What may read outputs: the name of a decoder, "module:function", or a function of the outputs by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How outputs are read.

    Attributes:
        decoder: what reads them, None for what the metric does by itself.
        picture: height and width of the input in pixels, None where it is no picture or is not known yet.
    """

    decoder: DecoderLike | None = None
    picture: Picture | None = None

    @property
    def name(self) -> str | None:
        """The name of the decoder; None for a function in memory, and where there is no decoder."""
        return self.decoder if isinstance(self.decoder, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    make: Callable[[Any], ByStatistics]
    reads: str = ""
    higher: bool = True
    labels: bool = True


_OFFERS: dict[str, _Offer] = {
    "map": _Offer(make=lambda read: mean_average_precision(read), reads="boxes"),
    "map50": _Offer(make=lambda read: mean_average_precision(read, (0,)), reads="boxes"),
    "miou": _Offer(make=lambda read: mean_iou()),
    "f1": _Offer(make=lambda read: f1()),
    "macro-accuracy": _Offer(make=lambda read: macro_accuracy()),
    "perplexity": _Offer(make=lambda read: perplexity(), higher=False, labels=False),
    "loglik": _Offer(make=lambda read: log_likelihood(), labels=False),
    "wer": _Offer(make=lambda read: error_rate(read, by_word=True), reads="texts", higher=False),
    "cer": _Offer(make=lambda read: error_rate(read, by_word=False), reads="texts", higher=False),
    "edit-similarity": _Offer(make=lambda read: edit_similarity(read), reads="texts"),
    "psnr": _Offer(make=lambda read: psnr()),
    "pearson": _Offer(make=lambda read: pearson()),
    "spearman": _Offer(make=lambda read: spearman()),
}


def names() -> tuple[str, ...]:
    """Return the names of the metrics; that of the recall has K for the number of items."""
    return (*_OFFERS, "recall@K")


def decoder_names() -> tuple[str, ...]:
    """Return the names of the decoders, of boxes and of texts."""
    return (*heads(), *_TEXTS)


def offered(name: str, decoding: Decoding) -> Metric | None:
    """Return the metric of that name, None where there is none.

    Raises:
        MetricError: the decoder cannot be imported.
        UsageError: the metric needs a decoder, or there is no such decoder.
    """
    recall = _RECALL.fullmatch(name)
    number = int(recall[1]) if recall else 0
    offer = _Offer(make=lambda read: recall_at(number)) if recall else _OFFERS.get(name)
    if offer is None:
        return None
    reader, own = _reader(name, offer, decoding)
    over_set = offer.make(reader)
    if not offer.reads and reader is not None:
        over_set = _after(reader, over_set, name)
    decoders = [] if decoding.decoder is None else [decoding.name or source_of(decoding.decoder)]
    return Metric(
        name=name,
        higher_is_better=offer.higher,
        needs_labels=offer.labels,
        needs_reference=False,
        fingerprint=fingerprint([name, _VERSION, *decoders]),
        score=contributions(over_set),
        margin=class_margins if over_set.worth_of is not None and reader is None else None,
        over_set=over_set,
        built_in=own,
    )


def class_margins(outputs: Outputs, labels: Array) -> Array:
    """Return the margins of a classifier, see `label_margins`; NaN where a sample has other than one decision."""
    made = np.asarray(next(iter(outputs.values())))
    wanted = np.asarray(labels)
    plain = made.dtype.kind == "f" and made.ndim > 1 and made.size > len(made) == wanted.size
    return label_margins(outputs, wanted) if plain and wanted.min() >= 0 else np.full(len(made), np.nan)


def _reader(name: str, offer: _Offer, decoding: Decoding) -> tuple[Any, bool]:
    """Return what reads outputs, None for nothing, and whether it is autoprec's own."""
    decoder = decoding.decoder
    known: tuple[str, ...] = {"boxes": heads(), "texts": tuple(_TEXTS)}.get(offer.reads, ())
    if decoder is None and offer.reads == "boxes":
        raise UsageError(
            f"the metric {name} must know what the outputs are: give --decode with one of {', '.join(known)}, or a "
            f"module:function that returns for each image the rows class, score, left, top, right and bottom"
        )
    if decoder is None:
        return (_TEXTS["ctc"] if offer.reads == "texts" else None), True
    if decoder in _TEXTS and decoder in known:
        return _TEXTS[str(decoder)], True
    if decoder in known:
        return lambda outputs: detections_of(str(decoder), outputs, decoding.picture), True
    if isinstance(decoder, str):
        if not is_function_name(decoder):
            choice = f"one of {', '.join(known)}, or module:function" if known else "module:function"
            raise UsageError(f"--decode must be {choice} for the metric {name}, got {decoder!r}")
        decoder = import_function(decoder, MetricError)
    return _users_reader(decoder, offer.reads), False


def _users_reader(function: Callable[..., Any], reads: str) -> Callable[[Outputs], Any]:
    """Return the user's decoder; boxes that it returns are checked."""
    name = getattr(function, "__qualname__", type(function).__name__)

    def read(outputs: Outputs) -> Any:
        with calling(f"decoder {name}", "it is called as function(outputs) with a dict of arrays by output name"):
            found = function(dict(outputs))
        return [_boxes(rows, name) for rows in found] if reads == "boxes" else found

    return read


def _boxes(rows: Any, name: str) -> Array:
    try:
        array = np.asarray(rows, np.float64).reshape(-1, 6)
    except (TypeError, ValueError) as error:
        raise MetricError(
            f"the decoder {name} must return for each image the rows class, score, left, top, right and bottom: {error}"
        ) from error
    if not np.isfinite(array).all():
        raise MetricError(f"the decoder {name} must return finite boxes and scores; leave others out")
    return array


def _after(read: Callable[[Outputs], Any], metric: ByStatistics, name: str) -> ByStatistics:
    """Return the metric of what the user's decoder makes of the outputs, as the only output."""

    def statistics(outputs: Outputs, labels: Array | None) -> Any:
        made = np.asarray(read(outputs))
        count = len(next(iter(outputs.values())))
        if made.dtype.kind not in "biuf" or made.ndim < 1 or len(made) != count:
            raise MetricError(
                f"the decoder of the metric {name} must return an array of numbers with {count} samples, got "
                f"{made.dtype} of shape {made.shape}"
            )
        return metric.statistics({"decoded": made}, labels)

    return ByStatistics(statistics, metric.function)


__all__ = ["DecoderLike", "Decoding", "Detector", "names", "offered"]
