"""Every CUDA source compiles: NVRTC needs neither a device nor a driver."""

import ctypes
import pkgutil
from importlib import import_module
from importlib.metadata import PackageNotFoundError, files

import pytest

import optlib

MODULES = [info.name for info in pkgutil.walk_packages(optlib.__path__, "optlib.") if info.name.endswith("_cuda")]
SOURCES = {f"{module}:{name}": source for module in MODULES for name, source in import_module(module).SOURCES.items()}
OPTIONS = (b"--gpu-architecture=compute_75", b"--std=c++17")  # the oldest device that CUDA 13 supports


@pytest.fixture(scope="module")
def nvrtc():
    try:
        found = [path for path in files("nvidia-cuda-nvrtc") if path.name.startswith("libnvrtc.so")]
    except PackageNotFoundError:
        pytest.skip("the package nvidia-cuda-nvrtc of the test group is not installed (it exists for Linux only)")
    return ctypes.CDLL(str(found[0].locate()))


def compile_cuda(nvrtc, source):
    """Return the compiler's log, empty if it found nothing to say, and whether it succeeded."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
    status = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), options)
    assert nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)) == 0
    log = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetProgramLog(program, log) == 0
    assert nvrtc.nvrtcDestroyProgram(ctypes.byref(program)) == 0
    return log.value.decode().strip(), status == 0


@pytest.mark.parametrize("name", SOURCES)
def test_compiles_without_warnings(nvrtc, name):
    log, succeeded = compile_cuda(nvrtc, SOURCES[name])
    assert succeeded, log
    assert not log


def test_an_error_is_found(nvrtc):
    log, succeeded = compile_cuda(nvrtc, "__global__ void f(double* x) { x[0] = undefined_name; }")
    assert not succeeded
    assert "undefined_name" in log
