"""Torchvision's nets, without weights."""

from __future__ import annotations

from torch import nn
from torchvision import models as zoo

from raysearch.models.architectures.shape import Shape


def mobilenet_v3_small(_shape: Shape, classes: int, *, dropout: float = 0.2) -> nn.Module:
    """Torchvision's MobileNetV3-small (Howard et al., 2019), without weights."""
    return zoo.mobilenet_v3_small(weights=None, num_classes=classes, dropout=dropout)


def efficientnet_b0(_shape: Shape, classes: int, *, dropout: float = 0.2) -> nn.Module:
    """Torchvision's EfficientNet-B0 (Tan and Le, 2019), without weights."""
    return zoo.efficientnet_b0(weights=None, num_classes=classes, dropout=dropout)


def resnet18(_shape: Shape, classes: int) -> nn.Module:
    """Torchvision's ResNet-18 (He et al., 2016), without weights."""
    return zoo.resnet18(weights=None, num_classes=classes)


def resnet50(_shape: Shape, classes: int) -> nn.Module:
    """Torchvision's ResNet-50 (He et al., 2016), without weights."""
    return zoo.resnet50(weights=None, num_classes=classes)


def vgg16(_shape: Shape, classes: int, *, dropout: float = 0.5) -> nn.Module:
    """Torchvision's VGG16 (Simonyan and Zisserman, 2015), without weights."""
    return zoo.vgg16(weights=None, num_classes=classes, dropout=dropout)


def vgg19(_shape: Shape, classes: int, *, dropout: float = 0.5) -> nn.Module:
    """Torchvision's VGG19 (Simonyan and Zisserman, 2015), without weights."""
    return zoo.vgg19(weights=None, num_classes=classes, dropout=dropout)
