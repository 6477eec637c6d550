"""`python -m utils.fetch`: list, get, mirror, verify."""

import os
import shutil
import subprocess
import sys

import pytest
from fetch_helpers import FILES, GZ, WHEEL, WHEEL_NAME, described, pack, wheel

from utils import fetch
from utils.fetch import catalog, sources
from utils.fetch.__main__ import main


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:]}


def describe_generated(course) -> None:
    comes_with = "comes with Python"
    course.describe(made_by="utils.digits", made_from=[], comes_with=comes_with)


def test_list(course, server, mirror, capsys):
    source = wheel(mirror, WHEEL)
    course.describe(source, server.source)
    assert main(["list"]) == 0
    assert rows(capsys.readouterr().out) == {
        "digits": f"0.8 no the mirror: {WHEEL_NAME} MIT".split()
    }
    (mirror / WHEEL_NAME).rename(course.folder / WHEEL_NAME)
    for listed, origin in (
        ([source], "PyPI: digits-data==1.0"),
        ([server.source], "internet: 127.0.0.1"),
        ([source | {"kind": "mirror"}], f"only a mirror: {WHEEL_NAME}"),
        ([source | {"kind": "mirror"}, server.source], "internet: 127.0.0.1"),
    ):
        course.describe(*listed)
        main(["list", "digits"])
        expected = f"0.8 no {origin} MIT".split()
        assert rows(capsys.readouterr().out)["digits"] == expected
    course.succeeds()
    capsys.readouterr()
    main(["list"])
    assert rows(capsys.readouterr().out)["digits"][:2] == ["0.8", "yes"]
    describe_generated(course)
    main(["list"])
    expected = "yes comes with Python MIT".split()
    assert rows(capsys.readouterr().out) == {"digits": expected}


def test_get_and_verify(course, server, capsys):
    course.describe(server.source)
    assert main(["verify"]) == 0  # of all that are here, none is bad
    assert main(["verify", "digits"]) == 1
    assert capsys.readouterr().out.count("is missing") == len(FILES)
    assert main(["get", "digits"]) == 0 and fetch.verify("digits") == []
    assert capsys.readouterr().out.splitlines()[-1] == f"digits: {course.set}"
    assert main(["verify"]) == 0
    (course.set / next(iter(FILES))).write_bytes(b"")
    assert main(["verify"]) == 1
    shutil.rmtree(course.set)
    course.describe({"kind": "https", "url": server.url, "member": "gone/{name}"})
    assert main(["get", "digits"]) == 1 and "404" in capsys.readouterr().err
    assert main(["get", "Digits"]) == 1
    assert "Did you mean 'digits'" in capsys.readouterr().err


def test_verify_fails_whatever_the_last_set_is(course, server, monkeypatch):
    course.describe(server.source)
    problems = {"digits": ["a file is missing"], "others": []}
    monkeypatch.setattr("utils.fetch.__main__.entry_of", lambda name: name)
    monkeypatch.setattr(
        "utils.fetch.__main__._verify", lambda name: int(bool(problems[name]))
    )
    assert main(["verify", "digits", "others"]) == 1
    assert main(["verify", "others", "others"]) == 0


def test_get_goes_on_after_a_name_that_is_wrong(course, server, capsys):
    course.describe(server.source)
    assert main(["get", "fingers", "digits"]) == 1
    assert fetch.verify("digits") == []


def test_get_without_a_name_asks_no_internet(course, server, mirror, monkeypatch):
    course.describe(server.source)
    assert main(["get"]) == 0 and not server.requests and not course.set.exists()
    (mirror / "digits").mkdir()
    for name, content in GZ.items():
        (mirror / "digits" / name).write_bytes(content)
    assert main(["get"]) == 0 and not server.requests and fetch.verify("digits") == []
    shutil.rmtree(course.set)
    monkeypatch.delenv("CV_MIRROR")
    # a package index is none: it has a source of that kind, and the server answers
    course.describe(server.source, wheel(course.folder, WHEEL))
    assert main(["get"]) == 0 and fetch.verify("digits") == []


def test_get_and_list_ask_a_mirror_on_a_web_server(course, server, monkeypatch, capsys):
    source = wheel(course.folder, WHEEL) | {"kind": "mirror"}
    course.describe(source)
    monkeypatch.setenv("CV_MIRROR", server.url)
    main(["list"])
    expected = f"0.8 no only a mirror: {WHEEL_NAME} MIT".split()
    assert rows(capsys.readouterr().out)["digits"] == expected
    assert main(["get"]) == 0 and not course.set.exists()
    server.files[WHEEL_NAME] = (course.folder / WHEEL_NAME).read_bytes()
    main(["list"])
    expected = f"0.8 no the mirror: {WHEEL_NAME} MIT".split()
    assert rows(capsys.readouterr().out)["digits"] == expected
    assert main(["get"]) == 0 and fetch.verify("digits") == []


def test_a_mirror_that_does_not_answer_is_asked_once(course, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(sources, "_status", lambda url: asked.append(url))
    monkeypatch.setenv("CV_MIRROR", "https://silent.example/mirror")
    course.describe(wheel(course.folder, WHEEL))
    main(["list"])
    main(["list"])
    assert asked == ["https://silent.example/mirror"]
    assert "PyPI: digits-data==1.0" in capsys.readouterr().out


def test_get_and_verify_what_is_generated(course, capsys):
    describe_generated(course)
    assert main(["get"]) == 0 and main(["verify", "digits"]) == 0
    assert main(["mirror", str(course.folder / "stick"), "digits"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "digits: comes with Python; use utils.digits",
        "digits: generated, no files to verify",
        "digits: nothing to mirror, use utils.digits",
    ]


@pytest.mark.parametrize("kind", ["wheel", "single files"])
def test_a_mirror_serves_a_classroom(course, server, shop, kind, monkeypatch, capsys):
    stick = course.folder / "stick"
    course.describe(wheel(shop, WHEEL) if kind == "wheel" else server.source)
    assert main(["mirror", str(stick)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"digits: {stick}"
    here = {path.name for path in stick.rglob("*") if path.is_file()}
    expected = {WHEEL_NAME} if kind == "wheel" else GZ.keys()
    assert here - {".digits.lock"} == expected
    for file in shop.iterdir():  # the original places are gone
        file.unlink()
    server.files.clear()
    asked = len(server.requests)
    monkeypatch.setenv("CV_MIRROR", str(stick))
    course.succeeds()
    monkeypatch.delenv("CV_MIRROR")
    assert main(["mirror", str(stick), "digits"]) == 0  # all of it is there
    assert len(server.requests) == asked


def test_a_mirror_gets_no_bad_archive(course, server, capsys):
    """Its hash is right and what is in it is not: the folder stays as it was."""
    stick, archive = course.folder / "stick", course.folder / "digits.zip"
    pack(archive, WHEEL | {"digits/t10k-labels-idx1-ubyte": bytes(28)})
    server.files["digits.zip"] = archive.read_bytes()
    source = server.source | {"archives": [described(archive)]}
    course.describe(source | {"member": "digits/{name}"})
    assert main(["mirror", str(stick)]) == 1
    assert "is not the catalog's" in capsys.readouterr().err
    assert [path.name for path in stick.iterdir()] == [".digits.lock"]


def test_a_bad_archive_in_a_mirror_is_replaced(course, server):
    stick, archive = course.folder / "stick", course.folder / "digits.zip"
    stick.mkdir()
    pack(archive, WHEEL)
    server.files["digits.zip"] = archive.read_bytes()
    source = server.source | {"archives": [described(archive)]}
    course.describe(source | {"member": "digits/{name}"})
    (stick / "digits.zip").write_bytes(b"half")
    assert main(["mirror", str(stick)]) == 0
    assert (stick / "digits.zip").read_bytes() == archive.read_bytes()


def test_a_mirror_that_cannot_be_made(course, server, capsys):
    course.describe(server.source)
    assert main(["mirror", str(course.root / "other" / "file" / "stick")]) == 1
    said = capsys.readouterr().err
    assert "cannot be stored" in said and "name a folder elsewhere" in said
    for names in ([], ["digits"]):  # the folder was forgotten
        with pytest.raises(SystemExit):
            main(["mirror", *names])
        assert "mirror needs the folder" in capsys.readouterr().err
    assert not server.requests


def test_the_module_is_a_command(tmp_path):
    command = [sys.executable, "-m", "utils.fetch", "list"]
    environment = os.environ | {"CV_DATA": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    environment.pop("CV_MIRROR", None)
    listed = subprocess.run(command, env=environment, capture_output=True, text=True)
    listed_rows = rows(listed.stdout)
    assert list(listed_rows) == list(catalog.read_catalog()) and listed.stderr == ""
    assert listed_rows["mnist"][1] == listed_rows["mtcnn"][1] == "no"
