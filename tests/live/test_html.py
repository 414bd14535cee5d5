"""The page that `report --html` makes, in a real Chromium: what people see and can do."""

import contextlib
import dataclasses
import os
import re
import subprocess
import sys

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

import night
from night import EPISODE_S, FIRST_S, FLOOR, NSEC, Night
from pmtutrace.events import Flow
from pmtutrace.session import schema
from pmtutrace.session.writer import Writer
from pmtutrace.tunnels.tunnel import Tunnel
from recorded import MANIFEST, NETNS, counted, moved, second
from samples import LOWERED, TS, drop

CHROMIUM = "/usr/bin/chromium"
SIZES = [(1280, 800), (390, 800)]
THEMES = ["light", "dark"]
DROPS, FLOWS = 3000, 120
OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"
GRAVE = {"serious", "critical"}
PAYLOADS = (
    "<script>window.owned=1</script>",
    "</script><script>window.owned=2</script>",
    "<img src=x onerror=window.owned=3>",
    "<svg onload=window.owned=4><animate onbegin=window.owned=4>",
    'javascript:window.owned=5"><a href="javascript:window.owned=5">',
    '\' onmouseover=\'window.owned=6\' " onfocus="window.owned=6" autofocus x="',
    "{{ 7 * 7 }}{% raw %}<!--<script>",
    "]]>\u2028\u2029&lt;b&gt;&#60;i&#62;",
    "\u202egpj.\u202c\u200b\u2066\ufeffx",
    "\x1b[2J\x00\r\n\x07\x7f",
    "\u05e9\u05dc\u05d5\u05dd <\u0628>",
    "<style>*{display:none}</style>" + "w" * 5000,
)


def made(folder, *sessions):
    """Return the page of some sessions, made by the command as anybody runs it."""
    page = folder / "page.html"
    command = [sys.executable, "-m", "pmtutrace.cli.main", "report", "--html", page, *sessions]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return page


@pytest.fixture(scope="module")
def page_of_a_night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    night.write(folder / "s", Night(DROPS, FLOWS))
    return made(folder, folder / "s")


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    """Return a page with little of everything: axe looks at every cell."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("a", "b"):
        night.write(folder / name, Night(60, 5, 1.25, tunnels=7), boot_id=name, host=f"edge{name}")
    return made(folder, folder / "a", folder / "b")


@pytest.fixture(scope="module")
def chromium():
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=root)
        yield browser
        browser.close()


@contextlib.contextmanager
def shown(chromium, path, size=SIZES[0], **options):
    """Open a page that may ask for nothing, and must complain of nothing."""
    complaints, asked = [], []
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, timezone_id="Asia/Tokyo", **options
    )
    context.route(
        lambda url: url != path.as_uri(),
        lambda route: (asked.append(route.request.url), route.abort()),
    )
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        yield page
        assert complaints == []
        assert asked == [path.as_uri()]
    finally:
        context.close()


def drawn(canvas):
    """Return how many colours there are in a canvas."""
    return canvas.evaluate(
        "canvas => new Set(new Uint32Array(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"
    )


def range_shown(page):
    """Return from when to when, as seconds of the day, and for how long."""
    said = page.inner_text("#range")
    times = re.findall(r"(\d\d):(\d\d):(\d\d)", said)
    return [int(h) * 3600 + int(m) * 60 + int(s) for h, m, s in times], said


def rows(page):
    return page.locator("#flow-rows tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )


def column(page, name):
    heads = page.locator("#flow-head th").all_inner_texts()
    at = next(at for at, head in enumerate(heads) if head.startswith(name))
    return [row[at] for row in rows(page)]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
def test_it_renders(size, theme, chromium, page_of_a_night):
    with shown(chromium, page_of_a_night, size, color_scheme=theme) as page:
        wide, there = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= there
        hidden = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(x => x.scrollWidth > x.clientWidth)"
            ".map(x => x.getAttribute('aria-label'))"
        )
        assert size[0] < 1280 or hidden == []
        assert page.title() == "edge7: pmtutrace report"
        assert page.locator(".finding.critical").count() > 3
        page.locator("#timeline").scroll_into_view_if_needed()
        for canvas in page.locator("#tracks canvas").all():
            canvas.scroll_into_view_if_needed()
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => done()))")
            assert drawn(canvas) > 2
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (theme == "light")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
def test_it_bars_nobody(size, theme, chromium, small_page):
    with shown(chromium, small_page, size, color_scheme=theme) as page:
        page.evaluate(OPEN_ALL)
        page.click("#search")
        found = Axe().run(page).response
        grave = [one for one in found["violations"] if one["impact"] in GRAVE]
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in grave] == []
        assert len(found["passes"]) > 20


def test_axe_would_complain(chromium, tmp_path):
    (tmp_path / "bad.html").write_text("<html><body><img><button></button></body></html>")
    context = chromium.new_context()
    page = context.new_page()
    page.goto((tmp_path / "bad.html").as_uri())
    found = Axe().run(page).response["violations"]
    assert {one["id"] for one in found if one["impact"] in GRAVE} >= {"button-name", "image-alt"}
    context.close()


def test_wheel_brush_and_buttons_zoom(chromium, page_of_a_night):
    with shown(chromium, page_of_a_night) as page:
        _, everything = range_shown(page)
        ruler = page.locator("#ruler")
        ruler.scroll_into_view_if_needed()
        box = ruler.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
        page.mouse.wheel(0, -600)
        page.wait_for_function("said => document.getElementById('range').innerText != said",
                               arg=everything)  # fmt: skip
        (began, ended), closer = range_shown(page)
        # Around the pointer: the middle of nine hours.
        assert abs((began + 86400 * (began < 43200) + ended + 86400) / 2 - (21 + 4.5) * 3600) < 60
        page.click("#zoom-reset")
        assert range_shown(page)[1] == everything
        for button, other in (("#zoom-in", "#zoom-out"), ("#later", "#earlier")):
            page.click("#zoom-in")
            before = range_shown(page)[1]
            page.click(button)
            assert range_shown(page)[1] != before
            page.click(other)
            assert range_shown(page)[1] == before
            page.click("#zoom-reset")
        plot = page.locator(".track.drops canvas").bounding_box()
        for x, how in ((0.25, "move"), (0.25, "down"), (0.5, "move"), (0.5, "up")):
            if how == "move":
                page.mouse.move(plot["x"] + plot["width"] * x, plot["y"] + 20, steps=4)
            else:
                getattr(page.mouse, how)()
        assert closer != range_shown(page)[1] != everything
        times, _ = range_shown(page)
        assert abs((times[1] - times[0]) % 86400 - 9 * 3600 * 1.01 / 4) < 120
        page.mouse.dblclick(plot["x"] + 30, plot["y"] + 20)
        assert range_shown(page)[1] == everything


def test_keys_move_the_cursor_and_zoom(chromium, page_of_a_night):
    with shown(chromium, page_of_a_night) as page:
        cursor = page.locator("#cursor")
        cursor.focus()
        _, everything = range_shown(page)
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        first = cursor.get_attribute("aria-valuetext")
        page.keyboard.press("ArrowLeft")
        assert cursor.get_attribute("aria-valuetext") != first
        assert re.match(r"2026-11-2\d \d\d:\d\d:\d\d; gre1 → 198.51.100.1 \d+", first)
        assert page.locator("#crosshair").is_visible()
        page.keyboard.press("+")
        assert range_shown(page)[1] != everything
        page.keyboard.press("0")
        assert range_shown(page)[1] == everything


def test_the_cursor_says_what_was_then(chromium, page_of_a_night):
    with shown(chromium, page_of_a_night) as page:
        page.locator(".track.drops").scroll_into_view_if_needed()
        track = page.locator(".track.path").first
        box = track.locator("canvas").bounding_box()
        span = 9 * 3600
        for at, said in (
            (FIRST_S + EPISODE_S / 2, f"{FLOOR} locked, {FLOOR - 24} inside gre1"),
            (FIRST_S - 600, "1500, 1476 inside gre1"),
            (sum(Night().silent) / 2, "not known"),
            (FIRST_S + 5400 + 900, f"{FLOOR} locked, {FLOOR - 24} inside gre1"),
        ):
            x = (at / span + 0.005) / 1.01  # a little room is left at both ends
            page.mouse.move(box["x"] + box["width"] * x, box["y"] + 20)
            assert track.locator(".value").inner_text() == said
        assert page.locator(".track.drops .reading.suppressed").count() == 1


def test_the_table_has_what_was_counted(chromium, page_of_a_night):
    truth = dict.fromkeys(("told", "suppressed", "lost", "never attempted", "local"), 0)
    with shown(chromium, page_of_a_night) as page:
        page.click("#as-table summary")
        page.wait_for_selector("#values tbody tr")  # it is filled once it has been opened
        heads = page.locator("#values thead th").all_inner_texts()
        cells = page.locator("#values tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
        )
        for name in truth:
            at = heads.index(name)
            truth[name] = sum(int(row[at].replace("\u202f", "")) for row in cells)
        totals = page.locator("table.totals tbody td.number").all_inner_texts()
        said = [int(cell.replace("\u202f", "")) for cell in totals[:6]]
        assert said[0] == DROPS == sum(said[1:])
        for number, counted_ in zip(said[1:], truth.values(), strict=True):
            assert abs(number - counted_) <= len(cells) / 2  # each row is rounded
        page.select_option("#which", label="Path MTU gre1 → 198.51.100.1")
        steps = page.locator("#values tbody tr").all_inner_texts()
        assert len(steps) > 200
        assert sum(str(FLOOR) in step and "yes" in step for step in steps) >= 6


def test_flows_sort_and_filter(chromium, page_of_a_night):
    with shown(chromium, page_of_a_night) as page:
        assert page.inner_text("#flow-count") == "1\u2013100 of 120 rows, 3\u202f000 packets"
        packets = [int(cell) for cell in column(page, "Packets")]
        assert packets == sorted(packets, reverse=True)
        page.click("#flow-head button:has-text('Packets')")
        assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Packets")
        assert [int(cell) for cell in column(page, "Packets")] == sorted(
            int(cell) for cell in column(page, "Packets")
        )
        page.click("#flow-head button:has-text('From')")
        ends = [tuple(map(int, re.split("[.:]", cell))) for cell in column(page, "From")]
        assert ends == sorted(ends)
        page.click("#flows-after")
        assert len(rows(page)) == 20
        page.select_option("#verdict", "suppressed")
        assert set(column(page, "Verdict")) == {"suppressed no_route_back"}
        page.fill("#search", "10.1.0.3 no_route")
        page.wait_for_function("() => document.querySelectorAll('#flow-rows tr').length < 9")
        assert {cell.partition(":")[0] for cell in column(page, "From")} == {"10.1.0.3"}
        page.fill("#search", "no such thing")
        page.wait_for_function("() => document.querySelectorAll('#flow-rows tr').length == 0")
        assert page.inner_text("#flow-count").startswith("0 of 120 rows")


def test_verdicts_can_be_hidden_and_times_be_local(chromium, page_of_a_night):
    with shown(chromium, page_of_a_night) as page:
        canvas = page.locator(".track.drops canvas")
        canvas.scroll_into_view_if_needed()
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => done()))")
        before = canvas.evaluate("canvas => canvas.toDataURL()")
        page.click("#legend button.suppressed")
        assert page.locator("#legend button.suppressed").get_attribute("aria-pressed") == "false"
        page.wait_for_function("before => document.querySelector('.track.drops canvas')"
                               ".toDataURL() != before", arg=before)  # fmt: skip
        assert page.inner_text("header time >> nth=0") == "2026-11-21 21:00:00"
        page.select_option("#zone", "local")
        assert page.inner_text("header time >> nth=0") == "2026-11-22 06:00:00"


def test_a_finding_leads_to_its_time_and_its_commands_can_be_copied(chromium, page_of_a_night):
    with shown(
        chromium, page_of_a_night, permissions=["clipboard-read", "clipboard-write"]
    ) as page:
        finding = page.locator(".finding:has-text('recursive_tunnel · tunnel')").first
        code = finding.locator("code").first.inner_text()
        button = finding.locator("button.copy").first
        # It says so for a moment only.
        button.evaluate("""button => {
            window.said = [];
            new MutationObserver(() => said.push(button.innerText))
                .observe(button, {childList: true, characterData: true, subtree: true});
        }""")
        button.click()
        page.wait_for_function("() => said.includes('copied')")
        assert page.evaluate("navigator.clipboard.readText()") == code
        finding.locator("button.show").click()
        assert page.locator(".track.marked .name").inner_text() == "gre1 → 198.51.100.1"
        assert "21:4" not in code
        assert page.evaluate("document.activeElement.id") == "cursor"


def test_it_prints(chromium, page_of_a_night):
    with shown(chromium, page_of_a_night, color_scheme="dark") as page:
        assert page.pdf()[:5] == b"%PDF-"
        # Colours come back with the next frame.
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => done()))")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details.finding:not([open])").count() == 0
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert not page.locator("nav").is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details.finding:not([open])").count() > 0


def hostile(path, names):
    """Write a session in which whatever has a name is called so, by turns."""
    turn = 0

    def name():
        nonlocal turn
        turn += 1
        return names[turn % len(names)]

    said = {key: name() for key in ("host", "kernel", "boot_id", "series", "pmtutrace")}
    hooks = [{"hook": name(), "rung": None, "blind": name()} for _ in names]
    writer = Writer(path, MANIFEST | said | {"hooks": hooks, "losses": [*names]})
    writer.state(schema.Space(TS, NETNS, name()))
    for number in range(len(names)):
        called = name()
        writer.state(schema.Space(TS, NETNS + 1 + number, called))
        made_ = Tunnel(NETNS + 1 + number, 7, name(), name(), 1476, "192.0.2.1",
                       f"10.9.9.{number}", overhead=24)  # fmt: skip
        writer.state(schema.TunnelThere(TS, made_))
        where = {"netns": NETNS + 1 + number, "daddr": f"10.9.9.{number}", "dev": name()}
        writer.add(dataclasses.replace(LOWERED, **where, new=552, locked=True, tunnels=()))
        writer.add(drop(netns=NETNS + 1 + number, site=name(), cause=name(), verdict="suppressed"))
    deltas = [
        moved(3 + number, counted(("told", "suppressed", name())[number % 3], netns=NETNS + number,
                                  flow=Flow(f"10.1.1.{number}", "10.9.9.1", 17, 1, number),
                                  site=name(), cause=name()))
        for number in range(3 * len(names))
    ]  # fmt: skip
    writer.commit(second(1, *deltas, **dict.fromkeys(names, 1)))
    writer.close(ended=TS + NSEC)
    return path


def shape(page):
    """Return how many elements of each kind there are, and which attributes they have."""
    return page.evaluate(
        "() => { const out = {}; for (const one of document.querySelectorAll('*')) {"
        " const key = [one.localName, ...one.getAttributeNames().sort()].join(' ');"
        " out[key] = (out[key] || 0) + 1; } return out; }"
    )


def test_no_name_becomes_markup(chromium, tmp_path):
    """A page of hostile names has the same elements as one of plain names, and shows them."""
    shapes, folders = [], (tmp_path / "plain", tmp_path / "hostile")
    plain = tuple(f"n{number}" for number in range(len(PAYLOADS)))
    for folder, names in zip(folders, (plain, PAYLOADS), strict=True):
        folder.mkdir()
        path = made(folder, hostile(folder / "s", names))
        with shown(chromium, path) as page:
            page.evaluate(OPEN_ALL)
            page.select_option("#which", index=0)
            page.evaluate("dispatchEvent(new Event('beforeprint'))")  # draws what is far below, too
            shapes.append(shape(page))
            assert page.evaluate("window.owned") is None
            handlers = page.evaluate(
                "[...document.querySelectorAll('*')].flatMap(one => [...one.attributes])"
                ".filter(one => one.name.startsWith('on') || /^\\s*javascript:/i.test(one.value))"
                ".filter(one => one.name != 'title').map(one => one.name)"
            )
            assert handlers == []
            said = page.inner_text("main")
            links = page.locator("a").evaluate_all(
                "all => all.map(one => one.getAttribute('href'))"
            )
            assert all(link.startswith("#") for link in links)
    assert PAYLOADS[0] in said
    assert PAYLOADS[2] in said
    assert PAYLOADS[6] in said
    assert not set(said) & set("\u202e\u200b\u2066\ufeff\x1b\x00\x07\u2028")
    assert "w" * 1001 not in said
    assert shapes[0] == shapes[1]


def test_two_hosts_share_one_axis(chromium, tmp_path):
    """Both see the same collapse; one booted earlier, and its clock was an hour slow at first."""
    one = Night(600, 60, hours=2, silent=(0, 0))
    offset, hour = one.offset + 77 * NSEC, 3600 * NSEC
    slow = dataclasses.replace(one, offset=offset, clock_set=(5400, hour), ahead=-hour)
    night.write(tmp_path / "a", one, host="edge7")
    night.write(tmp_path / "b", slow, host="edge8", boot_id="77aa", session="b")
    path = made(tmp_path, tmp_path / "a", tmp_path / "b")
    with shown(chromium, path) as page:
        assert page.locator("#tracks h3").all_inner_texts() == ["edge7", "edge8"]
        lanes = [track for track in page.locator(".track.path").all()
                 if track.locator(".name").inner_text().startswith("gre1 ")]  # fmt: skip
        assert len(lanes) == 2
        page.locator("#timeline").scroll_into_view_if_needed()
        box = lanes[0].locator("canvas").bounding_box()
        for at, said in ((FIRST_S - 60, "1500"), (FIRST_S + 60, f"{FLOOR} locked")):
            x = (at / 7200 + 0.005) / 1.01
            page.mouse.move(box["x"] + box["width"] * x, box["y"] + 20)
            for lane in lanes:
                assert lane.locator(".value").inner_text().startswith(said)
        assert "the clock was set by +3600.0 s" in page.inner_text("#recording")
        page.select_option("#host", label="edge8")
        assert set(column(page, "Host")) == {"edge8"}
