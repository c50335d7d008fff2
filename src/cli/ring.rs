//! `check`, `ring` and `schema`: what the files say, without a running keyway.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::output::{Done, Failure, error, line};
use super::{CheckArgs, DiffArgs, LocateArgs, Output, SchemaFile, StatsArgs};
use crate::cluster::desired::Desired;
use crate::cluster::{Circumstances, Cluster, Pick, Reach, Rejected, Shard, State, reconcile};
use crate::config::{self, Loader, Overrides, read_topology};
use crate::health::EjectParams;
use crate::health::probe::ProbeWhen;
use crate::placement::{Diff, diff as placement_diff};
use crate::topology::{ClusterTopology, Topology};

pub(super) fn check(args: &CheckArgs) -> Done {
    let checked = if config::is_topology(&args.file) {
        read_topology(&args.file)
            .map_err(|error| Failure::from_error(&error))
            .and_then(|topology| state(topology).map(|_| Vec::new()))
    } else {
        Loader::open(args.file.clone(), Overrides::default())
            .map_err(|error| Failure::from_error(&error))
            .and_then(|(_, config, _)| build(config.desired).map(|it| warnings(&it)))
    };
    match (checked, args.output) {
        (Ok(warnings), Output::Text) => {
            let file = args.file.display();
            for warning in warnings {
                error(&format!("{file}: warning: {warning}"));
            }
            line(&format!("{file}: ok"))
        }
        (Ok(warnings), Output::Json) => {
            line(&json!({ "ok": true, "errors": [], "warnings": warnings }).to_string())
        }
        (Err(Failure::Error(errors)), Output::Json) => {
            let errors: Vec<_> = errors.lines().collect();
            line(&json!({ "ok": false, "errors": errors }).to_string())?;
            Err(Failure::No)
        }
        (Err(failure), _) => Err(failure),
    }
}

/// Fields that tell of one connection (RFC 9110 7.6.1): what a client says there no node reads.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// What may be meant and hardly is.
fn warnings(state: &State) -> Vec<String> {
    let mut warnings = Vec::new();
    for entry in &state.routes {
        let read = HOP_BY_HOP.iter().filter(|it| entry.route.reads_header(it));
        warnings.extend(read.map(|field| {
            let name = &entry.route.name;
            format!(
                "route {name:?} goes by {field}, which tells of one connection and reaches no node"
            )
        }));
    }
    for cluster in &state.clusters {
        warnings.extend(never_ejected(cluster));
        let probe = &cluster.params.probe;
        if probe.when != ProbeWhen::Off && probe.timeout > probe.interval {
            let (timeout, interval) = (probe.timeout, probe.interval);
            let name = &cluster.name;
            warnings.push(format!(
                "cluster {name:?} gives a probe {timeout:?} and begins one every {interval:?}: it comes less often"
            ));
        }
    }
    warnings
}

/// A shard of a cluster whose nodes must all stay, though not for being alone.
fn never_ejected(cluster: &Cluster) -> Option<String> {
    let keep = cluster.params.eject.keep;
    let stay = |it: &&Shard| it.replicas.len() <= keep && keep > EjectParams::default().keep;
    let shard = cluster.shards.iter().find(stay)?;
    let (name, shard, nodes) = (&cluster.name, &shard.name, shard.replicas.len());
    (!cluster.reaches_beyond_a_shard()).then(|| {
        format!(
            "cluster {name:?} keeps {keep} nodes of a shard and shard {shard:?} has {nodes}: none of them is ever ejected, or down by its probes"
        )
    })
}

pub(super) fn schema(file: SchemaFile) -> Done {
    let schema = match file {
        SchemaFile::Keyway => config::keyway_schema(),
        SchemaFile::Topology => config::topology_schema(),
    };
    line(&format!("{schema:#}"))
}

// === ring locate ===

pub(super) fn locate(args: &LocateArgs) -> Done {
    let state = state(read(&args.topology)?)?;
    let cluster = state.cluster(&args.cluster).ok_or_else(|| {
        let names: Vec<_> = state.clusters.iter().map(|it| it.name.as_str()).collect();
        let (names, found) = (names.join(", "), &args.cluster);
        Failure::Error(format!("--cluster: expected one of {names}, found {found}"))
    })?;
    for key in &args.key {
        locate_one(cluster, key.as_bytes(), args.output)?;
    }
    let Some(keys) = &args.keys else {
        return Ok(());
    };
    let failed = |error: io::Error| Failure::Error(format!("{}: {error}", keys.display()));
    let lines: Box<dyn BufRead> = if keys == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(io::BufReader::new(
            std::fs::File::open(keys).map_err(failed)?,
        ))
    };
    for key in lines.split(b'\n') {
        locate_one(cluster, &key.map_err(failed)?, args.output)?;
    }
    Ok(())
}

fn locate_one(cluster: &Cluster, key: &[u8], output: Output) -> Done {
    let token = cluster.placement.token(key);
    let pick = Pick::new(cluster, Some(key), token);
    let candidates: Vec<_> = pick
        .order(cluster, Reach::Configured)
        .map(|target| target.replica(cluster).node.id())
        .collect();
    let first = pick.order(cluster, Reach::Owners).next();
    let shard = first.map_or("", |it| cluster.shards[it.shard].name.as_str());
    let text = std::str::from_utf8(key);
    match output {
        Output::Text => {
            let key = text.map_or_else(|_| key.escape_ascii().to_string(), ToOwned::to_owned);
            line(&format!(
                "{key}\t{token}\t{shard}\t{}",
                candidates.join(",")
            ))
        }
        Output::Json => {
            let mut object = Map::new();
            match text {
                Ok(key) => object.insert("key".to_owned(), key.into()),
                Err(_) => object.insert("key_base64".to_owned(), base64(key).into()),
            };
            object.insert("token".to_owned(), token.to_string().into());
            object.insert("shard".to_owned(), shard.into());
            object.insert("candidates".to_owned(), candidates.into());
            line(&Value::Object(object).to_string())
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

// === ring diff ===

pub(super) fn diff(args: &DiffArgs) -> Done {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let mut diffs = BTreeMap::new();
    for (name, after) in &new.clusters {
        if let Some(before) = old.clusters.get(name) {
            let (before, after) = (place(name, before)?, place(name, after)?);
            diffs.insert(name, placement_diff(&before, &after));
        }
    }
    match args.output {
        Output::Json => {
            let clusters: Map<_, _> = diffs
                .iter()
                .map(|(name, diff)| ((*name).clone(), diff_json(diff)))
                .collect();
            line(&json!({ "clusters": clusters }).to_string())
        }
        Output::Text => diffs.iter().try_for_each(|(name, diff)| {
            line(&format!(
                "{name}: {:.4}% of the key space moves",
                diff.moved * 100.0
            ))?;
            diff.pairs.iter().try_for_each(|it| {
                line(&format!(
                    "  {:>9.4}%  {} -> {}",
                    it.fraction * 100.0,
                    it.from,
                    it.to
                ))
            })
        }),
    }
}

fn diff_json(diff: &Diff) -> Value {
    let pairs = diff
        .pairs
        .iter()
        .map(|it| json!({ "from": it.from, "to": it.to, "fraction": it.fraction }));
    json!({ "moved": diff.moved, "pairs": pairs.collect::<Vec<_>>() })
}

// === ring stats ===

pub(super) fn stats(args: &StatsArgs) -> Done {
    let topology = read(&args.file)?;
    let mut clusters = Map::new();
    for (name, cluster) in &topology.clusters {
        let placement = place(name, cluster)?;
        let total: f64 = cluster.shards.iter().map(|it| f64::from(it.weight)).sum();
        let rows: Vec<_> = cluster
            .shards
            .iter()
            .zip(placement.ownership())
            .map(|(shard, owned)| (shard.name.as_str(), owned, f64::from(shard.weight) / total))
            .collect();
        if args.output == Output::Text {
            line(&format!("{name}: {}", placement.algorithm().as_str()))?;
            for (shard, owned, fair) in &rows {
                let of_fair = if *fair > 0.0 { owned / fair } else { 0.0 };
                line(&format!(
                    "  {:>9.4}%  {:.4} of its weight's share  {shard}",
                    owned * 100.0,
                    of_fair
                ))?;
            }
        }
        let shards = rows.iter().map(|(shard, owned, fair)| {
            json!({ "shard": shard, "ownership": owned, "share_of_weight": fair })
        });
        let stats = json!({
            "algorithm": placement.algorithm().as_str(),
            "fingerprint": format!("{:016x}", placement.fingerprint()),
            "shards": shards.collect::<Vec<_>>(),
        });
        clusters.insert(name.clone(), stats);
    }
    match args.output {
        Output::Text => Ok(()),
        Output::Json => line(&json!({ "clusters": clusters }).to_string()),
    }
}

// === files ===

fn read(path: &Path) -> Result<Topology, Failure> {
    read_topology(path).map_err(|error| Failure::from_error(&error))
}

fn place(name: &str, cluster: &ClusterTopology) -> Result<crate::placement::Placement, Failure> {
    cluster.place().map_err(|source| {
        let cluster = name.to_owned();
        Failure::from_error(&Rejected::Placement { cluster, source })
    })
}

/// The state that a keyway without routes would have: what `run` would build, by the same code.
fn state(topology: Topology) -> Result<State, Failure> {
    build(Desired {
        topology,
        ..Desired::default()
    })
}

fn build(desired: Desired) -> Result<State, Failure> {
    let circumstances = Circumstances {
        threads: 1,
        now: Duration::ZERO,
    };
    let reconciled = reconcile(None, desired, circumstances);
    reconciled
        .map(|it| it.state)
        .map_err(|error| Failure::from_error(&error))
}
