"""Namespaces, tunnels and traffic in which oversize packets die on purpose.

Build a topology or a scenario, send through it, look at the kernel's counters::

    from pmtutrace import lab
    from pmtutrace.lab.scenarios import named

    with lab.built(named("vxlan-v4-udp-forward")) as net:
        lab.send(net, lab.Traffic("udp", "a", "10.77.1.1", "10.77.3.2"))
        print(net["r"].name, net["r"].counters()["IpFragFails"])
"""

from pmtutrace.lab.build import built, sweep
from pmtutrace.lab.net import Net, Node
from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.topology import Bridge, Leg, Port, Queue, Route, Topology, Tunnel, Veth
from pmtutrace.lab.traffic import Traffic, send

__all__ = [
    "Bridge",
    "Evidence",
    "Expected",
    "Leg",
    "Net",
    "Node",
    "Port",
    "Queue",
    "Route",
    "Scenario",
    "Topology",
    "Traffic",
    "Tunnel",
    "Veth",
    "built",
    "send",
    "sweep",
]
