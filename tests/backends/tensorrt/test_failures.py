"""What autoprec makes of TensorRT's messages.

They are recorded from real builds, quoted from public issues, or (no precision that is obeyed, INT8 constraints) put
together from the texts in the libraries of TensorRT 8.6.
"""

from __future__ import annotations

import re
import signal

import pytest

from autoprec.backends.tensorrt.failures import KNOWN, explain, explain_death, explain_parser, quote
from autoprec.backends.tensorrt.records import Flavour
from autoprec.backends.tensorrt.request import LogLine, ParserError

RTX, WEAK, STRONG = "TensorRT-RTX 1.7.1", "TensorRT 8.6.0", "TensorRT 10.7.0"

NOISE = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA runtime "
    "version))"
)
CONV_TRANSPOSE = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([type.cpp:186: infer_type] Could not infer output types "
    "for operation:    36: deconv: "
    "yb-(bf16[1,8,16,16][]so[], mem_prop=0, align=2) | xb-(bf16[1,16,8,8][]so[], mem_prop=0, align=2), "
    "wb-(bf16[16,8,2,2][]so[], mem_prop=0, align=2), stream = 0 // /decoder/up\n         | n_groups: 1)"
)

RECORDED: list[tuple[Flavour, str, str]] = [
    (
        "rtx",
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:1500: run_passes] Cannot "
            "compile for target(s) sm80, because the model contains HW-specific datatypes: fp8_e4m3. In "
            "compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)"
        ),
        "sm80 lacks the precision fp8; leave it out of the plan, or build for newer GPUs only",
    ),
    (
        "rtx",
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:1500: run_passes] Cannot "
            "compile for target(s) sm75, because the model contains HW-specific datatypes: b16. In "
            "compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)"
        ),
        "sm75 lacks the precision bf16; leave it out",
    ),
    (
        "rtx",
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: "
            "check_turing_op_compatibility] Cannot compile operation 'mm' for Turing (SM75): FP32 GEMM is "
            "not supported. In compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)"
        ),
        "sm75 cannot run the node 'mm' in this precision; give its unit fp16",
    ),
    (
        "rtx",
        CONV_TRANSPOSE,
        "no kernel computes the node '/decoder/up' (deconv) in bf16; give its unit another precision",
    ),
    (
        "weak",
        (
            "2: [optimizer.cpp::filterQDQFormats::4422] Error Code 2: Internal Error (No implementation of "
            "layer conv1 + relu1 obeys the requested constraints. I.e. no conforming implementation was "
            "found for requested layer computation precision and output precision.)"
        ),
        "no kernel computes the layer conv1 + relu1 in the precision asked for",
    ),
    (
        "weak",
        (
            "10: [optimizer.cpp::computeCosts::3869] Error Code 10: Internal Error (Could not find any "
            "implementation for node {ForeignNode[onnx::Gather_72...ScatterND_170]}.)"
        ),
        "no kernel computes the layer {ForeignNode[onnx::Gather_72...ScatterND_170]}; give",
    ),
    (
        "weak",
        ("2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)"),
        "the GPU has too little free memory",
    ),
    (
        "strong",
        (
            "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (In allocate at "
            "defaultAllocator.cpp:31 (cudaError 2: out of memory))"
        ),
        "the GPU has too little free memory",
    ),
    (
        "strong",
        (
            "Requested amount of GPU memory (68719476736 bytes) could not be allocated. There may not be "
            "enough free memory"
        ),
        "the GPU has too little free memory",
    ),
    (
        "strong",
        "Unexpected exception std::bad_alloc",
        "this machine has too little free memory",
    ),
    (
        "strong",
        (
            "IBuilder::buildSerializedNetwork: Error Code 9: API Usage Error (Target GPU SM 120 is not "
            "supported by this TensorRT release.)"
        ),
        "this release does not know the GPU; install a newer TensorRT for a newer GPU",
    ),
    (
        "rtx",
        (
            "IBuilder::buildSerializedNetwork: Error Code 9: API Usage Error (Target GPU SM 90 is not "
            "supported by this TensorRT release.)"
        ),
        "TensorRT-RTX does not run on this GPU (it takes the GeForce and RTX GPUs",
    ),
    (
        "weak",
        "1: [caskUtils.cpp::trtSmToCask::147] Error Code 1: Internal Error (Unsupported SM: 0x809)",
        "this release does not know the GPU",
    ),
    (
        "strong",
        (
            "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (IConvolutionLayer conv1: "
            "conv1: spatial dimension of convolution/deconvolution output cannot be negative (build-time "
            "output dimension of axis 2 is -1) In processCheck at "
            "/_src/optimizer/shapeof/graphShapeAnalyzer.cpp:1066)"
        ),
        "the shapes do not fit the node 'conv1'",
    ),
    (
        "rtx",
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Cuda Runtime (In generateForCurrent at "
            "/_src/runtime/core/cudaDeviceProfile.cpp:221 (cudaError 35: CUDA driver version is insufficient "
            "for CUDA runtime version))"
        ),
        "the NVIDIA driver is missing or too old",
    ),
    (
        "strong",
        "CUDA initialization failure with error: 100. Please check your CUDA installation",
        "there is no GPU",
    ),
    (
        "weak",
        (
            "6: [runtime.cpp::isCudaInstalledCorrectly::38] Error Code 6: Internal Error (CUDA "
            "initialization failure with error 222. Please check your CUDA installation)"
        ),
        "CUDA does not work here (error 222)",
    ),
    (
        "weak",
        "Unable to load library: libnvinfer_builder_resource.so.8.6.0: cannot open shared object file",
        "the library libnvinfer_builder_resource.so.8.6.0 is missing",
    ),
    (
        "strong",
        "libcudart.so.12: cannot open shared object file: No such file",
        "the library libcudart.so.12 is missing",
    ),
    (
        "strong",
        "[Errno 28] No space left on device",
        "the disk is full",
    ),
    (
        "strong",
        CONV_TRANSPOSE[:220],
        "no kernel takes the types of a node; give its unit another precision",
    ),
    (
        "weak",
        (
            "2: [optimizer.cpp::checkNode::1] Error Code 2: Internal Error (layer conv1 requires foreign "
            "node optimizations incompatible with int8 precision constraints. kOBEY_PRECISION_CONSTRAINTS "
            "was set, so treating as error.)"
        ),
        "a layer cannot run in INT8 beside those that it is fused with",
    ),
    (
        "rtx",
        (
            "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has dynamic or shape "
            "inputs, but no optimization profile has been defined. In validate at "
            "/_src/optimizer/api/network.cpp:4023)"
        ),
        "the shapes do not fit the inputs",
    ),
]


def log(*errors: str) -> list[LogLine]:
    return [LogLine("info", "Detected 1 inputs"), *(LogLine("error", text) for text in errors)]


@pytest.mark.parametrize(("flavour", "text", "meaning"), RECORDED)
def test_known_messages_say_what_to_do(flavour: Flavour, text: str, meaning: str) -> None:
    words = explain(RTX, flavour, log(text))

    assert words.startswith(meaning)
    assert "\n" not in words
    assert ";" in words, "what it means; what to do"
    assert f"({RTX}: " in words, "TensorRT's own words are quoted"


def test_every_known_message_is_recorded() -> None:
    """A pattern that no recorded line needs cannot be trusted to match."""
    unused = [
        known.pattern.pattern
        for number, known in enumerate(KNOWN)
        if not any(
            next((k for k in KNOWN if k.flavour in (None, flavour) and k.pattern.search(text)), None) is KNOWN[number]
            for flavour, text, _ in RECORDED
        )
    ]
    assert unused == []


def test_the_places_in_tensorrts_source_are_left_out() -> None:
    words = explain(RTX, "rtx", log(RECORDED[0][1]))

    assert words.endswith(
        "(TensorRT-RTX 1.7.1: Cannot compile for target(s) sm80, because the model contains HW-specific datatypes: "
        "fp8_e4m3)"
    )


def test_complaints_about_the_missing_driver_do_not_hide_the_reason() -> None:
    """Without a GPU, TensorRT-RTX adds one to every error."""
    words = explain(RTX, "rtx", log(NOISE, "Something unheard of", NOISE))

    assert words == "TensorRT-RTX 1.7.1 could not build the engine: Something unheard of"


def test_such_a_complaint_alone_is_the_reason() -> None:
    assert explain(RTX, "rtx", log(NOISE)).startswith("the NVIDIA driver is missing or too old")


def test_the_cause_stands_before_what_follows_from_it() -> None:
    """TensorRT 8.6 first drops kernels for want of memory and then finds none."""
    oom, none = RECORDED[6][1], RECORDED[5][1]

    assert explain(WEAK, "weak", log(none, oom)).startswith("the GPU has too little free memory")


def test_a_driver_warning_explains_an_exception_that_says_nothing() -> None:
    """Recorded from TensorRT 8.6.0 on a machine without a driver."""
    lines = [
        LogLine("warning", "Unable to determine GPU memory usage"),
        LogLine(
            "warning", "CUDA initialization failure with error: 35. Please check your CUDA installation:  http://..."
        ),
    ]
    words = explain(WEAK, "weak", lines, "TypeError: pybind11::init(): factory function returned nullptr")

    assert words.startswith("the NVIDIA driver is missing or too old (nvidia-smi shows it); install a newer one")


def test_a_harmless_warning_explains_nothing() -> None:
    words = explain(WEAK, "weak", [LogLine("warning", "Skipping tactic: out of memory")])

    assert words == "TensorRT 8.6.0 could not build the engine: it gave no reason"


def test_an_unknown_exception_is_quoted() -> None:
    assert (
        explain(WEAK, "weak", [], "RuntimeError: odd") == "TensorRT 8.6.0 could not build the engine: RuntimeError: odd"
    )


# --- the process ends ------------------------------------------------------------------------------------


def test_a_crash_names_the_signal_and_the_last_words() -> None:
    words = explain_death(WEAK, "weak", [], "line 1\n\nAssertion failed: odd\n", -signal.SIGABRT)

    assert words.startswith("TensorRT 8.6.0 crashed (signal 6, SIGABRT) while it built; try another plan")
    assert words.endswith("its last words: line 1 Assertion failed: odd")


def test_without_words_on_stderr_the_log_has_the_last() -> None:
    words = explain_death(
        WEAK, "weak", [LogLine("error", "first"), LogLine("info", "Timing conv1")], "", -signal.SIGSEGV
    )

    assert "(signal 11, SIGSEGV)" in words
    assert words.endswith("its last words: Timing conv1")
    assert explain_death(WEAK, "weak", [], "", -signal.SIGSEGV).endswith("its last words: none")


def test_a_crash_for_want_of_a_library_names_it() -> None:
    stderr = (
        "Could not load library libcudnn_ops_infer.so.8. Error: libcudnn_ops_infer.so.8: cannot open shared object "
        "file: No such file or directory\nPlease make sure libcudnn_ops_infer.so.8 is in your library path!\n"
    )
    words = explain_death(WEAK, "weak", [], stderr, -signal.SIGABRT)

    assert "crashed (signal 6, SIGABRT)" in words
    assert "the library libcudnn_ops_infer.so.8 is missing; install it" in words


def test_a_kill_from_outside_points_at_memory() -> None:
    words = explain_death(RTX, "rtx", [], "", -signal.SIGKILL)

    assert "was killed (signal 9, SIGKILL)" in words
    assert "ran out of memory" in words


def test_an_exit_code_is_given() -> None:
    assert "ended with exit code 3 while it built" in explain_death(RTX, "rtx", [], "odd", 3)


# --- the parser ------------------------------------------------------------------------------------------

OLD_PARSER_LOG = log(
    'ModelImporter.cpp:771: While parsing node number 23810 [DCNv2 -> "boxes"]:',
    "ModelImporter.cpp:772: --- Begin node ---",
    'ModelImporter.cpp:773: input: "/bbox/Add_output_0"\noutput: "boxes"\nname: "/bbox/DCN"\nop_type: "DCNv2"\n'
    'attribute {\n  name: "groups"\n  i: 1\n}',
    "ModelImporter.cpp:774: --- End node ---",
    "ModelImporter.cpp:777: ERROR: builtin_op_importers.cpp:5404 In function importFallbackPluginImporter:\n"
    '[8] Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"',
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ParserError("UNSUPPORTED_NODE", "false", "det1", "Det"),
            f"{RTX} does not have the operator Det, as the node 'det1' uses it; export the model without it",
        ),
        (
            ParserError("INVALID_NODE", 'creator && "Plugin not found, are the plugin name correct?"', "foo1", "Foo"),
            f"{RTX} does not have the operator Foo, as the node 'foo1' uses it",
        ),
        (
            ParserError("INVALID_NODE", f"Invalid Node - add1\nmust have same input types\n{NOISE}", "add1", "Add"),
            f"{RTX} refuses the node 'add1' (Add): Invalid Node - add1 must have same input types",
        ),
        (
            ParserError("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.", "", ""),
            "the ONNX model cannot be read, it is damaged or cut short; export it again",
        ),
        (ParserError("INVALID_GRAPH", "odd", "", ""), f"{RTX} cannot take the model: INVALID_GRAPH odd"),
    ],
)
def test_what_the_parser_refuses_is_named(error: ParserError, words: str) -> None:
    assert explain_parser(RTX, [error], []).startswith(words)


def test_the_node_comes_from_the_log_where_the_parser_gives_only_its_number() -> None:
    error = ParserError("UNSUPPORTED_NODE", 'creator && "Plugin not found, are the plugin name correct?"', "", "")

    assert explain_parser(WEAK, [error], OLD_PARSER_LOG).startswith(
        "TensorRT 8.6.0 does not have the operator DCNv2, as the node '/bbox/DCN' uses it"
    )


def test_the_first_error_with_a_node_is_the_one_told() -> None:
    """An input of a type that TensorRT lacks is complained about without a node."""
    errors = [
        ParserError("UNSUPPORTED_NODE", "Failed to convert ONNX date type", "", ""),
        ParserError("UNSUPPORTED_NODE", "false", "sn", "StringNormalizer"),
    ]

    assert "operator StringNormalizer, as the node 'sn'" in explain_parser(RTX, errors, [])


def test_long_words_are_cut_and_put_on_one_line() -> None:
    assert quote("a\n  b\n") == "a b"
    assert re.fullmatch(r"(x ){150}\.\.\.", quote("x\n" * 200))
