import numpy as np
import pytest
import torch
from PIL import Image

from utils import groups
from utils.groups import SIGN_CLASSES, faces, gtsrb
from utils.pictures import fit_square, read_picture


def write(path, value, shape=(32, 32, 3), file_format="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path, file_format)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(groups, "fetch", lambda name: tmp_path)
    return tmp_path


def write_mirror(folder):
    for label in range(43):
        for track in (0, 12):
            write(folder / "train" / f"{label:05d}" / f"{track:05d}_00003.jpg", label + 100 * (track > 0))
        write(folder / "val" / f"{label:05d}" / f"test_{label:05d}.jpg", label)
    (folder / "classes.txt").write_text("00000 speed limit 20\n")


def write_official(folder, shape=(40, 60, 3)):
    for label in range(43):
        training = folder / "GTSRB" / "Training" / f"{label:05d}"
        for frame in range(2):
            write(training / f"00007_{frame:05d}.ppm", label, shape, "PPM")
        (training / f"GT-{label:05d}.csv").write_text("Filename;Width\n")
    table = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number, label in enumerate([16, 1, 38]):
        write(folder / "GTSRB" / "Final_Test" / "Images" / f"{number:05d}.ppm", label, shape, "PPM")
        table.append(f"{number:05d}.ppm;53;54;6;5;48;49;{label}")
    (folder / "GTSRB" / "Final_Test" / "Images" / "GT-final_test.test.csv").write_text("Filename\n")
    (folder / "GT-final_test.csv").write_text("\n".join(table) + "\n")


def test_signs_of_a_mirror(folder):
    write_mirror(folder)
    train, test = gtsrb()
    assert train.images.shape == (86, 3, 32, 32) and test.images.shape == (43, 3, 32, 32)
    assert train.labels.tolist() == [label for label in range(43) for _ in range(2)]
    assert train.images[:, 0, 0, 0].tolist() == [label + extra for label in range(43) for extra in (0, 100)]
    assert train.tracks.tolist() == [100_000 * label + track for label in range(43) for track in (0, 12)]
    assert test.tracks.tolist() == [-1] * 43 and test.labels.tolist() == list(range(43))
    assert gtsrb(48)[0].images.shape[2:] == (48, 48)


def test_the_43_signs():
    assert len(SIGN_CLASSES) == len(set(SIGN_CLASSES)) == 43
    names = {0: "speed limit 20", 6: "end of speed limit 80", 12: "priority road", 14: "stop", 17: "no entry"}
    names |= {25: "road work", 34: "turn left ahead", 40: "roundabout", 42: "end of no passing for trucks"}
    assert {label: SIGN_CLASSES[label] for label in names} == names


def test_signs_of_the_official_set(folder):
    write_official(folder)
    train, test = gtsrb()
    assert train.images.shape == (86, 3, 32, 32) and test.labels.tolist() == [16, 1, 38]
    assert train.images[:, 0, 0, 0].tolist() == train.labels.tolist()
    assert test.images[:, 2, 31, 31].tolist() == [16, 1, 38]
    assert train.tracks.tolist() == [100_000 * label + 7 for label in range(43) for _ in range(2)]
    assert test.tracks.tolist() == [-1, -1, -1]
    wide = read_picture(folder / "GTSRB" / "Training" / "00005" / "00007_00001.ppm")
    assert torch.equal(train.images[11], fit_square(wide, 32))


def test_bad_files_among_the_signs(folder):
    write_mirror(folder)
    write(folder / "train" / "00004" / "sign.jpg", 4)
    write(folder / "train" / "00009" / "1234567_1.jpg", 4)
    with pytest.raises(ValueError, match="track, frame") as raised:
        gtsrb()
    assert "sign.jpg" in str(raised.value) and "1234567_1.jpg" in str(raised.value)
    (folder / "train" / "00004" / "sign.jpg").unlink()
    (folder / "train" / "00009" / "1234567_1.jpg").write_bytes(b"")
    (folder / "train" / "00009" / "1234567_1.jpg").rename(folder / "train" / "00009" / "00001_1.jpg")
    with pytest.raises(ValueError, match="00001_1.jpg is empty"):
        gtsrb()
    (folder / "train" / "00009" / "00001_1.jpg").unlink()
    write(folder / "train" / "00043" / "00001_1.jpg", 4)
    with pytest.raises(ValueError, match="found 00043"):
        gtsrb()


def test_bad_official_test(folder):
    write_official(folder)
    (folder / "GTSRB" / "Final_Test" / "Images" / "00001.ppm").unlink()
    write(folder / "GTSRB" / "Final_Test" / "Images" / "00009.ppm", 0)
    with pytest.raises(ValueError, match=r"00001.ppm.*00009.ppm"):
        gtsrb()
    for text in ("Filename;ClassId\n00000.ppm;x\n", "Name\n00000.ppm\n"):
        (folder / "GT-final_test.csv").write_text(text)
        with pytest.raises(ValueError, match="lacks Filename or ClassId"):
            gtsrb()
    (folder / "GT-final_test.csv").write_text("Filename;ClassId\n")
    with pytest.raises(ValueError, match="do not agree"):
        gtsrb()


def test_what_is_no_gtsrb_is_refused(folder):
    write(folder / "signs.png", 0)
    with pytest.raises(ValueError, match=r"train and val or the folder GTSRB/Training; found signs.png"):
        gtsrb()


def write_people(folder, n=40):
    for person in range(1, n + 1):
        for number in range(1, 11):
            write(folder / f"s{person}" / f"{number}.pgm", 5 * person + number % 5, (112, 92), "PPM")


def test_faces_are_split_by_person(folder):
    write_people(folder)
    train, test = faces()
    assert train.images.shape == (300, 1, 112, 92) and test.images.shape == (100, 1, 112, 92)
    assert train.classes == test.classes == [f"s{number}" for number in range(1, 41)]
    assert len(test.labels.unique()) == 10 and not set(test.labels.tolist()) & set(train.labels.tolist())
    for part in (train, test):
        assert part.labels.bincount().unique().tolist() == [0, 10]
        assert torch.equal(part.images[:, 0, 0, 0] // 5, (part.labels + 1).byte())
    assert test.labels.tolist() == faces(seed=0)[1].labels.tolist() != faces(seed=1)[1].labels.tolist()
    assert len(faces(test_people=1)[1]) == 10


def test_faces_that_are_not_there(folder):
    write_people(folder, n=3)
    for people in (0, 3, -1):
        with pytest.raises(ValueError, match="must be 1 to 2"):
            faces(test_people=people)
    Image.new("RGB", (92, 112)).save(folder / "s2" / "1.pgm", "PNG")
    with pytest.raises(ValueError, match="s2.*1.pgm is a colour picture"):
        faces(test_people=1)
    (folder / "s2").rename(folder / "s7")
    with pytest.raises(ValueError, match="s1, s2, ... s40.*found s1, s3, s7"):
        faces(test_people=1)
