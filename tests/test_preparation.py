"""`utils.fetch.preparation`: what becomes of the files of public repositories."""

import csv
import io
import json

import numpy as np
import pytest
import scipy.io
from PIL import Image

from utils.fetch.catalog import Original
from utils.fetch.preparation import PREPARE, Originals


class Repository:
    """Originals in a folder, and what is prepared from them."""

    def __init__(self, folder):
        self.folder, self.listed = folder, []

    def add(self, source, content, path=""):
        """Write an original: bytes, text, or an image, which its suffix says how."""
        target = self.folder / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Image.Image):
            options = {"quality": 95} if target.suffix == ".jpg" else {}
            content.save(target, **options)
        else:
            target.write_bytes(
                content.encode() if isinstance(content, str) else content
            )
        self.listed.append(Original("", 0, source, path))

    def prepare(self, name):
        return dict(PREPARE[name](Originals(self.folder, self.listed)))


@pytest.fixture
def originals(tmp_path):
    return Repository(tmp_path)


def ramp(width, height):
    """An image whose red grows to the right and whose green grows downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x], 2).astype(np.uint8))


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def close(content, image, tolerance=6):
    """Tell whether a JPEG is nearly `image`; its chroma is coarser."""
    found, wanted = decoded(content).astype(float), np.asarray(image, float)
    return found.shape == wanted.shape and abs(found - wanted).mean() < tolerance


def rows(content):
    assert content.endswith(b"\r\n")
    return list(csv.reader(io.StringIO(content.decode())))


def test_cats_and_dogs_are_scaled_down_never_up(originals):
    originals.add("P/training/cats/1.jpg", ramp(400, 301), "train/cats/1.jpg")
    originals.add("P/test/dogs/2.jpg", ramp(90, 150), "val/dogs/2.jpg")
    made = originals.prepare("cats_dogs")
    assert list(made) == ["train/cats/1.jpg", "val/dogs/2.jpg"]
    assert close(made["train/cats/1.jpg"], ramp(160, 120))
    assert close(made["val/dogs/2.jpg"], ramp(90, 150))


def test_camvid_keeps_its_masks(originals):
    mask = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    originals.add("S/CamVid/train/a.png", ramp(48, 36), "images/train/a.jpg")
    originals.add("S/CamVid/trainannot/a.png", mask, "masks/train/a.png")
    made = originals.prepare("camvid")
    assert list(made) == ["images/train/a.jpg", "masks/train/a.png", "classes.txt"]
    assert close(made["images/train/a.jpg"], ramp(48, 36))
    assert np.array_equal(decoded(made["masks/train/a.png"]), np.asarray(mask))
    lines = made["classes.txt"].decode().splitlines()
    assert lines[:2] == ["0 Sky", "1 Building"] and lines[-1] == "11 Unlabelled"


VOC = "<annotation><size><width>64</width><height>48</height></size>{}</annotation>"
BOX = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
BOX += "<ymax>{}</ymax></bndbox></object>"


def test_boxes_of_voc_become_cocos(originals):
    """Clipped to the image, one without area dropped, numbered part by part."""
    found = {
        "b": [("WBC", -3, 4, 20, 60)],
        "a": [
            ("RBC", 1, 2, 11, 5),
            ("RBC", 9, 9, 9, 20),
            ("Platelets", 60, 40, 70, 48),
        ],
        "c": [("RBC", 0, 0, 64, 48)],
    }
    for name, part in {"b": "train", "a": "train", "c": "test"}.items():
        image = f"BCCD_Dataset/BCCD/JPEGImages/{name}.jpg"
        originals.add(image, ramp(64, 48), f"images/{part}/{name}.jpg")
        text = VOC.format("".join(BOX.format(*box) for box in found[name]))
        originals.add(f"BCCD_Dataset/BCCD/Annotations/{name}.xml", text)
    made = originals.prepare("bccd")
    same = originals.folder / "BCCD_Dataset/BCCD/JPEGImages/b.jpg"
    assert made["images/train/b.jpg"] == same.read_bytes()
    train = json.loads(made["annotations/train.json"])
    assert [image["file_name"] for image in train["images"]] == ["a.jpg", "b.jpg"]
    assert train["images"][0] | {"file_name": ""} == {
        "id": 1,
        "file_name": "",
        "width": 64,
        "height": 48,
    }
    boxes = [
        (box["id"], box["image_id"], box["category_id"], box["bbox"], box["area"])
        for box in train["annotations"]
    ]
    assert boxes == [
        (1, 1, 1, [1, 2, 10, 3], 30),
        (2, 1, 3, [60, 40, 4, 8], 32),
        (3, 2, 2, [0, 4, 20, 44], 880),
    ]
    assert [category["name"] for category in train["categories"]] == [
        "RBC",
        "WBC",
        "Platelets",
    ]
    (box,) = json.loads(made["annotations/test.json"])["annotations"]
    assert box["id"] == 1 and box["bbox"] == [0, 0, 64, 48]
    assert json.loads(made["annotations/val.json"])["images"] == []


def test_boxes_and_polygons_of_coco_are_scaled(originals):
    image = {
        "id": 7,
        "file_name": "000000000007.jpg",
        "license": 3,
        "width": 832,
        "height": 416,
        "flickr_url": "u",
        "coco_url": "left out",
    }
    box = {
        "segmentation": [[10, 20, 30.5, 40, 50, 60.6]],
        "area": 400,
        "iscrowd": 0,
        "image_id": 7,
        "bbox": [10, 20, 40.5, 40],
        "category_id": 3,
        "id": 11,
    }
    crowd = box | {"iscrowd": 1, "segmentation": {"counts": [1]}, "id": 12}
    categories = [{"id": number, "name": f"k{number}"} for number in (1, 3, 90)]
    source = {"info": {}, "licenses": [], "categories": categories}
    source |= {"images": [image], "annotations": [box, crowd]}
    text = json.dumps(source)
    originals.add("COCO128/annotations/instances_train2017.json", text)
    photo = "COCO128/train2017/000000000007.jpg"
    originals.add(photo, ramp(832, 416), "images/train/000000000007.jpg")

    # in YOLO's labels a class is an index, a polygon's is COCO's number; sides are 1
    yolo = "coco128_yolo"
    photo = f"{yolo}/images/val2017/000000000009.jpg"
    originals.add(photo, ramp(400, 200), "images/val/000000000009.jpg")
    labels = {
        # of an image that the course leaves out: its box is counted
        "000000000005": ("0 0.5 0.5 0.1 0.1\n", "1 0 0 1 0 1 1\n"),
        "000000000009": (
            "1 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.1 0.1\n",
            "3 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7\n3 0.41 0.3 0.6 0.3 0.6 0.7\n",
        ),
    }
    for name, (boxes, polygons) in labels.items():
        originals.add(f"{yolo}/object_detection/labels/val2017/{name}.txt", boxes)
        originals.add(
            f"{yolo}/instance_segmentation/labels/val2017/{name}.txt", polygons
        )
    made = originals.prepare("coco128")
    assert close(made["images/train/000000000007.jpg"], ramp(416, 208))
    assert close(made["images/val/000000000009.jpg"], ramp(400, 200))
    train = json.loads(made["annotations/train.json"])
    (small,) = train["images"]
    assert small["width"] == 416 and small["height"] == 208 and "coco_url" not in small
    first, second = train["annotations"]
    assert first["bbox"] == [5, 10, 20.25, 20] and first["area"] == 100
    assert first["segmentation"] == [[5, 10, 15.25, 20, 25, 30.3]]
    assert second["iscrowd"] == 1 and "segmentation" not in second

    val = json.loads(made["annotations/val.json"])
    assert val["images"][0]["has_polygons"] and val["images"][0]["id"] == 9
    a, b, c = val["annotations"]
    assert [x["id"] for x in (a, b, c)] == [2, 3, 4]
    assert [x["category_id"] for x in (a, b, c)] == [3, 90, 3]
    assert a["bbox"] == [160, 60, 80, 80] and c["bbox"] == [20, 10, 40, 20]
    # the polygon that fills the box, not the triangle, nor one of another class
    assert a["segmentation"] == [[160, 60, 240, 60, 240, 140, 160, 140]]
    assert a["area"] == 6400 and "segmentation" not in b and "segmentation" not in c
    assert c["area"] == 800


def test_points_of_faces_are_scaled(originals):
    """A name may be in both folders: each image has the points of its own table."""
    data = "P1_Facial_Keypoints/data"
    names = [f"{number}" for number in range(136)]
    for table, start in (("training", 0), ("test", 100)):
        points = [str(start + number) for number in range(136)]
        text = "\n".join([",".join(["", *names]), ",".join(["a_0.jpg", *points])])
        originals.add(f"{data}/{table}_frames_keypoints.csv", text)
    originals.add(f"{data}/test/a_0.jpg", ramp(255, 100), "val/a_0.jpg")
    made = originals.prepare("face_keypoints")
    assert close(made["val/a_0.jpg"], ramp(128, 50))
    header, row = rows(made["val_keypoints.csv"])
    assert header[:3] == ["file", "x0", "y0"] and header[-1] == "y67"
    assert row[:3] == ["a_0.jpg", f"{100 * 128 / 255:.2f}", "50.50"]
    assert row[-1] == "117.50"
    assert len(rows(made["train_keypoints.csv"])) == 1


def test_age_and_gender_are_in_the_names(originals):
    name = "31_1_2_x.jpg"
    originals.add(f"UTKFace/data/{name}.chip.jpg", ramp(200, 200), f"val/{name}")
    made = originals.prepare("utkface")
    assert close(made[f"val/{name}"], ramp(112, 112))
    assert rows(made["val.csv"]) == [["file", "age", "gender"], [name, "31", "1"]]


def depth_image(values):
    pixels = np.repeat(np.repeat(np.array(values, np.uint16), 240, 0), 320, 1)
    return Image.fromarray(pixels)  # 640 x 480 out of 2 x 2


def test_depth_is_in_millimetres_up_to_ten_metres(originals):
    frames = {
        "train/{}/lab_0002": [[0, 1001], [10_000, 10_001]],
        "val/{}/office_0600": [[5003, 50_000], [50_005, 0]],  # fifths of a millimetre
    }
    for place, values in frames.items():
        name = place[-4:]
        image = place.format("rgb") + ".jpg"
        originals.add(f"r/rgb/{name}.png", ramp(640, 480), image)
        depth = place.format("depth") + ".png"
        originals.add(f"r/depth/{name}.png", depth_image(values), depth)
    made = originals.prepare("rgbd_indoor")
    assert close(made["train/rgb/lab_0002.jpg"], ramp(256, 192))
    lab = decoded(made["train/depth/lab_0002.png"])
    assert lab.shape == (192, 256) and lab.dtype == np.uint16
    corners = [lab[0, 0], lab[0, -1], lab[-1, 0], lab[-1, -1]]
    assert corners == [0, 1001, 10_000, 0]
    office = decoded(made["val/depth/office_0600.png"])
    corners = [office[0, 0], office[0, -1], office[-1, 0], office[-1, -1]]
    assert corners == [1001, 10_000, 0, 0]
    header, *table = rows(made["index.csv"])
    assert header == ["split", "name", "scene", "valid_fraction", "median_mm"]
    assert table[0][:4] == ["val", "office_0600", "office", "0.500"]
    assert table[1][:4] == ["train", "lab_0002", "lab", "0.500"]
    assert [int(row[4]) for row in table] == [5500, 5500]


def test_an_athlete_is_cut_out_with_the_joints(originals):
    """The square is 1.3 times the box's longer side; the border is repeated."""
    joints = np.zeros((14, 3, 2))
    joints[:, 0, 1], joints[:, 1, 1] = np.linspace(10, 50, 14), np.linspace(10, 90, 14)
    joints[:, 2, 1] = 1
    joints[3] = [[0, 0], [0, 0], [0, 0]]  # not marked
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"joints": joints})
    originals.add("lsp/joints.mat", stream.getvalue())
    originals.add("lsp/images/im00002.jpg", ramp(75, 95), "train/im00002.jpg")
    made = originals.prepare("leeds_sports")
    # box 10 to 50 by 10 to 90, so from -22 and -2 on, 104 px wide and high
    header, row = rows(made["train_keypoints.csv"])
    assert header[:4] == ["file", "x0", "y0", "v0"] and header[-1] == "v13"
    scaled = [f"{(10 + 22) * 128 / 104:.2f}", f"{(10 + 2) * 128 / 104:.2f}", "1"]
    assert row[:4] == ["im00002.jpg", *scaled] and row[10:13] == ["", "", "0"]
    square = decoded(made["train/im00002.jpg"]).astype(float)
    assert square.shape == (128, 128, 3)
    # the first of 75 columns stands 22 times, the last one 8 times
    assert abs(square[64, :20, 0]).mean() < 6 and square[64, 60, 0] > 60
    assert abs(square[64, -8:, 0] - 255).mean() < 6
    # the last of 95 lines 8 times
    assert abs(square[-8:, 64, 1] - 255).mean() < 6 and square[0, 64, 1] < 8
    lines = made["joints.txt"].decode().splitlines()
    assert lines[0] == "right_ankle" and lines[-1] == "head_top" and len(lines) == 14
