//! What a row plays on: nodes, chaos in front of them, proxies, and a load on all of these at once.

mod ground;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::chaos::{Chaos, Mode};
use crate::load::{Client, Ended, Planned, Sample, Schedule};
use crate::network::{self, Cable};
use crate::node::Node;
use crate::report::{Footprint, Marks, Report, Run, cpu};
use crate::suite::{Reach, Setting, Suite};
use crate::support::{Keyway, NameServer, Says, Server, until};
use ground::{locate, places, start_nodes, topology};

pub use ground::Place;

/// How long what is at rest takes to settle.
const SETTLES: Duration = Duration::from_millis(500);

/// A proxy, and who sends it requests.
struct Lane {
    client: Arc<Client>,
    proxy: Proxy,
    before: Footprint,
    /// The node that answers each key when all is well.
    homes: Vec<String>,
}

enum Proxy {
    Keyway(Box<Keyway>),
    Peer(Server),
}

/// Everything of a row, running.
pub struct Stage<'a> {
    pub suite: &'a Suite,
    row: &'static str,
    lanes: Vec<Lane>,
    chaos: Vec<Chaos>,
    pub nodes: Vec<Node>,
    pub keys: Arc<Vec<String>>,
    /// The shard that owns each key.
    pub owners: Vec<String>,
    cable: Option<Cable>,
    names: Option<NameServer>,
    /// Whether clients speak HTTP/2.
    http2: bool,
    _folder: TempDir,
}

/// Requests on their way to all proxies, by one schedule.
pub struct Load<'a> {
    stage: &'a Stage<'a>,
    start: Instant,
    sending: Vec<JoinHandle<Vec<Sample>>>,
    schedule: Arc<Schedule>,
    marks: Marks,
}

impl<'a> Stage<'a> {
    /// Starts everything, and shows that each key is answered by its shard.
    pub fn set(suite: &'a Suite, row: &'static str, setting: &Setting) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (nodes, cable) = start_nodes(&folder, setting);
        let chaos = if setting.reach == Reach::Chaos {
            let handle = suite.runtime.handle();
            let hosts = (110..).zip(&nodes);
            hosts
                .map(|(host, node)| Chaos::start(handle, network::address(host), node.address))
                .collect()
        } else {
            Vec::new()
        };
        let names =
            matches!(setting.reach, Reach::Names).then(|| NameServer::start(|_, _| one_address()));
        let places = places(&nodes, &chaos, setting);
        let keys: Vec<String> = (0..setting.keys).map(|it| format!("k{it}")).collect();
        let topology = topology(&places);
        let owners = locate(&folder, &topology, &keys);
        let mut stage = Self {
            suite,
            row,
            lanes: Vec::new(),
            chaos,
            nodes,
            keys: Arc::new(keys),
            owners,
            cable,
            names,
            http2: setting.http2,
            _folder: folder,
        };
        stage.add_keyway("keyway", &suite.cluster(setting.cluster), &topology);
        if setting.plain {
            stage.add_keyway("plain", &suite.cluster(""), &topology);
        }
        let owned: Vec<_> = stage
            .keys
            .iter()
            .cloned()
            .zip(stage.owners.clone())
            .collect();
        let peers = suite.peers.iter().filter(|_| !setting.alone);
        for peer in peers {
            let server = peer.start(&places, &owned);
            stage.add(peer.name(), server.address, Proxy::Peer(server));
        }
        stage
    }
}

impl Stage<'_> {
    pub fn node(&self, id: &str) -> &Node {
        self.nodes.iter().find(|it| it.id == id).unwrap()
    }

    /// The cable of the node that is behind one.
    pub fn cable(&self) -> &Cable {
        self.cable.as_ref().unwrap()
    }

    /// Who is asked for the names of nodes.
    pub fn names(&self) -> &NameServer {
        self.names.as_ref().unwrap()
    }

    /// Has the chaos in front of these nodes do this from now on.
    pub fn turn(&self, nodes: &[&str], mode: Mode) {
        for (node, chaos) in self.nodes.iter().zip(&self.chaos) {
            if nodes.contains(&node.id.as_str()) {
                chaos.turn(mode);
            }
        }
    }

    /// The places of the keys of these shards.
    pub fn keys_of(&self, shards: &[&str]) -> Vec<usize> {
        let owned = |it: &usize| shards.contains(&self.owners[*it].as_str());
        (0..self.keys.len()).filter(owned).collect()
    }

    /// The places of all keys.
    pub fn all_keys(&self) -> Vec<usize> {
        (0..self.keys.len()).collect()
    }

    /// Sends so many requests a second of any key, for so long.
    pub fn load(&self, rate: u32, during: Duration) -> Load<'_> {
        self.send(Schedule::even(
            rate,
            Duration::ZERO..during,
            &self.all_keys(),
        ))
    }

    /// Begins to send by `schedule`, to all proxies at once.
    pub fn send(&self, schedule: Schedule) -> Load<'_> {
        let (schedule, start) = (Arc::new(schedule), Instant::now());
        let sending = self.lanes.iter().map(|lane| {
            let client = Arc::clone(&lane.client);
            let sent = client.send(Arc::clone(&schedule), Arc::clone(&self.keys), start);
            self.suite.runtime.spawn(sent)
        });
        Load {
            stage: self,
            start,
            sending: sending.collect(),
            schedule,
            marks: Marks::default(),
        }
    }

    /// The keyway that the row is about.
    pub fn keyway(&self) -> &Keyway {
        let keyway = self.lanes.iter().find_map(|it| match &it.proxy {
            Proxy::Keyway(keyway) => Some(keyway),
            Proxy::Peer(_) => None,
        });
        keyway.unwrap()
    }

    fn add_keyway(&mut self, name: &str, cluster: &str, topology: &str) {
        let resolver = self.names.as_ref().map_or_else(String::new, |names| {
            format!("resolver: {{ nameservers: [\"{}\"] }}\n", names.address)
        });
        let config = format!(
            "{resolver}routes:\n  - {{ name: r, match: {{ path: \"/{{key}}/**\" }}, key: \"path:key\", cluster: c }}\n\
             clusters:\n  c: {{ {cluster} }}\n"
        );
        let keyway = Box::new(Keyway::start(&config, topology));
        until("all names", || {
            keyway.metric("keyway_node_standing", &["standing=\"unresolved\""]) == 0.0
        });
        self.add(name, keyway.address, Proxy::Keyway(keyway));
    }

    /// Asks once for each key, so that connections are warm and each key's home is known.
    fn add(&mut self, name: &str, address: SocketAddr, proxy: Proxy) {
        let client = Arc::new(Client::new(name, address, self.http2));
        let mut homes = Vec::new();
        for (at, key) in self.keys.iter().enumerate() {
            let planned = Planned {
                due: Duration::ZERO,
                post: false,
                key: at,
                path: "r".to_owned(),
            };
            let asked = client.ask("warm", &planned, key);
            match self.suite.runtime.block_on(asked) {
                Ended::Right { shard, node } if shard == self.owners[at] => homes.push(node),
                other => panic!("{name}: {key} of {} is {other:?}", self.owners[at]),
            }
        }
        let before = Footprint::of(proxy.pid());
        self.lanes.push(Lane {
            client,
            proxy,
            before,
            homes,
        });
    }

    /// How often each request of each proxy reached a node.
    fn records(&self) -> HashMap<String, HashMap<usize, u32>> {
        let mut records: HashMap<String, HashMap<usize, u32>> = HashMap::new();
        for node in &self.nodes {
            let text = fs::read_to_string(&node.record).unwrap_or_default();
            for line in text.lines() {
                let mut words = line.split(' ');
                let via = words.next().unwrap_or_default().to_owned();
                let id = words.next().and_then(|it| it.parse().ok());
                if let Some(id) = id {
                    *records.entry(via).or_default().entry(id).or_default() += 1;
                }
            }
        }
        records
    }
}

/// Where every node can be reached that listens at all addresses.
fn one_address() -> Says {
    Says::addresses(&["127.0.0.1"])
}

impl Proxy {
    /// What it said, as far as it says something.
    fn log(&self) -> Vec<String> {
        match self {
            Self::Keyway(keyway) => keyway.log(),
            Self::Peer(_) => Vec::new(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Keyway(keyway) => keyway.pid(),
            Self::Peer(server) => server.process.id(),
        }
    }
}

impl Load<'_> {
    /// Waits until so much time has passed since the load began.
    pub fn until(&self, at: Duration) {
        thread::sleep(at.saturating_sub(self.start.elapsed()));
    }

    /// The time since the load began, and the processor time that keyway took so far.
    pub fn costs(&self) -> (Duration, Duration) {
        (self.start.elapsed(), cpu(self.stage.keyway().pid()))
    }

    /// From now on something is wrong with these nodes.
    pub fn fault(&mut self, nodes: &[&str]) {
        self.marks.fault = Some(self.start.elapsed());
        self.marks.faulty = nodes.iter().map(|it| (*it).to_owned()).collect();
    }

    /// From now on nothing is wrong any more.
    pub fn repaired(&mut self) {
        self.marks.repair = Some(self.start.elapsed());
    }

    /// Waits for the last answer, and tells what became of all requests.
    pub fn end(self) -> Run {
        let stage = self.stage;
        let runtime = &stage.suite.runtime;
        let sent: Vec<_> = self.sending.into_iter().collect();
        let sent: Vec<_> = sent
            .into_iter()
            .map(|it| runtime.block_on(it).unwrap())
            .collect();
        thread::sleep(SETTLES);
        let mut records = stage.records();
        let reports = stage.lanes.iter().zip(sent).map(|(lane, samples)| Report {
            row: stage.row,
            proxy: lane.client.via.clone(),
            samples,
            reached: records.remove(&lane.client.via).unwrap_or_default(),
            schedule: Arc::clone(&self.schedule),
            owners: stage.owners.clone(),
            homes: lane.homes.clone(),
            marks: self.marks.clone(),
            before: lane.before,
            after: Footprint::of(lane.proxy.pid()),
            log: lane.proxy.log(),
            notes: Vec::new(),
            violations: Vec::new(),
        });
        Run(reports.collect())
    }
}
