"""Sets for object detection: VOC's format, COCO's format, and a set of one's own."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.transforms import v2

from utils.data import DetectionSet, bccd, coco128, trees
from utils.data.detection import TREES, make_target

NAMES = TREES["train"] + TREES["test"]


def voc(*boxes, width=40, height=30):
    objects = "".join(
        f"<object><name>Tree</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation><filename>a.png</filename>{size}{objects}</annotation>"


@pytest.fixture
def forest(data_folder):
    folder = data_folder / "trees"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (40, 30), (number, 100, 50)).save(folder / f"{name}.png")
        boxes = [(1, 1, 40, 30), (3, 4, 12, 9)][: number + 1]
        (folder / f"{name}.xml").write_text(voc(*boxes))
    return folder


def test_trees_are_split_by_image(forest):
    train, test = trees()
    assert (len(train), len(test), train.classes) == (1, 3, ["__background__", "tree"])
    assert [file.stem for file in [*train.files, *test.files]] == NAMES
    shades = [int(image[0, 0, 0]) for part in (train, test) for image, _ in part]
    assert shades == [0, 1, 2, 3]
    assert [target["image_id"] for _, target in test] == [0, 1, 2]


def test_a_voc_box_counts_pixels_from_one_and_includes_the_last(forest):
    image, target = trees()[1][0]
    assert image.dtype == torch.uint8 and image.shape == (3, 30, 40)
    # the first one spans the image
    assert target["boxes"].tolist() == [[0.0, 0, 40, 30], [2, 3, 12, 9]]
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].canvas_size == (30, 40)
    assert target["area"].tolist() == [1200.0, 60.0]
    assert target["labels"].tolist() == [1, 1] and target["iscrowd"].tolist() == [0, 0]
    assert target["labels"].dtype == target["iscrowd"].dtype == torch.int64


def test_an_image_without_an_object_has_empty_tensors(forest):
    (forest / "SOAP_061.xml").write_text(voc())
    _, target = trees()[1][2]
    names = ("boxes", "labels", "area", "iscrowd")
    assert [list(target[name].shape) for name in names] == [[0, 4], [0], [0], [0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (voc((5, 5, 4, 9)), r"png: the box \[4.0, 4.0, 4.0, 9.0\] .* is empty"),
        (voc((5, 5, 9, 4)), "png: .* is empty"),
        (voc((0, 5, 9, 9)), "png: .* not within 40 x 30"),
        (voc((5, 0, 9, 9)), "png: .* not within 40 x 30"),
        (voc((5, 5, 41, 9)), "png: .* not within 40 x 30"),
        (voc((5, 5, 9, 31)), "png: .* not within 40 x 30"),
        (voc((5, 5, "nan", 9)), "png: .* is empty or"),
        (voc((5, 5, "wide", 9)), "xml is not an annotation in VOC's format"),
        (voc((5, 5, 9, 9)).replace("bndbox", "box"), "xml is not an annotation"),
        (voc().replace("size", "shape"), "xml is not an annotation"),
        (voc().replace("40", ""), "xml is not an annotation"),
        (voc()[:-5], "xml is not an annotation"),
        ("", "xml is not an annotation"),
    ],
)
def test_a_bad_voc_annotation_is_named(forest, text, message):
    (forest / "OSBS_029.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"OSBS_029\.{message}"):
        trees()


def test_an_image_of_another_size_and_a_broken_one_are_named(forest):
    Image.new("RGB", (30, 40)).save(forest / "OSBS_029.png")
    with pytest.raises(
        ValueError, match=r"OSBS_029\.png is \(40, 30\) .* says \(30, 40\)"
    ):
        trees()[1][1]
    (forest / "OSBS_029.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"OSBS_029\.png is not an image"):
        trees()[1][1]


def target_of(boxes, labels=None, size=(30, 40)):
    labels = [1] * len(boxes) if labels is None else labels
    return make_target(boxes, labels, 7, size)


def test_boxes_are_clipped_by_half_a_pixel_at_most():
    target = target_of([[-0.4, -0.5, 40.4, 30.5]])
    assert target["boxes"].tolist() == [[0, 0, 40, 30]] and target["image_id"] == 7
    assert float(target["area"]) == 1200
    for box in (
        [-0.6, 0, 9, 9],
        [0, -0.6, 9, 9],
        [0, 0, 40.6, 9],
        [0, 0, 9, 30.6],
        [40, 0, 40.4, 9],
    ):
        with pytest.raises(ValueError, match="a.png: the box"):
            DetectionSet(
                [Path("a.png")], [target_of([[1, 1, 2, 2], box])], ["ground", "tree"]
            )


def changed(**parts):
    return target_of([[1, 1, 9, 9]]) | parts


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (changed(boxes=torch.tensor([[1.0, 1, 9, 9]])), "BoundingBoxes in the format"),
        (
            changed(
                boxes=tv_tensors.BoundingBoxes(
                    [[1.0, 1, 8, 8]], format="XYWH", canvas_size=(30, 40)
                )
            ),
            "in the format XYXY",
        ),
        ({"labels": torch.tensor([1])}, "got a NoneType"),
        (changed(labels=torch.tensor([1, 1])), r"int64 \[1\], one for each box"),
        (changed(labels=torch.tensor([1.0])), "int64"),
        (changed(labels=torch.tensor([0])), "1..1, for 0 is the background, got .0."),
        (changed(labels=torch.tensor([2])), "must lie in 1..1"),
    ],
)
def test_a_set_of_ones_own_is_checked(target, message):
    with pytest.raises(ValueError, match=f"a.png: .*{message}"):
        DetectionSet([Path("a.png")], [target], ["ground", "tree"])


@pytest.mark.parametrize(
    ("targets", "polygons", "name"),
    [(0, None, "targets"), (2, None, "targets"), (1, 2, "polygons")],
)
def test_a_set_refuses_unequal_numbers(targets, polygons, name):
    polygons = None if polygons is None else [[]] * polygons
    with pytest.raises(ValueError, match=f"{name} must be 1, one for each file"):
        DetectionSet([Path("a")], [target_of([])] * targets, ["a"], polygons)


def test_a_set_is_like_a_list_and_hands_out_copies(forest):
    _, test = trees()
    assert len(list(test)) == 3 and test[-1][1]["image_id"] == 2
    with pytest.raises(IndexError):
        test[3]
    test[0][1]["boxes"].zero_()
    test[0][1]["labels"].zero_()
    assert test[0][1]["boxes"].sum() > 0 and test[0][1]["labels"].sum() > 0
    loader = DataLoader(test, 2, collate_fn=lambda pairs: zip(*pairs, strict=True))
    _, targets = next(iter(loader))
    assert [len(target["boxes"]) for target in targets] == [2, 2]


def test_a_transform_takes_boxes_and_masks_along(forest):
    file = forest / "OSBS_029.png"
    # one object, two parts
    polygons = [[[[3, 4, 12, 4, 12, 9, 3, 9], [20, 20, 24, 20, 24, 23, 20, 23]]]]
    classes = ["__background__", "tree"]
    dataset = DetectionSet([file], [target_of([[3, 4, 12, 9]])], classes, polygons)
    image, target = v2.RandomHorizontalFlip(p=1)(*dataset[0])
    assert torch.equal(target["boxes"], torch.tensor([[28.0, 4, 37, 9]]))
    filled = torch.zeros(1, 30, 40, dtype=torch.bool)
    filled[0, 4:9, 28:37] = filled[0, 20:23, 16:20] = True
    assert isinstance(target["masks"], tv_tensors.Mask)
    assert target["masks"].dtype == torch.bool and torch.equal(target["masks"], filled)


COCO_CATEGORIES = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
CELLS = ["__background__", "RBC", "WBC", "Platelets"]
SQUARE = [[5.0, 6.0, 15.0, 6.0, 15.0, 16.0, 5.0, 16.0]]
TWO_PARTS = [[20.0, 3.0, 30.0, 3.0, 25.0, 12.0], [31.0, 15.0, 38.0, 15.0, 38.0, 19.0]]


def annotation(number, image, category, box, polygons=None, *, crowd=0):
    fields = {"id": number, "image_id": image, "category_id": category, "bbox": box}
    fields |= {"iscrowd": crowd, "area": 60.5}
    return fields if polygons is None else fields | {"segmentation": polygons}


def content_of(names):
    """Three images 40x20: the second has no object, the third a crowd, no polygon."""
    images = [(12, "b.jpg"), (3, "a.jpg"), (40, "c.jpg")]
    return {
        "images": [
            {"id": n, "file_name": name, "width": 40, "height": 20}
            for n, name in images
        ],
        "annotations": [
            annotation(1, 12, 1, [5, 6, 10, 10], SQUARE),
            annotation(2, 40, 2, [1.5, 2, 3, 4], SQUARE),
            annotation(3, 12, 3, [20, 3, 18, 16], TWO_PARTS),
            annotation(4, 40, 1, [0, 0, 40, 20.01], crowd=1),
        ],
        "categories": [
            {"id": n, "name": name}
            for n, name in enumerate(names)
            if name not in ("N/A", names[0])
        ],
    }


def write(folder, part, content):
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"{part}.json").write_text(json.dumps(content))


@pytest.fixture
def coco(data_folder):
    """One folder as `bccd` and as `coco128`."""
    folder = data_folder / "bccd"
    for part in ("train", "val", "test"):
        (folder / "images" / part).mkdir(parents=True)
        for number, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
            image = Image.new("RGB", (40, 20), (50 * number,) * 3)
            image.save(folder / "images" / part / name)
        write(folder, part, content_of(CELLS))
    (data_folder / "coco128").symlink_to(folder)
    return folder


def test_targets_are_those_of_torchvision(coco):
    file = coco / "annotations" / "train.json"
    reference = CocoDetection(coco / "images" / "train", file)
    keys = ["boxes", "labels", "image_id"]
    wrapped = wrap_dataset_for_transforms_v2(reference, target_keys=keys)
    by_id = dict(zip(reference.ids, wrapped, strict=True))
    for part in bccd():
        assert len(part) == 3 and part.classes == CELLS
        for image, target in part:
            original, expected = by_id[target["image_id"]]
            assert int(image[0, 0, 0]) == original.getpixel((0, 0))[0]
            # torchvision has no target for an image without an object
            if "boxes" not in expected:
                assert target["image_id"] == 3 and target["boxes"].shape == (0, 4)
                continue
            boxes = expected["boxes"].float()
            torch.testing.assert_close(target["boxes"], boxes, rtol=0, atol=0.011)
            assert torch.equal(target["labels"], expected["labels"])
            assert target["labels"].dtype == torch.int64


def test_area_and_crowd_come_from_the_file_and_boxes_are_clipped(coco):
    _, target = bccd()[0][2]
    assert target["area"].tolist() == [60.5, 60.5]
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["boxes"].tolist() == [[1.5, 2, 4.5, 6], [0, 0, 40, 20]]
    assert "masks" not in target


# from the oracle
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_those_of_pycocotools_and_only_of_whole_images(coco):
    train, val = coco128(masks=True)
    assert [file.name for file in train.files] == ["b.jpg", "a.jpg"] and len(val) == 2
    reference = COCO(coco / "annotations" / "train.json")
    (_, full), (_, empty) = train
    expected = [reference.annToMask(reference.anns[number]) for number in (1, 3)]
    expected = torch.stack([torch.from_numpy(mask).bool() for mask in expected])
    assert torch.equal(full["masks"], expected) and int(full["masks"][0].sum()) == 100
    assert empty["masks"].shape == (0, 20, 40) and empty["masks"].dtype == torch.bool
    assert len(coco128()[0]) == 3


def test_the_categories_of_coco_keep_their_ids(coco):
    for part in ("train", "val"):
        write(coco, part, content_of(COCO_CATEGORIES))
    train, val = coco128()
    assert train.classes == val.classes == COCO_CATEGORIES


def test_parts_are_not_mixed_up(coco):
    for number, part in enumerate(("train", "val", "test")):
        content = content_of(CELLS)
        content["annotations"] = content["annotations"][:number]
        write(coco, part, content)
    assert [sum(len(t["boxes"]) for t in part.targets) for part in bccd()] == [0, 1, 2]
    assert [sum(len(t["boxes"]) for t in part.targets) for part in coco128()] == [0, 1]
    assert [part.files[0].parent.name for part in bccd()] == ["train", "val", "test"]


def changed_content(change):
    content = content_of(CELLS)
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(image_id=99), "COCO's .*KeyError.99"),
        (lambda c: c["annotations"][0].update(category_id=9), "b.jpg: its labels must"),
        (lambda c: c["annotations"][0].update(bbox=[5, 6, 0, 10]), "b.jpg: .*is empty"),
        (
            lambda c: c["annotations"][0].update(bbox=[35, 6, 10, 10]),
            "b.jpg: .* not within 40 x 20",
        ),
        (lambda c: c["annotations"][0].update(bbox=[5, 6, 10]), "val.json is not an"),
        (lambda c: c["annotations"][0].pop("area"), "val.json is not an annotation"),
        (lambda c: c["images"].append(c["images"][0]), "no image of its own for b.jpg"),
        (lambda c: c["images"].pop(1), "no annotation of its own for a.jpg"),
        (
            lambda c: c["images"][0].update(file_name="d.jpg"),
            "no annotation of its own for b.jpg",
        ),
        (lambda c: c.pop("categories"), "val.json is not an annotation"),
        (lambda c: c.update(images=3), "val.json is not an annotation"),
    ],
)
def test_a_bad_coco_annotation_is_named(coco, change, message):
    (coco / "annotations" / "val.json").write_text(changed_content(change))
    with pytest.raises(ValueError, match=message):
        bccd()


def test_a_file_that_is_no_json_and_missing_files_are_named(coco):
    (coco / "annotations" / "val.json").write_text("{")
    with pytest.raises(ValueError, match="val.json is not an annotation in COCO's"):
        bccd()
    write(coco, "val", content_of(CELLS))
    (coco / "images" / "val" / "c.jpg").unlink()
    with pytest.raises(ValueError, match="no image of its own for c.jpg: delete"):
        bccd()
    (coco / "annotations" / "train.json").unlink()
    with pytest.raises(ValueError, match=r"expected annotations/train\.json"):
        coco128()
