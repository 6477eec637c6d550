import copy

import pytest
import torch
from detection_helpers import found, truth
from scene_helpers import SAMPLES, sample_scenes
from torch import nn
from torch.utils.data import DataLoader

from utils.coco_metrics import NUMBERS
from utils.detection import coco_evaluate, collate, evaluate_detections, train_one_epoch
from utils.loading import make_loader

CPU = torch.device("cpu")


class Detector(nn.Module):
    """Knows the truth of each picture by its mean; gives it away in evaluation mode only."""

    def __init__(self, dataset):
        super().__init__()
        self.layer, self.norm = nn.Linear(2, 3), nn.BatchNorm2d(3)
        self.norm.eval()  # frozen, as detectors have it
        means = [image.float().mean().item() / 255 for image in dataset.images]
        self.known, self.seen, self.forgotten = dict(zip(means, range(len(means)), strict=True)), [], set()
        self.dataset = dataset

    def forward(self, images, targets=None):
        assert isinstance(images, list) and all(image.dtype == torch.float32 for image in images)
        if self.training:
            factor = self.layer.weight.square().sum()
            boxes = sum(len(target["boxes"]) for target in targets) / len(targets)
            return {"a": factor * boxes, "b": factor * 0 + 2}
        assert not torch.is_grad_enabled() and not self.norm.training
        numbers = [
            min(self.known.items(), key=lambda item: abs(item[0] - float(i.mean())))[1] for i in images
        ]
        self.seen.append(numbers)
        outputs = []
        for number in numbers:
            target = self.dataset[number][1]
            keep = slice(0, 0) if number in self.forgotten else slice(None)
            output = {name: target[name][keep] for name in ("boxes", "labels")}
            outputs.append({**output, "scores": torch.ones(len(output["labels"]))})
        return outputs


@pytest.fixture
def dataset(monkeypatch):
    monkeypatch.setenv("CV_DATA", str(SAMPLES))
    return sample_scenes()[1]


def test_coco_evaluate_judges_every_picture_and_leaves_the_model_as_it_was(dataset):
    model = Detector(dataset)
    weights = copy.deepcopy(model.state_dict())
    result = coco_evaluate(model, make_loader(dataset, 16), device=CPU)  # 66 scenes: the last batch is short
    assert result["map"] == result["ap50"] == pytest.approx(1) and set(result["per_class"]) == set(
        dataset.classes[1:]
    )
    assert result["parameters"] == 15 and 0 < result["milliseconds_per_picture"] < 1000
    assert [len(numbers) for numbers in model.seen] == [16, 16, 16, 16, 16, 2]  # the first batch warms up
    assert sum(model.seen[1:], []) == list(range(66))
    assert model.training and model.layer.training and not model.norm.training
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert next(model.parameters()).requires_grad and torch.is_grad_enabled()


def test_coco_evaluate_takes_every_kind_of_loader(dataset):
    model = Detector(dataset).eval()
    model.forgotten = set(range(0, 66, 2))
    expected = coco_evaluate(model, make_loader(dataset, 7, shuffle=True), device=CPU)
    assert 0.3 < expected["map"] < 0.7
    targets = [target for _, target in dataset]
    predictions = [{**target, "scores": torch.ones(len(target["labels"]))} for target in targets]
    predictions = [found() if i in model.forgotten else one for i, one in enumerate(predictions)]
    judged = evaluate_detections(predictions, targets, categories=dataset.classes)
    assert {name: expected[name] for name in NUMBERS} == pytest.approx(
        {name: judged[name] for name in NUMBERS}, nan_ok=True
    )
    whole = [dataset[list(range(start, min(start + 20, 66)))] for start in range(0, 66, 20)]  # uint8 batches
    single = DataLoader(list(dataset), batch_size=3, collate_fn=collate)  # lists of pictures
    for loader in (whole, single):
        result = coco_evaluate(model, loader, device=CPU, categories=dataset.classes)
        assert {name: result[name] for name in NUMBERS} == pytest.approx(
            {name: expected[name] for name in NUMBERS}, nan_ok=True
        )
        assert not model.training
    assert set(coco_evaluate(model, whole, device=CPU)["per_class"]) == set(range(1, 11))


def test_coco_evaluate_refuses_what_is_no_detector(dataset):
    class Classifier(nn.Module):
        def forward(self, images):
            return torch.zeros(len(images), 10)

    class Forgetful(nn.Module):
        def forward(self, images):
            return [found()] * (len(images) - 1)

    for model in (Classifier(), Forgetful()):
        with pytest.raises(TypeError, match="a detector returns 4 dicts of boxes, labels, scores"):
            coco_evaluate(model, make_loader(dataset, 4), device=CPU)
        assert model.training
    with pytest.raises(ValueError, match="no batch"):
        coco_evaluate(Detector(dataset), [], device=CPU)


def test_collate_keeps_pictures_of_any_size():
    pairs = [(torch.zeros(3, 4, 5), truth()), (torch.ones(3, 6, 7), truth([[0, 0, 1, 1]]))]
    images, targets = collate(pairs)
    assert images == [pairs[0][0], pairs[1][0]] and targets == [pairs[0][1], pairs[1][1]]


def test_training_steps_and_means_over_pictures(dataset):
    model = Detector(dataset).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    with torch.no_grad():
        model.layer.weight.fill_(1.0)
    batches = [dataset[[0, 1, 2]], dataset[[3]]]
    factor, total = 6.0, 0.0
    for (_, targets), rate in zip(batches, (0.01, 0.005), strict=True):
        boxes = sum(len(target["boxes"]) for target in targets)
        total += factor * boxes
        factor *= (1 - 2 * rate * boxes / len(targets)) ** 2
    losses = train_one_epoch(model, batches, optimizer=optimizer, device=CPU, scheduler=scheduler)
    assert losses == pytest.approx({"loss": total / 4 + 2, "a": total / 4, "b": 2})
    assert model.layer.weight.square().sum().item() == pytest.approx(factor, rel=1e-5)
    assert model.training and optimizer.param_groups[0]["lr"] == 0.0025
    before = model.layer.weight.detach().clone()
    train_one_epoch(model, batches[:1], optimizer=optimizer, device=CPU, max_norm=1.0)
    assert (model.layer.weight - before).norm().item() == pytest.approx(0.0025, rel=1e-3)


def test_training_refuses_a_loss_that_is_no_number(dataset):
    model = Detector(dataset)
    with torch.no_grad():
        model.layer.weight.fill_(torch.inf)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with pytest.raises(FloatingPointError, match="step 1"):
        train_one_epoch(model, [dataset[[0]]], optimizer=optimizer, device=CPU)
    assert model.layer.weight.isinf().all()
    with pytest.raises(ValueError, match="no batch"):
        train_one_epoch(model, [], optimizer=optimizer, device=CPU)
