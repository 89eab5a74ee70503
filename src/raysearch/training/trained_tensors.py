"""The tensors of a model that its training changes, which its checkpoints have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from torch import Tensor, nn

# The state dictionary of torch's `AveragedModel` has these beside the tensors of its module.
AVERAGED_PREFIX, NUM_AVERAGED = "module.", "n_averaged"


@dataclass(frozen=True)
class TrainedTensors:
    """The parameters and buffers of a model that its training changes.

    Attributes:
        names: Their names in its state dictionary; None for all tensors.
    """

    names: frozenset[str] | None = None

    def of_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return their part of the state dictionary of the model, or of its average."""
        return {name: tensor for name, tensor in state.items() if self._contains(name)}

    def _contains(self, name: str) -> bool:
        return (
            self.names is None
            or name == NUM_AVERAGED
            or name.removeprefix(AVERAGED_PREFIX) in self.names
        )

    def restore(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Load what `of_state` returned into the model, or into its average.

        Raises:
            RuntimeError: If the state is that of another model.
        """
        others = {
            name: tensor for name, tensor in module.state_dict().items() if not self._contains(name)
        }
        module.load_state_dict({**others, **state})

    def reuse_others(self, model: nn.Module, copied: nn.Module) -> None:
        """Replace all other tensors of a copy of the model by those of the model itself."""
        if self.names is None:
            return
        for name, tensor in chain(model.named_parameters(), model.named_buffers()):
            if name not in self.names:
                path, _, own_name = name.rpartition(".")
                setattr(copied.get_submodule(path), own_name, tensor)


ALL_TENSORS = TrainedTensors()
