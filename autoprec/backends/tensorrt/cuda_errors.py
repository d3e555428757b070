"""What CUDA's errors mean, and what to do about them."""

from __future__ import annotations

from autoprec.errors import BackendError

DRIVER_ADVICE = "install or update the driver (nvidia-smi shows which CUDA version it supports)"
_LOST = "the CUDA context of this process is lost with it, so start the command again"
ADVICE = {
    "cudaErrorMemoryAllocation": (
        "free GPU memory (nvidia-smi lists who holds it), use a smaller batch, or build for smaller shapes"
    ),
    "cudaErrorNoDevice": "this needs an NVIDIA GPU; check nvidia-smi and the variable CUDA_VISIBLE_DEVICES",
    "cudaErrorInsufficientDriver": (
        f"{DRIVER_ADVICE}, or pip install an older cuda-bindings, whose major version is at most the driver's"
    ),
    "cudaErrorSystemDriverMismatch": "the driver was updated while it was loaded; restart the machine",
    "cudaErrorCompatNotSupportedOnDevice": f"the CUDA compatibility package does not serve this GPU; {DRIVER_ADVICE}",
    "cudaErrorDevicesUnavailable": "another process holds the GPU exclusively; wait for it, or choose another GPU",
    "cudaErrorNoKernelImageForDevice": "this build of the runtime has no kernels for the GPU; use one that supports it",
    "cudaErrorIllegalAddress": _LOST,
    "cudaErrorLaunchFailure": _LOST,
    "cudaErrorLaunchTimeout": f"the display driver stopped a long kernel; {_LOST}",
    "cudaErrorMisalignedAddress": _LOST,
    "cudaErrorECCUncorrectable": f"the GPU's memory has a fault that ECC cannot correct; {_LOST}",
}


class CudaError(BackendError):
    """A CUDA call failed.

    Attributes:
        code: CUDA's name of the error.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def advice_on(code: str) -> str:
    """What to do about the error of that name, to be appended to a message; "" where nothing is known."""
    return f"; {ADVICE[code]}" if code in ADVICE else ""
