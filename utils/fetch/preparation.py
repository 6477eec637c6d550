"""From the files of a public repository to those of the course.

Each function of `PREPARE` turns the originals of one set into the files that the course
reads: photos are scaled and encoded, annotations converted to COCO's JSON or to a
table, masks taken as they are. Annotations come out the same everywhere, to the byte;
of photos, another version of Pillow may change the last bits.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
import scipy.io
from PIL import Image

from utils.fetch.catalog import Original

Prepared = Iterator[tuple[str, bytes]]  # path in the set, content


class Originals:
    """The files that a set is prepared from, each already checked.

    Args:
        folder: Where they lie, under the names of their sources.
        listed: What the list says of each.
    """

    def __init__(self, folder: Path, listed: Iterable[Original]) -> None:
        """See the class."""
        self._folder = folder
        self._sources = {each.path: each.source for each in listed if each.path}

    def file(self, source: str) -> Path:
        """Return where the original lies that its repository has at `source`."""
        return self._folder / source

    def below(self, prefix: str) -> Iterator[tuple[str, Path]]:
        """Yield path in the set, which starts with `prefix`, and original; sorted."""
        for path in sorted(self._sources):
            if path.startswith(prefix):
                yield path, self.file(self._sources[path])


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    """Scale an image to `longest` pixels at its longer side, unless it is smaller."""
    image = image.convert("RGB")
    if max(image.size) <= longest:
        return image
    scale = longest / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image, quality: int, *, optimize: bool = True) -> bytes:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=quality, optimize=optimize)
    return stream.getvalue()


def _table(header: list[str], rows: Iterable[Iterable[object]]) -> bytes:
    """Write a table as CSV."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([header, *rows])
    return stream.getvalue().encode()


def _coco(
    info: dict, licences: list, categories: list, images: list, boxes: list
) -> bytes:
    """Write images and boxes as COCO's JSON."""
    whole = {"info": info, "licenses": licences, "images": images}
    return json.dumps(whole | {"annotations": boxes, "categories": categories}).encode()


def _cats_dogs(originals: Originals) -> Prepared:
    for path, file in originals.below(""):
        yield path, _jpeg(_shrunk(Image.open(file), 160), 85)


def _camvid(originals: Originals) -> Prepared:
    for path, file in originals.below("images/"):
        yield path, _jpeg(Image.open(file), 90)
    for path, file in originals.below("masks/"):
        yield path, file.read_bytes()
    names = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian "
    names += "Bicyclist Unlabelled"
    lines = [f"{value} {name}\n" for value, name in enumerate(names.split())]
    yield "classes.txt", "".join(lines).encode()


def _bccd(originals: Originals) -> Prepared:
    """VOC's XML becomes COCO's JSON; boxes are clipped, one without area is dropped."""
    info = {"description": "BCCD blood cell detection, converted from VOC XML"}
    kinds = {"RBC": 1, "WBC": 2, "Platelets": 3}
    categories = [{"id": number, "name": name} for name, number in kinds.items()]
    for part in ("train", "val", "test"):
        images, boxes = [], []
        for path, file in originals.below(f"images/{part}/"):
            yield path, file.read_bytes()
            stem = PurePosixPath(path).stem
            voc = originals.file(f"BCCD_Dataset/BCCD/Annotations/{stem}.xml")
            root = ElementTree.parse(voc).getroot()
            width = int(root.findtext("size/width"))
            height = int(root.findtext("size/height"))
            image = {"id": len(images) + 1, "file_name": f"{stem}.jpg"}
            images.append(image | {"width": width, "height": height})
            for found in root.findall("object"):
                x0, y0, x1, y1 = (
                    float(found.findtext(f"bndbox/{corner}"))
                    for corner in ("xmin", "ymin", "xmax", "ymax")
                )
                x0, x1 = max(0, x0), min(width, x1)
                y0, y1 = max(0, y0), min(height, y1)
                if x1 > x0 and y1 > y0:
                    box = {
                        "id": len(boxes) + 1,
                        "image_id": len(images),
                        "category_id": kinds[found.findtext("name")],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": 0,
                    }
                    boxes.append(box)
        whole = _coco(info, [], categories, images, boxes)
        yield f"annotations/{part}.json", whole


def _coco128(originals: Originals) -> Prepared:
    """Photos are scaled, and with them boxes and polygons."""
    file = originals.file("COCO128/annotations/instances_train2017.json")
    source = json.loads(file.read_bytes())
    for part, scaled in (("train", _coco_scaled), ("val", _coco_from_yolo)):
        sizes = {}  # file -> size before, size after
        for path, file in originals.below(f"images/{part}/"):
            image = Image.open(file)
            small = _shrunk(image, 416)
            yield path, _jpeg(small, 85)
            sizes[file.name] = image.size, small.size
        images, boxes = scaled(originals, source, sizes)
        rest = (source["info"], source["licenses"], source["categories"])
        yield f"annotations/{part}.json", _coco(*rest, images, boxes)


# file -> width, height before and after
_Sizes = dict[str, tuple[tuple[int, int], tuple[int, int]]]


def _coco_scaled(
    originals: Originals, source: dict, sizes: _Sizes
) -> tuple[list[dict], list[dict]]:
    """Scale the annotation that comes with the images; crowds lose their RLE mask.

    Returns:
        COCO's records of images, and of boxes.
    """
    images, boxes, scales = [], [], {}
    for image in source["images"]:
        (width, height), small = sizes[image["file_name"]]
        scales[image["id"]] = small[0] / width, small[1] / height
        images.append(
            {
                "id": image["id"],
                "file_name": image["file_name"],
                "license": image["license"],
                "width": small[0],
                "height": small[1],
                "flickr_url": image["flickr_url"],
            }
        )
    for box in source["annotations"]:
        x, y = scales[box["image_id"]]
        scaled = dict(box)
        if box["iscrowd"]:
            del scaled["segmentation"]
        else:
            scaled["segmentation"] = [
                [round(v * (x, y)[i % 2], 2) for i, v in enumerate(polygon)]
                for polygon in box["segmentation"]
            ]
        scaled["bbox"] = [
            round(v * k, 2) for v, k in zip(box["bbox"], (x, y, x, y), strict=True)
        ]
        scaled["area"] = round(box["area"] * x * y, 2)
        boxes.append(scaled)
    return images, boxes


def _coco_from_yolo(
    originals: Originals, source: dict, sizes: _Sizes
) -> tuple[list[dict], list[dict]]:
    """Turn YOLO's labels into COCO's: boxes, and the polygons that belong to them.

    Boxes are numbered through all label files, whichever images the course takes.
    """
    ids = [category["id"] for category in source["categories"]]
    images, boxes, number = [], [], 0
    labels = "coco128_yolo/object_detection/labels/val2017"
    for file in sorted(originals.file(labels).iterdir()):
        rows = _yolo_rows(file)
        name, first = f"{file.stem}.jpg", number + 1
        number += len(rows)
        if name not in sizes:
            continue
        width, height = sizes[name][1]
        outlines = originals.file(
            f"coco128_yolo/instance_segmentation/labels/val2017/{file.name}"
        )
        polygons = [
            (label, np.array(values).reshape(-1, 2) * (width, height))
            for label, *values in (_yolo_rows(outlines) if outlines.exists() else [])
        ]
        for id_, (label, x, y, w, h) in enumerate(rows, first):
            corner = ((x - w / 2) * width, (y - h / 2) * height)
            box = (*corner, w * width, h * height)
            category = ids[int(label)]
            found = {
                "id": id_,
                "image_id": int(file.stem),
                "category_id": category,
                "bbox": [round(value, 2) for value in box],
                "area": round(box[2] * box[3], 2),
                "iscrowd": 0,
            }
            outline = _pop_best(polygons, category, box)
            if outline is not None:
                found["area"] = round(_area(outline), 2)
                found["segmentation"] = [outline.round(2).ravel().tolist()]
            boxes.append(found)
        images.append(
            {
                "id": int(file.stem),
                "file_name": name,
                "width": width,
                "height": height,
                "has_polygons": outlines.exists(),
            }
        )
    return images, boxes


def _yolo_rows(file: Path) -> list[list[float]]:
    """Read a label file of YOLO: a class, then numbers that are parts of the sides."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [[float(word) for word in line.split()] for line in lines]


def _pop_best(
    polygons: list[tuple[float, np.ndarray]], category: int, box: tuple[float, ...]
) -> np.ndarray | None:
    """Take the polygon of a category whose box overlaps `box` most, by over 0.75."""
    best, index = 0.75, None
    for i, (label, outline) in enumerate(polygons):
        if label == category:
            corner = outline.min(0)
            overlap = _iou((*corner, *(outline.max(0) - corner)), box)
            if overlap > best:
                best, index = overlap, i
    return None if index is None else polygons.pop(index)[1]


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return the intersection over union of two boxes x, y, width, height."""
    sides = [
        max(0, min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k])) for k in (0, 1)
    ]
    both = sides[0] * sides[1]
    return both / (a[2] * a[3] + b[2] * b[3] - both) if both else 0


def _area(outline: np.ndarray) -> float:
    """Return the area of a polygon [N, 2] by the shoelace formula."""
    (x, y), (u, v) = outline.T, np.roll(outline, -1, axis=0).T
    return abs(float((x * v - u * y).sum())) / 2


def _face_keypoints(originals: Originals) -> Prepared:
    """Photos are scaled, and with them their 68 points, which two tables hold."""
    points = {}  # path of the original -> x0, y0, x1, ...
    data = "P1_Facial_Keypoints/data"
    for folder, table in (
        ("training", "training_frames_keypoints.csv"),
        ("test", "test_frames_keypoints.csv"),
    ):
        with originals.file(f"{data}/{table}").open(newline="") as stream:
            for name, *values in list(csv.reader(stream))[1:]:
                file = originals.file(f"{data}/{folder}/{name}")
                points[file] = [float(value) for value in values]
    header = ["file", *(f"{axis}{point}" for point in range(68) for axis in "xy")]
    for part in ("train", "val"):
        rows = []
        for path, file in originals.below(f"{part}/"):
            image = Image.open(file)
            small = _shrunk(image, 128)
            scales = (small.width / image.width, small.height / image.height)
            scaled = (f"{v * scales[i % 2]:.2f}" for i, v in enumerate(points[file]))
            rows.append([file.name, *scaled])
            yield path, _jpeg(small, 88)
        yield f"{part}_keypoints.csv", _table(header, rows)


def _utkface(originals: Originals) -> Prepared:
    """Age and gender are in the files' names."""
    for part in ("train", "val"):
        rows = []
        for path, file in originals.below(f"{part}/"):
            image = Image.open(file).convert("RGB")
            yield path, _jpeg(image.resize((112, 112), Image.Resampling.LANCZOS), 85)
            name = PurePosixPath(path).name
            rows.append([name, *name.split("_")[:2]])
        yield f"{part}.csv", _table(["file", "age", "gender"], rows)


def _rgbd_indoor(originals: Originals) -> Prepared:
    """Depth is taken from the nearest pixel, in millimetres up to ten metres."""
    size, rows = (256, 192), {"office": [], "lab": [], "cabinet": []}
    for part in ("train", "val", "test_unseen_scene"):
        colours = originals.below(f"{part}/rgb/")
        depths = originals.below(f"{part}/depth/")
        for (path, file), (depth_path, depth_file) in zip(colours, depths, strict=True):
            image = Image.open(file).convert("RGB")
            yield path, _jpeg(image.resize(size, Image.Resampling.LANCZOS), 88)
            small = Image.open(depth_file).resize(size, Image.Resampling.NEAREST)
            name = PurePosixPath(path).stem
            scene = name.partition("_")[0]
            metres = np.asarray(small) / (1000 if scene == "lab" else 5000)
            metres[metres > 10] = 0
            stream, millimetres = io.BytesIO(), (metres * 1000).round()
            image = Image.fromarray(millimetres.astype(np.uint16))
            image.save(stream, "PNG", optimize=True)
            yield depth_path, stream.getvalue()
            known = metres[metres > 0] * 1000
            share, median = f"{known.size / metres.size:.3f}", int(np.median(known))
            rows[scene].append([part, name, scene, share, median])
    header = ["split", "name", "scene", "valid_fraction", "median_mm"]
    yield "index.csv", _table(header, sum(rows.values(), []))


JOINTS = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist "
    "right_elbow right_shoulder left_shoulder left_elbow left_wrist neck head_top"
).split()


def _leeds_sports(originals: Originals) -> Prepared:
    """Each athlete is cut out: a square 1.3 times the box of the marked joints."""
    file = originals.file("lsp/joints.mat")
    joints = scipy.io.loadmat(file)["joints"]  # [14, (x, y, marked), images]
    header = ["file", *(f"{k}{joint}" for joint in range(14) for k in "xyv")]
    yield "joints.txt", "".join(f"{name}\n" for name in JOINTS).encode()
    for part in ("train", "val"):
        rows = []
        for path, file in originals.below(f"{part}/"):
            name = PurePosixPath(path).name  # im00001.jpg is the first
            *xy, marked = joints[:, :, int(name[2:7]) - 1].T
            xy, marked = np.stack(xy, 1), marked > 0
            low, high = xy[marked].min(0), xy[marked].max(0)
            half = 1.3 * (high - low).max() / 2
            start = np.floor((low + high) / 2 - half).astype(int)
            stop = np.ceil((low + high) / 2 + half).astype(int)
            pixels = np.asarray(Image.open(file).convert("RGB"))
            # where the square leaves the photo, the photo's border is repeated
            columns, lines = (
                np.arange(start[k], stop[k]).clip(0, pixels.shape[1 - k] - 1)
                for k in (0, 1)
            )
            square = Image.fromarray(pixels[lines][:, columns])
            square = square.resize((128, 128), Image.Resampling.BICUBIC)
            yield path, _jpeg(square, 82, optimize=False)
            moved = (xy - start) * 128 / (stop - start)
            row = [name]
            for point, is_marked in zip(moved, marked, strict=True):
                row += [f"{v:.2f}" for v in point] + [1] if is_marked else ["", "", 0]
            rows.append(row)
        yield f"{part}_keypoints.csv", _table(header, rows)


PREPARE: dict[str, Callable[[Originals], Prepared]] = {
    "bccd": _bccd,
    "camvid": _camvid,
    "cats_dogs": _cats_dogs,
    "coco128": _coco128,
    "face_keypoints": _face_keypoints,
    "leeds_sports": _leeds_sports,
    "rgbd_indoor": _rgbd_indoor,
    "utkface": _utkface,
}
