"""Builds networks from hyperparameters, and checks that they accept a patch size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from raysearch.config.custom_components import custom_component
from raysearch.config.hyperparameter_spec import Hparams, is_import_path
from raysearch.config.hyperparameters import TrialParams, resolve
from raysearch.config.names import FROZEN, is_encoder
from raysearch.errors import SpaceError, first_line
from raysearch.models import PatchShape, is_bag_shape
from raysearch.models.architectures import ARCHITECTURES, pretrained_encoder
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.encoders.snapshots import encoder_of
from raysearch.models.patch_limits import MIN_PATCH_SIDE
from raysearch.models.transfer.feature_heads import FeatureHead, build_feature_head
from raysearch.models.transfer.feature_network import FeatureExtractor, FeatureNetwork
from raysearch.models.transfer.input_normalization import with_input_normalization
from raysearch.models.transfer.input_size import input_shape, with_input_size
from raysearch.models.transfer.network_layers import with_custom_head
from raysearch.models.transfer.pretrained_weights import compatible_weights, load_weights
from raysearch.models.weights.state_dicts import StateDict

# The sides that are tried to find the smallest patch that an architecture accepts.
CANDIDATE_SIDES = (16, 32, 64, 96, 128, 224, 256, 299, 384, 512)


def build_network(
    name: str,
    shape: PatchShape,
    num_classes: int,
    hparams: Hparams,
    encoder: Encoder | None = None,
) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: The architecture.
        shape: The patch shape (H, W, 3).
        num_classes: The number of logits.
        hparams: The hyperparameters of a trial; the others have their defaults. Those that the
            architecture does not have are ignored.
        encoder: The description of a pretrained encoder; by default it is read from the table, or
            from its snapshot.

    Raises:
        SpaceError: If the name is unknown, the patch is smaller than `MIN_PATCH_SIDE`, or a value
            is out of range.
    """
    spec = _NetworkSpec.of(name, shape, num_classes, hparams, encoder)
    return spec.assemble(spec.architecture_network())


@dataclass(frozen=True)
class _NetworkSpec:
    """What a network is built from.

    Attributes:
        name: The architecture.
        params: The resolved hyperparameters.
        shape: The patch shape (H, W, 3).
        net_shape: The shape of the network's input (H, W, 3).
        num_classes: The number of logits.
        encoder: The description of a pretrained encoder; None of any other network.
    """

    name: str
    params: TrialParams
    shape: PatchShape
    net_shape: PatchShape
    num_classes: int
    encoder: Encoder | None

    @classmethod
    def of(
        cls,
        name: str,
        shape: PatchShape,
        num_classes: int,
        hparams: Hparams,
        encoder: Encoder | None,
    ) -> _NetworkSpec:
        """Resolve the arguments of `build_network`."""
        params = resolve({**hparams, "architecture": name})
        if encoder is None and is_encoder(name):
            encoder = encoder_of(name)
        net_shape = network_input_shape(shape, params, encoder)
        if min(net_shape[:2]) < MIN_PATCH_SIDE and not is_bag_shape(shape):
            raise SpaceError(
                f"patches of {net_shape[1]}x{net_shape[0]} are too small for {name}; choose"
                f" `input_size` {MIN_PATCH_SIDE} or more"
            )
        return cls(name, params, shape, net_shape, num_classes, encoder)

    def architecture_network(self) -> nn.Module:
        """Build the architecture itself with random weights; adapted with its custom head."""
        try:
            net = self._build()(self.net_shape, self.num_classes)
        except ValueError as error:  # torch raises it if a dropout probability is outside [0, 1]
            if "dropout" not in str(error):
                raise
            raise SpaceError(f"{self.name}: {error}") from error
        if self.params.adaptation == FROZEN:
            return net
        return with_custom_head(
            net,
            self.num_classes,
            head_hidden_units=self.params.head_hidden_units,
            head_hidden_layers=self.params.head_hidden_layers,
            head_batch_norm=self.params.head_batch_norm,
            head_dropout=self.params.head_dropout,
        )

    def _build(self) -> Callable[..., nn.Module]:
        """Return the function of the architecture, with its hyperparameters."""
        custom = custom_component("architecture", self.params)
        if custom is not None:
            return custom
        build: Callable[..., nn.Module] = (
            partial(pretrained_encoder, self.encoder) if self.encoder else ARCHITECTURES[self.name]
        )
        return partial(build, **self.params.arguments_of("architecture"))

    def with_input(self, net: nn.Module) -> nn.Module:
        """Add the normalization and the resizing of the input."""
        params = self.params
        net = with_input_normalization(
            net, self.name, params.normalization, params.weights, self.encoder
        )
        return with_input_size(net, self.shape, self.net_shape, params.resize)

    def extractor(self, net: nn.Module) -> FeatureExtractor:
        """Convert the architecture itself to the extractor of its features."""
        is_multi_depth = self.params.features == "multi"
        return FeatureExtractor(net, self.num_classes, is_multi_depth=is_multi_depth)

    def assemble(self, net: nn.Module) -> nn.Module:
        """Add to the architecture itself what precedes it, and the head over frozen features."""
        if self.params.adaptation != FROZEN:
            return self.with_input(net)
        with torch.device("meta"):
            width = self.extractor(self.architecture_network()).width(self.net_shape)
        head = feature_head(self.params, width, self.num_classes)
        return FeatureNetwork(self.with_input(self.extractor(net)), head)

    def load(self, net: nn.Module, weights_hash: str) -> None:
        """Load the pretrained weights into the architecture itself."""
        weights = self.params.weights
        load_weights(net, self.name, weights, self.num_classes, self.net_shape, weights_hash)


def feature_head(params: TrialParams, width: int, num_classes: int) -> FeatureHead:
    """Build the head over `width` frozen features, not fitted yet."""
    return build_feature_head(
        params.classifier,
        width,
        num_classes,
        num_neighbors=params.num_neighbors,
        hidden_units=params.head_hidden_units,
        hidden_layers=params.head_hidden_layers,
        batch_norm=params.head_batch_norm,
        dropout=params.head_dropout,
    )


def build_extractor(
    name: str,
    shape: PatchShape,
    num_classes: int,
    hparams: Hparams,
    weights_hash: str = "",
    encoder: Encoder | None = None,
) -> nn.Module:
    """Build the extractor of the features of a pretrained network, as `build_with_weights` does.

    Returns:
        A module in evaluation mode that maps a batch (B, 3, H, W) in [-1, 1] to features (B, D).
    """
    spec = _NetworkSpec.of(name, shape, num_classes, hparams, encoder)
    net = spec.architecture_network()
    spec.load(net, weights_hash)
    return spec.with_input(spec.extractor(net)).eval().requires_grad_(False)


def frozen_encoder_state(
    name: str,
    shape: PatchShape,
    num_classes: int,
    hparams: Hparams,
    encoder: Encoder | None,
    path: Path,
) -> StateDict:
    """Return the weights that the network of `build_network` has from the file at `path`.

    Those are all weights of the extractor of its features, under their names in the network.

    Raises:
        DataError: If the file cannot be read.
        SpaceError: If it does not match the architecture.
    """
    spec = _NetworkSpec.of(name, shape, num_classes, hparams, encoder)
    with torch.device("meta"):
        net = spec.architecture_network()
    weights = spec.params.weights
    state = compatible_weights(net, name, weights, num_classes, spec.net_shape, path)
    with torch.device("meta"):
        network = spec.assemble(net)
    prefix = next(path for path, module in network.named_modules() if module is net)
    return {f"{prefix}.{entry}": value for entry, value in state.items()}


def network_input_shape(
    shape: PatchShape, params: TrialParams, encoder: Encoder | None = None
) -> PatchShape:
    """Return the shape (H, W, 3) of the input of a network for patches of `shape`.

    By default it is that of the patches; of a pretrained encoder, that of its pretraining.

    Raises:
        SpaceError: If patches are larger than an input to which they are padded.
        DataError: If the files of an encoder cannot be downloaded or read.
    """
    size = params.input_size
    if not size and is_encoder(params.architecture):
        size = (encoder or encoder_of(params.architecture)).input_size
    return input_shape(shape, size, params.resize)


def build_with_weights(
    name: str,
    shape: PatchShape,
    num_classes: int,
    hparams: Hparams,
    weights_hash: str = "",
    encoder: Encoder | None = None,
) -> nn.Module:
    """Build a network, and load the pretrained weights of the hyperparameter `weights`.

    Args:
        name: The architecture.
        shape: The patch shape (H, W, 3).
        num_classes: The number of logits.
        hparams: The hyperparameters of a trial.
        weights_hash: The SHA-256 that the file of the weights must have; empty if any is allowed.
        encoder: The description of a pretrained encoder; by default it is read from the table, or
            from its snapshot.

    Raises:
        DataError: If the weights cannot be read or downloaded, or have another hash.
        SpaceError: If they do not match the architecture, or for the reasons of `build_network`.
    """
    spec = _NetworkSpec.of(name, shape, num_classes, hparams, encoder)
    net = spec.architecture_network()
    spec.load(net, weights_hash)
    return spec.assemble(net)


def check_weights(name: str, shape: PatchShape, hparams: Hparams) -> None:
    """Download the pretrained weights of `hparams`, and check that they match the architecture.

    Raises:
        DataError: If the weights cannot be read or downloaded.
        SpaceError: If they do not match the architecture.
    """
    spec = _NetworkSpec.of(name, shape, 2, hparams, None)
    with torch.device("meta"):
        net = spec.architecture_network()
    compatible_weights(net, name, spec.params.weights, 2, spec.net_shape)


def check_patch_shape(name: str, shape: PatchShape, hparams: Hparams) -> None:
    """Check that an architecture accepts patches of `shape`, in training and evaluation mode.

    The network runs on torch's meta device, which computes shapes only.

    Raises:
        SpaceError: If it does not accept them; the message has the smallest size that it accepts.
    """
    error = _shape_error(name, shape, hparams)
    if error is None:
        return
    if isinstance(error, SpaceError):
        raise error
    if is_import_path(name):
        raise SpaceError(
            f"architecture {name} cannot take patches of {shape[1]}x{shape[0]}:"
            f" {type(error).__name__}: {first_line(error)}"
        ) from error
    params = resolve({**hparams, "architecture": name})
    height, width, _channels = network_input_shape(shape, params)
    at_patch_size = {key: value for key, value in hparams.items() if key != "input_size"}
    min_side = _min_accepted_side(name, min(height, width), at_patch_size)
    if min_side is None:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        advice = "choose another, or another `input_size`"
    elif _shape_error(name, (2 * min_side + 1, 2 * min_side + 1, 3), at_patch_size):
        # Some networks accept a single size only, or multiples of it.
        reason = f"{min_side}x{min_side} would do"
        advice = f"choose another, or `input_size` {min_side}"
    else:
        reason = f"it needs {min_side}x{min_side} or more"
        advice = f"choose another, or `input_size` {min_side} or more"
    raise SpaceError(
        f"architecture {name} cannot take patches of {width}x{height} ({reason}); {advice}"
    )


def _shape_error(name: str, shape: PatchShape, hparams: Hparams) -> Exception | None:
    """Return the exception that building the network or a forward pass raises."""
    height, width, channels = shape
    try:
        # Code of the user's may read values of tensors, which those of the meta device do not have.
        device = "cpu" if is_import_path(name) else "meta"
        with (
            torch.random.fork_rng(devices=[]),
            torch.device(device),
            torch.inference_mode(),
        ):
            net, batch = (
                build_network(name, shape, 2, hparams),
                torch.zeros(2, channels, height, width),
            )
            for training in (True, False):
                logits = net.train(training)(batch)
                if not isinstance(logits, Tensor) or logits.shape != (2, 2):
                    return SpaceError(
                        f"architecture {name} does not return one logit a class; choose another"
                    )
    except Exception as error:  # networks of other libraries raise any exception
        return error
    return None


def _min_accepted_side(name: str, rejected_side: int, hparams: Hparams) -> int | None:
    """Return a side above `rejected_side` that the network accepts, by bisection.

    The network does not accept the side one pixel below it. None if it accepts none of
    `CANDIDATE_SIDES`.
    """

    def is_accepted(side: int) -> bool:
        return _shape_error(name, (side, side, 3), hparams) is None

    candidates = [side for side in CANDIDATE_SIDES if side > rejected_side]
    high = next(filter(is_accepted, candidates), None)
    if high is None:
        return None
    low = max([rejected_side, *(side for side in candidates if side < high)])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_accepted(middle) else (middle, high)
    return high
