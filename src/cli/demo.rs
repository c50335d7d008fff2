//! `demo`: three shards of two nodes with keyway in front, on this machine.
//!
//! The nodes are child processes that can be killed. What they store lives in this process, one
//! store a shard, so that a shard's nodes hold the same data without replication of their own.

mod node;
mod store;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use super::output::{Done, Failure, line};
use super::run::{self, Files};
use super::{DemoArgs, LogFormatArg};
use crate::app::Farewell;
use crate::config::{Loader, Overrides};
use crate::net::Inherited;

/// The shards, and the letters that name a shard's nodes.
const SHARDS: [&str; 3] = ["users-0", "users-1", "users-2"];
const NODES: [&str; 2] = ["a", "b"];

/// A node while its process runs; dropping it kills the process.
struct Node {
    id: String,
    process: Child,
    address: String,
}

pub(super) fn demo(args: &DemoArgs) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error(&error))?;
    let tasks = LocalSet::new();
    match args.serve_node.as_deref() {
        Some([id, store]) => {
            let served = tasks.block_on(&runtime, node::serve(id, Path::new(store)));
            served.map_err(|error| Failure::from_error(&error))
        }
        _ => tasks.block_on(&runtime, show(args)),
    }
}

/// Runs the demo until Ctrl-C, and leaves nothing behind.
async fn show(args: &DemoArgs) -> Done {
    let folder = std::env::temp_dir().join(format!("keyway-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(failed("the demo's folder"))?;
    let shown = show_in(&folder, args).await;
    std::fs::remove_dir_all(&folder).map_err(failed("the demo's folder"))?;
    shown
}

async fn show_in(folder: &Path, args: &DemoArgs) -> Done {
    let log = run::start_log(LogFormatArg::Auto)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("SIGINT"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("SIGTERM"))?;
    let mut nodes = Vec::new();
    for shard in SHARDS {
        let socket = folder.join(format!("{shard}.sock"));
        let listener = UnixListener::bind(&socket).map_err(failed("a store"))?;
        spawn_local(store::serve(listener));
        for letter in NODES {
            let id = format!("{shard}{letter}");
            nodes.push(start(id, &socket).await.map_err(failed("a node"))?);
        }
    }
    let keyway_file = folder.join("keyway.yaml");
    std::fs::write(&keyway_file, keyway_yaml(args)).map_err(failed("keyway.yaml"))?;
    let topology_file = folder.join("topology.yaml");
    std::fs::write(&topology_file, topology_yaml(&nodes)).map_err(failed("topology.yaml"))?;
    let opened = Loader::open(keyway_file, Overrides::default());
    let (loader, config, snapshot) = opened.map_err(|it| Failure::from_error(&it))?;
    let shutdown = Arc::new(Notify::new());
    let files = Files {
        loader,
        snapshot,
        problem: None,
    };
    let mut inherited = Inherited::default();
    let log = log.control();
    let app = run::start(config, Some(files), &mut inherited, &log, &shutdown)?.app;
    app.serve();
    line(&what_to_try(folder, args, &nodes))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = shutdown.notified() => {}
    }
    line("\nending")?;
    let hurry = async {
        interrupt.recv().await;
    };
    app.drain(Farewell::Asked, hurry).await;
    for node in &mut nodes {
        // A node that was killed by hand is gone already.
        let _gone = node.process.kill().await.is_err();
    }
    Ok(())
}

/// Starts a node and waits until it says where it listens.
async fn start(id: String, store: &Path) -> io::Result<Node> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["demo", "--serve-node", &id])
        .arg(store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut address = String::new();
    BufReader::new(stdout).read_line(&mut address).await?;
    if address.is_empty() {
        return Err(io::Error::other(format!("node {id} did not start")));
    }
    Ok(Node {
        id,
        process,
        address: address.trim().to_owned(),
    })
}

fn keyway_yaml(args: &DemoArgs) -> String {
    format!(
        "# The demo's sidecar. Edit and save: it is taken up at once.\n\
         listeners:\n  - {{ name: app, address: \"{}\" }}\n\
         admin: {{ address: \"{}\" }}\n\
         topology: topology.yaml\n\
         pre_drain: 0s\ndrain_timeout: 2s\n\
         routes:\n  - name: users\n    match: {{ path: \"/users/{{id}}/**\" }}\n    key: path:id\n    cluster: users\n\
         clusters:\n  users:\n    annotate: {{ response: [shard, node, attempts] }}\n",
        args.listen, args.admin
    )
}

fn topology_yaml(nodes: &[Node]) -> String {
    let mut text = "# The demo's shards. Remove one and see which keys move.\n\
                    version: 1\nclusters:\n  users:\n    placement: { algorithm: slots }\n    shards:\n"
        .to_owned();
    for (shard, nodes) in SHARDS.iter().zip(nodes.chunks(NODES.len())) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "      - name: {shard}\n        nodes:");
        for Node { id, address, .. } in nodes {
            let _infallible = writeln!(text, "          - {{ id: {id}, address: \"{address}\" }}");
        }
    }
    text
}

fn what_to_try(folder: &Path, args: &DemoArgs, nodes: &[Node]) -> String {
    let (listen, admin) = (&args.listen, &args.admin);
    let pids = nodes.iter().map(|it| {
        let pid = it
            .process
            .id()
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        format!("  {}  pid {pid:<8} {}", it.id, it.address)
    });
    let pids: Vec<_> = pids.collect();
    let victim = nodes
        .first()
        .and_then(|it| it.process.id())
        .unwrap_or_default();
    let topology: PathBuf = folder.join("topology.yaml");
    format!(
        "\nkeyway demo: 3 shards of 2 nodes; a shard's nodes share one store, kept by this process\n\n\
         {}\n\n\
         store and read a user; the answer tells shard, node and attempts\n  \
         curl -X PUT {listen}/users/42 -d '{{\"name\":\"Ada\"}}'; curl -i {listen}/users/42\n\n\
         store a hundred users; kill a node and read them all: nothing breaks\n  \
         for i in $(seq 100); do curl -s -o /dev/null -X PUT {listen}/users/$i -d $i; done\n  \
         kill -9 {victim}; for i in $(seq 100); do curl -s -o /dev/null -w '%{{http_code}}\\n' {listen}/users/$i; done | sort | uniq -c\n\n\
         see where a key goes, and why\n  \
         curl '{admin}/v1/explain?cluster=users&key=42'\n\n\
         change the topology: what moved is logged\n  \
         $EDITOR {}\n\n\
         metrics\n  \
         curl -s {admin}/metrics | grep ^keyway_\n\n\
         Ctrl-C ends everything\n",
        pids.join("\n"),
        topology.display(),
    )
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::Error(format!("{what}: {error}"))
}
