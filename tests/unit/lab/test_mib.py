"""Reading the kernel's counters, from text as kernels print it."""

from pmtutrace.lab import mib

SNMP = """\
Ip: Forwarding DefaultTTL InReceives FragOKs FragFails
Ip: 1 64 46 0 23
IcmpMsg: InType3 OutType3
IcmpMsg: 23 46
"""
DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
    lo:       1       2    3    4    0     0          0         0        5       6    7    8    0
a:b@c:      10      20   30   40    0     0          0         0       50      60   70   80    0
"""


def test_lines_in_twos():
    assert mib.pairs(SNMP) == {
        "IpForwarding": 1,
        "IpDefaultTTL": 64,
        "IpInReceives": 46,
        "IpFragOKs": 0,
        "IpFragFails": 23,
        "IcmpMsgInType3": 23,
        "IcmpMsgOutType3": 46,
    }


def test_lines_of_name_and_number():
    assert mib.columns("Ip6FragFails   \t23\nIcmp6OutPktTooBigs\t22\n") == {
        "Ip6FragFails": 23,
        "Icmp6OutPktTooBigs": 22,
    }


def test_devices_whatever_they_are_called():
    found = mib.devices(DEV)
    assert found["lo:rx_packets"] == 2
    assert found["lo:tx_dropped"] == 8
    assert [found[f"a:b@c:{name}"] for name in mib.DEVICE_COLUMNS.values()] == list(
        range(10, 90, 10)
    )


def test_this_kernel_has_what_the_scenarios_look_at():
    counters = mib.read()
    assert counters["IpFragFails"] >= 0
    assert counters["Ip6FragFails"] >= 0
    assert "lo:rx_packets" in counters
