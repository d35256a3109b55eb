"""The devices: a tensor subclass, a dispatch mode, graphs, and `torch.cuda` as far as balrl uses it."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

if "torch" in sys.modules:
    raise RuntimeError("the stand-in must be imported before torch: python -m pytest -p tests.stand_in.plugin …")


def _register() -> None:
    """Compile the guard, once, and register it."""
    source = Path(__file__).with_name("guard.cpp")
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    torch_home = Path(next(iter(spec.submodule_search_locations)))
    digest = hashlib.sha256(source.read_bytes() + str(torch_home).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"balrl-stand-in-{digest}.so"
    if not library.exists():
        made = library.with_suffix(f".{id(source)}")
        paths = [f"-I{torch_home}/include", f"-L{torch_home}/lib", f"-Wl,-rpath,{torch_home}/lib"]
        options = ["-O0", "-shared", "-fPIC", "-std=c++20"]
        subprocess.run(["g++", *options, *paths, str(source), "-o", str(made), "-lc10", "-ltorch_cpu"], check=True)
        made.replace(library)
    ctypes.CDLL(str(library)).register_stand_in()


_register()

import torch  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402
from torch.utils._python_dispatch import (  # noqa: E402
    TorchDispatchMode,
    _disable_current_modes,
    return_and_correct_aliasing,
)

DEVICES = 2
WAITS: collections.Counter[tuple[str, str]] = collections.Counter()
"""How often the host had to wait, by what for and by the line that asked."""
OPERATIONS: collections.Counter[str] = collections.Counter()
"""How many operations there were on a device, views left out, by name."""
LINES: collections.Counter[str] = collections.Counter()
"""And by the line of balrl that asked, while `counting_lines`."""
VIEWS = frozenset(
    {
        "view",
        "_unsafe_view",
        "t",
        "transpose",
        "permute",
        "expand",
        "slice",
        "select",
        "split",
        "split_with_sizes",
        "unsqueeze",
        "squeeze",
        "unbind",
        "detach",
        "alias",
        "as_strided",
        "_reshape_alias",
        "unfold",
        "lift_fresh",
        "diagonal",
        "movedim",
        "narrow",
        "chunk",
        "view_as",
    }
)
ASKING = frozenset(
    {
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique_dim",
        "_unique2",
        "equal",
        "is_nonzero",
        "bincount",
        "repeat_interleave",
    }
)
BETWEEN = frozenset(
    {
        "_to_copy",
        "copy_",
        "copy",
        "lift_fresh",
        "_local_scalar_dense",
        "set_",
        "is_pinned",
        "_pin_memory",
    }
)
"""What takes operands on two devices."""
NO_SCALARS = frozenset(["mm", "addmm", "bmm", "baddbmm", "index_select", "gather", "cat", "stack"])


RANDOM = frozenset({"normal_", "uniform_", "random_", "randn", "rand", "randint", "randperm", "bernoulli_", "normal"})


class _Now:
    graph: CUDAGraph | None = None
    device = 0
    pinned: ClassVar[set[int]] = set()
    random: torch.Tensor | None = None
    lines = False


def asked_by() -> str:
    """Return the newest line of balrl on the stack."""
    for frame in reversed(traceback.extract_stack()):
        parts = Path(frame.filename).parts
        if "site-packages" not in parts and {"balrl", "agents", "envs"} & set(parts[-4:-1]):
            return f"{'/'.join(parts[-2:])}:{frame.lineno} ({frame.line})"
    return "torch"


def wait(what: str) -> None:
    """The host waits for the device."""
    if _Now.graph is not None:
        raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what} at {asked_by()}")
    WAITS[what, asked_by()] += 1


class Cuda(torch.Tensor):
    """A tensor that says it is on a CUDA device; `host` is where its values are."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor, device: int = 0) -> Cuda:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=torch.device("cuda", device),
        )
        made.host = host
        return made

    def __init__(self, host: torch.Tensor, device: int = 0) -> None: ...

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Cuda({self.host!r}, device='{self.device}')"

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def untyped_storage(self) -> Any:
        own = "/torch/" in sys._getframe(1).f_code.co_filename
        return super().untyped_storage() if own else self.host.untyped_storage()

    def data_ptr(self) -> int:
        own = "/torch/" in sys._getframe(1).f_code.co_filename
        return super().data_ptr() if own else self.host.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


def _host(x: Any) -> Any:
    return x.host if isinstance(x, Cuda) else x


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [x for x in pytree.tree_leaves(tree) if isinstance(x, torch.Tensor)]


def dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the host, having checked and counted what a device would do."""
    name = func._schema.name.split("::")[1]
    operands = _tensors((args, kwargs))
    there = [x for x in operands if isinstance(x, Cuda)]
    asked = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    if kwargs.get("pin_memory"):
        made = func(*args, **{**kwargs, "pin_memory": None})
        _Now.pinned.add(made.untyped_storage().data_ptr())
        return made
    goes_there = asked is not None and asked.type == "cuda"
    if not there and not goes_there:
        return func(*args, **kwargs)
    places = {x.device.index for x in there}
    target = (asked.index or 0) if goes_there and asked is not None else min(places)
    if target >= DEVICES:
        raise RuntimeError("CUDA error: invalid device ordinal")
    _check(func, name, args, kwargs, there, [x for x in operands if not isinstance(x, Cuda)], places)
    if name not in VIEWS:
        OPERATIONS[name] += 1
        if _Now.lines:
            LINES[asked_by()] += 1
    options = dict(kwargs)
    if asked is not None:
        options["device"] = torch.device("cpu")
    options.pop("pin_memory", None)
    host_args, host_options = pytree.tree_map(_host, (args, options))
    if name == "_to_copy":
        source, kind = args[0], kwargs.get("dtype") or args[0].dtype
        if asked is not None or not isinstance(source, Cuda):
            moved = _host(source).to(kind, copy=True)
            if asked is not None and not goes_there:
                if not kwargs.get("non_blocking"):
                    wait("copy to the host")
                return moved
            if not isinstance(source, Cuda):
                pinned = source.untyped_storage().data_ptr() in _Now.pinned
                if not (pinned and kwargs.get("non_blocking")):
                    wait("copy from pageable host memory")
            return Cuda(moved, target)
    recorded = _Now.graph if _Now.graph is not None and target == _Now.graph.device else None
    if recorded is not None:
        recorded.before(func, host_args, host_options)
    own = name in RANDOM and not isinstance(kwargs.get("generator"), torch._C.Generator)
    with _unrecorded(), _devices_generator() if own else contextlib.nullcontext():
        out = func(*host_args, **host_options)
    if recorded is not None:
        recorded.after(func, host_args, host_options, out)
    if there and asked is not None and not goes_there:
        return out
    made = pytree.tree_map(lambda x: Cuda(x, target) if isinstance(x, torch.Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, made)


def _check(
    func: Any,
    name: str,
    args: Any,
    kwargs: dict[str, Any],
    there: list[Cuda],
    here: list[torch.Tensor],
    places: set[int | None],
) -> None:
    """Refuse what CUDA refuses, and note where the host must wait."""
    if name == "copy_":
        if isinstance(args[0], Cuda) != isinstance(args[1], Cuda):
            wait("copy to the host" if isinstance(args[1], Cuda) else "copy from pageable host memory")
    elif name in ("index", "index_put_", "_index_put_impl_", "index_put"):
        _check_index(name, args)
    elif name not in BETWEEN and there:
        different = len(places) > 1 or any(x.dim() for x in here) or (here and name in NO_SCALARS)
        if different:
            raise RuntimeError(f"Expected all tensors to be on the same device, in {name} at {asked_by()}")
    if name in ASKING:
        wait(name)
    if name == "_fused_adam_" and isinstance(rate := kwargs.get("lr"), torch.Tensor):
        if not isinstance(rate, Cuda):
            wait("the step size is on the host")
        elif rate.dtype != torch.float32:
            raise RuntimeError(f"expected scalar type Float but found {rate.dtype}: fused Adam's lr at {asked_by()}")
    if name in ("index_select", "gather"):
        index, size = _host(args[2]), _host(args[0]).shape[args[1]]
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < size:
            raise RuntimeError(f"CUDA error: device-side assert triggered: {name} out of range at {asked_by()}")


def _check_index(name: str, args: Any) -> None:
    indices = [i for i in args[1] if i is not None]
    if any(i.dtype in (torch.bool, torch.uint8) for i in indices):
        fills = name.startswith("index_put") and args[2].numel() == 1 and len(indices) == 1
        if not fills:
            wait("boolean index")
    if isinstance(args[0], Cuda) and any(not isinstance(i, Cuda) for i in indices):
        wait("index from host memory")
    if name != "index" and not isinstance(args[2], Cuda) and args[2].dim():
        raise RuntimeError(f"{name}: values on the host, tensor on a device, at {asked_by()}")


@contextlib.contextmanager
def _devices_generator() -> Iterator[None]:
    """Draw from another sequence than the host's, as a device does."""
    host = torch.get_rng_state()
    if _Now.random is None:
        torch.manual_seed(torch.initial_seed() + 1)
    else:
        torch.set_rng_state(_Now.random)
    try:
        yield
    finally:
        _Now.random = torch.get_rng_state()
        torch.set_rng_state(host)


def _recording() -> bool:
    """Whether operations are recorded by `make_fx`."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def _unrecorded() -> contextlib.AbstractContextManager[Any]:
    """What is computed on the host is no part of a record."""
    return _disable_current_modes() if _recording() else contextlib.nullcontext()


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _recording() and any(isinstance(x, Cuda) for x in _tensors((args, kwargs))):
            return func(*args, **(kwargs or {}))  # to the record first, then to the tensors
        return dispatch(func, args, kwargs or {})


class CUDAGraph:
    """Operations on fixed memory. Recording runs them, for their shapes, and puts back what they changed."""

    def __init__(self) -> None:
        self.device = 0
        self.replays = 0
        self._log: list[tuple[Any, Any, Any, list[torch.Tensor] | None]] = []
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._made: set[int] = set()

    def __len__(self) -> int:
        return len(self._log)

    def before(self, func: Any, args: Any, kwargs: Any) -> None:
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            for x in _tensors(value):
                key = x.untyped_storage().data_ptr()
                if key not in self._made and key not in self._kept:
                    whole = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
                    self._kept[key] = (whole, whole.clone())

    def after(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        seen = {x.untyped_storage().data_ptr() for x in _tensors((args, kwargs))}
        outs = _tensors(out)
        fresh = {x.untyped_storage().data_ptr() for x in outs} - seen
        self._made |= fresh
        writes = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
        if fresh or writes:
            self._log.append((func, args, kwargs, outs if fresh else None))

    def replay(self) -> None:
        if self.device != _Now.device:
            raise RuntimeError(f"a graph of cuda:{self.device} is replayed on the stream of cuda:{_Now.device}")
        with torch.no_grad(), _disable_current_modes():
            for func, args, kwargs, outs in self._log:
                found = func(*args, **kwargs)
                for kept, value in zip(outs or (), _tensors(found), strict=False):
                    if kept.data_ptr() != value.data_ptr():
                        kept.copy_(value)
        self.replays += 1

    def put_back(self) -> None:
        with torch.no_grad(), _disable_current_modes():
            for whole, before in self._kept.values():
                whole.copy_(before)


@contextlib.contextmanager
def _capture(graph: CUDAGraph, *_: Any, **__: Any) -> Iterator[None]:
    graph.device, _Now.graph = _Now.device, graph
    try:
        yield
    finally:
        _Now.graph = None
        graph.put_back()


@contextlib.contextmanager
def _select(device: Any) -> Iterator[None]:
    before, _Now.device = _Now.device, torch.device(device).index or 0
    try:
        yield
    finally:
        _Now.device = before


class _Stream:
    cuda_stream = 0

    def __init__(self, device: Any = None) -> None: ...
    def wait_stream(self, other: Any) -> None: ...
    def synchronize(self) -> None: ...


def _default_device() -> torch.device:
    from torch.overrides import _get_current_function_mode_stack
    from torch.utils._device import DeviceContext

    stack = _get_current_function_mode_stack()
    found = (mode.device for mode in reversed(stack) if isinstance(mode, DeviceContext))
    return next(found, torch.device("cpu"))


def _through_the_host(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`torch.tensor` and `torch.as_tensor` copy to a device without passing a dispatcher."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if isinstance(data, torch.Tensor) and device is None:
            return make(data, *args, **kwargs)
        asked = _default_device() if device is None else torch.device(device)
        if asked.type != "cuda":
            return make(data, *args, device=device, **kwargs)
        if isinstance(data, Cuda):
            return data.to(device=asked, dtype=kwargs.get("dtype") or data.dtype)
        return make(data, *args, device="cpu", **kwargs).to(asked)

    return made


class _HostGenerator(torch._C.Generator):
    """Draws on the host, whatever device is asked for."""

    def __new__(cls, device: Any = "cpu") -> _HostGenerator:
        return torch._C.Generator.__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu") -> None: ...


@contextlib.contextmanager
def counting_lines() -> Iterator[None]:
    """Count operations by line, which is slow."""
    LINES.clear()
    _Now.lines = True
    try:
        yield
    finally:
        _Now.lines = False


def simulate_on_the_host() -> None:
    """MuJoCo Warp computes on the CPU; its views say that they are on a device."""
    from balrl.envs.mujoco import physics

    made = physics.WarpPhysics.__init__

    def init(self: Any, model: Any, num_envs: int, device: Any = "cpu", *args: Any, **kwargs: Any) -> None:
        made(self, model, num_envs, "cpu", *args, **kwargs)
        index = torch.device(device).index or 0
        if torch.device(device).type == "cuda":
            self.views = {name: Cuda(view, index) for name, view in self.views.items()}
            self._overflow = Cuda(self._overflow, index)

    physics.WarpPhysics.__init__ = init  # type: ignore[method-assign]


def install() -> None:
    """Put the devices in the place of `torch.cuda`, for the rest of the process."""
    torch.tensor, torch.as_tensor = _through_the_host(torch.tensor), _through_the_host(torch.as_tensor)
    torch.Generator = _HostGenerator  # type: ignore[misc,assignment]
    torch.cuda.is_available = torch.cuda.is_initialized = lambda: True
    torch.cuda.device_count = lambda: DEVICES
    torch.cuda.current_device = lambda: _Now.device
    torch.cuda.device = _select  # type: ignore[misc,assignment]
    torch.cuda.Stream, torch.cuda.CUDAGraph, torch.cuda.graph = _Stream, CUDAGraph, _capture  # type: ignore[misc,assignment]
    torch.cuda.stream = lambda stream: contextlib.nullcontext()  # type: ignore[assignment]
    torch.cuda.current_stream = lambda device=None: _Stream()  # type: ignore[assignment,return-value]
    torch.cuda.mem_get_info = lambda device=None: (70 << 30, 80 << 30)
    torch.cuda.get_device_name = lambda device=None: "no GPU, a stand-in"
    torch.cuda.get_rng_state = lambda device="cuda": torch.get_rng_state() if _Now.random is None else _Now.random
    torch.cuda.set_rng_state = lambda state, device="cuda": setattr(_Now, "random", state)
    torch.cuda.manual_seed = torch.cuda.manual_seed_all = lambda seed: None
    torch.cuda.is_current_stream_capturing = lambda: _Now.graph is not None
    torch.cuda.synchronize = lambda device=None: wait("torch.cuda.synchronize")
    torch.cuda._lazy_init = lambda: None
    import safetensors.torch as files

    load, save = files.load_file, files.save_file
    files.load_file = lambda name, device="cpu": {k: v.to(device) for k, v in load(name).items()}
    files.save_file = lambda tensors, *a, **k: save({n: v.cpu() for n, v in tensors.items()}, *a, **k)
    from torch.fx.experimental import proxy_tensor

    proxy_tensor.HANDLED_TYPES = (*proxy_tensor.HANDLED_TYPES, Cuda)  # type: ignore[assignment]
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # ``.data =`` would lose the subclass
    _Mode().__enter__()
    begin = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def begin_with_devices(thread: threading.Thread) -> None:
        with _Mode():  # each thread has modes of its own
            begin(thread)

    threading.Thread._bootstrap_inner = begin_with_devices  # type: ignore[attr-defined]
