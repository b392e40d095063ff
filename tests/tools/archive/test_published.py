"""What the authors of architectures publish."""

from __future__ import annotations

from gradcam.network import architecture as network
from tools.archive.download import hash_prefix_of
from tools.archive.published import Preprocessing, published


def test_weights_of_resnet18() -> None:
    weights = published("resnet18")
    assert (weights.name, weights.file_name) == ("torchvision ResNet18_Weights.IMAGENET1K_V1", "resnet18-f37072fd.pth")
    assert weights.preprocessing == Preprocessing(
        (224, 224), 256, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    assert len(weights.labels) == 1000
    assert (weights.labels[0], weights.labels[281], weights.labels[515]) == ("tench", "tabby", "cowboy hat")


def test_every_published_file_name_has_a_hash() -> None:
    for architecture in network.architectures():
        if architecture != network.EFFICIENTNET_LITE0:
            name = published(architecture).file_name
            assert hash_prefix_of(name), name
