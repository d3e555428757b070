"""Models that are no file: a torch module or an ONNX model in memory becomes a file in the run directory."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from autoprec.errors import ModelError, UsageError
from autoprec.exporting.axes import name_axes
from autoprec.exporting.example import example_of
from autoprec.exporting.folders import is_model_folder, request_of
from autoprec.exporting.given import FORMS
from autoprec.exporting.signature import Signature
from autoprec.files.functions import import_function, is_function_name, user_code
from autoprec.files.inventory import digest_of
from autoprec.files.json import PART
from autoprec.graph.model import load_model, save_model
from autoprec.run.directory import RunDirectory
from autoprec.run.owner import Owner, owner_of, refuse_other_owner
from autoprec.run.settings import Settings

_RUNS = Path("autoprec-runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model as a file.

    Attributes:
        path: the file: the user's, or one in the run directory.
        folder: the run directory, None where the user's file decides it.
        signature: how the module was called, None where there was no module.
        data: "calib" and "evaluate" -> the file of the samples that were prepared for the model.
    """

    path: Path
    folder: Path | None = None
    signature: Signature | None = None
    data: Mapping[str, Path] = field(default_factory=dict)

    def of(self, settings: Settings) -> Settings:
        """Return the settings with this model, and with the samples that were prepared for it."""
        calib, evaluate = self.data.get("calib"), self.data.get("evaluate")
        return replace(
            settings,
            model=self.path,
            calib=settings.calib if calib is None else calib,
            evaluate=settings.evaluate if evaluate is None else evaluate,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What a module is exported with.

    Attributes:
        inputs: the arguments of one call: a tuple, a mapping by name, or the only one; None to take them from data.
        dynamic_shapes: which axes may have any length; None for the first axis of each tensor.
        data: data sets whose first samples may be taken for the inputs: for calibration and for evaluation.
        task: what a model of transformers is for, None where its configuration says it.
        length: the most tokens of a sample of such a model.
    """

    inputs: Any = None
    dynamic_shapes: Any = None
    data: tuple[Any, ...] = ()
    task: str | None = None
    length: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written to a temporary folder: a model, how it is called, its name, and samples for it."""

    path: Path
    signature: Signature | None
    name: str
    data: Mapping[str, Path] = field(default_factory=dict)


def is_file_name(model: object) -> bool:
    """Return whether a model is the path of a file and not a function that makes one."""
    return isinstance(model, (str, Path)) and (Path(model).exists() or not is_function_name(str(model)))


def named_model(name: str) -> tuple[Any, Any]:
    """Return the model that the function `name` makes, and the example inputs, None where it returns the model alone.

    Raises:
        ModelError: there is no such function, or it raised an error.
    """
    function = import_function(name, ModelError)

    def told(error: BaseException) -> ModelError:
        return ModelError(
            f"the function {name!r} raised {type(error).__name__}: {error}; it is called without arguments and must "
            f"return a model, or a model and its example inputs"
        )

    with user_code(told):
        made = function() if not _is_model(function) else function
    model, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not _is_model(model) and not is_file_name(model):
        raise ModelError(f"the function {name!r} must return {FORMS}, got {type(model).__name__}")
    return model, example


def _is_model(model: object) -> bool:
    if isinstance(model, (onnx.ModelProto, ir.Model)):
        return True
    if "torch" not in sys.modules:
        return False
    from autoprec.exporting.torch_export import is_module

    return is_module(model)


@contextlib.contextmanager
def exported(model: Any, example: Example) -> Iterator[Written]:
    """Write a model that is no file, or lies in a folder of transformers, to a temporary folder.

    Raises:
        ModelError: it is no model, or cannot be exported.
        UsageError: the example is not what the module takes, or is given for something else than a module.
    """
    if isinstance(model, Path):
        with tempfile.TemporaryDirectory(prefix="autoprec-model-") as folder:
            yield _from_folder(model, example, Path(folder))
        return
    if not _is_model(model):
        raise ModelError(f"a model must be {FORMS}, got {type(model).__name__}")
    with tempfile.TemporaryDirectory(prefix="autoprec-model-") as folder:
        path, signature = Path(folder) / RunDirectory(Path(folder)).exported.name, None
        if isinstance(model, (onnx.ModelProto, ir.Model)):
            refuse_example(example)
            name = model.graph.name or "model"
            save_model(_own(model), path)
        else:
            inputs = example.inputs if example.inputs is not None else example_of(model.forward, example.data)
            signature = _export(model, inputs, example.dynamic_shapes, path)
            name = signature.name
        yield Written(path=path, signature=signature, name=name)


def _export(
    module: Any, inputs: Any, dynamic_shapes: Any, path: Path, axes: Mapping[str, Mapping[int, str]] | None = None
) -> Signature:
    from autoprec.exporting.torch_check import check_export
    from autoprec.exporting.torch_export import export_module

    written, signature = export_module(module, inputs, dynamic_shapes)
    name_axes(written, axes or {})
    save_model(written, path)
    check_export(module, inputs, signature, path)
    return signature


def _from_folder(model: Path, example: Example, folder: Path) -> Written:
    """Export the model of a folder of transformers, and prepare its samples."""
    sources = dict(zip(("calib", "evaluate"), example.data, strict=False))
    request = request_of(model, example.task, example.length, sources)
    from autoprec.exporting.torch_hugging_face import FolderModel

    loaded, path = FolderModel(request), RunDirectory(folder).exported
    data = {}
    for name, source in request.data.items():
        data[name] = folder / f"{name}-samples.npz"
        arrays: dict[str, Any] = {**loaded.samples(source)}
        np.savez(data[name], **arrays)
    inputs = loaded.example()
    signature = _export(loaded.module, inputs, loaded.dynamic_shapes(inputs), path, loaded.axes(inputs))
    return Written(path=path, signature=signature, name=loaded.name, data=data)


def refuse_example(example: Example) -> None:
    """Refuse example inputs for a model that has inputs of its own.

    Raises:
        UsageError: there are some.
    """
    if example.task is not None:
        raise UsageError("--task is for the folder of a transformers model, with its config.json; leave it out")
    if example.inputs is not None or example.dynamic_shapes is not None:
        raise UsageError(
            "example_inputs and dynamic_shapes are for a torch.nn.Module, leave them out for an ONNX model"
        )


def _own(model: onnx.ModelProto | ir.Model) -> ir.Model:
    """Return the model with all of its weights in memory; the user's stays as it is.

    Raises:
        ModelError: weights of it lie in files that are not there.
    """
    try:
        if isinstance(model, onnx.ModelProto):
            copy: ir.Model = ir.from_proto(onnx.ModelProto.FromString(model.SerializeToString()))
            return copy
        return ir.external_data.load_to_model(model.clone())
    except Exception as error:  # of many kinds
        raise ModelError(
            f"the ONNX model in memory cannot be read ({type(error).__name__}: {error}); load it with its weights"
        ) from error


def placed(file: Written, out: str | Path | None) -> ModelFile:
    """Copy an exported model into its run directory, unless the same one is there already.

    Args:
        file: what `exported` gave.
        out: the run directory, by default one of the name of the model, or beside it where another model has that.

    Raises:
        RunDirectoryError: the directory belongs to another model, cannot be written, or another run works in it.
    """
    signature, folder = file.signature, _folder(file.path, out, file.name)
    directory = RunDirectory(folder)
    data = {name: folder / path.name for name, path in file.data.items()}
    result = ModelFile(path=directory.exported, folder=folder, signature=signature, data=data)
    files = (*file.data.values(), Path(f"{file.path}.data"), file.path)
    same = all(digest_of(path) == digest_of(folder / path.name) for path in files)
    if same and (signature is None or directory.signature.is_file()):
        return result
    names = [directory.signature.name, *(path.name for path in files)]
    with directory.claim(), directory.inventory.replacing(*names):
        if signature is not None:
            signature.save(directory.signature)
        for path in files:
            if path.is_file():
                _copy(path, folder / path.name)
    return result


@contextlib.contextmanager
def model_file(model: Any, example: Example, out: str | Path | None, *, write: bool = True) -> Iterator[ModelFile]:
    """Give a model as a file: the user's own, or one in the run directory for what is no file.

    Args:
        model: the path of an ONNX model, "module:function", or a model in memory.
        example: what a module is exported with.
        out: the run directory that the user wants.
        write: whether the file is kept in the run directory; otherwise it is there for as long as the context lasts.

    Raises:
        ModelError: it is no model, or cannot be exported.
        UsageError: the example is not what the module takes, or is given for something else than a module.
        RunDirectoryError: see `placed`.
    """
    if isinstance(model, (str, Path)) and not is_file_name(model):
        model, found = named_model(str(model))
        example = replace(example, inputs=found) if found is not None else example
    if isinstance(model, (str, Path)) and is_model_folder(Path(model)):
        model = Path(model)
    elif isinstance(model, (str, Path)):
        refuse_example(example)
        yield ModelFile(path=Path(model))
        return
    with exported(model, example) as file:
        if not write:
            folder = _folder(file.path, out, file.name)
            yield ModelFile(path=file.path, folder=folder, signature=file.signature, data=file.data)
            return
        kept = placed(file, out)
    yield kept


def _folder(source: Path, out: str | Path | None, name: str) -> Path:
    folder = Path(out) if out is not None else _RUNS / name
    if owner_of(RunDirectory(folder)) is None:
        return folder
    model = load_model(source)
    if out is not None:
        refuse_other_owner(RunDirectory(folder), model)
        return folder
    owner, mine = owner_of(RunDirectory(folder)), Owner.of(model)
    return folder if owner is None or owner.same(mine) else folder.with_name(f"{name}-{mine.digest[:8]}")


def _copy(source: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}{PART}copy")
    shutil.copyfile(source, part)
    part.replace(target)
