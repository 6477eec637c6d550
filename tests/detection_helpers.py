"""Predictions and targets for the tests of `utils.detection`."""

import io
import json
from contextlib import redirect_stdout

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

KEYS, FOUND = ("boxes", "labels", "iscrowd", "area"), ("boxes", "labels", "scores")


def found(boxes=(), labels=(), scores=()):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor(labels or [1] * len(boxes), dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "scores": torch.tensor(scores, dtype=torch.float32)}


def truth(boxes=(), labels=(), **more):
    target = found(boxes, labels)
    del target["scores"]
    return {**target, **{name: torch.tensor(values) for name, values in more.items()}}


def random_case(seed, *, pictures=12, classes=4, size=300.0):
    """Targets, and predictions near some of them; scores in steps, so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    predictions, targets = [], []
    for _ in range(pictures):
        n, extra = (int(torch.randint(0, high, (), generator=generator)) for high in (6, 5))
        corner = torch.rand(n + extra, 2, generator=generator) * size
        side = torch.rand(n + extra, 2, generator=generator) ** 2 * 150 + 1
        boxes = torch.cat([corner, corner + side], 1)
        labels = torch.randint(1, classes + 1, (n + extra,), generator=generator)
        crowd = (torch.rand(n, generator=generator) < 0.1).long()
        area = side[:n].prod(1) * 0.7
        targets.append({"boxes": boxes[:n], "labels": labels[:n], "iscrowd": crowd, "area": area})
        keep = torch.rand(n + extra, generator=generator) < 0.8
        moved = boxes + torch.randn(boxes.shape, generator=generator) * 0.08 * side.repeat(1, 2)
        moved = torch.cat([moved[:, :2], torch.maximum(moved[:, :2], moved[:, 2:])], 1)
        scores = (torch.rand(n + extra, generator=generator) * 5).round() / 5
        predictions.append({"boxes": moved[keep], "labels": labels[keep], "scores": scores[keep]})
    return predictions, targets


def by_pycocotools(predictions, targets, categories, folder):
    """What pycocotools says when it reads everything from its own files."""
    truth, results = [], []
    for image, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        for box, label, crowd, area in zip(*(target[k].tolist() for k in KEYS), strict=True):
            x1, y1, x2, y2 = box
            entry = {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": label, "image_id": image + 7}
            truth.append({**entry, "id": len(truth) + 1, "iscrowd": crowd, "area": area})
        for box, label, score in zip(*(prediction[k].tolist() for k in FOUND), strict=True):
            x1, y1, x2, y2 = box
            entry = {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": label, "image_id": image + 7}
            results.append({**entry, "score": score})
    images = [{"id": image + 7} for image in range(len(targets))]
    named = [{"id": label, "name": str(label)} for label in categories]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "categories": named, "annotations": truth})
    )
    (folder / "results.json").write_text(json.dumps(results))
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        judge = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge
