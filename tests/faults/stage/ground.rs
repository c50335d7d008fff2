//! The nodes of a stage, where proxies find them, and which shard owns each key.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::chaos::Chaos;
use crate::network::{self, Cable};
use crate::node::Node;
use crate::suite::{Reach, Setting};

const SHARDS: usize = 3;
const NODES_A_SHARD: usize = 2;

/// Where a proxy finds a node.
pub struct Place {
    pub id: String,
    /// As a topology has it.
    pub address: String,
}

/// The nodes, named after their shards: `s0a`, `s0b`, `s1a`.
pub fn start_nodes(folder: &TempDir, setting: &Setting) -> (Vec<Node>, Option<Cable>) {
    let mut nodes = Vec::new();
    let mut cable = None;
    for (shard, letter) in (0..SHARDS).flat_map(|shard| ["a", "b"].map(|it| (shard, it))) {
        let id = format!("s{shard}{letter}");
        let host = u8::try_from(10 + nodes.len()).unwrap();
        let record = folder.path().join(format!("{id}.record"));
        let address = if setting.reach == Reach::Names {
            SocketAddr::from(([0, 0, 0, 0], 7000 + u16::from(host)))
        } else {
            network::address(host)
        };
        let mut node = Node::new(id, format!("s{shard}"), address, record);
        if matches!(setting.reach, Reach::Cable(apart) if apart == node.id) {
            let there = SocketAddr::from(([198, 18, 0, 2], node.address.port()));
            (node.apart, node.address) = (true, there);
            node.start();
            let here = SocketAddr::from(([198, 18, 0, 1], 0));
            cable = Some(Cable::plug(node.pid(), here, there));
        } else {
            node.start();
        }
        nodes.push(node);
    }
    assert_eq!(nodes.len(), SHARDS * NODES_A_SHARD);
    (nodes, cable)
}

/// The shards, and where proxies find their nodes: behind chaos, where there is some.
pub fn places(nodes: &[Node], chaos: &[Chaos], setting: &Setting) -> Vec<(String, Vec<Place>)> {
    let address = |at: usize, node: &Node| match chaos.get(at) {
        Some(chaos) => chaos.address.to_string(),
        None if setting.reach == Reach::Names => {
            format!("{}.test:{}", node.id, node.address.port())
        }
        None => node.address.to_string(),
    };
    let place = |(at, node): (usize, &Node)| Place {
        id: node.id.clone(),
        address: address(at, node),
    };
    let mut places: Vec<(String, Vec<Place>)> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        match places.last_mut() {
            Some((shard, nodes)) if *shard == node.shard => nodes.push(place((at, node))),
            _ => places.push((node.shard.clone(), vec![place((at, node))])),
        }
    }
    places
}

pub fn topology(shards: &[(String, Vec<Place>)]) -> String {
    let mut text = "version: 1\nclusters:\n  c:\n    shards:\n".to_owned();
    for (shard, nodes) in shards {
        text += &format!("      - name: {shard}\n        nodes:\n");
        for Place { id, address } in nodes {
            text += &format!("          - {{ id: {id}, address: \"{address}\" }}\n");
        }
    }
    text
}

/// The shard of each key, as `keyway ring locate` tells it.
pub fn locate(folder: &TempDir, topology: &str, keys: &[String]) -> Vec<String> {
    let (file, list) = (
        folder.path().join("topology.yaml"),
        folder.path().join("keys"),
    );
    fs::write(&file, topology).unwrap();
    fs::write(&list, keys.join("\n")).unwrap();
    let located = Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args(["ring", "locate", "--output", "json", "--cluster", "c"])
        .arg("--topology")
        .arg(file)
        .arg("--keys")
        .arg(list)
        .output()
        .unwrap();
    let text = String::from_utf8(located.stdout).unwrap();
    let objects = text.lines().map(|it| serde_json::from_str(it).unwrap());
    let owners = objects.map(|it: Value| it["shard"].as_str().unwrap().to_owned());
    let owners: Vec<_> = owners.collect();
    assert_eq!(owners.len(), keys.len());
    owners
}
