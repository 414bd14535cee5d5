"""BTF files made by hand, for tests of what no kernel at hand contains."""

import runpy
import struct
from pathlib import Path

from pmtutrace.kernel.btf import Btf
from pmtutrace.kernel.btf_kinds import Kind

TOOL = runpy.run_path(str(Path(__file__).with_name("prune.py")))
RECORD, WRITE = TOOL["Record"], TOOL["write"]
FLAG = 1 << 31


class Sample:
    """Builds a BTF file; a type's id is what the method returns.

    With a base, it is that of a module: types and names go on after those of the kernel.
    """

    def __init__(self, base=None):
        self.base = base
        self.records = [RECORD("", 0, 0, ())] * (len(base) if base else 1)
        self.names = b"\0"

    def name(self, name):
        if not name:
            return 0
        self.names += name.encode() + b"\0"
        return len(self.names) - len(name) - 1

    def add(self, kind, name="", word=0, rest=(), count=0, flag=False):
        info = int(kind) << 24 | count | (FLAG if flag else 0)
        self.records.append(RECORD(name, info, word, tuple(rest)))
        return len(self.records) - 1

    def int(self, name, size, encoding=0, bits=None, shift=0):
        word = encoding << 24 | shift << 16 | (8 * size if bits is None else bits)
        return self.add(Kind.INT, name, size, [word])

    def struct(self, name, size, members, kind=Kind.STRUCT, flag=False):
        rest = [x for n, t, at in members for x in (self.name(n), t, at)]
        return self.add(kind, name, size, rest, len(members), flag)

    def enum(self, name, values, size=4, flag=False):
        rest = [x for n, v in values.items() for x in (self.name(n), v & 0xFFFFFFFF)]
        return self.add(Kind.ENUM, name, size, rest, len(values), flag)

    def enum64(self, name, values, flag=False):
        rest = [
            x
            for n, v in values.items()
            for x in (self.name(n), v & 0xFFFFFFFF, v >> 32 & 0xFFFFFFFF)
        ]
        return self.add(Kind.ENUM64, name, 8, rest, len(values), flag)

    def proto(self, returns, parameters):
        rest = [x for n, t in parameters for x in (self.name(n), t)]
        return self.add(Kind.FUNC_PROTO, "", returns, rest, len(parameters))

    def data(self):
        if not self.base:
            return WRITE(self.records, self.names)
        own = [self.records[0], *self.records[len(self.base) :]]
        data = bytearray(WRITE(own, self.names))
        # The writer numbers strings from 0.
        _, _, _, header, _, size, _, _ = struct.unpack_from("<HBBIIIII", data)
        words = list(struct.unpack_from(f"<{size // 4}I", data, header))
        at = 0
        for record in own[1:]:
            for i, mark in enumerate("s--" + record.shape):
                if mark == "s" and words[at + i]:
                    words[at + i] += self.base.string_end
            at += 3 + len(record.shape)
        struct.pack_into(f"<{size // 4}I", data, header, *words)
        return bytes(data)

    def btf(self):
        return Btf.parse(self.data(), self.base, source="sample")
