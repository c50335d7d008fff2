//! What a request costs in memory: nothing, once the connections that it takes are warm.
//!
//! A test binary of its own, for its allocator counts every allocation of the process: client and
//! node live in it too, and make none while it counts.
#![expect(
    unsafe_code,
    reason = "an allocator that counts cannot be written without"
)]
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use keyway::app::App;
use keyway::cluster::desired::{Sample, Traces};
use keyway::config::{Config, Overrides};
use keyway::net::Inherited;
use keyway::otlp::Endpoint;
use keyway::units::Ratio;
use tokio::task::LocalSet;

/// Requests that are counted.
const REQUESTS: usize = 5000;

/// What the process does beside requests in that time: sweeps, a date a second, the resolver.
const OTHERS: usize = 200;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers every read with one response.
fn node() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepting = listener.try_clone().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = accepting.accept().unwrap();
        let mut request = [0; 4096];
        while stream.read(&mut request).is_ok_and(|read| read > 0) {
            let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            stream.write_all(response).unwrap();
        }
    });
    listener
}

/// Starts keyway in front of `node` on a thread of its own; says where it listens.
fn start(node: &TcpListener, traces: Traces) -> u16 {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let listen = [format!("127.0.0.1:{port}")];
    let node = [format!("a={}", node.local_addr().unwrap())];
    let key = ["header:x-user".to_owned()];
    let mut config = Config::from_flags(&listen, &key, &node, &Overrides::default(), 1).unwrap();
    config.desired.traces = traces;
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let app = App::start(config, &mut Inherited::default()).unwrap();
            app.serve();
            std::future::pending::<()>().await;
        });
    });
    port
}

fn ask(stream: &mut TcpStream) {
    let request = b"GET /users/42?full=1 HTTP/1.1\r\nHost: app.test\r\nX-User: 42\r\n\
                    Accept: */*\r\nUser-Agent: test\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut response = [0; 4096];
    let mut read = 0;
    while !response[..read].ends_with(b"hello") {
        read += stream.read(&mut response[read..]).unwrap();
    }
}

/// The allocations of many requests on a warm connection, whose traces are not recorded.
fn allocations(traces: Traces) -> usize {
    let node = node();
    let port = start(&node, traces);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(_starting) => thread::yield_now(),
        }
    };
    for _ in 0..100 {
        ask(&mut stream);
    }
    let before = ALLOCATIONS.load(Relaxed);
    for _ in 0..REQUESTS {
        ask(&mut stream);
    }
    ALLOCATIONS.load(Relaxed) - before
}

// One test: two at once would count each other's.
#[test]
fn a_request_on_a_warm_connection_allocates_nothing() {
    let made = allocations(Traces::default());
    assert!(made < OTHERS, "{made} allocations in {REQUESTS} requests");
    let made = allocations(Traces {
        otlp: Some(Endpoint::parse("http://127.0.0.1:1").unwrap()),
        sample: Sample::of(Ratio::percent(0)),
    });
    assert!(made < OTHERS, "{made} in {REQUESTS} that are not recorded");
}
