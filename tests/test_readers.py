"""Files as tensors: images, tables, idx files, depth maps; a fault is named, always."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from utils.data.readers import (
    class_folders,
    expect_files,
    expect_same,
    fit_square,
    list_images,
    read_annotated,
    read_depth,
    read_idx,
    read_image,
    read_images,
)

PHOTO = data.cat()[:60, :90]  # [60, 90, 3] uint8


def encoded(array, suffix, **options):
    stream = io.BytesIO()
    file_format = {"jpg": "JPEG", "pgm": "PPM"}.get(suffix, suffix)
    Image.fromarray(array).save(stream, file_format, **options)
    return stream.getvalue()


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        if not isinstance(content, bytes):
            content = encoded(content, name.rsplit(".")[-1])
        path.write_bytes(content)
        return path

    return write


def by_pillow(path, mode="RGB"):
    array = np.array(Image.open(path).convert(mode))
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_files_come_back_as_they_were(write, suffix):
    image = read_image(write(f"a.{suffix}", PHOTO))
    assert image.dtype == torch.uint8 and image.shape == (3, 60, 90)
    assert torch.equal(image, torch.from_numpy(PHOTO.copy()).permute(2, 0, 1))


@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}], ids=str
)
def test_jpegs_are_what_pillow_reads(write, options):
    path = write("a.jpg", encoded(PHOTO, "jpg", **options))
    assert torch.equal(read_image(path), by_pillow(path))


def test_modes(write):
    grey = write("grey.pgm", PHOTO[..., 0])
    assert torch.equal(read_image(grey, "L")[0], torch.from_numpy(PHOTO[..., 0].copy()))
    assert torch.equal(read_image(grey), read_image(grey, "L").expand(3, -1, -1))
    jpeg = write("grey.jpg", PHOTO[..., 0])
    assert torch.equal(read_image(jpeg), by_pillow(jpeg, "L").expand(3, -1, -1))
    cmyk = grey.with_name("cmyk.jpg")
    Image.fromarray(PHOTO).convert("CMYK").save(cmyk)
    assert (read_image(cmyk).int() - by_pillow(cmyk).int()).abs().max() <= 2
    clear = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 128, np.uint8)])
    assert torch.equal(
        read_image(write("clear.png", clear), "RGBA"),
        torch.from_numpy(clear).permute(2, 0, 1),
    )
    clear[..., 3] = 255
    assert read_image(write("opaque.png", clear)).shape == (3, 60, 90)


@pytest.mark.parametrize("suffix", ["jpg", "png"])  # the two decoders
def test_images_stand_upright(write, suffix):
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn clockwise makes it upright
    turned = read_image(write(f"turned.{suffix}", encoded(PHOTO, suffix, exif=exif)))
    plain = read_image(write(f"plain.{suffix}", PHOTO))
    assert torch.equal(turned, plain.rot90(-1, (1, 2)))


DEEP = encoded((np.arange(4096).reshape(64, 64) * 16).astype(np.uint16), "png")


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"", "RGB", "is empty"),
        (b"not an image", "RGB", "is not an image"),
        (encoded(PHOTO, "tga"), "RGB", "is not an image in a format of BMP"),
        (encoded(PHOTO, "jpg")[:900], "RGB", "broken"),
        (encoded(PHOTO, "jpg")[:-2], "RGB", "broken"),
        (encoded(PHOTO, "png")[:5000], "RGB", "broken"),
        (encoded(PHOTO[..., 0], "pgm")[:-1], "L", "broken"),
        (DEEP, "RGB", "8 bits"),
        (DEEP, "L", "8 bits"),
        (encoded(PHOTO, "jpg"), "L", "colour"),
        (encoded(np.dstack([PHOTO, PHOTO[..., 0]]), "png"), "RGB", "transparent"),
    ],
)
def test_what_is_not_a_whole_image_is_named(write, content, mode, message):
    with pytest.raises(ValueError, match=f"odd.jpg.*{message}"):
        read_image(write("odd.jpg", content), mode)


@pytest.mark.parametrize("at", range(2, 40, 3))
def test_no_cut_jpeg_passes(write, at):
    whole = encoded(PHOTO, "jpg")
    with pytest.raises(ValueError, match="cut.jpg"):
        read_image(write("cut.jpg", whole[: at * len(whole) // 40]))


def test_a_decoder_that_fills_gaps_does_not_get_a_cut_jpeg(write, monkeypatch):
    grey = np.zeros((60, 90, 3), np.uint8)
    monkeypatch.setattr("cv2.imdecode", lambda content, flags: grey)
    with pytest.raises(ValueError, match="broken"):
        read_image(write("cut.jpg", encoded(PHOTO, "jpg")[:900]))


def test_many_keep_their_order(write, tmp_path):
    paths = [write(f"{n}.png", np.full((2, 3, 3), n, np.uint8)) for n in (3, 1, 2)]
    images = read_images(paths)
    assert images.shape == (3, 3, 2, 3) and images.is_contiguous()
    assert images[:, 0, 0, 0].tolist() == [3, 1, 2]
    assert torch.equal(read_images(paths[:1]), images[:1])
    assert read_images([write("g.png", PHOTO[..., 0])], "L").shape == (1, 1, 60, 90)
    with pytest.raises(ValueError, match="at least one"):
        read_images([])
    with pytest.raises(FileNotFoundError, match="missing.jpg"):
        read_images([tmp_path / "missing.jpg"])


def test_all_bad_files_are_named_and_all_odd_sizes(write):
    a, b, c = write("a.jpg", PHOTO), write("b.jpg", b""), write("c.gif", b"text")
    with pytest.raises(ValueError, match="2 of 3 .*\n.*b.jpg.*\n.*c.gif") as raised:
        read_images([a, b, c])
    assert "a.jpg" not in str(raised.value)
    sizes = [PHOTO, PHOTO[:50], PHOTO, PHOTO[:9]]
    paths = [write(f"{n}.png", pixels) for n, pixels in enumerate(sizes)]
    with pytest.raises(ValueError, match="most images are 90x60") as raised:
        read_images(paths)
    lines = str(raised.value).splitlines()[1:]
    assert [line.rpartition("/")[2] for line in lines] == [
        "1.png is 90x50",
        "3.png is 90x9",
    ]
    assert torch.equal(
        read_images(paths, size=30)[1], fit_square(read_image(paths[1]), 30)
    )


def test_fit_square():
    image = torch.from_numpy(PHOTO.copy()).permute(2, 0, 1)
    assert torch.equal(fit_square(image, 60), image[:, :, 15:75])
    tall = image.transpose(1, 2)
    assert torch.equal(fit_square(tall, 60), tall[:, 15:75])
    square = image[:, :, :60]
    assert torch.equal(fit_square(square, 60), square)
    resized = Image.fromarray(PHOTO).resize((45, 30), Image.BILINEAR)
    expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1).int()
    got = fit_square(image, 30).int()
    # 15 columns too many: 7 or 8 on the left
    differences = [(got - expected[:, :, n : n + 30]).abs().max() for n in (7, 8)]
    assert min(differences) <= 1
    assert fit_square(image, 100).shape == (3, 100, 100)
    for size in (0, -3, 20.5, "20"):
        with pytest.raises(ValueError, match="whole number of pixels from 1 on, got"):
            fit_square(image, size)


def test_folders_are_listed_by_name(write, tmp_path):
    for name in ("b.png", "a.JPG", ".DS_Store", "Thumbs.db", "SHA256SUMS", "notes.txt"):
        write(name, b"")
    names = [path.name for path in list_images(tmp_path)]
    assert names == ["a.JPG", "b.png", "notes.txt"]
    (tmp_path / "more").mkdir()
    with pytest.raises(ValueError, match=r"folder\(s\) more"):
        list_images(tmp_path)
    with pytest.raises(ValueError, match="is not there"):
        list_images(tmp_path / "missing")
    with pytest.raises(ValueError, match="empty"):
        list_images(tmp_path / "more")


def test_class_folders(tmp_path):
    for name in ("b/2.png", "b/1.png", "a/9.png", "a/GT-a.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    files, labels = class_folders(tmp_path, ["b", "a"], "GT-*.csv")
    found = [path.relative_to(tmp_path).as_posix() for path in files]
    assert found == ["b/1.png", "b/2.png", "a/9.png"]
    assert labels.tolist() == [0, 0, 1] and labels.dtype == torch.int64
    with pytest.raises(ValueError, match="2 folders b, c; found no c, a"):
        class_folders(tmp_path, ["b", "c"])
    with pytest.raises(ValueError, match="found no a, no b"):
        class_folders(tmp_path / "missing", ["a", "b"])
    with pytest.raises(ValueError, match="a, found none"):
        class_folders(tmp_path, ["a", "b"], "*")


def test_what_is_missing_and_what_has_no_partner_is_named(tmp_path):
    (tmp_path / "a").touch()
    expect_files(tmp_path, ["a"])
    with pytest.raises(ValueError, match="expected b, c, .*, i and 2 more in"):
        expect_files(tmp_path, list("abcdefghijk"))
    expect_same("ab", "ba", tmp_path)
    for images, annotated, message in [
        ("ab", "a", "no annotation of its own for b"),
        ("a", "ab", "no image of its own for b"),
        ("aab", "ab", "no annotation of its own for a"),
        ("ab", "abb", "no image of its own for b"),
    ]:
        with pytest.raises(ValueError, match=f"here: {message}"):
            expect_same(images, annotated, tmp_path / "here")


def test_a_table_belongs_to_the_images_of_a_folder(write, tmp_path):
    (tmp_path / "part").mkdir()
    for name in ("part/c.png", "part/a, b.png"):
        write(name, PHOTO)
    table, columns = tmp_path / "a.csv", ["file", "x", "y"]
    table.write_text('file,x,y\nc.png,-2,0\n"a, b.png",1.5,1e2\n\n')
    files, numbers = read_annotated(tmp_path, "part", table, columns)
    assert [path.name for path in files] == ["a, b.png", "c.png"]
    assert numbers.dtype == torch.float64
    assert numbers.tolist() == [[1.5, 100], [-2, 0]]
    for text, message in [
        ("", r"expected 3 columns \(file, x, y\), got 0 \(\)"),
        ("file,y,x\n", r"got 3 \(file, y, x\)"),
        ("file,x,y\nc.png,1,2\nd.png,1\n", "line 3: expected 2 numbers"),
        ("file,x,y\nc.png,1,2,3\n", "line 2: expected 2 numbers.*got 1, 2, 3"),
        ("file,x,y\nc.png,1,one\n", "line 2: .*got 1, one"),
        ("file,x,y\nc.png,nan,1\n", "line 2: .*got nan, 1"),
        ("file,x,y\nc.png,1,2\n", "no annotation of its own for a, b.png"),
        ("file,x,y\nc.png,1,2\nc.png,1,2\n", "no annotation .* a, b.png"),
        ('file,x,y\nc.png,1,2\nd,1,2\n"a, b.png",1,2\n', "no image .* d:"),
    ]:
        table.write_text(text)
        with pytest.raises(ValueError, match=f"a.csv.*{message}"):
            read_annotated(tmp_path, "part", table, columns)


def idx(*shape, content=None, magic=b"\0\0\x08"):
    content = bytes(range(int(np.prod(shape)))) if content is None else content
    sizes = struct.pack(f">{len(shape)}I", *shape)
    return magic + bytes([len(shape)]) + sizes + content


def test_read_idx_keeps_the_order_of_axes(write):
    expected = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    assert torch.equal(read_idx(write("a", idx(2, 3, 4))), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(2, 3, content=b"12345"), r"holds 5 bytes .* promises \(2, 3\)"),
        (idx(2, 3, content=b"1234567"), "holds 7 bytes"),
        (idx(2, 3, magic=b"\0\0\x0d"), "not an idx file"),
        (b"\x1f\x8b\x08\0", "not an idx file"),
        (b"", "not an idx file"),
        (b"\0\0\x08\x03\0\0", "cut short"),
    ],
)
def test_read_idx_names_the_bad_file_and_the_remedy(write, content, message):
    with pytest.raises(ValueError, match=f"bad-idx.*{message}.*: delete it and fetch"):
        read_idx(write("bad-idx", content))


def test_depth_is_in_metres_and_nan_where_nothing_was_measured(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 1, 1500], [9877, 65535, 0]], np.uint16)).save(path)
    depth = read_depth(path)
    expected = torch.tensor([[torch.nan, 0.001, 1.5], [9.877, 65.535, torch.nan]])
    assert depth.dtype == torch.float32
    torch.testing.assert_close(depth, expected, equal_nan=True)


def test_a_depth_map_of_another_kind_and_a_broken_one_are_named(tmp_path):
    for suffix, pixels in [
        ("png", np.zeros((4, 4), np.uint8)),
        ("png", np.zeros((4, 4, 3), np.uint8)),
        ("tiff", np.zeros((4, 4), np.int32)),
    ]:
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(pixels).save(path)
        with pytest.raises(ValueError, match=rf"{path.name} should hold 16-bit depths"):
            read_depth(path)
    noise = np.random.default_rng(0).integers(0, 9999, (40, 40), dtype=np.uint16)
    whole, path = encoded(noise, "png"), tmp_path / "a.png"
    for content in (whole[: len(whole) // 2], b"", b"no image"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.png is a broken image"):
            read_depth(path)
