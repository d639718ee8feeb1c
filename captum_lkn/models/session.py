"""Sessions: a model in evaluation mode, without gradients, and left as it was found.

Several threads may have sessions of one model at the same time. What they share (training flags, the random state, the
stance of ``torch.compile``) is changed by the first session that needs it and restored by the last. Everything else
that a forward needs is kept per thread or in copies, see :mod:`captum_lkn.models.reading` and
:mod:`captum_lkn.models.hugging_face.pooling_position`.

An exception, Ctrl-C among them, may come at any line. So what was found is recorded before it is changed, and restoring
may be repeated: it is called twice, the second time for an interrupt in the first.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from captum_lkn._common.warn import warn
from captum_lkn.models.wrappers import is_compiled, is_wrapper, unwrapped

__all__ = ["as_written", "evaluation"]

_LOCK: Final = threading.RLock()


@dataclass(frozen=True, eq=False)
class _Session:
    """One use of a model by a thread."""

    thread: int


@dataclass
class _Flag:
    """The training flag of a module that is in evaluation mode for some sessions."""

    module: nn.Module
    training: bool
    sessions: set[_Session] = field(default_factory=set)


_FLAGS: Final[dict[int, _Flag]] = {}
"""By the identity of the module, which the entry keeps alive."""


class _Shared:
    """A state of the process that sessions change together.

    Args:
        change: Changes the state, and returns a function that restores it.
    """

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        self._change = change
        self._restore: Callable[[], object] | None = None
        self._sessions: set[_Session] = set()

    def open(self, session: _Session) -> None:
        with _LOCK:
            self._sessions.add(session)
            if self._restore is None:
                self._restore = self._change()

    def close(self, session: _Session) -> None:
        with _LOCK:
            self._sessions.discard(session)
            if not self._sessions and self._restore is not None:
                self._restore()
                self._restore = None


def _keep_random_state() -> Callable[[], None]:
    """Return a function that restores the random state of the CPU and of the GPUs that are in use."""
    state = torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def restore() -> None:
        torch.set_rng_state(state)
        for place, of_gpu in enumerate(gpus):
            torch.cuda.set_rng_state(of_gpu, place)

    return restore


def _run_as_written() -> Callable[[], object]:
    """Let compiled code run as it was written, and return a function that ends that."""
    set_stance: Any = getattr(torch.compiler, "set_stance", None)  # before torch 2.6 there is no such switch
    if set_stance is None or "torch._dynamo" not in sys.modules:  # without the compiler nothing is compiled
        return lambda: None
    stance = set_stance("force_eager")
    return lambda: stance.__exit__(None, None, None)


_RANDOM_STATE: Final = _Shared(_keep_random_state)
_STANCE: Final = _Shared(_run_as_written)


@contextmanager
def evaluation(module: nn.Module | None, name: str) -> Iterator[None]:
    """Evaluate a model in evaluation mode and without gradients; restore flags and random state afterwards.

    Args:
        module: The model; None for a function, whose modules are found when they are called.
        name: Its name, for the warning.

    Yields:
        Nothing.

    Warns:
        UserWarning: The model is in training mode.
    """
    session = _Session(threading.get_ident())
    gradients = torch.is_grad_enabled()
    modules = [] if module is None or _has_fixed_mode(unwrapped(module)) else list(module.modules())
    hooks: list[torch.utils.hooks.RemovableHandle] = []
    try:
        try:
            _RANDOM_STATE.open(session)
            _open_flags(modules, session)
            if module is not None and _is_in_training(unwrapped(module), modules, session):
                warn(
                    f"{name} is in training mode: it is evaluated in eval mode, and set back afterwards. Call .eval() "
                    "on it to choose eval mode yourself"
                )
            torch.set_grad_enabled(False)
            # A hook of all modules makes torch.compile warn, and compile another graph.
            if not any(map(is_compiled, () if module is None else module.modules())):
                hooks.append(_evaluate_what_is_called(module, modules, session, name))
            yield
        finally:
            _remove(hooks)
            _close(modules, session)
            _enable_gradients(gradients)
    finally:
        _remove(hooks)
        _close(modules, session)
        _enable_gradients(gradients)


def _evaluate_what_is_called(
    module: nn.Module | None, modules: list[nn.Module], session: _Session, name: str
) -> torch.utils.hooks.RemovableHandle:
    """Set a hook that brings modules into evaluation mode which a function, a read-out or a list of modules calls.

    They are no parts of the model that could be found before; each is added to `modules` before its flag is changed.
    """
    fixed = set() if module is None else {id(part) for part in module.modules()}
    called: set[str] = set()

    def before(part: nn.Module, _: Any) -> None:
        if not getattr(part, "training", False) or threading.get_ident() != session.thread or id(part) in fixed:
            return
        modules.append(part)
        _open_flags([part], session)
        if not called and not is_wrapper(part) and _has_two_modes(part):
            called.add(type(part).__name__)
            warn(
                f"{name} calls {type(part).__name__}, which is in training mode: it is evaluated in eval mode, and set "
                "back afterwards. Call .eval() on it to choose eval mode yourself"
            )

    return register_module_forward_pre_hook(before)


def _has_two_modes(part: nn.Module) -> bool:
    """Return whether a module may compute otherwise in training mode; of torch's own most do not."""
    kind = type(part)
    if kind.__module__.startswith("torch.ao."):
        return False
    named = any(name in kind.__name__ for name in ("Dropout", "BatchNorm", "RReLU"))
    dropout: Any = getattr(part, "dropout", 0.0)
    drops = isinstance(dropout, float) and dropout > 0  # of attention and recurrent modules
    tracks = bool(getattr(part, "track_running_stats", False))
    if kind.__module__.startswith("torch.nn."):
        return named or drops or tracks
    # One's own activation functions have no mode; a module that drops paths has a probability, or reads the flag.
    return (
        bool(part._parameters or part._buffers or part._modules)
        or any(type(x) is float for x in vars(part).values())
        or _reads_training(kind)
    )


def _reads_training(kind: type[nn.Module]) -> bool:
    """Return whether the methods of one's own module name the flag: ``self.training``."""
    methods = (
        method for base in kind.__mro__ if not base.__module__.startswith("torch.") for method in vars(base).values()
    )
    return any("training" in method.__code__.co_names for method in methods if inspect.isfunction(method))


def _remove(hooks: list[torch.utils.hooks.RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()


def _enable_gradients(before: bool) -> None:
    """Enable gradients where they were enabled before.

    A session inside another leaves them disabled: after an interrupt it may be closed after the outer one, and would
    undo what that restored.
    """
    if before:
        torch.set_grad_enabled(True)


@contextmanager
def as_written() -> Iterator[None]:
    """Run compiled code as it was written, so that its hooks are called."""
    session = _Session(threading.get_ident())
    try:
        try:
            _STANCE.open(session)
            yield
        finally:
            _STANCE.close(session)
    finally:
        _STANCE.close(session)


def _open_flags(modules: list[nn.Module], session: _Session) -> None:
    with _LOCK:
        for module in modules:  # all are recorded first, since the flag of a compiled module is that of its inside
            training = getattr(module, "training", False)
            _FLAGS.setdefault(id(module), _Flag(module, training)).sessions.add(session)
        for module in modules:
            if getattr(module, "training", False):
                module.training = False


def _close(modules: list[nn.Module], session: _Session) -> None:
    with _LOCK:
        for module in modules:
            flag = _FLAGS.get(id(module))
            if flag is None:
                continue
            flag.sessions.discard(session)
            if not flag.sessions:
                if getattr(module, "training", False) != flag.training:
                    module.training = flag.training
                _FLAGS.pop(id(module), None)
        _RANDOM_STATE.close(session)


def _is_in_training(root: nn.Module, modules: list[nn.Module], session: _Session) -> bool:
    """Return whether a session found a model in training mode, and no session around it in the same thread did.

    It holds the lock, since other threads open and close their sessions of the same modules meanwhile.

    The flag of a wrapper has no effect. Nor have those of modules that a conversion made (quantised ones), which are
    set when they are made, whatever the mode of the model.
    """
    with _LOCK:
        outer = any(
            other is not session and other.thread == session.thread
            for module in modules
            for other in _FLAGS[id(module)].sessions
        )
        return not outer and any(
            _FLAGS[id(module)].training
            and not is_wrapper(module)
            and (module is root or not type(module).__module__.startswith("torch.ao."))
            for module in modules
        )


def _has_fixed_mode(root: nn.Module) -> bool:
    """Return whether a model refuses ``.eval()``, as exported programs do, whose mode was fixed at export."""
    return isinstance(root, torch.fx.GraphModule) and callable(vars(root).get("eval"))
