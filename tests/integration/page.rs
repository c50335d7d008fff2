//! The status page, in a real browser.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Browser, Keyway, Node, Scheme, topology, until};

/// `WebDriver`'s keys (W3C `WebDriver`, section 17.4.2).
const TAB: &str = "\u{e004}";
const SPACE: &str = " ";
const ENTER: &str = "\u{e007}";

/// A node that is gone is down after two probes.
const PROBED: &str = "prefer: order, probe: { interval: 300ms, timeout: 300ms }";

/// How soon the page shows what happened.
const SOON: Duration = Duration::from_secs(2);

fn open(keyway: &Keyway, width: u32, scheme: Scheme) -> Browser {
    let browser = Browser::start(width, 900, scheme);
    browser.open(&format!("http://{}/", keyway.admin));
    until("the state is shown", || {
        browser.texts("#phase") == ["ready"]
    });
    browser
}

#[test]
fn a_killed_node_is_shown_within_two_seconds() {
    let (a, b, c) = (Node::start("a"), Node::start("b"), Node::start("c"));
    let shards: [&[&Node]; 2] = [&[&a, &b], &[&c]];
    let keyway = Keyway::sharded(PROBED, &shards);
    let browser = open(&keyway, 1200, Scheme::Light);
    let attention = || browser.texts("#attention li");
    assert_eq!(attention(), ["Nothing: all nodes are healthy."]);
    assert_eq!(browser.texts("tbody .badge"), ["healthy"; 3]);
    // A ring of two shards, and who owns what around it.
    let parts = browser.texts("svg path title");
    assert!(parts.len() > 100, "{}", parts.len());

    a.kill();
    let killed = Instant::now();
    until("the page says who is gone", || {
        attention() == ["c, s0: node a is down"]
    });
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
    assert_eq!(
        browser.texts("tbody .badge"),
        ["down", "healthy", "healthy"]
    );

    // A change that is refused, and one that moves keys.
    assert_eq!(keyway.reload_topology("version: 7").status, 422);
    until("the page says that a change was refused", || {
        attention().iter().any(|it| it.contains("was refused"))
    });
    assert_eq!(keyway.reload_topology(&topology(&[&[&b]])).status, 200);
    until("the page says what moved", || {
        let first = browser.texts("#reloads li").swap_remove(0);
        first.contains("generation 2 serves; moved") && first.contains("% of c")
    });
    until("who left is not shown", || {
        browser.texts("tbody .badge").len() == 1
    });
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_key_is_explained_by_keyboard_on_a_phone_in_the_dark() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded("prefer: order", &[&[&a, &b]]);
    let browser = open(&keyway, 500, Scheme::Dark);
    let wide = "return document.documentElement.scrollWidth > innerWidth";
    assert_eq!(browser.run(wide), false, "nothing is cut off at the side");
    let focused = || browser.run("return document.activeElement.id");
    for _ in 0..20 {
        browser.press(TAB);
        if focused() == "unwell" {
            browser.press(SPACE);
        }
        if focused() == "explain-key" {
            break;
        }
    }
    assert_eq!(focused(), "explain-key");
    assert_eq!(
        browser.run("return document.getElementById(\"unwell\").checked"),
        true
    );
    browser.press("k7");
    browser.press(ENTER);
    until("the key is explained", || {
        browser.texts("#explained ol li").len() == 2
    });
    let explained = keyway.admin_json("/v1/explain?cluster=c&key=k7");
    let facts = browser.texts("#explained p").concat();
    assert!(
        facts.contains(explained["token"].as_str().unwrap()),
        "{facts}"
    );
    assert!(browser.texts("#explained li")[0].starts_with("a of s0"));
    assert_eq!(browser.texts("tbody .badge").len(), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Names come from files: whatever they hold is text.
#[test]
fn names_are_no_markup() {
    let a = Node::start("a");
    let topology = topology(&[&[&a]]).replace("s0", "\"<b>&s0\"");
    let keyway = Keyway::start(
        "routes: [{ name: \"<i>r\", match: {}, key: path, cluster: c }]\n",
        &topology,
    );
    let browser = open(&keyway, 1200, Scheme::Light);
    assert_eq!(browser.texts("#routes th"), ["<i>r"]);
    assert_eq!(browser.texts("#clusters tbody th"), ["<b>&s0"]);
    assert_eq!(browser.texts("main b, main i").len(), 0);
}

#[test]
fn the_page_asks_nobody_else() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/script.js", "text/javascript; charset=utf-8"),
    ] {
        let reply = keyway.admin("GET", path, "");
        assert_eq!(reply.field("content-type"), Some(media_type));
        let policy = reply.field("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        let links = reply.text().matches("http").count()
            - reply.text().matches("http://www.w3.org/2000/svg").count();
        assert_eq!(links, 0, "{path} names another place");
    }
    assert_eq!(keyway.admin("POST", "/", "").status, 405);
    assert_eq!(keyway.admin("GET", "/index.html", "").status, 404);
}

/// The terminal's side: in a terminal of its own (util-linux's `script`), and as text.
#[test]
fn top_shows_the_same_in_a_terminal() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded(PROBED, &[&[&a, &b]]);
    let admin = keyway.admin.to_string();
    let top = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.args(["top", "--admin", &admin]).args(arguments);
        command
    };
    a.kill();
    until("a is down", || {
        keyway.metric("keyway_node_standing", &["node=\"a\"", "standing=\"down\""]) == 1.0
    });
    let once = String::from_utf8(top(&["--once"]).output().unwrap().stdout).unwrap();
    assert!(once.contains("1 node is not healthy"), "{once}");
    let line = once.lines().find(|it| it.contains(" down ")).unwrap();
    assert!(line.starts_with("c ") && line.contains(" a "), "{line}");

    let refused = top(&[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("expected a terminal"), "{said}");

    // A terminal that nobody sits at has no size.
    let command = format!(
        "stty rows 40 columns 160 && {} top --admin {admin} --interval 100ms",
        env!("CARGO_BIN_EXE_keyway")
    );
    let mut terminal = Command::new("script")
        .args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &command,
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = terminal.stdout.take().unwrap();
    let mut seen = Vec::new();
    while crate::support::find(&seen, b"down").is_none() {
        let mut bytes = [0; 4096];
        let read = shown.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend(&bytes[..read]);
    }
    terminal.stdin.take().unwrap().write_all(b"q").unwrap();
    shown.read_to_end(&mut seen).unwrap();
    assert!(terminal.wait().unwrap().success());
}
