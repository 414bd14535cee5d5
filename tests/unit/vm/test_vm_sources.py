"""The machine's apt sources, in both formats, with other vendors' archives beside Debian's."""

import pytest

from pmtutrace.errors import VmError
from pmtutrace.vm.sources import Source, deb822, debian, machine_sources, one_line

ONE_LINE = """\
# a comment
deb [signed-by=/k/debian-archive-keyring.gpg] http://a.example/debian/ bookworm main contrib #
deb https://mirror.example/debian-security bookworm-security main
deb-src https://mirror.example/debian bookworm main
deb https://vendor.example/apt cloud-sdk-bookworm main
deb [trusted=yes] file:/srv/flat ./
"""
DEB822 = """\
# written by an installer
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main
# in between
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEZ
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
Components: main
"""


def test_one_line_format():
    sources = one_line(ONE_LINE)
    assert [source.uris[0] for source in sources] == [
        "http://a.example/debian/",
        "https://mirror.example/debian-security",
        "https://vendor.example/apt",
        "file:/srv/flat",
    ]
    assert sources[0].components == ("main", "contrib")
    assert sources[0].signed_by == "/k/debian-archive-keyring.gpg"
    assert sources[3].trusted == "yes"


def test_deb822_format():
    sources = deb822(DEB822)
    assert [source.uris[0] for source in sources] == [
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
    ]
    assert sources[0].suites == ("trixie", "trixie-updates")
    assert sources[1].signed_by.splitlines()[1:3] == [" -----BEGIN PGP PUBLIC KEY BLOCK-----", " ."]


@pytest.mark.parametrize("text", [one_line(ONE_LINE), deb822(DEB822)], ids=["one-line", "deb822"])
def test_debian_archives_are_found(text):
    assert debian(text).uris[0].rstrip("/").endswith("/debian")
    assert debian(text, security=True).uris[0].endswith("/debian-security")


def test_another_vendors_archive_with_a_codename_of_debian_is_not_debian():
    vendor = Source(("https://apt.vendor.example",), ("bookworm",), ("main",), "/etc/vendor.gpg")
    with pytest.raises(VmError, match="no Debian archive") as caught:
        debian([vendor])
    assert "sources.list.d" in caught.value.hint
    ours = Source(("https://pkg.example/mirror",), ("bookworm",), ("main",))
    assert debian([vendor, ours]) is ours


def test_security_archive_is_asked_for_by_its_suite():
    only = [Source(("http://mirror.example/debian",), ("bookworm",), ("main",))]
    with pytest.raises(VmError, match="security"):
        debian(only, security=True)


def test_both_formats_are_read_and_nothing_else(tmp_path):
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (parts / "debian.sources").write_text(DEB822)
    (parts / "debian.sources.save").write_text(DEB822)
    assert len(machine_sources(tmp_path)) == 6
