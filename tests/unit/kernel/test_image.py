"""An image is what it was when it was sealed, or it is refused."""

import hashlib
import json
import shutil

import pytest

from pmtutrace.errors import ImageError
from pmtutrace.kernel import build, bytecode, image, sources
from pmtutrace.kernel.image import Options

SHA = "0123456789abcdef" * 4
CODE = (
    bytes.fromhex("18110000" + "00000000" + "00000000" + "00000000")  # r1 = map 0
    + bytes([bytecode.CALL, 0, 0, 0]) + bytecode.RDONLY_CAST.to_bytes(4, "little")
    + bytes([bytecode.CALL, 0, 0, 0]) + (1).to_bytes(4, "little")
    + bytes.fromhex("9500000000000000")
)  # fmt: skip
CONTENT = {
    "key": image.key_of(SHA, Options()),
    "maps": [
        {
            "name": "m",
            "type": 2,
            "key_size": 4,
            "leaf_size": 8,
            "max_entries": 1,
            "flags": 0,
        }
    ],
    "programs": [{"name": "p", "code": CODE.hex(), "references": [[0, 0]]}],
    "tracepoints": {"kfree_skb": 77},
    "functions": {bytecode.KFUNC: 88},
    "btf": {"types": 100},
    "reasons": {"PKT_TOO_BIG": 5},
    "layout": "struct a {\n\t__u32 x;\n};",
}
SEALED = image.seal(CONTENT)


def test_what_was_sealed_comes_back():
    found = image.unseal(SEALED)
    assert found.key == CONTENT["key"]
    assert [entry._asdict() for entry in found.maps] == CONTENT["maps"]
    assert found.programs["p"].code == CODE
    assert found.programs["p"].references == ((0, 0),)
    assert (found.tracepoints, found.reasons) == ({"kfree_skb": 77}, {5: "PKT_TOO_BIG"})
    assert found.layout.structs["a"].size == 4
    assert found.tp_btf


def test_map_references_and_kfunc_calls_are_filled_in():
    found = image.unseal(SEALED)
    code = found.bytecode(found.programs["p"], [1234])
    assert int.from_bytes(code[4:8], "little") == 1234
    # the mark has become a call of a kfunc by its BTF id; the helper call is left alone
    assert code[16:24] == bytes([bytecode.CALL, 0x20, 0, 0]) + (88).to_bytes(4, "little")
    assert code[24:] == CODE[24:]


def test_no_flipped_bit_goes_unnoticed():
    for at in range(len(SEALED)):
        for bit in range(8):
            damaged = bytearray(SEALED)
            damaged[at] ^= 1 << bit
            with pytest.raises(ImageError):
                image.unseal(bytes(damaged))


def test_no_missing_or_additional_octet_goes_unnoticed():
    for length in range(len(SEALED)):
        with pytest.raises(ImageError):
            image.unseal(SEALED[:length])
    with pytest.raises(ImageError):
        image.unseal(SEALED + b"\n")


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        "text",
        *({name: value for name, value in CONTENT.items() if name != gone} for gone in CONTENT),
        *({**CONTENT, name: 5} for name in CONTENT),
        *({**CONTENT, name: [5]} for name in CONTENT),
        {**CONTENT, "key": {}},
        {**CONTENT, "key": {**CONTENT["key"], "options": {"unknown": 1}}},
        {**CONTENT, "maps": [{"name": "m"}]},
        {**CONTENT, "programs": [{"name": "p", "code": "xyz", "references": []}]},
        {**CONTENT, "programs": [{"name": "p", "code": "00", "references": [[1]]}]},
        {**CONTENT, "layout": "struct a {\n\tint x;\n};"},
    ],
)
def test_a_good_seal_on_nonsense_is_not_enough(content):
    with pytest.raises(ImageError):
        image.unseal(image.seal(content))


def test_json_that_is_too_deep():
    body = b"[" * 200_000
    digest = hashlib.sha256(body).hexdigest().encode()
    with pytest.raises(ImageError):
        image.unseal(image.MAGIC + digest + b"\n" + body)


class TestKey:
    """An image is for one kernel, one source, one set of options and one maker."""

    def test_of_the_same_is_the_same(self):
        assert image.key_of(SHA, Options()) == image.key_of(SHA, Options())

    @pytest.mark.parametrize(
        "other", [Options(plain=True), Options(flows=1024), Options(ring_pages=64)]
    )
    def test_changes_with_options(self, other):
        assert image.key_of(SHA, Options()) != image.key_of(SHA, other)

    def test_changes_with_btf(self):
        assert image.key_of(SHA, Options()) != image.key_of("0" * 64, Options())

    def test_changes_with_any_source(self, tmp_path, monkeypatch):
        before = image.key_of(SHA, Options())
        copy = tmp_path / "bpf"
        shutil.copytree(sources.folder(), copy)
        monkeypatch.setattr(sources, "folder", lambda: copy)
        assert image.key_of(SHA, Options()) == before
        for path in [
            *(path for path in copy.rglob("*") if path.suffix in (".c", ".h", ".toml")),
        ]:
            text = path.read_text()
            path.write_text(text + " ")
            assert image.key_of(SHA, Options()) != before, path
            path.write_text(text)
        assert image.key_of(SHA, Options()) == before

    def test_names_modules_that_exist(self):
        assert len(image._makers()) == 64


class TestCache:
    """One that is there and sound is used; anything else is built."""

    @pytest.fixture
    def builds(self, monkeypatch, tmp_path):
        """Have images made of the sample here, and count how often."""
        monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path))
        made = []

        class Child:
            returncode = 0

            def __init__(self, options):
                made.append(options)
                key = image.key_of(SHA, options)
                self._sealed = image.seal({**CONTENT, "key": key})

            def communicate(self):
                return self._sealed, b""

            def kill(self):
                pass

        monkeypatch.setattr(build, "_begin", lambda _path, options, _sha: Child(options))
        return made

    @staticmethod
    def get(options=None):
        with build.Wanted(SHA, None, options or Options()) as wanted:
            return wanted.get()

    @staticmethod
    def kept(tmp_path):
        (path,) = (tmp_path / "images").iterdir()
        return path

    def test_built_once_and_kept_for_its_owner_only(self, builds, tmp_path):
        assert self.get().key == self.get().key
        assert len(builds) == 1
        assert self.kept(tmp_path).stat().st_mode & 0o777 == 0o600
        assert self.kept(tmp_path).parent.stat().st_mode & 0o777 == 0o700

    def test_other_options_are_another_image(self, builds, tmp_path):
        self.get()
        self.get(Options(flows=16))
        assert [options.flows for options in builds] == [65536, 16]
        assert len(list((tmp_path / "images").iterdir())) == 2

    @pytest.mark.parametrize("damage", [b"", b"\0", SEALED[:-1], SEALED])
    def test_damaged_or_for_something_else_is_built_anew(self, builds, tmp_path, damage):
        self.get()
        whole = self.kept(tmp_path).read_bytes()
        if damage == SEALED:
            other = {**CONTENT, "key": image.key_of("0" * 64, Options())}
            damage = image.seal(other)
        self.kept(tmp_path).write_bytes(damage)
        self.get()
        assert len(builds) == 2
        assert self.kept(tmp_path).read_bytes() == whole

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_one_that_others_can_write_is_built_anew(self, builds, tmp_path, mode):
        self.get()
        self.kept(tmp_path).chmod(mode)
        self.get()
        assert len(builds) == 2
        assert self.kept(tmp_path).stat().st_mode & 0o777 == 0o600


def test_the_errors_of_the_child_come_back_as_they_were():
    told = {"kind": "CompilerError", "message": "no bcc", "hint": "install it"}
    error = build._failure(b"a warning\n" + json.dumps(told).encode() + b"\n")
    assert (type(error).__name__, error.message, error.hint) == tuple(told.values())


@pytest.mark.parametrize(
    "said", [b"", b"Segmentation fault", b'{"kind": "os"}', b"[]", b"\xff", b'{"kind": 5}']
)
def test_whatever_else_the_child_says_is_a_compiler_error(said):
    error = build._failure(said)
    assert type(error).__name__ == "CompilerError"
    assert error.hint
