"""Active check of path MTUs: send packets of many lengths with DF, and see which of them arrive.

No root is needed where the kernel lets users send ICMP echo, and else UDP does::

    from pmtutrace.probing import Wanted, probe

    result = probe("192.0.2.1", Wanted())
    print(result.verdict, result.path.mtu if result.path else result.judgement.found)
"""

from pmtutrace.probing.result import Result
from pmtutrace.probing.run import Wanted, check, probe, probe_all, tunnels
from pmtutrace.probing.verdict import VERDICTS

__all__ = ["VERDICTS", "Result", "Wanted", "check", "probe", "probe_all", "tunnels"]
