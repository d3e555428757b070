"""The contract of a backend, as tests to inherit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.backends.protocol import Backend
from autoprec.errors import BackendError
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.testing.tiny import tiny_data, tiny_model, tiny_scores, tiny_weights


class BackendContract:
    """The tests that every backend must pass; the tests of a backend inherit this class and return it from `backend`.

    class TestMyBackend(BackendContract):
        def backend(self) -> Backend:
            return MyBackend()
    """

    def backend(self) -> Backend:
        """Return the backend to test.

        Raises:
            NotImplementedError: the subclass does not override this method.
        """
        raise NotImplementedError("return the backend to test from backend()")

    def test_it_has_a_name_and_a_known_scheme(self) -> None:
        """The scheme decides how plans are lowered; plans store its name, so one of autoprec's is not renamed."""
        from autoprec.backends.scheme import SCHEMES, Scheme

        backend = self.backend()
        assert backend.name
        assert isinstance(backend.scheme, Scheme)
        assert backend.scheme.name
        assert SCHEMES.get(backend.scheme.name, backend.scheme) == backend.scheme

    def test_it_says_what_autoprec_asks_of_a_runtime(self) -> None:
        """The flags and texts of the Protocol exist and have the right types."""
        backend = self.backend()
        assert backend.default_space
        assert backend.threads > 0
        assert all(isinstance(target, str) and target for target in backend.targets)
        flags = (backend.runs_here, backend.uses_gpu, backend.portable, backend.builds_quickly, backend.keeps_engines)
        assert all(isinstance(flag, bool) for flag in flags)
        assert backend.runs_here or not backend.uses_gpu

    def test_an_engine_knows_its_size(self, tmp_path: Path) -> None:
        """The size is in bytes, or 0 if the runtime keeps no engine."""
        with self.backend().build(tiny_model(tmp_path).read_bytes()) as engine:
            assert isinstance(engine.size_bytes, int)
            assert engine.size_bytes >= 0

    def test_describe_is_flat_words_and_stable(self) -> None:
        """The description must be stable, since it becomes part of fingerprints."""
        described = self.backend().describe()
        assert described
        assert all(isinstance(text, str) and text for pair in described.items() for text in pair)
        assert self.backend().describe() == described

    def test_support_answers_for_every_precision(self) -> None:
        """Each precision has None, or a reason that people can read."""
        support = self.backend().support()
        assert set(support) == set(Precision)
        assert all(why is None or why.strip() for why in support.values())
        assert support[Precision.FP32] is None

    def test_garbage_is_a_backend_error(self) -> None:
        """The error of the runtime is never passed on as it is."""
        import pytest

        for garbage in (b"", b"no model at all", bytes(range(256))):
            with pytest.raises(BackendError):
                self.backend().build(garbage)

    def test_a_batch_that_does_not_fit_is_a_backend_error(self, tmp_path: Path) -> None:
        """The error of the runtime is never passed on as it is."""
        import pytest

        with self.backend().build(tiny_model(tmp_path).read_bytes()) as engine, pytest.raises(BackendError):
            engine.run({"x": np.zeros((1, 2, 3, 4), np.float32)})

    def test_run_returns_every_output(self, tmp_path: Path) -> None:
        """Each output has its name, one row for each sample, and the values that the network computes in NumPy."""
        model = tiny_model(tmp_path)
        x = tiny_data(model, 3)["x"]
        with self.backend().build(model.read_bytes()) as engine:
            outputs = engine.run({"x": x})
        assert set(outputs) == {"scores"}
        np.testing.assert_allclose(outputs["scores"], tiny_scores(tiny_weights(0), x), rtol=1e-3, atol=1e-4)

    def test_exact_runs_pairs_as_written(self, tmp_path: Path) -> None:
        """With `exact`, a Q/DQ pair rounds, and the nodes that read it compute in FP32."""
        model, scale = tiny_model(tmp_path), 0.25
        x = tiny_data(model, 3)["x"]
        with self.backend().build(_with_pair(model, scale), exact=True) as engine:
            found = engine.run({"x": x})["scores"]
        rounded = np.clip(np.rint(x / scale), -128, 127).astype(np.float32) * scale
        np.testing.assert_allclose(found, tiny_scores(tiny_weights(0), rounded), rtol=1e-3, atol=1e-4)

    def test_times_are_positive_and_as_many_as_asked(self, tmp_path: Path) -> None:
        """There is one time in milliseconds for each run."""
        model = tiny_model(tmp_path)
        with self.backend().build(model.read_bytes()) as engine:
            times = engine.time_ms({"x": tiny_data(model, 2)["x"]}, 4)
        assert len(times) == 4
        assert all(milliseconds > 0 for milliseconds in times)

    def test_a_busy_machine_has_a_clock_too(self, tmp_path: Path) -> None:
        """An engine for several batches in flight can be timed, and it computes the same outputs."""
        model = tiny_model(tmp_path)
        x = tiny_data(model, 2)["x"]
        backend = self.backend()
        with backend.build_busy(model.read_bytes()) as engine:
            times = engine.time_ms({"x": x}, 4)
            outputs = engine.run({"x": x}) if backend.runs_here else {"scores": tiny_scores(tiny_weights(0), x)}
        assert len(times) == 4
        assert all(milliseconds > 0 for milliseconds in times)
        np.testing.assert_allclose(outputs["scores"], tiny_scores(tiny_weights(0), x), rtol=1e-3, atol=1e-4)

    def test_inspect_names_only_given_nodes(self, tmp_path: Path) -> None:
        """Kernels that belong to none of the given nodes are left out."""
        model = tiny_model(tmp_path).read_bytes()
        found = self.backend().inspect(model, ["conv2", "head", "absent"])
        assert set(found) <= {"conv2", "head"}
        assert all(ran.operator and not ran.quantized for ran in found.values())
        assert self.backend().inspect(model, []) == {}

    def test_profiled_times_are_of_given_units_and_not_negative(self, tmp_path: Path) -> None:
        """Times that belong to no unit and to no boundary are listed apart, the longest first."""
        model = tiny_model(tmp_path)
        feed = {"x": tiny_data(model, 4)["x"]}
        home = {"conv1": "first", "relu1": "first", "conv2": "second"}
        found = self.backend().profile(model.read_bytes(), feed, home, {"first": 3, "second": 1})
        rest = [milliseconds for _, milliseconds in found.rest]
        assert set(found.unit_ms) <= {"first", "second"}
        assert {unit for pair in found.boundary_ms for unit in pair} <= {"first", "second", ""}
        assert all(before != after for before, after in found.boundary_ms)
        assert all(milliseconds >= 0 for milliseconds in (*found.unit_ms.values(), *found.boundary_ms.values(), *rest))
        assert rest == sorted(rest, reverse=True)
        assert sum(found.unit_ms.values()) > 0

    def test_without_units_all_time_is_listed(self, tmp_path: Path) -> None:
        """No time is lost if there are no units."""
        model = tiny_model(tmp_path)
        found = self.backend().profile(model.read_bytes(), {"x": tiny_data(model, 4)["x"]}, {}, {})
        assert (dict(found.unit_ms), dict(found.boundary_ms)) == ({}, {})
        assert found.rest
        assert found.total_ms > 0
        assert found.share == 0

    def test_an_engine_is_a_context_manager(self, tmp_path: Path) -> None:
        """Entering an engine returns it, and errors inside the block pass through."""
        import pytest

        engine = self.backend().build(tiny_model(tmp_path).read_bytes())
        with engine as entered:
            assert entered is engine
        with pytest.raises(ZeroDivisionError), self.backend().build(tiny_model(tmp_path).read_bytes()):
            raise ZeroDivisionError


def _with_pair(path: Path, scale: float) -> bytes:
    """Return `tiny_model` with a Q/DQ pair on its input."""
    model = ir.load(path)
    graph = model.graph
    x = graph.inputs[0]
    readers = list(x.uses())
    step = ir.Value(name="scale", const_value=ir.tensor(np.array(scale, np.float32), name="scale"))
    zero = ir.Value(name="zero", const_value=ir.tensor(np.array(0, np.int8), name="zero"))
    for value in (step, zero):
        graph.register_initializer(value)
    quantize = ir.node("QuantizeLinear", [x, step, zero], name="x/quantize")
    dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], step, zero], name="x/dequantize")
    graph.insert_before(graph[0], [quantize, dequantize])
    for node, index in readers:
        node.replace_input_with(index, dequantize.outputs[0])
    return to_bytes(model)
