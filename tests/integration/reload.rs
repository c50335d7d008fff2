//! Files change under traffic: whole or not at all, and nothing is lost.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::{Keyway, Node, Then, topology, until};

/// Waits until keyway serves more shards, or fewer.
fn until_shards(keyway: &Keyway, count: usize) {
    until(&format!("{count} shards"), || {
        let state = keyway.admin_json("/v1/state");
        state["clusters"][0]["shards"].as_array().unwrap().len() == count
    });
}

fn nodes() -> (Node, Node) {
    (Node::start("a"), Node::start("b"))
}

#[test]
fn every_way_to_write_a_file_is_seen_the_hundredth_time_too() {
    let (a, b) = nodes();
    let (one, two) = (topology(&[&[&a]]), topology(&[&[&a], &[&b]]));
    let keyway = Keyway::sharded("", &[&[&a]]);
    let path = keyway.path("topology.yaml");
    for round in 0..5 {
        fs::write(&path, &two).unwrap();
        until_shards(&keyway, 2);
        keyway.replace("topology.yaml", &one);
        until_shards(&keyway, 1);
        fs::remove_file(&path).unwrap();
        fs::write(&path, &two).unwrap();
        until_shards(&keyway, 2);
        keyway.replace("topology.yaml", &one);
        until_shards(&keyway, 1);
        assert_eq!(keyway.get("/k").node(), "a", "round {round}");
    }
}

#[test]
fn a_config_map_swap_is_seen_every_time() {
    let (a, b) = nodes();
    let texts = [topology(&[&[&a], &[&b]]), topology(&[&[&a]])];
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    // As kubelet does: ..data points to a folder of its own for each version, swapped by rename.
    let swap = |version: usize| {
        let data = volume.join(format!("..{version}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("topology.yaml"), &texts[version % 2]).unwrap();
        symlink(format!("..{version}"), volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        if version > 0 {
            fs::remove_dir_all(volume.join(format!("..{}", version - 1))).unwrap();
        }
    };
    swap(0);
    symlink("..data/topology.yaml", volume.join("topology.yaml")).unwrap();
    let keyway = folder.path().join("keyway.yaml");
    fs::write(
        &keyway,
        "listeners: [{ name: app, address: \"127.0.0.1:0\" }]\nadmin: { address: \"127.0.0.1:0\" }\n\
         topology: volume/topology.yaml\n\
         routes:\n  - { name: r, match: {}, key: path, cluster: c }\n",
    )
    .unwrap();
    let arguments = ["run", "--config", keyway.to_str().unwrap()].map(str::to_owned);
    let keyway = Keyway::run(folder, &arguments.each_ref().map(String::as_str));
    until_shards(&keyway, 2);
    for version in 1..=20 {
        let data = |version: usize| keyway.path(&format!("volume/..{version}"));
        fs::create_dir(data(version)).unwrap();
        fs::write(data(version).join("topology.yaml"), &texts[version % 2]).unwrap();
        symlink(format!("..{version}"), keyway.path("volume/..data_tmp")).unwrap();
        fs::rename(
            keyway.path("volume/..data_tmp"),
            keyway.path("volume/..data"),
        )
        .unwrap();
        fs::remove_dir_all(data(version - 1)).unwrap();
        until_shards(&keyway, 2 - version % 2);
    }
}

#[test]
fn what_is_wrong_changes_nothing_and_is_said_once() {
    let (a, b) = nodes();
    let good = topology(&[&[&a]]);
    let keyway = Keyway::sharded("", &[&[&a]]);
    let generation = keyway.generation();
    let torn = topology(&[&[&a], &[&b]]).replace("version: 1", "version: 1\nmembers: 3");
    let wrong = [
        ("torn", torn),
        ("invalid", "version: 1\nclusters: [".to_owned()),
        ("empty", String::new()),
        ("unknown key", good.replace("version", "versoin")),
        ("huge", format!("{good}#{}", "x".repeat(17 << 20))),
    ];
    let mut rejected = 0.0;
    for (what, text) in wrong {
        let reply = keyway.reload_topology(&text);
        assert_eq!(reply.status, 422, "{what}: {}", reply.text());
        assert!(
            reply.text().contains("topology.yaml"),
            "{what}: {}",
            reply.text()
        );
        rejected += 1.0;
        let count = keyway.metric("keyway_config_reloads_total", &["outcome=\"rejected\""]);
        assert_eq!(count, rejected, "{what}");
        assert_eq!(
            keyway.metric("keyway_config_last_reload_successful", &[]),
            0.0
        );
        assert_eq!(keyway.generation(), generation, "{what}");
        assert_eq!(keyway.get("/k").node(), "a", "{what}");
    }
    fs::write(keyway.path("topology.yaml"), b"\xff\xfe\x00binary").unwrap();
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 422);
    fs::remove_file(keyway.path("topology.yaml")).unwrap();
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 422);
    assert_eq!(keyway.get("/k").node(), "a");
    let reply = keyway.reload_topology(&good);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        keyway.metric("keyway_config_last_reload_successful", &[]),
        1.0
    );
}

#[test]
fn epochs_only_grow() {
    let (a, b) = nodes();
    let at = |epoch: &str, shards: &[&[&Node]]| {
        topology(shards).replace("version: 1", &format!("version: 1\n{epoch}"))
    };
    let keyway = Keyway::sharded("", &[&[&a]]);
    assert_eq!(
        keyway.reload_topology(&at("epoch: 7", &[&[&a]])).status,
        200
    );
    for (text, expected) in [
        (at("epoch: 6", &[&[&a], &[&b]]), "expected above 7, found 6"),
        (at("epoch: 7", &[&[&a], &[&b]]), "found 7 again"),
        (at("", &[&[&a], &[&b]]), "found none"),
    ] {
        let reply = keyway.reload_topology(&text);
        assert_eq!(reply.status, 422);
        assert!(reply.text().contains(expected), "{}", reply.text());
    }
    assert_eq!(
        keyway
            .reload_topology(&at("epoch: 8", &[&[&a], &[&b]]))
            .status,
        200
    );
}

#[test]
fn a_reload_that_moves_too_much_needs_to_be_accepted() {
    let (a, b) = nodes();
    let keyway = Keyway::sharded("max_moved: 10%", &[&[&a]]);
    let two = topology(&[&[&a], &[&b]]);
    let reply = keyway.reload_topology(&two);
    assert_eq!(reply.status, 422);
    assert!(
        reply.text().contains("at most 10% of the key space"),
        "{}",
        reply.text()
    );
    let accepted = two.replace("version: 1", "version: 1\nepoch: 3\naccept_moved: 3");
    assert_eq!(keyway.reload_topology(&accepted).status, 200);
}

#[test]
fn what_moved_is_what_ring_diff_says() {
    let (a, b) = nodes();
    let keyway = Keyway::sharded("", &[&[&a]]);
    let old = keyway.path("old.yaml");
    fs::copy(keyway.path("topology.yaml"), &old).unwrap();
    let reply = keyway.reload_topology(&topology(&[&[&a], &[&b]]));
    let moved = reply.json()["moved"]["c"].as_f64().unwrap();
    let new = keyway.path("topology.yaml");
    let diff = std::process::Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args(["ring", "diff", "--output", "json"])
        .args([&old, &new])
        .output()
        .unwrap();
    let diff: serde_json::Value = serde_json::from_slice(&diff.stdout).unwrap();
    assert_eq!(diff["clusters"]["c"]["moved"].as_f64(), Some(moved));
    assert_eq!(
        keyway.metric("keyway_ring_moved_ratio", &["cluster=\"c\""]),
        moved
    );
    assert!((0.4..0.6).contains(&moved), "{moved}");
    let logged = keyway
        .events()
        .into_iter()
        .find(|it| it["message"] == "keys moved")
        .unwrap();
    assert_eq!(logged["moved"].as_f64(), Some(moved));
}

#[test]
fn a_route_to_a_cluster_that_is_not_there_yet_waits() {
    let (a, b) = nodes();
    let keyway = Keyway::sharded("", &[&[&a]]);
    let yaml = fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    let with_d = yaml.replace(
        "routes:\n",
        "routes:\n  - { name: d, match: { path: \"/d/**\" }, key: path, cluster: d }\n",
    );
    keyway.replace("keyway.yaml", &with_d);
    let reply = keyway.admin("POST", "/v1/reload", "");
    assert_eq!(reply.status, 422, "{}", reply.text());
    assert_eq!(
        keyway.metric("keyway_config_reloads_total", &["outcome=\"rejected\""]),
        0.0
    );
    assert_eq!(keyway.get("/d/1").node(), "a");
    let both =
        topology(&[&[&a]]) + &topology(&[&[&b]]).replace("version: 1\nclusters:\n  c:", "  d:");
    assert_eq!(keyway.reload_topology(&both).status, 200);
    assert_eq!(keyway.get("/d/1").node(), "b");
}

#[test]
fn restart_keys_are_reported_and_the_rest_applies() {
    let (a, _) = nodes();
    let keyway = Keyway::sharded("", &[&[&a]]);
    let yaml = fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    keyway.replace("keyway.yaml", &(yaml + "threads: 7\naccess_log: json\n"));
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
    assert_eq!(keyway.metric("keyway_config_restart_required", &[]), 1.0);
    keyway.get("/k");
    until("an access log line", || {
        keyway.events().iter().any(|it| it["target"] == "/k")
    });
}

#[test]
fn sighup_looks_at_the_files() {
    let (a, _) = nodes();
    let keyway = Keyway::sharded("", &[&[&a]]);
    keyway.signal("-HUP");
    until("an unchanged reload", || {
        keyway.metric("keyway_config_reloads_total", &["outcome=\"unchanged\""]) == 1.0
    });
}

#[test]
fn an_admin_drain_survives_reloads_until_undrained() {
    let (a, b) = nodes();
    let keyway = Keyway::sharded("prefer: order", &[&[&a, &b]]);
    assert_eq!(keyway.get("/k").node(), "a");
    assert_eq!(keyway.admin("POST", "/v1/nodes/a/drain", "").status, 200);
    assert_eq!(keyway.get("/k").node(), "b");
    let reordered = topology(&[&[&a, &b]]).replace("version: 1", "version: 1\nepoch: 1");
    assert_eq!(keyway.reload_topology(&reordered).status, 200);
    assert_eq!(keyway.get("/k").node(), "b");
    assert_eq!(keyway.admin("POST", "/v1/nodes/a/undrain", "").status, 200);
    assert_eq!(keyway.get("/k").node(), "a");
    assert_eq!(keyway.admin("POST", "/v1/nodes/zz/drain", "").status, 404);
}

#[test]
fn a_name_that_does_not_resolve_is_no_failed_start() {
    let a = Node::start("a");
    let text =
        topology(&[&[&a]]) + "          - { id: gone, address: \"no-such-host.invalid:80\" }\n";
    let keyway = Keyway::start(
        "routes:\n  - { name: r, match: {}, key: path, cluster: c }\nclusters: { c: { prefer: order } }\n",
        &text,
    );
    let standing = ["node=\"gone\"", "standing=\"unresolved\""];
    assert_eq!(keyway.metric("keyway_node_standing", &standing), 1.0);
    assert_eq!(keyway.get("/k").node(), "a");
}

/// Shards come and go under load; no request fails, and none is answered by a shard that owned its
/// key under no topology that was live.
#[test]
fn two_hundred_reloads_under_load_lose_nothing() {
    let nodes: Vec<_> = (0..4).map(|at| Node::start(&format!("n{at}"))).collect();
    let shards: Vec<Vec<&Node>> = nodes.iter().map(|it| vec![it]).collect();
    let text = |count: usize| {
        topology(
            &shards[..count]
                .iter()
                .map(Vec::as_slice)
                .collect::<Vec<_>>(),
        )
    };
    let keyway = Arc::new(Keyway::start(
        "routes:\n  - { name: r, match: { path: \"/{key}\" }, key: \"path:key\", cluster: c }\n",
        &text(4),
    ));
    let keys: Vec<String> = (0..50).map(|at| format!("key-{at}")).collect();
    // Who owns a key under each topology, asked of the command that operators ask.
    let mut owners = vec![HashSet::new(); keys.len()];
    for count in 2..=4 {
        keyway.replace("asked.yaml", &text(count));
        let located = std::process::Command::new(env!("CARGO_BIN_EXE_keyway"))
            .args([
                "ring",
                "locate",
                "--cluster",
                "c",
                "--output",
                "json",
                "--topology",
            ])
            .arg(keyway.path("asked.yaml"))
            .args(&keys)
            .output()
            .unwrap();
        let lines = String::from_utf8(located.stdout).unwrap();
        for (owners, line) in owners.iter_mut().zip(lines.lines()) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            owners.insert(line["candidates"][0].as_str().unwrap().to_owned());
        }
    }
    let owners = Arc::new(owners);
    let (done, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (keyway, done, served) =
                (Arc::clone(&keyway), Arc::clone(&done), Arc::clone(&served));
            let (keys, owners) = (keys.clone(), Arc::clone(&owners));
            thread::spawn(move || {
                let mut client = keyway.client();
                while !done.load(Ordering::Relaxed) {
                    for (key, owners) in keys.iter().zip(owners.iter()) {
                        let reply = client.get(&format!("/{key}"));
                        assert_eq!(reply.status, 200, "{key}: {}", reply.text());
                        assert!(owners.contains(reply.node()), "{key} on {}", reply.node());
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let sidecar = fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    for reload in 0..200 {
        // A new comment each time, so that no reload is without a change.
        let topology = format!("# {reload}\n{}", text([4, 3, 2, 3][reload % 4]));
        match reload % 3 {
            0 => keyway.replace("topology.yaml", &topology),
            1 => fs::write(keyway.path("topology.yaml"), &topology).unwrap(),
            _ => keyway.replace("keyway.yaml", &format!("# {reload}\n{sidecar}")),
        }
        let reply = keyway.admin("POST", "/v1/reload", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(served.load(Ordering::Relaxed) > 1000);
    assert_eq!(keyway.metric("keyway_errors_total", &[]), 0.0);
}

#[test]
fn a_new_address_under_an_old_id_starts_fresh() {
    let (a, b) = nodes();
    a.script(|_| Then::Answer);
    let keyway = Keyway::sharded("", &[&[&a]]);
    a.kill();
    assert_eq!(keyway.get("/k").error(), "no_healthy_node");
    let suspect = ["node=\"a\"", "standing=\"suspect\""];
    assert_eq!(keyway.metric("keyway_node_standing", &suspect), 1.0);
    let moved = topology(&[&[&b]]).replace("id: b", "id: a");
    assert_eq!(keyway.reload_topology(&moved).status, 200);
    assert_eq!(keyway.metric("keyway_node_standing", &suspect), 0.0);
    assert_eq!(keyway.get("/k").node(), "b");
}
