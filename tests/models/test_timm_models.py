import pytest

from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import check_patch_shape

SHAPE = (50, 50, 3)


@pytest.mark.parametrize("tag", ["zz", "*", ""])
def test_an_unknown_tag_of_a_timm_model_is_rejected_with_similar_names(tag: str) -> None:
    check_patch_shape("timm:resnet10t.c3_in1k", SHAPE, {})
    with pytest.raises(SpaceError, match=r"timm has no such net; did you mean .*resnet10t"):
        check_patch_shape(f"timm:resnet10t.{tag}", SHAPE, {})


def test_an_unknown_timm_model_is_rejected_with_similar_names() -> None:
    with pytest.raises(SpaceError, match=r"timm has no such net; did you mean .*resnetv2_152"):
        check_patch_shape("timm:resnetv2_512", SHAPE, {})
