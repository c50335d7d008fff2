use super::super::*;

fn wrong(text: &str) -> Vec<String> {
    let problems = topology::parse("t.yaml", text).expect_err("it is wrong").0;
    problems
        .iter()
        .map(|it| it.to_string().replace("t.yaml:", ""))
        .collect()
}

/// A topology of one cluster, `c`.
fn cluster(text: &str) -> String {
    format!("version: 1\nclusters:\n  c: {{ {text} }}\n")
}

fn shards(text: &str) -> String {
    cluster(&format!("shards: [{text}]"))
}

const S: &str = "{ name: s, nodes: [{ id: a, address: \"h:1\" }] }";
const T: &str = "{ name: t, nodes: [{ id: b, address: \"h:2\" }] }";

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_mistake_is_named_with_its_place() {
    let table = [
        (
            shards(S).replace("version: 1\n", ""),
            "1:1: expected a key version, found none",
        ),
        (
            shards(S).replace("version: 1", "version: 2"),
            "1:10 version: expected version 1, found 2",
        ),
        (
            shards(&format!("{S}, {}", T.replace("name: t", "name: s"))),
            "3:74 clusters.c.shards[1].name: expected a name of its own in the cluster, found \"s\" again",
        ),
        (
            shards(&format!("{S}, {}", T.replace("id: b", "id: a"))),
            "3:91 clusters.c.shards[1].nodes[0].id: expected an id of its own in the file, found \"a\" again",
        ),
        (
            shards(&S.replace("name: s", "name: s, weight: 0")),
            "3:6 clusters.c: expected a weight above 0, found zero weights everywhere",
        ),
        (
            shards(&S.replace("name: s", "name: s, weight: 70000")),
            "3:36 clusters.c.shards[0].weight: expected a whole number from 0 to 65535, found the number 70000",
        ),
        (
            shards(S).replace("version: 1", "version: 1\nmembers: 2"),
            "2:10 members: expected 2 nodes, as members says, found 1",
        ),
        (
            cluster(&format!("shards: [{S}], pins: {{ k: x }}")),
            "3:78 clusters.c.pins.k: expected the name of a shard, found \"x\"",
        ),
        (
            cluster("pins: {}"),
            "3:6 clusters.c: expected shards or nodes, found neither",
        ),
        (
            cluster(&format!("shards: [{S}], nodes: []")),
            "3:6 clusters.c: expected shards or nodes, found both",
        ),
        (
            cluster(&format!("placement: {{ slots: 1000 }}, shards: [{S}]")),
            "3:28 clusters.c.placement.slots: expected a power of two from 256 to 1048576, found 1000",
        ),
        (
            cluster(&format!(
                "placement: {{ algorithm: ketama }}, shards: [{S}]"
            )),
            "3:59 clusters.c.shards[0].name: expected a hash_key for each shard with ketama, found none",
        ),
        (
            cluster(&format!(
                "placement: {{ algorithm: maglev }}, shards: [{S}]"
            )),
            "3:32 clusters.c.placement.algorithm: expected one of slots, ketama, found \"maglev\"",
        ),
        (
            cluster("nodes: [{ id: a, address: \"h:1\" }], replication_factor: 2"),
            "3:64 clusters.c.replication_factor: expected 1 to 1, the number of nodes, found 2",
        ),
        (
            cluster(&format!("shards: [{S}], replication_factor: 1")),
            "3:87 clusters.c.replication_factor: expected replication_factor only with nodes, found shards",
        ),
        (
            shards(&S.replace("h:1", "h")),
            "3:54 clusters.c.shards[0].nodes[0].address: expected host:port, [ipv6]:port, srv:_service._tcp.domain or unix:/absolute/path, found \"h\"",
        ),
        (
            shards(&S.replace("h:1", "h:0")),
            "3:54 clusters.c.shards[0].nodes[0].address: expected host:port, [ipv6]:port, srv:_service._tcp.domain or unix:/absolute/path, found \"h:0\"",
        ),
        (
            shards("{ name: s, nodes: [] }"),
            "3:35 clusters.c.shards[0].nodes: expected 1 to 16 nodes, found 0",
        ),
        (
            shards(&S.replace("id: a", "id: a, state: gone")),
            "3:52 clusters.c.shards[0].nodes[0].state: expected one of active, draining, found \"gone\"",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(wrong(&text), [expected], "{text}");
    }
}

#[test]
fn more_shards_than_slots_are_refused() {
    let shard =
        |at: usize| format!("{{ name: s{at}, nodes: [{{ id: n{at}, address: \"h:1\" }}] }}");
    let shards: Vec<_> = (0..257).map(shard).collect();
    let text = cluster(&format!(
        "placement: {{ slots: 256 }}, shards: [{}]",
        shards.join(", ")
    ));
    assert_eq!(
        wrong(&text),
        ["3:6 clusters.c: expected at most a shard for each of 256 slots, found 257 shards"]
    );
}

#[test]
fn both_forms_become_shards() {
    let (nodes, _) = topology::parse("t", &cluster("placement: { algorithm: ketama }, nodes: [{ id: a, address: \"h:1\" }, { id: b, address: \"h:2\", weight: 3, hash_key: x }]")).unwrap();
    let shards = &nodes.clusters["c"].shards;
    assert_eq!(
        (shards[0].name.as_str(), shards[0].hash_key.as_deref()),
        ("a", Some("h:1"))
    );
    assert_eq!(
        (shards[1].weight, shards[1].hash_key.as_deref()),
        (3, Some("x"))
    );
    let (shards, _) = topology::parse(
        "t",
        &cluster(&format!("shards: [{S}, {T}], pins: {{ k: t }}")),
    )
    .unwrap();
    assert_eq!(shards.clusters["c"].pins["k"], 1);
}
