"""Names, packages and files of kernels."""

import json

import pytest

from pmtutrace.errors import UsageError, VmError
from pmtutrace.vm import kernels
from pmtutrace.vm.sources import stanzas

# Cut from the package index of Debian's sid, where the kernel is split.
INDEX = """\
Package: linux-image-cloud-amd64
Version: 7.2.13-1
Depends: linux-base-cloud-amd64 (= 7.2.13-1), linux-image-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)
Size: 1432

Package: linux-base-cloud-amd64
Version: 7.2.13-1
Depends: linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)
Size: 1220

Package: linux-base-7.2.13+deb14-cloud-amd64
Version: 7.2.13-1
Depends: linux-base (>= 4.12~)
Size: 1000

Package: linux-image-7.2.13+deb14-cloud-amd64
Version: 7.2.13-1
Depends: dracut | initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool,
 linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1),
 linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1),
 linux-modules-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)
Size: 1916

Package: linux-binary-7.2.13+deb14-cloud-amd64
Version: 7.2.13-1
Size: 12000000

Package: linux-modules-7.2.13+deb14-cloud-amd64
Version: 7.2.13-1
Depends: kmod
Size: 25000000
"""


class Index:
    """What :class:`pmtutrace.vm.apt.Apt` shows, from a canned index."""

    def show(self, package):
        return next(fields for fields in stanzas(INDEX) if fields["package"] == package)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path))
    return tmp_path


def test_split_kernel_is_followed_through_exact_dependencies_only():
    version, packages, megabytes = kernels._resolve(Index())
    assert version == "7.2.13-1"
    assert set(packages) == {
        "linux-base-cloud-amd64",
        "linux-base-7.2.13+deb14-cloud-amd64",
        "linux-image-7.2.13+deb14-cloud-amd64",
        "linux-binary-7.2.13+deb14-cloud-amd64",
        "linux-modules-7.2.13+deb14-cloud-amd64",
    }
    assert set(packages.values()) == {"7.2.13-1"}
    assert megabytes == pytest.approx(37.004136)


def put_kernel(cache, name, release="6.1.0-9-cloud-amd64"):
    folder = cache / "kernels" / name
    (folder / release / "lib/modules" / release).mkdir(parents=True)
    (folder / release / "vmlinuz").write_bytes(b"")
    manifest = {"release": release, "version": "6.1.9-1", "suite": "bookworm"}
    (folder / "kernel.json").write_text(json.dumps(manifest))


def test_what_is_in_the_cache_is_not_fetched_again(cache):
    put_kernel(cache, "6.1")
    said = []
    kernel = kernels.fetch("6.1", said.append)
    assert said == []
    assert kernel.release == "6.1.0-9-cloud-amd64"
    assert kernel.modules == kernel.vmlinuz.parent / "lib/modules/6.1.0-9-cloud-amd64"
    assert kernels.listed() == [kernel]


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"release": "gone", "version": "1"}'])
def test_damaged_cache_is_as_good_as_none(cache, manifest):
    put_kernel(cache, "6.1")
    (cache / "kernels/6.1/kernel.json").write_text(manifest)
    assert kernels.listed() == []


@pytest.mark.parametrize("name", ["5.4", "../6.1", ""])
def test_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(UsageError) as caught:
        kernels.fetch(name)
    assert "5.10, 6.1, 6.12, 7" in caught.value.hint


def test_unpacked_package_is_put_where_it_is_looked_for(tmp_path, bzimage_file):
    tree, target = tmp_path / "tree", tmp_path / "kernel"
    modules = tree / "usr/lib/modules/9.9.9-test"
    modules.mkdir(parents=True)
    bzimage_file.rename(modules / "vmlinuz")
    assert kernels._arrange(tree, target) == "9.9.9-test"
    assert (target / "vmlinuz").is_file()
    assert (target / "usr/lib/modules/9.9.9-test").samefile(target / "lib/modules/9.9.9-test")


@pytest.mark.parametrize("named", [".", "lib/modules", "lib/modules/9.9.9-test", "lib"])
def test_modules_of_ones_own_kernel_are_found(tmp_path, bzimage_file, named):
    modules = tmp_path / "lib/modules/9.9.9-test"
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    kernel = kernels.find(str(bzimage_file), tmp_path / named)
    assert (kernel.release, kernel.modules) == ("9.9.9-test", modules)


def test_modules_of_another_release_are_refused(tmp_path, bzimage_file):
    with pytest.raises(VmError, match=r"no modules of 9\.9\.9-test") as caught:
        kernels.find(str(bzimage_file), tmp_path)
    assert "modules_install" in caught.value.hint


def test_modules_beside_a_stock_kernel_are_refused(tmp_path):
    with pytest.raises(UsageError, match="modules of its own"):
        kernels.find("6.1", tmp_path)
