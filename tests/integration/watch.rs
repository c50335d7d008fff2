//! What can happen to files that are watched: every change is seen in time, and nothing else is.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Keyway, Node, topology, until};

const ROUTES: &str = "routes: [{ name: r, match: {}, key: path, cluster: c }]\n";

/// How soon a change is seen where there are events: of several the median, for the machine may be busy.
const EVENTS: Duration = Duration::from_secs(1);

/// How soon where there are none: the poll's interval, and what a busy machine adds.
const POLLED: Duration = Duration::from_secs(5);

/// A folder with a topology of one or two shards in it, as kubelet makes one: `topology.yaml` leads to
/// `..data`, which leads to the folder of a version.
struct Volume<'a> {
    path: &'a Path,
    texts: [String; 2],
    version: usize,
}

impl Volume<'_> {
    fn swap(&mut self) {
        let before = format!("..{}", self.version);
        self.version += 1;
        let name = format!("..{}", self.version);
        let data = self.path.join(&name);
        fs::create_dir(&data).unwrap();
        let text = &self.texts[self.version % 2];
        fs::write(data.join("topology.yaml"), text).unwrap();
        symlink(&name, self.path.join("..data_tmp")).unwrap();
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
        let _first = fs::remove_dir_all(self.path.join(before));
    }
}

fn texts(a: &Node, b: &Node) -> [String; 2] {
    [topology(&[&[a]]), topology(&[&[a], &[b]])]
}

fn shards(keyway: &Keyway) -> usize {
    let state = keyway.admin_json("/v1/state");
    state["clusters"][0]["shards"].as_array().unwrap().len()
}

/// Waits until so many shards serve, and says how long that took.
fn seen(keyway: &Keyway, count: usize) -> Duration {
    let began = Instant::now();
    until(&format!("{count} shards"), || shards(keyway) == count);
    began.elapsed()
}

/// Holds what took how long to [`EVENTS`].
fn assert_soon(mut took: Vec<Duration>) {
    took.sort_unstable();
    let median = took[took.len() / 2];
    assert!(median < EVENTS, "{took:?}");
}

fn refused(keyway: &Keyway) -> usize {
    keyway.count("keyway_config_reloads_total", &["outcome=\"rejected\""])
}

/// Does `change` and waits until keyway has refused what it found.
fn until_refused(keyway: &Keyway, change: impl FnOnce()) {
    let before = refused(keyway);
    change();
    until("the change is refused", || refused(keyway) > before);
}

#[test]
fn a_hundred_swaps_of_a_config_map_are_each_seen_within_a_second() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    fs::create_dir(&path).unwrap();
    let texts = texts(&a, &b);
    let first = texts[0].clone();
    let mut volume = Volume {
        path: &path,
        texts,
        version: 1,
    };
    volume.swap();
    symlink("..data/topology.yaml", path.join("topology.yaml")).unwrap();
    let named = format!(
        "topology: \"{}\"\n{ROUTES}",
        path.join("topology.yaml").display()
    );
    let keyway = Keyway::start(&named, &first);
    assert_eq!(shards(&keyway), 1);
    let swaps = (0..100).map(|round| {
        volume.swap();
        seen(&keyway, 2 - round % 2)
    });
    assert_soon(swaps.collect());
    until("old states are freed", || {
        keyway.count("keyway_config_states_held", &[]) == 1
    });
    assert_eq!(refused(&keyway), 0);
}

#[test]
fn a_torn_write_is_refused_and_the_whole_one_taken() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let [one, two] = texts(&a, &b);
    let keyway = Keyway::start(ROUTES, &one);
    let path = keyway.path("topology.yaml");
    for _ in 0..3 {
        // In place, with a rest as long as it takes to be looked at; the tail is broken, so that half of it is
        // no topology.
        until_refused(&keyway, || {
            fs::write(&path, &two[..two.len() - 12]).unwrap();
        });
        assert_eq!(shards(&keyway), 1);
        fs::write(&path, &two).unwrap();
        assert!(seen(&keyway, 2) < POLLED);
        fs::write(&path, &one).unwrap();
        assert!(seen(&keyway, 1) < POLLED);
    }
}

#[test]
fn a_folder_that_is_replaced_is_seen_and_so_is_what_follows() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let [one, two] = texts(&a, &b);
    let folder = tempfile::tempdir().unwrap();
    let [inside, aside, new] = ["in", "aside", "new"].map(|it| folder.path().join(it));
    fs::create_dir(&inside).unwrap();
    let file = inside.join("topology.yaml");
    fs::write(&file, &one).unwrap();
    let named = format!("topology: \"{}\"\n{ROUTES}", file.display());
    let keyway = Keyway::start(&named, &one);
    for _ in 0..3 {
        fs::create_dir(&new).unwrap();
        fs::write(new.join("topology.yaml"), &two).unwrap();
        fs::rename(&inside, &aside).unwrap();
        fs::rename(&new, &inside).unwrap();
        let took = seen(&keyway, 2);
        assert!(took < POLLED, "{took:?}");
        // The watch follows the name, not the folder that had it.
        fs::write(&file, &one).unwrap();
        let took = seen(&keyway, 1);
        assert!(took < POLLED, "{took:?}");
        fs::remove_dir_all(&aside).unwrap();
    }
}

#[test]
fn links_that_lead_nowhere_change_nothing() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let [one, two] = texts(&a, &b);
    let keyway = Keyway::start(ROUTES, &one);
    let [file, link, other] = ["topology.yaml", "link", "other"].map(|it| keyway.path(it));
    let replace = |target: &Path| {
        symlink(target, &link).unwrap();
        fs::rename(&link, &file).unwrap();
    };
    // A loop, a link to itself, one to nothing, one to a folder.
    symlink(&file, &other).unwrap();
    for target in [&*other, &*file, Path::new("nothing"), Path::new(".")] {
        until_refused(&keyway, || replace(target));
        assert_eq!(shards(&keyway), 1, "{}", target.display());
        keyway.replace("topology.yaml", &two);
        assert!(seen(&keyway, 2) < POLLED);
        keyway.replace("topology.yaml", &one);
        assert!(seen(&keyway, 1) < POLLED);
    }
}

/// keyway runs as root here, without what lets root read everything.
#[test]
fn a_file_that_may_not_be_read_changes_nothing_until_it_may() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let [one, two] = texts(&a, &b);
    let dropped = "-dac_override,-dac_read_search";
    let wrapper = ["setpriv", "--inh-caps", dropped, "--bounding-set", dropped];
    let keyway = Keyway::start_by(&wrapper, ROUTES, &one);
    let path = keyway.path("topology.yaml");
    let allow = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    until_refused(&keyway, || {
        fs::write(&path, &two).unwrap();
        allow(0o000);
    });
    let log = keyway.log().concat();
    assert!(log.contains("ermission denied"), "{log}");
    allow(0o644);
    assert!(seen(&keyway, 2) < POLLED);
}

/// In a user namespace of its own that has none to give.
#[test]
fn without_events_files_are_polled() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let [one, two] = texts(&a, &b);
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let none = format!("echo 0 > /proc/sys/user/{limit} && exec \"$@\"");
        let wrapper = [
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            &none,
            "sh",
        ];
        let keyway = Keyway::start_by(&wrapper, ROUTES, &one);
        for text in [&two, &one, &two] {
            keyway.replace("topology.yaml", text);
            let took = seen(&keyway, text.matches("name: s").count());
            assert!(took < POLLED, "{limit}: {took:?}");
        }
        let said = keyway.log();
        let said = said.iter().filter(|it| it.contains("they are polled"));
        assert_eq!(said.count(), 1, "{limit}: said once");
    }
}

/// More events than the kernel keeps, while nobody reads them: the last change is seen all the same.
#[test]
fn an_overflowing_queue_loses_no_change() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let [one, two] = texts(&a, &b);
    let keyway = Keyway::start(ROUTES, &one);
    let queued = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queued: usize = queued.trim().parse().unwrap();
    keyway.signal("-STOP");
    until("keyway is stopped", || keyway.is_stopped());
    // Two events each, of two files in turn: the kernel merges equal ones.
    for at in 0..queued {
        File::create(keyway.path(["x", "y"][at % 2])).unwrap();
    }
    keyway.replace("topology.yaml", &two);
    keyway.signal("-CONT");
    let took = seen(&keyway, 2);
    assert!(took < POLLED, "{took:?}");
    keyway.replace("topology.yaml", &one);
    assert!(seen(&keyway, 1) < POLLED);
}

/// Has a thread end although the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_writer_that_never_stops_costs_neither_state_nor_log() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let [one, two] = texts(&a, &b);
    let keyway = Keyway::start(ROUTES, &one);
    let warned = || {
        let log = keyway.log();
        log.iter().filter(|it| it.contains("keep changing")).count()
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writes = 0;
            while !done.load(Ordering::Relaxed) {
                writes += 1;
                keyway.replace("topology.yaml", &format!("{two}# {writes}\n"));
            }
            writes
        });
        let _stopped = Stop(&done);
        until("keyway says that it waits", || warned() > 0);
        // Longer than it waits for the files to rest, twice over.
        let began = Instant::now();
        while began.elapsed() < POLLED {
            assert_eq!(keyway.get("/k").status, 200);
        }
        done.store(true, Ordering::Relaxed);
        let writes = writer.join().unwrap();
        assert_eq!(warned(), 1, "after {writes} writes");
    });
    keyway.replace("topology.yaml", &two);
    let took = seen(&keyway, 2);
    assert!(took < POLLED, "{took:?}");
}
