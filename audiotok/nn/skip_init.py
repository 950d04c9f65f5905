"""Networks built without drawing the first weights that loading replaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWS = (Tensor.normal_, Tensor.uniform_)


class SkipInit(TorchFunctionMode):
    """Context in which new parameters are left unset, for networks that are then loaded whole.

    Drawing them takes longer than loading does, and the memory of what is unset is taken only when
    it is written. What is no parameter is set as usual: a buffer may be none of the state. The
    random numbers that come after are those that came before.

    >>> with SkipInit():
    ...     network = nn.Linear(3, 5)
    >>> network.load_state_dict(nn.Linear(3, 5).state_dict())
    <All keys matched successfully>
    """

    def __enter__(self) -> SkipInit:
        self._random = torch.get_rng_state()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_rng_state(self._random)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        target = given.get("tensor", args[0] if args else None)
        draws = func in DRAWS or getattr(func, "__module__", "") == nn.init.__name__
        if draws and isinstance(target, nn.Parameter):
            return target
        return func(*args, **given)
