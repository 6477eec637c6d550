import json

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from utils import coco_sets
from utils.coco_sets import bccd, coco128

COCO_CATEGORIES = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
CELLS = ["__background__", "RBC", "WBC", "Platelets"]
SQUARE = [[5.0, 6.0, 15.0, 6.0, 15.0, 16.0, 5.0, 16.0]]
TWO_PARTS = [[20.0, 3.0, 30.0, 3.0, 25.0, 12.0], [31.0, 15.0, 38.0, 15.0, 38.0, 19.0]]


def annotation(number, picture, category, box, segmentation=None, **more):
    fields = {"id": number, "image_id": picture, "category_id": category, "bbox": box, "iscrowd": 0}
    fields |= {"area": 60.5} if segmentation is None else {"area": 60.5, "segmentation": segmentation}
    return fields | more


def content_of(names):
    """Three pictures 40x20; the second has no object, the third one with a crowd, which has no polygon."""
    pictures = [(12, "b.jpg"), (3, "a.jpg"), (40, "c.jpg")]
    return {
        "images": [{"id": n, "file_name": name, "width": 40, "height": 20} for n, name in pictures],
        "annotations": [
            annotation(1, 12, 1, [5, 6, 10, 10], SQUARE),
            annotation(2, 40, 2, [1.5, 2, 3, 4], SQUARE),
            annotation(3, 12, 3, [20, 3, 18, 16], TWO_PARTS),
            annotation(4, 40, 1, [0, 0, 40, 20.01], iscrowd=1),
        ],
        "categories": [
            {"id": n, "name": name} for n, name in enumerate(names) if name not in ("N/A", names[0])
        ],
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for part in ("train", "val", "test"):
        (tmp_path / "images" / part).mkdir(parents=True)
        for number, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
            Image.new("RGB", (40, 20), (50 * number,) * 3).save(tmp_path / "images" / part / name)
        write(tmp_path, part, content_of(CELLS))
    monkeypatch.setattr(coco_sets, "fetch", lambda name: {"bccd": tmp_path, "coco128": tmp_path}[name])
    return tmp_path


def write(folder, part, content):
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"{part}.json").write_text(json.dumps(content))


def test_targets_are_those_of_torchvision(folder):
    file = folder / "annotations" / "train.json"
    reference = CocoDetection(folder / "images" / "train", file)
    keys = ["boxes", "labels", "image_id"]
    wrapped = dict(
        zip(reference.ids, wrap_dataset_for_transforms_v2(reference, target_keys=keys), strict=True)
    )
    for part in bccd():
        assert len(part) == 3 and part.classes == CELLS
        for image, target in part:
            picture, expected = wrapped[target["image_id"]]
            assert torch.equal(image[0, :1, :1].long(), torch.tensor([[picture.getpixel((0, 0))[0]]]))
            if "boxes" not in expected:  # torchvision has no target for a picture without an object
                assert target["image_id"] == 3 and target["boxes"].shape == (0, 4)
                continue
            torch.testing.assert_close(target["boxes"], expected["boxes"].float(), rtol=0, atol=0.011)
            assert torch.equal(target["labels"], expected["labels"])
            assert target["labels"].dtype == torch.int64 and target["boxes"].dtype == torch.float32


def test_area_and_crowd_come_from_the_file_and_boxes_are_clipped(folder):
    _, target = bccd()[0][2]
    assert torch.equal(target["area"], torch.tensor([60.5, 60.5]))
    assert torch.equal(target["iscrowd"], torch.tensor([0, 1]))
    assert torch.equal(target["boxes"], torch.tensor([[1.5, 2, 4.5, 6], [0, 0, 40, 20]]))
    assert "masks" not in target


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # from the oracle
def test_masks_are_those_of_pycocotools_and_only_of_whole_pictures(folder):
    train, val = coco128(masks=True)
    assert [file.name for file in train.files] == ["b.jpg", "a.jpg"] and len(val) == 2
    reference = COCO(folder / "annotations" / "train.json")
    (_, full), (_, empty) = train
    expected = [torch.from_numpy(reference.annToMask(reference.anns[number])).bool() for number in (1, 3)]
    assert torch.equal(full["masks"], torch.stack(expected)) and int(full["masks"][0].sum()) == 100
    assert empty["masks"].shape == (0, 20, 40) and empty["masks"].dtype == torch.bool
    assert len(coco128()[0]) == 3


def test_the_categories_of_coco_keep_their_ids(folder):
    for part in ("train", "val"):
        write(folder, part, content_of(COCO_CATEGORIES))
    train, val = coco128()
    assert train.classes == val.classes == COCO_CATEGORIES


def test_parts_are_not_mixed_up(folder):
    for number, part in enumerate(("train", "val", "test")):
        content = content_of(CELLS)
        content["annotations"] = content["annotations"][:number]
        write(folder, part, content)
    assert [sum(len(t["boxes"]) for t in part.targets) for part in bccd()] == [0, 1, 2]
    assert [sum(len(t["boxes"]) for t in part.targets) for part in coco128()] == [0, 1]
    assert [part.files[0].parent.name for part in bccd()] == ["train", "val", "test"]


def changed(change):
    content = content_of(CELLS)
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(lambda c: c["annotations"][0].update(image_id=99)), "of picture 99"),
        (changed(lambda c: c["annotations"][0].update(category_id=9)), "category 9"),
        (changed(lambda c: c["annotations"][0].update(bbox=[5, 6, 0, 10])), "b.jpg: the box .* is empty"),
        (changed(lambda c: c["annotations"][0].update(bbox=[35, 6, 10, 10])), "b.jpg: .* not within 40 x 20"),
        (changed(lambda c: c["annotations"][0].update(bbox=[5, 6, 10])), "b.jpg: a box should have 4"),
        (changed(lambda c: c["annotations"][0].pop("area")), "val.json is no annotation"),
        (changed(lambda c: c["images"].append(c["images"][0])), "same id"),
        (changed(lambda c: c["images"].append(c["images"][0] | {"id": 1})), "b.jpg more than once"),
        (changed(lambda c: c["images"].pop(1)), "no annotation for a.jpg"),
        (changed(lambda c: c["images"][0].update(file_name="d.jpg")), "no annotation for b.jpg"),
        (changed(lambda c: c.pop("categories")), "val.json is no annotation"),
        (changed(lambda c: c.update(images=3)), "val.json is no annotation"),
        ("{", "val.json is no annotation"),
    ],
)
def test_bad_annotation_is_named(folder, text, message):
    (folder / "annotations" / "val.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        bccd()


def test_missing_pictures_and_folders_are_named(folder):
    (folder / "images" / "val" / "c.jpg").unlink()
    with pytest.raises(ValueError, match="no picture for c.jpg: delete"):
        bccd()
    (folder / "annotations" / "train.json").unlink()
    with pytest.raises(ValueError, match=r"expected annotations/train\.json"):
        coco128()
