"""Make the small real samples in tests/data that the tiny run uses.

To be run as `python tests/make_data.py`. Each set keeps its native layout, so that the
course reads it as it reads the whole set. Only sets whose licence allows it are here;
in place of others, images are drawn in their layout. tests/data/README.md names them
all. Random samples are stratified by class and seeded: the same command makes the same
bytes.
"""

import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage import data

from utils.data import POSE_JOINTS, ImageSet, fashion_mnist, mnist, take
from utils.data.keypoints import POSE_COLUMNS
from utils.fetch import fetch

DATA = Path(__file__).parent / "data"
# images for training, for the test
SIZES = {"FashionMNIST": (1000, 500), "MNIST": (500, 250)}
WHOLE = (60_000, 10_000)
# ImageNet's numbers
LABELLED = {"chelsea": 285, "coffee": 967, "rocket": 657, "stereo_motorcycle": 670}
EMOJI = 24  # how many of the drawings
CELLS = {"train": 6, "val": 3, "test": 3}  # images of blood
VOC_BLOCKS = ["bottle", "chair", "diningtable", "person"]  # two of each, drawn
STREETS = {"train": 12, "val": 5, "test": 8}  # frames, drawn
STREET_COLORS = {  # in the order of CamVid's classes
    "Sky": (170, 200, 230),
    "Building": (150, 110, 90),
    "Pole": (60, 60, 60),
    "Road": (95, 95, 100),
    "Pavement": (150, 145, 150),
    "Tree": (60, 110, 50),
    "SignSymbol": (200, 170, 40),
    "Fence": (110, 80, 60),
    "Car": (40, 60, 140),
    "Pedestrian": (180, 60, 60),
    "Bicyclist": (120, 50, 140),
    "Unlabelled": (10, 10, 10),
}
ATHLETES = {"train": 32, "val": 12}  # images, drawn
TREES = {  # photo: left, upper, right, lower edge of what is cut out of it, in pixels
    "2019_YELL_2_528000_4978000_image_crop2": (720, 176, 1360, 304),
    "2019_YELL_2_541000_4977000_image_crop": (544, 48, 672, 176),
    "OSBS_029": (272, 0, 400, 128),
    "SOAP_061": (208, 80, 336, 208),
}


def write_idx(path: Path, values: torch.Tensor) -> None:
    """Write `values`, uint8 of any shape, in the format that `read_idx` reads."""
    header = (
        b"\0\0\x08"
        + bytes([values.ndim])
        + b"".join(size.to_bytes(4, "big") for size in values.shape)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + values.numpy().tobytes())


def write_sample(folder: str, train: ImageSet, test: ImageSet) -> None:
    """Write a sample of both parts of a set in MNIST's four files below `folder`."""
    if (len(train), len(test)) != WHOLE:
        sys.exit(
            f"{folder}: the whole set is needed, not a sample of it (is CV_DATA set?)"
        )
    for part, dataset, size in zip(
        ("train", "t10k"), (train, test), SIZES[folder], strict=True
    ):
        sample = take(dataset, size, seed=0)
        write_idx(
            DATA / folder / "raw" / f"{part}-images-idx3-ubyte", sample.images[:, 0]
        )
        write_idx(
            DATA / folder / "raw" / f"{part}-labels-idx1-ubyte",
            sample.labels.to(torch.uint8),
        )


def write_labelled_photos() -> None:
    """Write photos of scikit-image under the names of `imagenet_samples`."""
    folder = DATA / "imagenet_samples"
    folder.mkdir(exist_ok=True)
    for number, (name, label) in enumerate(LABELLED.items()):
        pixels = getattr(data, name)()
        photo = Image.fromarray(pixels[0] if isinstance(pixels, tuple) else pixels)
        photo.thumbnail((384, 384), Image.Resampling.LANCZOS)
        photo.save(folder / f"imagenet_{number:02}_{label}.jpg", quality=90)


def cut_trees() -> None:
    """Cut a piece out of each photo of trees, with the boxes that lie within it."""
    source, target = fetch("trees"), DATA / "trees"
    target.mkdir(exist_ok=True)
    for name, edges in TREES.items():
        Image.open(source / f"{name}.png").crop(edges).save(
            target / f"{name}.png", optimize=True
        )
        voc = ElementTree.parse(source / f"{name}.xml")
        root, (left, upper, right, lower) = voc.getroot(), edges
        for side, pixels in (("width", right - left), ("height", lower - upper)):
            root.find("size").find(side).text = str(pixels)
        for tree in root.findall("object"):
            box = tree.find("bndbox")
            shifts = {"xmin": left, "ymin": upper, "xmax": left, "ymax": upper}
            x0, y0, x1, y1 = (
                int(box.findtext(side)) - shift for side, shift in shifts.items()
            )
            # VOC counts from 1
            if x0 < 1 or y0 < 1 or x1 > right - left or y1 > lower - upper:
                root.remove(tree)
                continue
            for side, pixels in zip(shifts, (x0, y0, x1, y1), strict=True):
                box.find(side).text = str(pixels)
        voc.write(target / f"{name}.xml")


def copy_files(name: str, folder: str, pattern: str, every: int = 1) -> None:
    """Copy every so-manieth file of a set that matches `pattern`."""
    source = fetch(name)
    for path in sorted(source.glob(pattern))[::every]:
        target = DATA / folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def take_cells() -> None:
    """Copy the first images of each part of `bccd`, with their boxes."""
    source, target = fetch("bccd"), DATA / "bccd"
    (target / "annotations").mkdir(parents=True, exist_ok=True)
    for part, size in CELLS.items():
        coco = json.loads((source / f"annotations/{part}.json").read_text("utf-8"))
        coco["images"] = sorted(coco["images"], key=lambda one: one["file_name"])[:size]
        kept = {image["id"] for image in coco["images"]}
        coco["annotations"] = [
            box for box in coco["annotations"] if box["image_id"] in kept
        ]
        (target / f"annotations/{part}.json").write_text(json.dumps(coco), "utf-8")
        (target / "images" / part).mkdir(parents=True, exist_ok=True)
        for image in coco["images"]:
            path = f"images/{part}/{image['file_name']}"
            shutil.copyfile(source / path, target / path)


def draw_voc_sample() -> None:
    """Draw blocks and their masks, in the layout of `voc_sample`."""
    target = DATA / "voc_sample"
    target.mkdir(parents=True, exist_ok=True)
    names = (fetch("voc_sample") / "class_names.txt").read_text("utf-8")
    labels = [names.split().index(name) for name in VOC_BLOCKS for _ in range(2)]
    rng = np.random.default_rng(0)
    image = rng.integers(100, 140, (90, 120, 3), np.uint8)
    masks = np.zeros((len(labels), 90, 120), bool)
    boxes = []  # y1, x1, y2, x2, as there
    for number, mask in enumerate(masks):
        top, left = 5 + 45 * (number % 2), 5 + 28 * (number // 2)
        height, width = rng.integers(15, 35), rng.integers(12, 22)
        mask[top : top + height, left : left + width] = True
        boxes.append([top, left, top + height, left + width])
        image[mask] = rng.integers(0, 255, 3)
    np.savez_compressed(
        target / "data.npz",
        rgb=image,
        bboxes=np.array(boxes, float),
        labels=np.array(labels, np.int32),
        masks=masks,
    )
    (target / "class_names.txt").write_text(names, "utf-8")


def draw_street(rng: np.random.Generator, width: int = 160, height: int = 120):
    """Return a mask [H, W] of all of CamVid's classes, laid out as a street is."""
    numbers = {name: number for number, name in enumerate(STREET_COLORS)}
    canvas = Image.new("L", (width, height), numbers["Sky"])
    draw = ImageDraw.Draw(canvas)

    def block(name: str, left: float, top: float, w: float, h: float) -> None:
        draw.rectangle((left, top, left + w, top + h), fill=numbers[name])

    horizon = int(rng.integers(50, 62))
    for side in (0, 100):
        block("Building", side, rng.integers(5, 25), 60, horizon)
    draw.ellipse((45, 20, 75, horizon + 5), fill=numbers["Tree"])
    block("Pavement", 0, horizon, width, height)
    middle = int(rng.integers(70, 90))
    road = [(middle - 8, horizon), (middle + 8, horizon), (150, height), (10, height)]
    draw.polygon(road, fill=numbers["Road"])
    block("Fence", 5, horizon - 6, 28, 8)
    for _ in range(2):
        block("Car", rng.integers(55, 95), rng.integers(60, 85), 22, 14)
    for left in rng.integers(5, 150, 2):
        block("Pole", left, 15, 2, horizon)
        block("SignSymbol", left - 3, rng.integers(15, 30), 8, 8)
    for name, start in (("Pedestrian", 5), ("Bicyclist", 110)):
        left = int(rng.integers(start, start + 30))
        draw.ellipse((left, 62, left + 9, 92), fill=numbers[name])
    block("Unlabelled", rng.integers(0, 130), 108, 30, 12)
    return np.asarray(canvas)


def draw_streets() -> None:
    """Draw frames with exact masks, in the layout of `camvid`."""
    target = DATA / "camvid"
    colors = np.array([*STREET_COLORS.values()])
    for seed, (part, frames) in enumerate(STREETS.items()):
        rng = np.random.default_rng(seed)
        for folder in ("images", "masks"):
            (target / folder / part).mkdir(parents=True, exist_ok=True)
        for number in range(frames):
            mask = draw_street(rng)
            light = rng.uniform(0.8, 1.1)
            image = light * colors[mask] + rng.normal(0, 8, (*mask.shape, 3))
            image = Image.fromarray(image.clip(0, 255).astype(np.uint8))
            # as in CamVid, the drives of the test frames are not all trained on
            drive = "second" if part == "test" and number % 2 else "first"
            name = f"{drive}_{part}{number:03d}"
            image.save(target / f"images/{part}/{name}.jpg", quality=80)
            Image.fromarray(mask).save(target / f"masks/{part}/{name}.png")
    lines = [f"{number} {name}\n" for number, name in enumerate(STREET_COLORS)]
    (target / "classes.txt").write_text("".join(lines), "utf-8")


def draw_athlete(rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """Return a stick figure that is turned at will, and its 14 joints [14, 2]."""
    sides = {"right": -1, "left": 1}
    lengths = {"ankle": 46, "knee": 24, "hip": 0, "shoulder": -28}
    places = {}
    for side, sign in sides.items():
        for joint, y in lengths.items():
            bend = 0 if joint in ("hip", "shoulder") else rng.uniform(-8, 8)
            places[f"{side}_{joint}"] = (sign * 8 + bend, y)
        for joint, reach in (("elbow", 12), ("wrist", 24)):
            angle = rng.uniform(-1.5, 1.5)
            outwards = sign * (8 + reach * np.cos(angle))
            places[f"{side}_{joint}"] = (outwards, -28 + reach * np.sin(angle))
    places |= {"neck": (0, -32), "head_top": (0, -46)}
    turn = rng.uniform(-np.pi, np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    joints = np.array([places[joint] for joint in POSE_JOINTS], float)
    joints = joints @ np.array([[cos, sin], [-sin, cos]]) + rng.uniform(60, 68, 2)
    image = Image.new("RGB", (128, 128), tuple(rng.integers(90, 160, 3).tolist()))
    draw = ImageDraw.Draw(image)
    parts = [(0, 1, 2), (5, 4, 3), (6, 7, 8), (11, 10, 9), (2, 3, 9, 8, 2), (12, 13)]
    for part, color in zip(parts, rng.integers(0, 255, (len(parts), 3)), strict=True):
        line = [tuple(joints[joint]) for joint in part]
        draw.line(line, fill=tuple(color.tolist()), width=6)
    return image, joints


def draw_athletes() -> None:
    """Draw stick figures with their joints, in the layout of `leeds_sports`."""
    target, number = DATA / "leeds_sports", 0
    rng = np.random.default_rng(0)
    for part, size in ATHLETES.items():
        (target / part).mkdir(parents=True, exist_ok=True)
        rows = [",".join(POSE_COLUMNS)]
        for place in range(size):
            number += 1
            name = f"im{number:05}.jpg"
            if place != 3:  # the fourth is the third again, marked anew
                image, joints = draw_athlete(rng)
            image.save(target / part / name, quality=75)
            marked = joints + rng.normal(0, 1, joints.shape)
            marks = [f"{x:.2f},{y:.2f},1" for x, y in marked]
            if place % 4 == 1:  # not every joint is marked
                marks[place % 8] = ",,0"
            rows.append(",".join([name, *marks]))
        table = target / f"{part}_keypoints.csv"
        table.write_text("\n".join(rows) + "\n", "utf-8")
    (target / "joints.txt").write_text("\n".join(POSE_JOINTS) + "\n", "utf-8")


if __name__ == "__main__":
    write_sample("FashionMNIST", *fashion_mnist())
    write_sample("MNIST", *mnist())
    write_labelled_photos()
    cut_trees()
    take_cells()
    draw_voc_sample()
    draw_streets()
    draw_athletes()
    copy_files("rgbd", "rgbd", "arc2017/*")
    copy_files("cards", "cards", "*.png")
    copy_files("emoji", "openmoji", "1F4[0-9A-F][0-9A-F].svg", 256 // EMOJI)
