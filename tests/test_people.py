import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from utils import people
from utils.people import POINT_COLUMNS, face_keypoints, pedestrians, utkface


def row_of(name, start):
    return ",".join([name, *(f"{start + number:.2f}" for number in range(136))])


@pytest.fixture
def faces(tmp_path, monkeypatch):
    people_of = {"train": ["Ada_B_00", "Ada_B_07"], "val": ["Bo_01"]}
    for part, names in people_of.items():
        (tmp_path / part).mkdir()
        lines = [",".join(POINT_COLUMNS)]
        for number, name in reversed(list(enumerate(names))):  # not in the order of the files
            Image.new("RGB", (100, 128 - number), (200,) * 3).save(tmp_path / part / f"{name}.jpg")
            lines.append(row_of(f"{name}.jpg", 1000 * number - 0.5))
        (tmp_path / f"{part}_keypoints.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(people, "fetch", lambda name: {"face_keypoints": tmp_path}[name])
    return tmp_path


def test_keypoints_are_x_and_y_and_stay_where_they_are(faces):
    train, test = face_keypoints()
    assert (len(train), len(test)) == (2, 1) and train.names == ["Ada_B_00", "Ada_B_07"]
    assert train.images.shape == (2, 3, 128, 128) and train.annotations.shape == (2, 68, 2)
    image, keypoints = train[1]
    assert keypoints.dtype == torch.float32
    assert torch.equal(keypoints[:2], torch.tensor([[999.5, 1000.5], [1001.5, 1002.5]]))
    assert float(train.annotations[0, 0, 0]) == -0.5  # a point outside of the picture is kept
    assert (image[:, :127, :100] > 190).all() and not image[:, 127:].any() and not image[:, :, 100:].any()


def test_one_person_in_both_parts_is_refused(faces):
    (faces / "val" / "Bo_01.jpg").rename(faces / "val" / "Ada_B_01.jpg")
    table = faces / "val_keypoints.csv"
    table.write_text(table.read_text().replace("Bo_01", "Ada_B_01"))
    with pytest.raises(ValueError, match="Ada_B is in train and in val"):
        face_keypoints()


def test_a_larger_face_is_refused(faces):
    Image.new("RGB", (129, 20)).save(faces / "train" / "Ada_B_00.jpg")
    with pytest.raises(ValueError, match=r"Ada_B_00\.jpg is 129x20, expected 128"):
        face_keypoints()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("file,x0,y0", "file,y0,x0", "expected 137 columns"),
        ("Bo_01.jpg,", "Bo_01.jpg,1.0,", "line 2: expected 137 columns, got 138"),
        (",3.50,", ",none,", "line 2: .*'none'"),
        (",3.50,", ",inf,", "line 2: not all numbers are finite"),
        ("Bo_01.jpg", "Bo_02.jpg", "no annotation for Bo_01.jpg"),
    ],
)
def test_a_bad_table_of_keypoints_is_named(faces, old, new, message):
    table = faces / "val_keypoints.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"val_keypoints\.csv.*{message}"):
        face_keypoints()


def test_missing_faces_are_named(faces):
    (faces / "train" / "Ada_B_07.jpg").unlink()
    with pytest.raises(ValueError, match="no picture for Ada_B_07.jpg"):
        face_keypoints()
    (faces / "train_keypoints.csv").unlink()
    with pytest.raises(ValueError, match=r"expected .*train_keypoints\.csv, not there"):
        face_keypoints()


@pytest.fixture
def portraits(tmp_path, monkeypatch):
    for part, rows in {"train": ["b.jpg,7,1", "a.jpg,30,0", "c.jpg,116,1"], "val": ["d.jpg,1,0"]}.items():
        (tmp_path / part).mkdir()
        (tmp_path / f"{part}.csv").write_text("\n".join(["file,age,gender", *rows]) + "\n")
        for row in rows:
            Image.new("RGB", (112, 112), (ord(row[0]),) * 3).save(tmp_path / part / row[:5], quality=95)
    monkeypatch.setattr(people, "fetch", lambda name: {"utkface": tmp_path}[name])
    return tmp_path


def test_ages_and_genders_belong_to_their_pictures(portraits):
    train, test = utkface()
    assert train.images.shape == (3, 3, 112, 112) and len(test) == 1 and train.classes == ["male", "female"]
    assert abs(train.images[:, 0, 5, 5].int() - torch.tensor([97, 98, 99])).max() == 0
    assert train.annotations["age"].tolist() == [30, 7, 116]
    assert train.annotations["gender"].tolist() == [0, 1, 1]
    assert {part.dtype for part in train.annotations.values()} == {torch.int64}
    assert test[0][1]["age"] == 1 and set(test[0][1]) == {"age", "gender"}
    assert train.names is None  # the files' names hold a code that is not used


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,30,2", "for a.jpg"),
        ("a.jpg,30,0.5", "for a.jpg"),
        ("a.jpg,-1,0", "for a.jpg"),
        ("a.jpg,126,0", "for a.jpg"),
        ("a.jpg,30.5,0", "for a.jpg"),
        ("a.jpg,30", "line 3: expected 3 columns, got 2"),
        ("a.jpg,30,0\na.jpg,31,0", "a.jpg more than once"),
        ("a.jpg,,0", "line 3"),
    ],
)
def test_a_bad_age_or_gender_is_named(portraits, row, message):
    table = portraits / "train.csv"
    table.write_text(table.read_text().replace("a.jpg,30,0", row))
    with pytest.raises(ValueError, match=rf"train\.csv.*{message}"):
        utkface()


def test_a_portrait_of_another_size_or_that_is_missing_is_named(portraits):
    Image.new("RGB", (112, 100)).save(portraits / "train" / "b.jpg")
    with pytest.raises(ValueError, match=r"b\.jpg is 112x100"):
        utkface()
    (portraits / "val" / "d.jpg").rename(portraits / "val" / "e.jpg")
    (portraits / "train" / "b.jpg").unlink()
    with pytest.raises(ValueError, match="no picture for b.jpg"):
        utkface()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Eleven frames 64x48: red grows by 20 a frame, blue is 10, the upper half has more green."""
    folder = tmp_path_factory.mktemp("pedestrians")
    writer = cv2.VideoWriter(str(folder / "vtest.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(11):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[...] = (10, 30, 20 * number + 20)  # blue, green, red
        frame[:24, :, 1] = 90
        writer.write(frame)
    writer.release()
    return folder


@pytest.fixture
def video(film, monkeypatch):
    monkeypatch.setattr(people, "fetch", lambda name: {"pedestrians": film}[name])
    return film


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ({}, [0, 10]),
        ({"step": 4}, [0, 4, 8]),
        ({"step": 1, "start": 8}, [8, 9, 10]),
        ({"count": 2, "step": 3, "start": 1}, [1, 4]),
        ({"count": 1}, [0]),
        ({"count": 11, "step": 1}, list(range(11))),
    ],
)
def test_every_nth_frame_is_read(video, arguments, numbers):
    frames = pedestrians(**arguments)
    assert (
        frames.dtype == torch.uint8 and frames.shape == (len(numbers), 3, 48, 64) and frames.is_contiguous()
    )
    red = frames[:, 0].float().mean((1, 2))
    assert ((red - torch.tensor(numbers) * 20 - 20).abs() < 6).all()
    assert (frames[:, 2].float().mean((1, 2)) < 25).all()
    assert (frames[:, 1, :20] > 70).all() and (frames[:, 1, 28:] < 50).all()


@pytest.mark.parametrize("arguments", [{"count": 3}, {"count": 12, "step": 1}, {"start": 11}])
def test_too_many_frames_are_refused(video, arguments):
    with pytest.raises(ValueError, match="has 11 frames, too few"):
        pedestrians(**arguments)


@pytest.mark.parametrize("arguments", [{"count": 0}, {"step": 0}, {"start": -1}])
def test_senseless_numbers_are_refused(video, arguments):
    with pytest.raises(ValueError, match="must be at least 1"):
        pedestrians(**arguments)


def test_a_video_that_is_missing_broken_or_cut_short_is_named(video, tmp_path, monkeypatch):
    monkeypatch.setattr(people, "fetch", lambda name: tmp_path)
    with pytest.raises(ValueError, match=r"expected vtest\.avi"):
        pedestrians()
    content = (video / "vtest.avi").read_bytes()
    (tmp_path / "vtest.avi").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"vtest\.avi is no video"):
        pedestrians()
    (tmp_path / "vtest.avi").write_bytes(content[: content.index(b"movi") + 500])
    with pytest.raises(ValueError, match=r"vtest\.avi ends at frame \d of 11"):
        pedestrians()
