"""Each kind of network is exported as it is, and is called afterwards as it was before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch

from autoprec.backends.ort_sessions import open_session, session_options
from autoprec.errors import ModelError, UsageError
from autoprec.exporting.signature import Signature, read_signature
from autoprec.exporting.torch_export import export_module
from autoprec.exporting.torch_planned import planned_module
from autoprec.graph.model import Model, load_model, save_model, to_bytes
from autoprec.units.find import find_units

from ..helpers.torch_networks import KINDS, Cnn, Scores, ids, made, noise

Exports = dict[str, tuple[Any, Signature, Path]]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    """Each network, the signature and the file of its export, made when they are first asked for."""
    folder = tmp_path_factory.mktemp("exports")

    class Made(Exports):
        def __missing__(self, kind: str) -> tuple[Any, Signature, Path]:
            network, example, shapes = KINDS[kind]
            module = made(network)
            model, signature = export_module(module, example, shapes)
            save_model(model, folder / f"{kind}.onnx")
            signature.save(folder / f"{kind}.json")
            self[kind] = (module, signature, folder / f"{kind}.onnx")
            return self[kind]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Made()
    torch.set_num_threads(threads)


def planned(exports: Exports, kind: str, *, stored: bool) -> tuple[Any, Any]:
    """The network, and its exported model as a module of the signature, or of the one that was read from a file."""
    module, signature, path = exports[kind]
    kept = read_signature(path.with_suffix(".json")) if stored else signature
    assert kept is not None
    return module.eval(), planned_module(open_session(str(path), session_options(1)), kept)


def loaded(exports: Exports, kind: str) -> Model:
    return load_model(exports[kind][2], 27)


def close(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and torch.allclose(left, right, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_has_units_named_by_its_modules(exports: Exports, kind: str) -> None:
    module, _, _ = exports[kind]

    names = {unit.name.split("/")[0] for unit in find_units(loaded(exports, kind).graph).units}

    assert names - {""}
    assert names - {""} <= {path for path, _ in module.named_modules()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_may_have_any_length(exports: Exports, kind: str) -> None:
    interface = loaded(exports, kind).interface

    assert {spec.sample_axis for spec in interface.inputs} == {0}
    assert interface.batch_size is None


def test_no_note_of_this_machine_is_left(exports: Exports) -> None:
    for kind in KINDS:
        assert b"torch_networks.py" not in exports[kind][2].read_bytes()


def test_one_tensor_comes_back_as_one(exports: Exports) -> None:
    module, plan = planned(exports, "cnn", stored=True)
    x = noise(5, 3, 8, 8)

    assert close(plan(x), module(x))
    assert close(plan(x=x.double()), module(x))


def test_a_tuple_comes_back_as_a_tuple(exports: Exports) -> None:
    module, plan = planned(exports, "unet", stored=True)
    image = noise(3, 1, 8, 8)

    returned = plan(image)

    assert type(returned) is tuple
    assert all(close(a, b) for a, b in zip(returned, module(image), strict=True))


def test_a_named_tuple_comes_back_with_its_names(exports: Exports) -> None:
    for stored in (True, False):
        module, plan = planned(exports, "vit", stored=stored)
        pixels = noise(3, 3, 8, 8)

        returned = plan(pixels)

        assert isinstance(returned, Scores) is not stored
        assert close(returned.logits, module(pixels).logits)
        assert close(returned[1], module(pixels)[1])


def test_two_inputs_of_any_length_come_by_order_or_by_name(exports: Exports) -> None:
    module, plan = planned(exports, "encoder", stored=True)
    words, mask = ids(3, 9), torch.ones(3, 9, dtype=torch.int64)
    mask[:, 5:] = 0

    wanted = module(words, mask)

    assert list(plan(words, mask)) == ["logits", "hidden"]
    assert close(plan(attention_mask=mask, input_ids=words, scale=1.0)["logits"], wanted["logits"])


def test_another_constant_than_that_of_the_export_is_refused(exports: Exports) -> None:
    _, plan = planned(exports, "encoder", stored=True)
    words = ids(2, 6)

    with pytest.raises(TypeError, match="without the argument 'scale'"):
        plan(words, torch.ones_like(words), scale=2.0)
    with pytest.raises(TypeError, match="attention_mask"):
        plan(words)


def test_a_cache_goes_in_and_out_as_lists_and_tuples(exports: Exports) -> None:
    module, plan = planned(exports, "decoder", stored=True)
    tokens, past = ids(4, 3), [(noise(4, 2, 4, 8), noise(4, 2, 4, 8))]

    returned = plan(tokens, past)

    wanted = module(tokens, past)
    assert close(returned["logits"], wanted["logits"])
    assert close(returned["present"][0][1], wanted["present"][0][1])
    assert exports["decoder"][1].input_names == ["tokens", "past.0.0", "past.0.1"]


def test_a_tagger_of_words_is_the_same(exports: Exports) -> None:
    module, plan = planned(exports, "tagger", stored=True)

    assert close(plan(ids(5, 6)), module(ids(5, 6)))


def test_a_module_gives_the_same_file_each_time_and_is_given_back_as_it_was(exports: Exports) -> None:
    module = made(Cnn).train()
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    again = to_bytes(export_module(module, noise(1, 3, 8, 8))[0])

    assert again == exports["cnn"][2].read_bytes()
    assert module.training
    assert module.body.training
    assert not module.norm.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_module_in_half_precision_takes_an_example_in_single_precision() -> None:
    graph = export_module(torch.nn.Linear(4, 2).half(), noise(2, 4))[0].graph

    assert [value.dtype for value in (*graph.inputs, *graph.outputs)] == [ir.DataType.FLOAT16] * 2


class Deciding(torch.nn.Module):
    """Its forward branches on the value of a tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Around(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.inner = torch.nn.Sequential(torch.nn.ReLU(), Deciding())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.first(x))


def test_what_cannot_be_exported_says_which_module() -> None:
    with pytest.raises(ModelError, match=r"Around cannot be exported because of its module 'inner.1' \(Deciding\)"):
        export_module(Around(), noise(2, 4))


def test_a_module_that_raises_says_what_it_was_called_with() -> None:
    with pytest.raises(UsageError, match=r"Cnn raised RuntimeError .*x: float32\[2, 4\]"):
        export_module(made(Cnn), noise(2, 4))
    with pytest.raises(UsageError, match=r"arguments of Cnn.forward\(x.*missing a required argument"):
        export_module(made(Cnn), ())


def test_a_module_without_weights_in_memory_is_refused() -> None:
    with pytest.raises(ModelError, match="must be on one device that holds them, got meta"):
        export_module(made(Cnn).to("meta"), noise(2, 3, 8, 8))
    with pytest.raises(ModelError, match="'weight' has no shape yet"):
        export_module(torch.nn.LazyLinear(3), noise(2, 3))
