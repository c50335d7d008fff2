//! A name server that lies, is silent, and says too much.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::{RATE, ms, secs};
use crate::report::Run;
use crate::stage::Stage;
use crate::suite::{Reach, Setting, Suite};
use crate::support::{Kind, Record, Says};

/// How long it says each of them, while names are to be looked up once a second.
const EACH: Duration = ms(1500);

/// It says that there are no such names, nothing, that it failed, that they are empty, addresses in
/// another order each time, and a thousand of them.
pub fn names(suite: &Suite) -> Run {
    let setting = Setting {
        reach: Reach::Names,
        alone: true,
        ..Setting::BARE
    };
    let stage = Stage::set(suite, "names", &setting);
    let lies: [fn() -> Says; 6] = [
        || Says::NoSuchName,
        || Says::Silence,
        || Says::ServFail,
        || Says::Records(1, Vec::new()),
        shuffled,
        thousand,
    ];
    let mut load = stage.load(RATE, secs(1) + EACH * 6 + secs(2));
    load.until(secs(1));
    load.fault(&[]);
    for (at, says) in (1..).zip(lies) {
        stage.names().script(move |_, _| says());
        load.until(secs(1) + EACH * at);
    }
    let asked = stage.names().asked("s0a.test", Kind::A);
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must(&format!("names are followed, found {asked}"), asked > 4);
    keyway.must_hold();
    let posts = keyway.errors(true);
    keyway.must(&format!("no POST fails, found {posts}"), posts == 0);
    keyway.must_leave_others_at_home();
    let (slowest, bound) = (keyway.slowest(), ms(250) + keyway.late() * 2);
    keyway.must(
        &format!("no request waits for a name, found {slowest:?}"),
        slowest <= bound,
    );
    run
}

/// Two addresses, each first in turn.
fn shuffled() -> Says {
    static TURN: AtomicU8 = AtomicU8::new(0);
    if TURN.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
        Says::addresses(&["127.0.0.1", "127.0.0.2"])
    } else {
        Says::addresses(&["127.0.0.2", "127.0.0.1"])
    }
}

fn thousand() -> Says {
    let records = (0..1000_u16).map(|at| {
        let [high, low] = at.to_be_bytes();
        Record::A([127, 1, high, low + u8::from(low == 0)].into())
    });
    Says::Records(1, records.collect())
}
