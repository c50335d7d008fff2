use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use super::*;

/// An output that says when it is written to, and goes on when the test lets it.
struct Gated {
    begun: SyncSender<()>,
    go_on: Receiver<()>,
    taken: Arc<Mutex<Vec<u8>>>,
}

/// An output that does these things in turn: takes so many bytes, or fails.
struct Scripted {
    script: Vec<io::Result<usize>>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Both fail when the test is over.
        let _over = self.begun.send(()).is_err() || self.go_on.recv().is_err();
        self.taken.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = match self.script.pop() {
            Some(outcome) => outcome?.min(bytes.len()),
            None => bytes.len(),
        };
        self.taken.lock().unwrap().write(&bytes[..most])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(buffer: &mut LineBuffer, text: &str) {
    buffer.line(|it| it.extend(text.bytes()));
}

/// Waits for the writing thread's end.
fn end(log: LineLog) {
    log.thread.join().unwrap();
}

#[test]
fn each_threads_lines_stay_whole_and_in_order() {
    let taken = Arc::default();
    let output = Scripted {
        script: Vec::new(),
        taken: Arc::clone(&taken),
    };
    let (log, buffers) = LineLog::start("log", output, 3, Bounds::MANY).unwrap();
    let threads = buffers.into_iter().enumerate();
    let threads = threads.map(|(thread, mut buffer)| {
        // Fewer bytes than the queue holds.
        thread::spawn(move || {
            (0..20_000).for_each(|at| put(&mut buffer, &format!("{thread} {at}")));
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
    let dropped = log.dropped();
    end(log);
    assert_eq!(dropped.count(), 0);
    let taken = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    for thread in 0..3 {
        let sign = format!("{thread} ");
        let found = taken.lines().filter_map(|it| it.strip_prefix(&sign));
        let expected = (0..20_000).map(|at: u32| at.to_string());
        assert!(found.eq(expected), "the lines of thread {thread}");
    }
    assert_eq!(taken.lines().count(), 60_000);
}

#[test]
fn a_buffer_is_handed_over_when_it_is_full_or_asked_for() {
    let (begun, writes) = sync_channel(1);
    let (release, go_on) = sync_channel(1);
    let taken = Arc::default();
    let output = Gated {
        begun,
        go_on,
        taken: Arc::clone(&taken),
    };
    let (_log, mut buffers) = LineLog::start("log", output, 1, Bounds::MANY).unwrap();
    let mut buffer = buffers.pop().unwrap();
    let line = "x".repeat(FULL / 2 - 1);
    put(&mut buffer, &line);
    assert!(!buffer.lines.is_empty(), "half a buffer stays");
    put(&mut buffer, &line);
    assert!(buffer.lines.is_empty(), "a full buffer goes");
    writes.recv().unwrap();
    put(&mut buffer, "short");
    buffer.flush();
    release.send(()).unwrap();
    writes.recv().unwrap();
    assert_eq!(taken.lock().unwrap().len(), FULL);
    release.send(()).unwrap();
    // Nothing is no line.
    buffer.flush();
    buffer.flush();
    put(&mut buffer, "last");
    drop(buffer);
    writes.recv().unwrap();
    assert!(taken.lock().unwrap().ends_with(b"\nshort\n"));
}

#[test]
fn a_stalled_reader_costs_lines_and_no_waiting() {
    let (begun, writes) = sync_channel(2 * Bounds::MANY.queue);
    let (release, go_on) = sync_channel(2 * Bounds::MANY.queue);
    let taken = Arc::default();
    let output = Gated {
        begun,
        go_on,
        taken: Arc::clone(&taken),
    };
    let (log, mut buffers) = LineLog::start("log", output, 1, Bounds::MANY).unwrap();
    let mut buffer = buffers.pop().unwrap();
    let batch = |buffer: &mut LineBuffer, name: &str| {
        put(buffer, name);
        put(buffer, "and another");
        buffer.flush();
    };
    batch(&mut buffer, "written");
    writes.recv().unwrap();
    for at in 0..Bounds::MANY.queue {
        batch(&mut buffer, &format!("waiting {at}"));
    }
    assert_eq!(log.dropped().count(), 0, "what the queue holds");
    batch(&mut buffer, "lost");
    assert_eq!(log.dropped().count(), 2);
    batch(&mut buffer, "lost");
    assert_eq!(log.dropped().count(), 4);
    // The reader goes on: what waited arrives, and so does what comes then.
    for _ in 0..2 * Bounds::MANY.queue {
        release.send(()).unwrap();
    }
    for _ in 0..Bounds::MANY.queue {
        writes.recv().unwrap();
    }
    batch(&mut buffer, "after");
    drop(buffer);
    let dropped = log.dropped();
    end(log);
    assert_eq!(dropped.count(), 4);
    let taken = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    assert_eq!(taken.lines().count(), 2 * (Bounds::MANY.queue + 2));
    assert!(!taken.contains("lost") && taken.contains("after"));
}

#[test]
fn an_output_that_fails_costs_the_lines_it_did_not_take() {
    let taken = Arc::default();
    let broken = || Err(ErrorKind::BrokenPipe.into());
    let mut script = vec![
        // "whole" and half of "torn", then nothing of what is left of it.
        Ok(8),
        broken(),
        // Not even the end of the torn line.
        broken(),
        Err(ErrorKind::Interrupted.into()),
    ];
    script.reverse();
    let output = Scripted {
        script,
        taken: Arc::clone(&taken),
    };
    let (log, mut buffers) = LineLog::start("log", output, 1, Bounds::MANY).unwrap();
    let mut buffer = buffers.pop().unwrap();
    for batch in [&["whole", "torn", "gone"][..], &["gone"], &["back"]] {
        for line in batch {
            put(&mut buffer, line);
        }
        buffer.flush();
    }
    drop(buffer);
    let dropped = log.dropped();
    end(log);
    assert_eq!(taken.lock().unwrap().as_slice(), b"whole\nto\nback\n");
    assert_eq!(dropped.count(), 3);
}

#[test]
fn written_buffers_come_back() {
    let (begun, writes) = sync_channel(SPARES);
    let (release, go_on) = sync_channel(SPARES);
    let output = Gated {
        begun,
        go_on,
        taken: Arc::default(),
    };
    let (_log, mut buffers) = LineLog::start("log", output, 1, Bounds::MANY).unwrap();
    let mut buffer = buffers.pop().unwrap();
    put(&mut buffer, "first");
    let first = buffer.lines.as_ptr();
    buffer.flush();
    put(&mut buffer, "second");
    assert_ne!(buffer.lines.as_ptr(), first, "the first is being written");
    buffer.flush();
    release.send(()).unwrap();
    writes.recv().unwrap();
    // The second is begun, so the first is back.
    writes.recv().unwrap();
    put(&mut buffer, "third");
    assert_eq!(buffer.lines.as_ptr(), first);
}

#[test]
fn lines_that_go_one_by_one_may_be_many_at_once() {
    let (begun, writes) = sync_channel(1);
    let (release, go_on) = sync_channel(1);
    let output = Gated {
        begun,
        go_on,
        taken: Arc::default(),
    };
    let (log, mut buffers) = LineLog::start("log", output, 1, Bounds::FEW).unwrap();
    let mut buffer = buffers.pop().unwrap();
    let one = |buffer: &mut LineBuffer| {
        put(buffer, "a node changed");
        buffer.flush();
    };
    one(&mut buffer);
    writes.recv().unwrap();
    (0..Bounds::FEW.queue).for_each(|_| one(&mut buffer));
    assert_eq!(log.dropped().count(), 0);
    one(&mut buffer);
    assert_eq!(log.dropped().count(), 1);
    // The output fails from here on.
    drop((release, writes));
    drop(buffer);
    end(log);
}
