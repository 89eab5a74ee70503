"""Names the license of pretrained weights, and says whether a model may have a copy of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from raysearch.config.names import TIMM_PREFIX
from raysearch.models.timm_models import timm_library, timm_name

# The names of licenses, as timm writes them.
PERMISSIVE = ("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "mit")
# `amlr` is Apple's license for machine-learning research, `seer-license` is that of SEER's models.
NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|\bamlr\b|\bseer-license\b")
# Those that let everybody pass on a copy of the weights. `nd` allows no changed copies.
REDISTRIBUTABLE = re.compile(r"cc0\b.*|cc-by(-nc)?(-sa)?(-\d\.\d)?")
NO_DERIVATIVES = re.compile(r"\bnd\b")
TORCHVISION = "torchvision"
# Whether a license allows that a model has a copy of the weights.
Copies = Literal["allowed", "unknown", "forbidden"]
# torchvision gives the address of the license of SWAG's weights instead of its name.
LICENSE_OF_ADDRESS = {
    "https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "cc-by-nc-4.0",
}


@dataclass(frozen=True)
class WeightsLicense:
    """The license of the pretrained weights of an architecture.

    Attributes:
        architecture: The architecture's name in the registry.
        license: Name of the license; empty if the library declares none.
        library: What declares it: timm, torchvision, or the folder of an encoder.
        source: The address, or the repository of Hugging Face's hub, of the weights.
        is_gated: Whether access to the weights must be asked for.
        page: The web page of the weights; empty if there is none.
    """

    architecture: str
    license: str
    library: str
    source: str
    is_gated: bool = False
    page: str = ""

    @property
    def copies(self) -> Copies:
        """Whether a model that is passed on may have a copy of the weights.

        It is forbidden by the terms of access of gated weights, and by licenses that allow no
        changed copies: a model has the weights without their head. It is unknown if access must be
        asked for although the license is permissive, and for all other licenses that are not known
        to allow it. torchvision publishes its weights to everybody, most without a license.
        """
        name = self.license.lower()
        if self.is_gated:
            return "unknown" if name in PERMISSIVE else "forbidden"
        if NO_DERIVATIVES.search(name):
            return "forbidden"
        is_public = self.library == TORCHVISION and not name
        is_free = name in PERMISSIVE or REDISTRIBUTABLE.fullmatch(name) is not None
        return "allowed" if is_public or is_free else "unknown"

    @property
    def is_non_commercial(self) -> bool:
        """Whether the license prohibits commercial use."""
        return NON_COMMERCIAL.search(self.license.lower()) is not None

    def __str__(self) -> str:
        if not self.license:
            terms = f"license unknown ({self.library} declares none); check it before use"
        elif self.is_non_commercial:
            terms = f"license {self.license}, which prohibits commercial use"
        elif self.license.lower() in PERMISSIVE:
            terms = f"license {self.license}"
        else:
            terms = f"license {self.license}, which has terms of its own; read them before use"
        return f"Pretrained weights of {self.architecture} from {self.source}: {terms}"


def weights_license(architecture: str) -> WeightsLicense | None:
    """Return the license of the ImageNet weights that would be downloaded; None if there are none.

    Nothing is downloaded.

    Raises:
        SpaceError: If timm has no such model.
    """
    if architecture.startswith(TIMM_PREFIX):
        config = timm_library().get_pretrained_cfg(timm_name(architecture))
        if config is None or not config.has_weights:
            return None
        source = config.hf_hub_id or config.url or config.file
        return WeightsLicense(architecture, _license_name(config.license), "timm", str(source))
    from torchvision import models

    if architecture not in models.list_models():
        return None
    weights = models.get_model_weights(architecture).DEFAULT
    return _torchvision_license(architecture, weights)


def torchvision_license(architecture: str, file_name: str) -> WeightsLicense | None:
    """Return the license of torchvision's weights in a file by its name; None if it has no such."""
    from torchvision import models

    for weights in models.get_model_weights(architecture):
        if weights.url.rpartition("/")[2] == file_name:
            return _torchvision_license(architecture, weights)
    return None


def _torchvision_license(architecture: str, weights: Any) -> WeightsLicense:
    name = _license_name(weights.meta.get("license"))
    return WeightsLicense(architecture, name, TORCHVISION, weights.url)


def _license_name(declared: str | None) -> str:
    """Return the name of a license; empty if there is none, or the library does not know it."""
    name = LICENSE_OF_ADDRESS.get(declared or "", declared or "").lower()
    return "" if name in ("other", "unknown") else name
