"""Names the license of pretrained weights, as timm or torchvision declares it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from raysearch.config.names import TIMM_PREFIX
from raysearch.models.timm_models import timm_library, timm_name

# The names of licenses, as timm writes them.
PERMISSIVE = ("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "mit")
# `amlr` is Apple's license for machine-learning research, `seer-license` is that of SEER's models.
NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|\bamlr\b|\bseer-license\b")
# torchvision gives the address of the license of SWAG's weights instead of its name.
LICENSE_OF_ADDRESS = {
    "https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "cc-by-nc-4.0",
}


@dataclass(frozen=True)
class WeightsLicense:
    """The license of the ImageNet weights of an architecture.

    Attributes:
        architecture: The architecture's name in the registry.
        license: Name of the license; empty if the library declares none.
        library: The library that declares it: timm or torchvision.
        source: The address, or the repository of Hugging Face's hub, of the weights.
    """

    architecture: str
    license: str
    library: str
    source: str

    @property
    def is_non_commercial(self) -> bool:
        """Whether the license prohibits commercial use."""
        return NON_COMMERCIAL.search(self.license) is not None

    def __str__(self) -> str:
        if not self.license:
            terms = f"license unknown ({self.library} declares none); check it before use"
        elif self.is_non_commercial:
            terms = f"license {self.license}, which prohibits commercial use"
        elif self.license in PERMISSIVE:
            terms = f"license {self.license}"
        else:
            terms = f"license {self.license}, which has terms of its own; read them before use"
        return f"Pretrained weights of {self.architecture} from {self.source}: {terms}"


def weights_license(architecture: str) -> WeightsLicense | None:
    """Return the license of the ImageNet weights of `architecture`; None if it has no weights.

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
    name = _license_name(weights.meta.get("license"))
    return WeightsLicense(architecture, name, "torchvision", weights.url)


def _license_name(declared: str | None) -> str:
    """Return the name of a license; empty if there is none, or the library does not know it."""
    name = LICENSE_OF_ADDRESS.get(declared or "", declared or "").lower()
    return "" if name in ("other", "unknown") else name
