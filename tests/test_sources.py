"""`utils.sources`: the real clients of pip and apt, and mirrors."""

import hashlib
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from fetch_helpers import (
    DEB,
    DEBIAN,
    GZ,
    WHEEL,
    debian_package,
    running_server,
    wheel,
)

needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="only Debian and its relatives have apt")
needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="this system has no dpkg-deb")


def test_a_wheel_through_pip(course, shop):
    course.describe(wheel(shop, WHEEL))
    course.succeeds()


def test_another_wheel_is_refused_unopened(course, shop, monkeypatch):
    """Same name and version, same files, other bytes."""
    source = wheel(shop, WHEEL)
    wheel(shop, WHEEL | {"digits/more": b"x"})
    course.describe(source)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    course.fails("digits_data-1.0-py3-none-any.whl is not the catalog's", source["archives"][0]["sha256"])


def test_a_wheel_that_pip_does_not_have(course, shop):
    course.describe(wheel(shop, WHEEL) | {"package": "digits-data==2.0"})
    course.fails("pypi digits-data==2.0: Could not find a version that satisfies")


def test_no_pip(course, shop, monkeypatch, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    course.describe(wheel(shop, WHEEL))
    course.fails("pypi digits-data==1.0: ", "No module named pip")


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A real package in a repository on this disk, the only one that apt looks at."""
    tree, repository = tmp_path / "tree", tmp_path / "repository"
    (tree / "DEBIAN").mkdir(parents=True)
    repository.mkdir()
    control = "Package: digits-data\nVersion: 1.0\nArchitecture: all\nMaintainer: t\nDescription: d\n"
    (tree / "DEBIAN" / "control").write_text(control)
    for name, content in DEB.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    (tree / "usr/share/digits/link").symlink_to("/etc/passwd")  # what is not asked for may be there
    package = repository / "digits-data_1.0_all.deb"
    subprocess.run(["dpkg-deb", "-b", tree, package], check=True, capture_output=True)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    index = f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n"
    (repository / "Packages").write_text(index)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{repository} ./\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{tmp_path}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return repository


@needs_apt
def test_a_debian_package_through_apt(course, apt):
    lists = Path("/var/lib/apt/lists").stat().st_mtime_ns
    course.describe(DEBIAN)
    course.succeeds()
    assert Path("/var/lib/apt/lists").stat().st_mtime_ns == lists  # the system's own state is left as it was


@needs_apt
def test_apt_does_not_deliver(course, apt, tmp_path):
    course.describe(DEBIAN | {"package": "digits-lost"})
    course.fails("debian digits-lost: Unable to locate package digits-lost")
    (tmp_path / "sources.list").write_text("deb [trusted=yes] http://127.0.0.1:9/ ./\n")
    course.describe(DEBIAN)
    course.fails("debian digits-data: http://127.0.0.1:9/", "refused")


def test_without_debian_tools_the_next_source_serves(course, mirror, monkeypatch, tmp_path):
    debian_package(mirror / "digits-data_1.0_all.deb", DEB)
    monkeypatch.setenv("PATH", str(tmp_path))
    course.describe(DEBIAN)
    course.fails("takes dpkg-deb, which this machine does not have", "this machine has no apt-get")
    with running_server() as server:
        course.describe(DEBIAN, server.source)
        course.succeeds()


@needs_dpkg
def test_a_debian_package_from_a_mirror(course, mirror):
    debian_package(mirror / "digits-data_1.0_all.deb", DEB)
    course.describe(DEBIAN)
    course.succeeds()


def test_a_mirror_comes_first(course, shop, mirror):
    """With nothing at the original places: the wheel, then the single files, are taken from the mirror."""
    source = wheel(mirror, WHEEL)
    course.describe(source)
    course.succeeds()
    shutil.rmtree(course.set)
    (mirror / "digits").mkdir()
    for name, content in GZ.items():
        (mirror / "digits" / name).write_bytes(content)
    course.describe({"kind": "https", "url": "http://127.0.0.1:9/", "member": "{name}.gz"})
    course.succeeds()


def test_a_mirror_with_a_bad_archive(course, shop, mirror, capsys):
    source = wheel(shop, WHEEL)
    wheel(mirror, WHEEL | {"digits/more": b"x"})
    course.describe(source)
    course.succeeds()
    assert capsys.readouterr().out.splitlines() == [
        f"digits: from mirror {mirror} ...",
        "digits: from pypi digits-data==1.0 ...",
    ]


def test_a_mirror_that_holds_nothing(course, shop, mirror, monkeypatch):
    course.describe(wheel(shop, WHEEL))
    (shop / "digits_data-1.0-py3-none-any.whl").unlink()
    course.fails(f"mirror {mirror}: holds no digits_data-1.0-py3-none-any.whl")
    monkeypatch.setenv("CV_MIRROR", str(mirror / "lost"))
    course.fails(f"mirror {mirror / 'lost'}: is not a folder")
