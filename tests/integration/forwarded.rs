//! What nodes are told of where a request comes from, and whom keyway believes.

use crate::support::{Authority, Keyway, Node, Request, topology, until};

fn keyway(listener: &str, node: &Node) -> Keyway {
    Keyway::start(
        &format!(
            "listeners:\n  - {{ name: app, address: \"127.0.0.1:0\"{listener} }}\n\
             access_log: json\nroutes: [{{ name: r, match: {{}}, key: client_ip, cluster: c }}]\n"
        ),
        &topology(&[&[node]]),
    )
}

/// The fields that tell where a request comes from, in the order of their names.
fn told(request: &Request) -> Vec<String> {
    let is_one = |it: &&(String, String)| it.0.contains("forwarded");
    let fields = request.fields.iter().filter(is_one);
    let mut told: Vec<_> = fields
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    told.sort();
    told
}

const BROUGHT: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\
                       X-Forwarded-For: 192.0.2.2\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-Prefix: /p\r\n";

#[test]
fn nodes_are_told() {
    let kept = [
        "forwarded: for=192.0.2.1, for=127.0.0.1;host=\"app.test\";proto=http",
        "x-forwarded-for: 192.0.2.1, 192.0.2.2, 127.0.0.1",
        "x-forwarded-host: app.test",
        "x-forwarded-prefix: /p",
        "x-forwarded-proto: https",
    ];
    let own = [
        "forwarded: for=127.0.0.1;host=\"app.test\";proto=http",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: app.test",
        "x-forwarded-proto: http",
    ];
    let passed = [
        "forwarded: for=192.0.2.1",
        "x-forwarded-for: 192.0.2.1",
        "x-forwarded-for: 192.0.2.2",
        "x-forwarded-prefix: /p",
        "x-forwarded-proto: https",
    ];
    for (listener, told_of) in [
        ("", &kept[..]),
        (", forwarded: { trust: [127.0.0.0/8] }", &kept),
        (", forwarded: { trust: [10.0.0.0/8] }", &own),
        (", forwarded: { mode: replace, trust: [127.0.0.0/8] }", &own),
        (", forwarded: { mode: pass }", &passed),
    ] {
        let node = Node::start("a");
        let keyway = keyway(listener, &node);
        let mut client = keyway.client();
        client.send(format!(
            "GET /k HTTP/1.1\r\nHost: app.test\r\n{BROUGHT}\r\n"
        ));
        assert_eq!(client.reply().status, 200);
        let output = std::process::Command::new("curl")
            .args(["-sSf", "--http2-prior-knowledge", "-H", "Host: app.test"])
            .args(BROUGHT.lines().flat_map(|it| ["-H", it]))
            .arg(format!("http://{}/k", keyway.address))
            .output()
            .unwrap();
        assert!(output.status.success());
        let [by_http1, by_http2] = &node.requests()[..] else {
            panic!("two requests were sent");
        };
        assert_eq!(told(by_http1), told_of, "{listener}");
        assert_eq!(told(by_http2), told_of, "{listener} by HTTP/2");
    }
}

#[test]
fn what_nobody_brought_is_said() {
    let node = Node::start("a");
    let own = keyway("", &node);
    own.get("/k");
    let authority = Authority::new();
    authority.certify("app", &["127.0.0.1"], 2040);
    let path = authority.folder().display();
    let tls =
        format!(", tls: {{ certificates: [{{ cert: {path}/app.crt, key: {path}/app.key }}] }}");
    let secure = keyway(&tls, &node);
    let output = std::process::Command::new("curl")
        .args(["-sSfk", "-H", "Host: app.test"])
        .arg(format!("https://{}/k", secure.address))
        .output()
        .unwrap();
    assert!(output.status.success());
    let requests = node.requests();
    let said = |proto: &str| {
        let mut said = vec!["x-forwarded-for: 127.0.0.1".to_owned()];
        said.push("x-forwarded-host: app.test".to_owned());
        said.push(format!("x-forwarded-proto: {proto}"));
        said
    };
    assert_eq!(told(&requests[0]), said("http"));
    assert_eq!(told(&requests[1]), said("https"));
}

/// Keys and the log go by who the proxies in front say that the client is.
#[test]
fn the_client_is_who_trusted_proxies_say() {
    let node = Node::start("a");
    let clients = |listener: &str, fors: &[&str]| {
        let keyway = keyway(listener, &node);
        let mut client = keyway.client();
        for it in fors {
            client.send(format!(
                "GET /k HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {it}\r\n\r\n"
            ));
            assert_eq!(client.reply().status, 200);
        }
        let mut seen = Vec::new();
        until("the access log has its lines", || {
            let events = keyway.events().into_iter();
            let lines = events.filter(|it| it["attempts"].is_number());
            seen = lines
                .map(|it| it["client"].as_str().unwrap().to_owned())
                .collect();
            seen.len() == fors.len()
        });
        seen
    };
    let peer = "127.0.0.1";
    let trusting = ", forwarded: { trust: [127.0.0.0/8], hops: 2 }";
    let fors = [
        "192.0.2.1, 192.0.2.2",
        "9.9.9.9, 192.0.2.1:80, x",
        "192.0.2.1",
        "x, 192.0.2.2",
    ];
    assert_eq!(
        clients(trusting, &fors),
        ["192.0.2.1", "192.0.2.1", peer, peer]
    );
    let distrusting = ", forwarded: { trust: [10.0.0.0/8], hops: 2 }";
    assert_eq!(clients(distrusting, &fors[..1]), [peer]);
    assert_eq!(clients("", &fors[..1]), [peer]);
}
