"""Sets of faces, and of keypoints."""

import numpy as np
import pytest
import torch
from PIL import Image

from utils.data import (
    POSE_JOINTS,
    POSE_MIRROR,
    face_keypoints,
    faces,
    leeds_sports,
    utkface,
)
from utils.data.keypoints import POINT_COLUMNS, POSE_COLUMNS
from utils.fetch import DatasetUnavailable


def write_people(folder, n):
    for person in range(1, n + 1):
        (folder / f"s{person}").mkdir(parents=True)
        for number in range(1, 11):
            pixels = np.full((112, 92), 5 * person + number % 5, np.uint8)
            Image.fromarray(pixels).save(folder / f"s{person}" / f"{number}.pgm")
    return folder


def test_faces_are_split_by_person(data_folder):
    write_people(data_folder / "ORL_faces", 40)
    train, test = faces()
    assert train.images.shape == (300, 1, 112, 92) and len(test) == 100
    assert train.classes == test.classes == [f"s{number}" for number in range(1, 41)]
    people = set(test.labels.tolist())
    assert len(people) == 10 and not people & set(train.labels.tolist())
    for part in (train, test):
        assert part.labels.bincount().unique().tolist() == [0, 10]
        assert torch.equal(part.images[:, 0, 0, 0] // 5, (part.labels + 1).byte())
    again, other = faces(seed=0)[1], faces(seed=1)[1]
    assert test.labels.tolist() == again.labels.tolist() != other.labels.tolist()
    assert len(faces(test_people=1)[1]) == 10


def test_faces_that_are_not_there(data_folder):
    folder = write_people(data_folder / "ORL_faces", 3)
    for people in (0, 3, -1, 0.25):
        with pytest.raises(ValueError, match=f"number from 1 to 2, got {people}"):
            faces(test_people=people)
    Image.new("RGB", (92, 112)).save(folder / "s2" / "1.pgm", "PNG")
    with pytest.raises(ValueError, match="s2.*1.pgm is a colour image"):
        faces(test_people=1)
    (folder / "s2").rename(folder / "s7")
    with pytest.raises(ValueError, match="3 folders s1, s2, s3; found no s2, s7"):
        faces(test_people=1)


@pytest.fixture
def portraits(data_folder):
    folder = data_folder / "utkface"
    for part, rows in {
        "train": ["b.jpg,7,1", "a.jpg,30,0", "c.jpg,116,1"],
        "val": ["d.jpg,1,0"],
    }.items():
        (folder / part).mkdir(parents=True)
        table = "\n".join(["file,age,gender", *rows]) + "\n"
        (folder / f"{part}.csv").write_text(table)
        for row in rows:
            image = Image.new("RGB", (112, 112), (ord(row[0]),) * 3)
            image.save(folder / part / row[:5], quality=95)
    return folder


def test_ages_and_genders_belong_to_their_images(portraits):
    train, test = utkface()
    assert train.images.shape == (3, 3, 112, 112) and len(test) == 1
    assert train.images[:, 0, 5, 5].tolist() == [97, 98, 99]
    assert train.annotations["age"].tolist() == [30, 7, 116]
    assert train.annotations["gender"].tolist() == [0, 1, 1]
    assert train.classes == ["male", "female"]
    assert {part.dtype for part in train.annotations.values()} == {torch.int64}
    assert test[0][1]["age"] == 1 and set(test[0][1]) == {"age", "gender"}
    assert train.names is None  # the files' names hold a code that is not used


def test_a_portrait_of_another_size_or_without_a_row_is_named(portraits):
    Image.new("RGB", (112, 100)).save(portraits / "train" / "b.jpg")
    with pytest.raises(ValueError, match=r"b\.jpg is 112x100"):
        utkface()
    (portraits / "train" / "b.jpg").rename(portraits / "train" / "e.jpg")
    with pytest.raises(ValueError, match=r"train\.csv: no annotation .* for e\.jpg"):
        utkface()


@pytest.fixture
def people(data_folder):
    folder = data_folder / "face_keypoints"
    for part, names in {"train": ["Ada_B_00", "Ada_B_07"], "val": ["Bo_01"]}.items():
        (folder / part).mkdir(parents=True)
        rows = [",".join(POINT_COLUMNS)]
        # not in the order of the files
        for number, name in reversed(list(enumerate(names))):
            image = Image.new("RGB", (100, 128 - number), (200,) * 3)
            image.save(folder / part / f"{name}.jpg")
            points = (f"{1000 * number - 0.5 + n:.2f}" for n in range(136))
            rows.append(",".join([f"{name}.jpg", *points]))
        (folder / f"{part}_keypoints.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_keypoints_are_x_and_y_and_stay_where_they_are(people):
    train, test = face_keypoints()
    assert (len(train), len(test)) == (2, 1) and train.names == ["Ada_B_00", "Ada_B_07"]
    assert train.images.shape == (2, 3, 128, 128)
    assert train.annotations.shape == (2, 68, 2)
    image, keypoints = train[1]
    assert keypoints.dtype == torch.float32
    assert keypoints[:2].tolist() == [[999.5, 1000.5], [1001.5, 1002.5]]
    # a point outside of the image is kept
    assert float(train.annotations[0, 0, 0]) == -0.5
    assert (image[:, :127, :100] > 190).all()
    assert not image[:, 127:].any() and not image[:, :, 100:].any()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("file,x0,y0", "file,y0,x0", "expected 137 columns"),
        ("Bo_01.jpg,", "Bo_01.jpg,1.0,", "line 2: expected 136 numbers"),
        (",3.50,", ",none,", "line 2: .*none"),
        (",3.50,", ",inf,", "line 2: .*inf"),
        (",3.50,", ",,", "line 2: expected 136 numbers"),
        ("Bo_01.jpg", "Bo_02.jpg", "no annotation of its own for Bo_01.jpg"),
    ],
)
def test_a_bad_table_of_keypoints_is_named(people, old, new, message):
    table = people / "val_keypoints.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"val_keypoints\.csv.*{message}"):
        face_keypoints()


def test_missing_faces_are_named(people):
    (people / "train" / "Ada_B_07.jpg").unlink()
    with pytest.raises(ValueError, match="no image of its own for Ada_B_07.jpg"):
        face_keypoints()
    (people / "train_keypoints.csv").unlink()
    with pytest.raises(DatasetUnavailable, match="train_keypoints.csv"):
        face_keypoints()


@pytest.fixture
def athletes(data_folder):
    folder = data_folder / "leeds_sports"
    for part, numbers in {"train": [30, 7], "val": [8]}.items():
        (folder / part).mkdir(parents=True)
        rows = [",".join(POSE_COLUMNS)]  # not in the order of the files
        for number in numbers:
            name = f"im{number:05}.jpg"
            Image.new("RGB", (128, 128), (number,) * 3).save(folder / part / name)
            joints = [f"{number + k}.25,{k}.50,1" for k in range(14)]
            joints[number % 14] = ",,0"
            rows.append(",".join([name, *joints]))
        (folder / f"{part}_keypoints.csv").write_text("\n".join(rows) + "\n")
    (folder / "joints.txt").write_text("\n".join(POSE_JOINTS) + "\n")
    return folder


def test_joints_belong_to_their_athletes(athletes):
    train, test = leeds_sports()
    assert train.names == ["im00007", "im00030"] and test.names == ["im00008"]
    assert train.images.shape == (2, 3, 128, 128) and train.images.dtype == torch.uint8
    assert train.images[:, 0, 5, 5].tolist() == [7, 30]
    assert train.classes == list(POSE_JOINTS)
    image, target = train[1]
    assert target["keypoints"].dtype == torch.float32
    assert target["keypoints"].shape == (14, 2) and target["visible"].shape == (14,)
    assert target["keypoints"][4].tolist() == [34.25, 4.5]
    assert target["visible"].dtype == torch.bool
    assert (~target["visible"]).nonzero()[:, 0].tolist() == [30 % 14]
    assert target["keypoints"][30 % 14].tolist() == [0, 0]
    assert torch.isfinite(train.annotations["keypoints"]).all()


def test_the_mirror_swaps_left_and_right():
    for joint, other in zip(POSE_JOINTS, POSE_MIRROR, strict=True):
        sides = {"right": "left", "left": "right"}
        side, _, rest = joint.partition("_")
        expected = f"{sides[side]}_{rest}" if side in sides else joint
        assert POSE_JOINTS[other] == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("8.25,0.50,1", "8.25,0.50,0", "im00008.jpg has a joint that is not"),
        ("8.25,0.50,1", ",,1", "im00008.jpg has a joint that is not"),
        ("8.25,0.50,1", "8.25,,1", "im00008.jpg has a joint that is not"),
        ("8.25,0.50,1", "8.25,0.50,2", "im00008.jpg has a joint that is not"),
        ("8.25,0.50,1", "8.25,nan,1", "line 2: expected 42 numbers"),
        ("file,x0", "file,y0", "expected 43 columns"),
        ("im00008", "im00009", "no annotation of its own for im00008.jpg"),
    ],
)
def test_a_bad_table_of_joints_is_named(athletes, old, new, message):
    table = athletes / "val_keypoints.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"val_keypoints\.csv.*{message}"):
        leeds_sports()
