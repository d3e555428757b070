"""What TensorRT's messages mean, and what to do about them."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from autoprec.backends.tensorrt.records import Flavour
from autoprec.backends.tensorrt.request import LogLine, ParserError

_LONGEST_QUOTE = 300
_SOURCE_PLACE = re.compile(r"\.? In \w+ at /\S+?\.cpp:\d+\)*")
# Without a GPU, TensorRT-RTX adds this to whatever else it complains about.
_NOISE = "catchCudaError"
_ANOTHER_PRECISION = "give its unit another precision"
_NO_LIBRARY = (
    "the library {library} is missing; install it (for TensorRT 8.6: pip install 'nvidia-cudnn-cu12==8.9.*' "
    "nvidia-cublas-cu12), and put its folder into LD_LIBRARY_PATH"
)


@dataclass(frozen=True, slots=True)
class Known:
    """A message of TensorRT that is known.

    Attributes:
        pattern: the pattern to look for in the errors; its named groups fill the sentence.
        sentence: the sentence that says what it means and what to do.
        flavour: the only runtimes that it holds for, None for all.
    """

    pattern: re.Pattern[str]
    sentence: str
    flavour: Flavour | None = None


def _known(pattern: str, sentence: str, flavour: Flavour | None = None) -> Known:
    return Known(re.compile(pattern, re.DOTALL), sentence, flavour)


KNOWN = (
    # --- precisions ---
    _known(
        r"Cannot compile for target\(s\) (?P<target>.+?), because the model contains HW-specific datatypes: "
        r"(?P<dtype>[\w, ]+)",
        "{target} lacks the precision {dtype}; leave it out of the plan, or build for newer GPUs only",
    ),
    _known(
        r"Cannot compile operation '(?P<node>[^']*)' for Turing \(SM75\)",
        "sm75 cannot run the node {node!r} in this precision; give its unit fp16, or leave sm75 out of the targets",
    ),
    _known(
        r"Could not infer output types for operation:\s*\d+: (?P<operator>\w+):.*?\((?P<dtype>\w+)\["
        r".*?// (?P<node>.+?)\s*\n",
        f"no kernel computes the node {{node!r}} ({{operator}}) in {{dtype}}; {_ANOTHER_PRECISION}",
    ),
    _known(r"Could not infer output types for operation", f"no kernel takes the types of a node; {_ANOTHER_PRECISION}"),
    _known(
        r"(?:No implementation of layer|layer) (?P<layer>.+?) obeys the requested constraints",
        f"no kernel computes the layer {{layer}} in the precision asked for; {_ANOTHER_PRECISION}",
    ),
    _known(
        r"incompatible with int8 precision constraints|must run on Myelin but must obey int8 precision",
        "a layer cannot run in INT8 beside those that it is fused with; give the units near it another precision",
    ),
    # --- memory: before kernels that are not found, which may follow from it ---
    _known(
        r"OutOfMemory|out of memory|cudaError 2\b|CUDA initialization failure with error:? 2\b|CUDA_ERROR_OUT_OF_MEMORY"
        r"|amount of GPU memory \(\d+ bytes\) could not be allocated|Cuda Error in \S+: 2\b",
        "the GPU has too little free memory to build this; free some (nvidia-smi lists who holds it), limit the "
        "workspace, or give smaller shapes",
    ),
    _known(
        r"bad_alloc|MemoryError|Cannot allocate memory",
        "this machine has too little free memory to build this; free some, or give smaller shapes",
    ),
    _known(r"No space left on device", "the disk is full; free space there, or choose another folder"),
    # --- the GPU itself ---
    _known(
        r"Target GPU SM (?P<sm>\d+) is not supported by this TensorRT release"
        r"|Unsupported SM|Compute capability is invalid or not supported",
        "TensorRT-RTX does not run on this GPU (it takes the GeForce and RTX GPUs of compute capability 7.5, 8.x "
        "and 12.x); build with TensorRT (pip install 'autoprec[tensorrt]'), or for other targets",
        "rtx",
    ),
    _known(
        r"Target GPU SM (?P<sm>\d+) is not supported by this TensorRT release"
        r"|Unsupported SM|Compute capability is invalid or not supported",
        "this release does not know the GPU; install a newer TensorRT for a newer GPU, an older one for an older GPU",
    ),
    # --- kernels and shapes ---
    _known(
        r"Could not find any implementation for node (?P<layer>.+?)\.?\)*(?:$|\n)",
        f"no kernel computes the layer {{layer}}; {_ANOTHER_PRECISION}, or allow more workspace",
    ),
    _known(
        r"I\w+Layer (?P<node>.+?): .*?(?:cannot be negative|must be conformable)",
        "the shapes do not fit the node {node!r}; give the inputs shapes that the model can take",
    ),
    _known(
        r"optimization profile|Dimension mismatch for tensor|is missing dimensions in profile",
        "the shapes do not fit the inputs; give those of every dynamic input",
    ),
    # --- libraries and drivers, last: an error of any kind can bring these in its train ---
    _known(r"(?:Could|Unable to) (?:not )?load library:? (?P<library>lib[\w.+-]*\w)", _NO_LIBRARY),
    _known(r"(?P<library>lib[\w.+-]*\w): cannot open shared object file", _NO_LIBRARY),
    _known(
        r"cudaError 100\b|CUDA initialization failure with error:? 100\b|no CUDA-capable device",
        "there is no GPU here; check nvidia-smi and the variable CUDA_VISIBLE_DEVICES, or build ahead of time for "
        "targets with TensorRT-RTX",
    ),
    _known(
        r"cudaError 35\b|CUDA initialization failure with error:? 35\b|driver version is insufficient",
        "the NVIDIA driver is missing or too old (nvidia-smi shows it); install a newer one, or build ahead of time "
        "for targets with TensorRT-RTX",
    ),
    _known(
        r"(?:cudaError|CUDA initialization failure with error:?) (?P<number>\d+)",
        "CUDA does not work here (error {number}); check nvidia-smi, and restart the machine after a driver update",
    ),
)
"""The first that fits is meant, so what causes others stands before them."""

_DTYPES = {"fp8_e4m3": "fp8", "b16": "bf16", "f16": "fp16", "f32": "fp32"}
_NO_OPERATOR = re.compile(r"UNSUPPORTED_NODE|No importer registered|Plugin not found|getPluginCreator could not find")
_UNREADABLE = re.compile(r"MODEL_DESERIALIZE_FAILED|Failed to parse the ONNX model|ParseFromCodedStream")
_WHILE_PARSING = re.compile(r'While parsing node number \d+ \[(?P<operator>\S+) -> "')
_NODE_NAME = re.compile(r'^(?:Node name: (?P<short>.+)|name: "(?P<long>.+)")$', re.MULTILINE)


def explain(label: str, flavour: Flavour, log: Sequence[LogLine], also: str = "") -> str:
    """One line on why a build failed: what it means, what to do, and TensorRT's own words.

    Args:
        label: the runtime, such as "TensorRT 8.6.0".
        flavour: the flavour of the runtime.
        log: the log of the build.
        also: other text of the process, such as an exception.
    """
    texts = _errors(log)
    if also:
        texts.append(also)
    if (found := _find(texts, flavour)) is not None:
        meaning, text = found
        return f"{meaning} ({label}: {text})"
    return f"{label} could not build the engine: {quote(texts[0]) if texts else 'it gave no reason'}"


def explain_death(label: str, flavour: Flavour, log: Sequence[LogLine], stderr: str, exit_code: int) -> str:
    """One line on why the building process ended without a result.

    Args:
        label: the runtime.
        flavour: the flavour of the runtime.
        log: the log of the build.
        stderr: the end of what the process wrote there.
        exit_code: negative for a signal, as `subprocess` has it.
    """
    how = f"ended with exit code {exit_code}" if exit_code >= 0 else f"crashed (signal {_signal(-exit_code)})"
    if exit_code == -signal.SIGKILL:
        return (
            f"{label} was killed (signal {_signal(-exit_code)}) while it built, most likely because this machine ran "
            "out of memory; free some, or give smaller shapes"
        )
    texts = _errors(log)
    if stderr.strip():
        texts.insert(0, stderr)
    if (found := _find(texts, flavour)) is not None:
        meaning, text = found
        return f"{label} {how} while it built: {meaning} ({text})"
    ending = [line for line in stderr.splitlines() if line.strip()][-3:] or [line.text for line in log[-1:]]
    last = quote(" ".join(ending)) or "none"
    return f"{label} {how} while it built; try another plan or release of it, its last words: {last}"


def _errors(log: Sequence[LogLine]) -> list[str]:
    """The texts to look for reasons in, in order."""
    errors = [line.text for line in log if line.is_error]
    errors = [text for text in errors if _NOISE not in text] or errors
    # TensorRT 8.6 and 10 call a broken driver a warning, and then raise an exception that says nothing.
    warned = [line.text for line in log if line.severity == "warning" and "CUDA initialization failure" in line.text]
    return errors + warned


def _find(texts: Sequence[str], flavour: Flavour) -> tuple[str, str] | None:
    """What the first known message among the texts means, and its words."""
    for known in KNOWN:
        if known.flavour not in (None, flavour):
            continue
        for text in texts:
            if match := known.pattern.search(text):
                groups = match.groupdict(default="")
                filled = known.sentence.format_map({key: _DTYPES.get(value, value) for key, value in groups.items()})
                return filled, quote(text, match.start())
    return None


def _signal(number: int) -> str:
    try:
        return f"{number}, {signal.Signals(number).name}"
    except ValueError:
        return str(number)


def explain_parser(label: str, errors: Sequence[ParserError], log: Sequence[LogLine]) -> str:
    """One line on why the parser refused a model, for the first node that it names."""
    named = next((error for error in errors if error.operator), None)
    if named is not None:
        operator, node, error = named.operator, named.node, named
    else:
        operator, node = _node_in_log(log)
        error = errors[0] if errors else ParserError("", "it gave no reason", "", "")
    text = f"{label}: {error.code} {quote(error.description)}"
    if _UNREADABLE.search(f"{error.code} {error.description}"):
        return f"the ONNX model cannot be read, it is damaged or cut short; export it again ({text})"
    if not operator:
        return f"{label} cannot take the model: {error.code} {quote(error.description)}"
    if _NO_OPERATOR.search(f"{error.code} {error.description}"):
        return (
            f"{label} does not have the operator {operator}, as the node {node!r} uses it; export the model "
            f"without it ({text})"
        )
    return f"{label} refuses the node {node!r} ({operator}): {quote(error.description)}"


def _node_in_log(log: Sequence[LogLine]) -> tuple[str, str]:
    """Operator and name of the node that the parser stumbled over, "" where it does not say them."""
    operator = name = ""
    for line in log:
        if not line.is_error:
            continue
        if not operator and (match := _WHILE_PARSING.search(line.text)):
            operator = match["operator"]
        elif operator and not name and (match := _NODE_NAME.search(line.text)):
            name = match["short"] or match["long"]
    return operator, name


def quote(text: str, start: int = 0) -> str:
    """TensorRT's words from `start` on one line, without the places in its source."""
    lines = text[start:].splitlines()
    joined = " ".join(" ".join([line for line in lines if _NOISE not in line] or lines).split())
    joined = _SOURCE_PLACE.sub("", joined)
    return joined if len(joined) <= _LONGEST_QUOTE else f"{joined[:_LONGEST_QUOTE]}..."
