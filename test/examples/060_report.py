#!/usr/bin/python3
"""challenge_jobs.report_html() in a browser: with texts in the log that want to be markup, in light and dark, on a
large screen and on a phone."""

import pathlib
import struct
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import chromium
import harness
from harness import done, equal, ok, psql

STATUSES = ["crashed", "failed", "cancelled", "succeeded", "running", "rolled_back", "skipped"]

# What would be seen if it became markup: each sets "hacked".
HOSTILE = ("<script>window.hacked = 1</script>", '<img src="x" onerror="window.hacked = 1">',
           '"><svg onload="window.hacked = 1">', "</title></style><script>window.hacked = 1</script>",
           "' onmouseover='window.hacked = 1", "&lt;b&gt; \u202e\u0001 " + "unbroken" * 60)

LOG = """
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external'), challenge_jobs.schedule('send_streak_reminders', 'external');
INSERT INTO challenge_jobs.job_run (job, status, triggered_by, as_of, started_at, finished_at, rows_affected, message, detail, hint, context, role_name, pid)
SELECT job, status, 'worker', m, m, CASE WHEN status <> 'running' THEN m + n % 50 * interval '40 ms' END, n, 'run ' || n, 'detail', 'hint', 'context', 'nobody', 1
  FROM unnest('{auto_complete_challenges,send_streak_reminders,refresh_challenge_stats}'::text[]) WITH ORDINALITY j(job, j), generate_series(1, 200) n,
       LATERAL (SELECT CASE WHEN n % 9 = 0 THEN (ARRAY['crashed', 'failed', 'cancelled', 'rolled_back', 'skipped'])[1 + n % 5] ELSE 'succeeded' END) s(status),
       LATERAL (SELECT now() - n * j * interval '17 min') t(m);
INSERT INTO challenge_jobs.job_run (job, status, triggered_by, started_at, role_name, pid) VALUES ('refresh_challenge_stats', 'running', 'manual', now(), 'nobody', 1);
INSERT INTO challenge_jobs.job_run (job, status, triggered_by, as_of, started_at, finished_at, message, detail, hint, context, role_name, pid)
SELECT 'auto_complete_challenges', 'failed', h, now(), now(), now(), h, h, h, h, h, 1 FROM unnest(HOSTILE_TEXTS) h;
INSERT INTO challenge_jobs.alert (job, kind, episode, raised_at, payload, next_attempt_at, attempts, last_error)
SELECT h, 'failed', n, now(), jsonb_build_object('message', h), now() + interval '1 day', 1, h FROM unnest(HOSTILE_TEXTS) WITH ORDINALITY u(h, n);
"""

# Every text of the page with a contrast below what WCAG 2 asks for (AA), and every sign and bar below 3 to 1.
CONTRAST = r"""
(() => {
    const parse = (color) => color.match(/[\d.]+/g).map(Number);
    const channel = (c) => c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const contrast = (a, b) => {
        const [hi, lo] = [luminance(a), luminance(b)].sort((x, y) => y - x);
        return (hi + 0.05) / (lo + 0.05);
    };
    const background = (element) => {
        for (; element; element = element.parentElement) {
            const color = parse(getComputedStyle(element).backgroundColor);
            if (color.length < 4 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const found = [];
    let looked = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const element = node.parentElement;
        if (!node.data.trim() || ["title", "desc", "style"].includes(element.localName)) continue;
        const style = getComputedStyle(element);
        const size = parseFloat(style.fontSize);
        const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
        const color = parse(element.localName === "text" ? style.fill : style.color);
        looked++;
        if (contrast(color, background(element)) < needed)
            found.push(`"${node.data.trim().slice(0, 40)}" ${color} on ${background(element)}`);
    }
    for (const element of document.querySelectorAll(".sign, .timeline use, .timeline g[class] rect, .durations circle")) {
        const style = getComputedStyle(element);
        const color = parse(["rect", "circle"].includes(element.localName) ? style.fill : style.color);
        looked++;
        if (contrast(color, background(element)) < 3)
            found.push(`${element.localName} ${element.getAttribute("class")} ${color} on ${background(element)}`);
    }
    return { looked, found: [...new Set(found)] };
})()
"""

# What reaches out of the window to the right, although its box does not scroll.
TOO_WIDE = r"""
[...document.querySelectorAll("body *")]
    .filter((e) => !e.closest("svg, thead") && e.getBoundingClientRect().right > innerWidth + 0.5)
    .map((e) => `${e.localName}.${e.className} ${e.getBoundingClientRect().right}`).slice(0, 10)
"""


def first_pixel(path):
    """Returns the colour of the upper left corner of a PNG file."""
    data = path.read_bytes()
    position, packed = 8, b""
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position:position + 8])
        if kind == b"IDAT":
            packed += data[position + 8:position + 8 + length]
        position += 12 + length
    return tuple(zlib.decompress(packed)[1:4])


def make_page():
    """Fills the log and writes the report to a file; returns its path."""
    literal = "ARRAY[" + ", ".join("E'" + h.replace("\\", "\\\\").replace("'", "''") + "'" for h in HOSTILE) + "]"
    psql(LOG.replace("HOSTILE_TEXTS", literal))
    path = harness.folder() / "report.html"
    path.write_text(psql("SELECT challenge_jobs.report_html()") + "\n")
    return path


def check_texts(browser, path):
    """Texts of the log are texts in the page."""
    equal(browser.evaluate("window.hacked"), None, "no script of the log has run")
    equal([e for e in browser.seen("Page.javascriptDialogOpening")], [], "no dialog was opened")
    equal(browser.evaluate("[...document.querySelectorAll('script, img, iframe, object, link, a, base, form')].length"), 0,
          "no element that could load or run something")
    equal(browser.evaluate("[...document.querySelectorAll('*')].flatMap((e) => e.getAttributeNames())"
                           ".filter((n) => n.startsWith('on') || n === 'src')"), [], "no attribute that could either")
    texts = browser.evaluate("[...document.querySelectorAll('#failures ~ .list .message')].map((e) => e.textContent)")
    for text in HOSTILE:
        wanted = text.replace("\u202e", "\ufffd").replace("\u0001", "\ufffd")
        ok(wanted in texts, f"it is there as text: {text[:30]!a}", texts[:10])
    equal(browser.evaluate("document.title").startswith("challenge_jobs in "), True, "the title is ours")
    dump = harness.run("chromium", *[f for f in chromium.FLAGS if "pipe" not in f],
                       f"--user-data-dir={harness.folder()}", "--dump-dom", f"file://{path}").stdout
    ok("</html>" in dump and "<script" not in dump and "<img" not in dump, "nor is there any in what --dump-dom prints",
       dump[:500])


def check_policy(browser, path):
    """What is not ours would not be run or loaded, even if it came into the page."""
    sink = harness.HttpSink()
    browser.evaluate(f"""
        window.violations = [];
        addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.hacked = 2";
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "{sink.url()}x.png";
        document.body.append(image);
        new Promise((done) => image.onerror = done)
    """)
    equal(browser.evaluate("window.hacked"), None, "a script that is put into the page does not run")
    equal(browser.evaluate("violations.map((d) => d.split('-')[0]).sort()"), ["img", "script"], "the policy forbids it, and images")
    equal(sink.requests, [], "nothing was asked for")
    browser.open(f"file://{path}")


def check_look(browser, path, name, width, height, scheme, phone):
    """One size and scheme; returns the colour of the page."""
    browser.look(width, height, scheme, phone)
    browser.open(f"file://{path}")
    requests = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    equal(requests, [f"file://{path}"], f"{name}: nothing but the page is loaded")
    equal([event["entry"]["text"] for event in browser.seen("Log.entryAdded")], [], f"{name}: the browser has no complaint")
    browser.evaluate("document.querySelectorAll('details').forEach((e) => e.open = true)")
    ok(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: nothing to scroll to the right",
       browser.evaluate(TOO_WIDE))
    equal(browser.evaluate(TOO_WIDE), [], f"{name}: nothing is cut off")
    result = browser.evaluate(CONTRAST)
    ok(result["looked"] > 300 and not result["found"], f"{name}: contrast of all texts and signs", result)
    picture = harness.folder() / "page.png"
    browser.screenshot(picture)
    return first_pixel(picture)


def check_reading(browser, name):
    """What those have of the page who do not see it."""
    nodes = [node for node in browser.tell("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    roles = [node["role"]["value"] for node in nodes]
    levels = [prop["value"]["value"] for node in nodes for prop in node.get("properties", [])
              if node["role"]["value"] == "heading" and prop["name"] == "level"]
    equal(roles.count("main"), 1, f"{name}: the main part is marked")
    equal(levels[:1] + [b for a, b in zip(levels, levels[1:]) if b > a + 1], [1], f"{name}: no level of headings is left out")
    pictures = [node for node in nodes if node["role"]["value"] in ("image", "img")]
    ok(len(pictures) == 4 and all(node["name"]["value"] and node["description"]["value"] for node in pictures),
       f"{name}: every drawing has a name and a description", pictures)
    equal((roles.count("table"), roles.count("rowheader"), roles.count("row")), (2, 8, 10), f"{name}: tables are tables")
    equal(browser.evaluate("[document.documentElement.lang, document.characterSet, document.compatMode]"),
          ["en", "UTF-8", "CSS1Compat"], f"{name}: language and encoding are declared")


def check_signs(browser):
    """Colour is not the only thing that says statuses apart."""
    shapes = browser.evaluate("[...document.querySelectorAll('.legend use')].map((e) => e.getAttribute('href'))")
    equal(shapes, [f"#s-{status}" for status in STATUSES], "the legend names every status")
    paths = browser.evaluate("[...document.querySelectorAll('.legend use')].map((e) => "
                             "document.querySelector(e.getAttribute('href')).getAttribute('d'))")
    equal(len(set(paths)), len(STATUSES), "each has a shape of its own")
    equal(browser.evaluate("[...document.querySelectorAll('.timeline > g[class^=c-]')]"
                           ".filter((e) => !e.querySelector('title').textContent.trim()).length"), 0, "every mark has a title")
    equal(browser.evaluate("[...document.querySelectorAll('.badge')].filter((e) => !e.textContent.trim() || !e.querySelector('use')).length"),
          0, "every badge has a sign and a word")


path = make_page()
browser = chromium.Browser()
light = check_look(browser, path, "light", 1200, 900, "light", False)
check_texts(browser, path)
check_signs(browser)
check_reading(browser, "light")
check_policy(browser, path)
dark = check_look(browser, path, "dark", 1200, 900, "dark", False)
check_look(browser, path, "phone", 375, 812, "light", True)
check_reading(browser, "phone")
check_look(browser, path, "phone in the dark", 375, 812, "dark", True)
check_look(browser, path, "small phone", 320, 640, "light", True)
check_look(browser, path, "tablet", 768, 1024, "dark", True)
ok(min(light) > 230, "the page is light where light is preferred", light)
ok(max(dark) < 30, "and dark where dark is", dark)
done()
