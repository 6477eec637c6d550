import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from utils import annotated
from utils.annotated import DetectionSet, make_target, trees

TREES = annotated.TREES["train"] + annotated.TREES["test"]


def voc(*boxes, width=40, height=30, name="Tree"):
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for a, b, c, d in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>a.png</filename>{size}{objects}</annotation>"


@pytest.fixture
def forest(tmp_path, monkeypatch):
    for number, name in enumerate(TREES):
        Image.new("RGB", (40, 30), (number, 100, 50)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.xml").write_text(voc(*[(1, 1, 40, 30), (3, 4, 12, 9)][: number + 1]))
    monkeypatch.setattr(annotated, "fetch", lambda name: {"trees": tmp_path}[name])
    return tmp_path


def test_trees_are_split_by_picture(forest):
    train, test = trees()
    assert (len(train), len(test), train.classes) == (1, 3, ["__background__", "tree"])
    names = [{file.stem for file in part.files} for part in (train, test)]
    assert not names[0] & names[1] and names[0] | names[1] == set(TREES)
    assert [int(image[0, 0, 0]) for part in (train, test) for image, _ in part] == [0, 1, 2, 3]
    assert [target["image_id"] for _, target in test] == [0, 1, 2]


def test_a_voc_box_counts_pixels_from_one_and_includes_the_last(forest):
    image, target = trees()[1][0]
    assert image.dtype == torch.uint8 and image.shape == (3, 30, 40)
    expected = torch.tensor([[0.0, 0, 40, 30], [2, 3, 12, 9]])  # the first one spans the picture
    assert target["boxes"].dtype == torch.float32 and torch.equal(target["boxes"], expected)
    assert target["boxes"].canvas_size == (30, 40) and target["boxes"].format.name == "XYXY"
    assert torch.equal(target["area"], torch.tensor([1200.0, 60.0]))
    assert torch.equal(target["labels"], torch.tensor([1, 1])) and target["labels"].dtype == torch.int64
    assert torch.equal(target["iscrowd"], torch.tensor([0, 0])) and target["iscrowd"].dtype == torch.int64


def test_a_picture_without_an_object_has_empty_tensors(forest):
    (forest / "SOAP_061.xml").write_text(voc())
    _, target = trees()[1][2]
    shapes = {key: list(target[key].shape) for key in ("boxes", "labels", "area", "iscrowd")}
    assert shapes == {"boxes": [0, 4], "labels": [0], "area": [0], "iscrowd": [0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (voc((5, 5, 4, 9)), r"box \[4.0, 4.0, 4.0, 9.0\]"),
        (voc((5, 5, 9, 4)), "is empty"),
        (voc((0, 5, 9, 9)), "not within 40 x 30"),
        (voc((5, 0, 9, 9)), "not within 40 x 30"),
        (voc((5, 5, 41, 9)), "not within 40 x 30"),
        (voc((5, 5, 9, 31)), "not within 40 x 30"),
        (voc((5, 5, "nan", 9)), "is empty or"),
        (voc((5, 5, "wide", 9)), "VOC's format"),
        (voc((5, 5, 9, 9)).replace("bndbox", "box"), "VOC's format"),
        (voc().replace("size", "shape"), "VOC's format"),
        (voc().replace("40", ""), "VOC's format"),
        (voc()[:-5], "VOC's format"),
        ("", "VOC's format"),
    ],
)
def test_a_bad_annotation_is_named(forest, text, message):
    (forest / "OSBS_029.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"OSBS_029\.xml.*{message}"):
        trees()


@pytest.mark.parametrize("name", ["OSBS_029.png", "SOAP_061.xml"])
def test_a_missing_file_is_named(forest, name):
    (forest / name).unlink()
    with pytest.raises(ValueError, match=f"expected {name} in .*fetch it again"):
        trees()


def test_a_picture_of_another_size_and_a_broken_one_are_named(forest):
    Image.new("RGB", (30, 40)).save(forest / "OSBS_029.png")
    with pytest.raises(ValueError, match=r"OSBS_029\.png is \(40, 30\) .* says \(30, 40\)"):
        trees()[1][1]
    (forest / "OSBS_029.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"OSBS_029\.png"):
        trees()[1][1]


def target_of(boxes, size=(30, 40)):
    return make_target(boxes, [1] * len(boxes), 7, size, annotated.Path("a.json"))


def test_boxes_are_clipped_by_half_a_pixel_at_most():
    target = target_of([[-0.4, -0.4, 40.4, 30.4]])
    assert torch.equal(target["boxes"], torch.tensor([[0.0, 0, 40, 30]])) and target["image_id"] == 7
    assert float(target["area"]) == 1200
    for box in ([-0.6, 0, 9, 9], [0, -0.6, 9, 9], [0, 0, 40.6, 9], [0, 0, 9, 30.6], [40, 0, 40.4, 9]):
        with pytest.raises(ValueError, match="a.json: the box"):
            target_of([[1, 1, 2, 2], box])


def test_a_set_is_like_a_list_and_hands_out_copies(forest):
    _, test = trees()
    assert len(list(test)) == 3 and test[-1][1]["image_id"] == 2
    with pytest.raises(IndexError):
        test[3]
    test[0][1]["boxes"].zero_()
    test[0][1]["labels"].zero_()
    assert test[0][1]["boxes"].sum() > 0 and test[0][1]["labels"].sum() > 0
    batch = next(
        iter(DataLoader(test, batch_size=2, collate_fn=lambda batch: tuple(zip(*batch, strict=True))))
    )
    assert [len(target["boxes"]) for target in batch[1]] == [2, 2]


def test_a_transform_takes_boxes_and_masks_along(forest):
    file = forest / "OSBS_029.png"
    polygons = [[[[3, 4, 12, 4, 12, 9, 3, 9], [20, 20, 24, 20, 24, 23, 20, 23]]]]  # one object, two parts
    dataset = DetectionSet([file], [target_of([[3, 4, 12, 9]])], ["__background__", "tree"], polygons)
    image, target = v2.RandomHorizontalFlip(p=1)(*dataset[0])
    assert torch.equal(target["boxes"], torch.tensor([[28.0, 4, 37, 9]]))
    assert isinstance(target["masks"], tv_tensors.Mask) and target["masks"].dtype == torch.bool
    filled = torch.zeros(1, 30, 40, dtype=torch.bool)
    filled[0, 4:9, 28:37] = filled[0, 20:23, 16:20] = True
    assert torch.equal(target["masks"], filled)


@pytest.mark.parametrize(("targets", "polygons"), [(0, None), (2, None), (1, 2), (1, 0)])
def test_a_set_refuses_unequal_numbers(targets, polygons):
    polygons = None if polygons is None else [[]] * polygons
    with pytest.raises(ValueError, match="as many as each other"):
        DetectionSet([annotated.Path("a")], [target_of([])] * targets, ["a"], polygons)
