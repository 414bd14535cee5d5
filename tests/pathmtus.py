"""Path MTU exceptions three ways: as iproute2 shows them, as they are held, as changes add up."""

import re
import subprocess

from pmtutrace.events import ENDS
from routers import GATES, LENGTH, PREFIX, TARGETS, awaited, ip, lifetime, provoke

WAYS = ("r", "s", "rs")  # by one router, by the other, by both
SHOW = ("-o", "route", "show", "table", "all", "cache")  # without a table, only those of "main"
ROW = re.compile(
    r"(?P<daddr>\S+) (?:from (?P<saddr>\S+) )?(?:via (?:inet6 )?(?P<gateway>\S+) )?"
    r"dev (?P<dev>\S+) .*?(?:expires (?P<expires>\d+)sec )?(?:mtu (?P<lock>lock )?(?P<mtu>\d+))?"
    r"(?: pref \w+)?\s*$"
)


def shown(node):
    """Return what iproute2 says: exceptions without their end, and the seconds to the first end."""
    rows, least = set(), 1e9
    for family in (4, 6):
        for line in ip(node, f"-{family}", *SHOW).splitlines():
            row = ROW.match(line)
            assert row, line
            if not row["mtu"] or (family == 4 and not row["expires"]):
                continue  # nothing learned: after a flush, or IPv4 in the tick in which it expires
            what = row["daddr"], row["saddr"], row["gateway"], row["dev"]
            rows.add((family, *what, int(row["mtu"]), bool(row["lock"])))
            least = min(least, int(row["expires"] or 0))  # nothing in its last instant
    return rows, least


def asked(node):
    """Return what iproute2 says of exceptions when asked for each IPv6 way.

    Of a route with several nexthops, a dump has only what was learned of the first. Comes with the
    seconds to the first end, and the destinations and devices to which no way of "main" leads.
    """
    questions = [(target, dev) for target in TARGETS[6] for dev in ("a0", "a1")]
    batch = "".join(f"route get {target} oif {dev}\n" for target, dev in questions)
    command = ("ip", "-6", "-o", "-force", "-batch", "-")
    done = node.run(
        lambda: subprocess.run(command, input=batch, capture_output=True, text=True, check=False)
    )
    rows, least, elsewhere = set(), 1e9, set(questions)
    for line in done.stdout.splitlines():
        row = ROW.match(line)
        assert row, line
        if row["mtu"] and row["expires"]:
            rows.add((6, row["daddr"], None, row["gateway"], row["dev"], int(row["mtu"]), False))
            least = min(least, int(row["expires"]))
        if " table " not in line:
            elsewhere.discard((row["daddr"], row["dev"]))
    return rows, least, elsewhere


class Stream:
    """The table that whoever reads nothing but the changes comes to."""

    def __init__(self, vias=("unknown", "administrator")):
        self.vias = set(vias)
        self.table = {}
        self.last = 0

    def take(self, changes):
        for change in changes:
            assert change.ts >= self.last - 50_000_000, "changes are not in order of time"
            self.last = max(self.last, change.ts)
            assert change.via in self.vias
            where = change.family, change.daddr, change.saddr, change.gateway, change.dev
            key = *where, self.which(where, change.table)
            before = self.table.pop(key, None)
            assert change.old == (before and before[0]), change
            assert (change.old is None) == (change.change == "created")
            assert (change.new is None) == (change.change in ENDS)
            if change.new is not None:
                self.table[key] = change.new, change.locked

    def which(self, where, table):
        """Return the table that an exception was last said to be in; 0 where nobody knew it."""
        there = [key[-1] for key in self.table if key[:-1] == where]
        if not table:
            return there[0] if len(there) == 1 else 0
        if table not in there and 0 in there:
            self.table[*where, table] = self.table.pop((*where, 0))
        return table

    def rows(self):
        return {(*key[:-1], *value) for key, value in self.table.items()}


def held(watch):
    return rows_of(known for _, known in watch.now())


def rows_of(there):
    return {
        (
            k.item.family,
            k.item.daddr,
            k.item.saddr,
            k.item.gateway,
            k.dev,
            k.item.mtu,
            k.item.locked,
        )
        for k in there
    }


def words(changes):
    return {change.change for change in changes}


class Actions:
    """What may befall a namespace, at random."""

    def __init__(self, net, changes, stream, dice):
        self.net, self.changes, self.stream, self.dice = net, changes, stream, dice
        self.node = net["a"]
        self.narrow = None
        self.done = {}

    def step(self):
        weights = {
            self.news: 10,
            self.flush: 2,
            self.expiry: 1,
            self.route: 2,
            self.own_table: 1,
            self.device: 2,
            self.narrowed: 2,
        }
        (action,) = self.dice.choices(list(weights), list(weights.values()))
        self.done[action.__name__] = self.done.get(action.__name__, 0) + 1
        before, self.narrow = self.narrow, None
        if before:
            ip(self.node, "link", "set", before, "mtu", str(LENGTH))
        return before, *action()

    def look(self):
        self.stream.take(changes := self.changes())
        return changes

    def any_target(self):
        family = self.dice.choice((4, 6))
        return family, self.dice.choice(TARGETS[family])

    def news(self):
        family, target = self.any_target()
        mtu = self.dice.randint(300 if family == 4 else 1280, LENGTH - 1)
        assert provoke(self.net, family, target, mtu)
        return "news", family, target, mtu

    def flush(self):
        family = self.dice.choice((4, 6))
        ip(self.node, f"-{family}", "route", "flush", "cache")
        return "flush", family

    def expiry(self):
        family, target = self.any_target()
        lifetime(self.node, family, 1)
        try:
            provoke(self.net, family, target, self.dice.randint(1280, LENGTH - 1))
            self.look()
            awaited(lambda: min(shown(self.node)[1], asked(self.node)[1]) > 2)
        finally:
            lifetime(self.node, family, 600)
        return "expiry", family, target

    def route(self):
        family, way = self.dice.choice((4, 6)), self.dice.choice(WAYS)
        legs = [word for gate in way for word in ("nexthop", "via", GATES[family][gate])]
        mtu = self.dice.choice(((), ("mtu", "1450")))
        ip(self.node, f"-{family}", "route", "replace", PREFIX[family], *mtu, *legs)
        return "route", family, way, mtu

    def own_table(self):
        family, target = self.any_target()
        if f"to {target}" not in ip(self.node, f"-{family}", "rule"):
            ip(self.node, f"-{family}", "rule", "add", "to", target, "table", "100")
        gate = GATES[family][self.dice.choice("rs")]
        ip(self.node, f"-{family}", "route", "replace", target, "via", gate, "table", "100")
        return "own table", family, target, gate

    def device(self):
        dev, mtu = self.dice.choice(("a0", "a1")), self.dice.choice((LENGTH, 1450, 1500))
        ip(self.node, "link", "set", dev, "mtu", str(mtu))
        return "device", dev, mtu

    def narrowed(self):
        """Narrow a device until the next step: exceptions become narrower, and wider, with it."""
        self.narrow = self.dice.choice(("a0", "a1"))
        ip(self.node, "link", "set", self.narrow, "mtu", "1300")
        return "narrowed", self.narrow


def agreed(actions, watch):
    """Return what iproute2 shows, and the changes, once it is what is held.

    IPv6 collects exceptions by its own clock, also between our look and that of iproute2.
    """
    changes = []
    for _ in range(3):
        changes += actions.look()
        rows, _ = shown(actions.node)
        if held(watch) == rows:
            break
    return rows, changes
