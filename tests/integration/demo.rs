//! The demo, as a newcomer runs it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{Client, until};

struct Demo {
    process: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Demo {
    fn start() -> Self {
        let free = || {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (listen, admin) = (free(), free());
        let mut process = Command::new(env!("CARGO_BIN_EXE_keyway"))
            .args([
                "demo",
                "--listen",
                &listen.to_string(),
                "--admin",
                &admin.to_string(),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (lines, pipe) = (Arc::clone(&printed), process.stdout.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let demo = Self {
            process,
            listen,
            admin,
            printed,
        };
        until("what to try", || {
            demo.printed().iter().any(|it| it.contains("Ctrl-C"))
        });
        demo
    }

    fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap().clone()
    }

    /// The process of the node `id`.
    fn pid(&self, id: &str) -> String {
        let printed = self.printed();
        let line = printed
            .iter()
            .find(|it| it.trim_start().starts_with(id))
            .unwrap();
        line.split_whitespace().nth(2).unwrap().to_owned()
    }

    /// The path of its topology file.
    fn topology(&self) -> String {
        let printed = self.printed();
        let line = printed.iter().find(|it| it.contains("$EDITOR")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

#[test]
fn a_thousand_requests_survive_a_killed_node_and_a_changed_topology() {
    let mut demo = Demo::start();
    let mut client = Client::connect(demo.listen);
    for key in 0..100 {
        let body = format!("value {key}");
        let reply = client.ask("PUT", &format!("/users/{key}"), &[], body.as_bytes());
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    for request in 0..1000 {
        if request == 500 {
            let killed = Command::new("kill")
                .args(["-9", &demo.pid("users-1a")])
                .status();
            assert!(killed.unwrap().success());
        }
        let key = request % 100;
        let reply = client.get(&format!("/users/{key}"));
        assert_eq!(
            (reply.status, reply.text()),
            (200, format!("value {key}")),
            "{request}"
        );
    }
    let shard_of = |client: &mut Client, key: usize| {
        let reply = client.get(&format!("/users/{key}"));
        reply.field("x-keyway-shard").unwrap().to_owned()
    };
    let before: Vec<_> = (0..100).map(|key| shard_of(&mut client, key)).collect();
    let text = fs::read_to_string(demo.topology()).unwrap();
    fs::write(demo.topology(), text.replace("users-2\n", "users-9\n")).unwrap();
    let mut admin = Client::connect(demo.admin);
    until("the new topology", || {
        admin.get("/v1/state").text().contains("users-9")
    });
    for (key, before) in before.iter().enumerate() {
        let after = shard_of(&mut client, key);
        // A renamed shard moves its own keys; what goes elsewhere came from it or goes to it.
        assert!(
            after == *before || before == "users-2" || after == "users-9",
            "{key}: {before} to {after}"
        );
    }
    fs::write(demo.topology(), "version: 1\nclusters: {{{").unwrap();
    until("the refusal", || {
        admin
            .get("/metrics")
            .text()
            .contains("keyway_config_reloads_total{outcome=\"rejected\"} 1")
    });
    assert_eq!(
        client.get("/users/1").error(),
        "-",
        "the old state serves on"
    );
    drop(client);
    drop(admin);
    let stopped = Command::new("kill")
        .args(["-INT", &demo.process.id().to_string()])
        .status();
    assert!(stopped.unwrap().success());
    let mut status = None;
    until("the end", || {
        status = demo.process.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    assert!(
        !fs::exists(demo.topology()).unwrap(),
        "the folder is removed"
    );
    let node = demo.pid("users-0a");
    until("the nodes' end", || {
        !fs::exists(format!("/proc/{node}")).unwrap()
    });
}
