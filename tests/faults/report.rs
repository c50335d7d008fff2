//! What became of a row's requests, in figures, and what keyway must show.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use crate::load::{Ended, Sample, Schedule};

/// Longer than this is noticed.
const NOTICED: Duration = Duration::from_millis(100);

/// The heads of a row's columns.
pub const HEAD: &str = "\
| row              | proxy   | requests | L    | E get/post | W | D | T s   | R s   | A    | >100ms | p99 ms | max ms | RSS MiB     | fds       |
|------------------|---------|----------|------|------------|---|---|-------|-------|------|--------|--------|--------|-------------|-----------|";

/// When what happened.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    pub fault: Option<Duration>,
    pub repair: Option<Duration>,
    /// The nodes that something was wrong with.
    pub faulty: Vec<String>,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    rss_kib: usize,
    descriptors: usize,
}

/// The processor time that process `pid` took so far, in user code and in the kernel's; proc(5) has
/// it in hundredths of a second.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // What stands before may hold anything: the name.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// One proxy's part in a row.
pub struct Report {
    pub row: &'static str,
    pub proxy: String,
    pub samples: Vec<Sample>,
    /// How often each request reached a node.
    pub reached: HashMap<usize, u32>,
    pub schedule: Arc<Schedule>,
    pub owners: Vec<String>,
    pub homes: Vec<String>,
    pub marks: Marks,
    pub before: Footprint,
    pub after: Footprint,
    pub log: Vec<String>,
    /// Figures that are told and bound by nothing.
    pub notes: Vec<String>,
    /// What should have been otherwise.
    pub violations: Vec<String>,
}

/// A row that was played, the keyway that it is about first.
pub struct Run(pub Vec<Report>);

impl Footprint {
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let rss = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        Self {
            rss_kib: rss.unwrap().trim().parse().unwrap(),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        }
    }
}

impl Run {
    pub fn keyway(&mut self) -> &mut Report {
        &mut self.0[0]
    }

    /// The one of this name, if it took part.
    pub fn of(&self, proxy: &str) -> Option<&Report> {
        self.0.iter().find(|it| it.proxy == proxy)
    }
}

// === impl Report: what it counts ===

impl Report {
    /// Requests for `keys` that were due in `[from, to)`.
    pub fn part(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .filter(move |it| (from..to).contains(&it.due))
    }

    /// GETs without a right answer.
    pub fn lost(&self) -> usize {
        self.count(|it| !it.post && !it.is_right())
    }

    /// What the proxy answered itself, or answered not at all.
    pub fn errors(&self, post: bool) -> usize {
        self.count(|it| it.post == post && it.is_error())
    }

    /// Answers of a shard that does not own the key.
    pub fn wrong(&self) -> usize {
        self.count(|it| match &it.ended {
            Ended::Right { shard, .. } => *shard != self.owners[it.key],
            _ => false,
        })
    }

    /// POSTs that reached nodes more than once.
    pub fn duplicated(&self) -> usize {
        self.count(|it| it.post && self.reached(it) > 1)
    }

    /// POSTs that were answered by a node that knows nothing of them.
    pub fn unrecorded(&self) -> usize {
        self.count(|it| it.post && it.is_right() && self.reached(it) == 0)
    }

    /// Answers of another node than the key's home, though nothing was wrong with that.
    pub fn strays(&self) -> usize {
        self.count(|it| {
            let home = &self.homes[it.key];
            !self.marks.faulty.contains(home) && it.node().is_some_and(|node| node != home)
        })
    }

    /// How often the node that answers a key changed.
    pub fn moves(&self) -> usize {
        let mut last: HashMap<usize, &str> = HashMap::new();
        let right = self
            .samples
            .iter()
            .filter_map(|it| Some((it.key, it.node()?)));
        right
            .filter(|(key, node)| last.insert(*key, node).is_some_and(|was| was != *node))
            .count()
    }

    pub fn slow(&self) -> usize {
        self.count(|it| it.took > NOTICED)
    }

    pub fn slowest(&self) -> Duration {
        self.samples
            .iter()
            .map(|it| it.took)
            .max()
            .unwrap_or_default()
    }

    /// How late this machine was with sending at worst: what it does to bounds on time.
    pub fn late(&self) -> Duration {
        self.samples
            .iter()
            .map(|it| it.late)
            .max()
            .unwrap_or_default()
    }

    /// From the fault to the last request that ended in an error, by when they were due.
    pub fn troubled(&self) -> Option<Duration> {
        let fault = self.marks.fault?;
        let errors = self.samples.iter().filter(|it| it.is_error());
        let last = errors.map(|it| it.due).filter(|due| *due >= fault).max();
        Some(last.map_or(Duration::ZERO, |it| it.saturating_sub(fault)))
    }

    /// From the repair to the last request that was not answered by its key's home.
    pub fn homeless(&self) -> Option<Duration> {
        let repair = self.marks.repair?;
        let astray = self.samples.iter().filter(|it| {
            it.due >= repair && it.node().is_none_or(|node| node != self.homes[it.key])
        });
        let last = astray.map(|it| it.due).max();
        Some(last.map_or(Duration::ZERO, |it| it.saturating_sub(repair)))
    }

    /// Attempts that reached a node, a request of `[from, to)`.
    pub fn amplification(&self, from: Duration, to: Duration) -> f64 {
        let (mut attempts, mut requests) = (0, 0);
        for sample in self.part(from, to) {
            attempts += self.reached(sample);
            requests += 1;
        }
        f64::from(attempts) / f64::from(requests.max(1))
    }

    /// The share of the requests of `[from, to)` that were answered right.
    pub fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let right = self.part(from, to).filter(|it| it.is_right()).count();
        right as f64 / self.part(from, to).count().max(1) as f64
    }

    /// How often a request reached a node.
    pub fn reached(&self, sample: &Sample) -> u32 {
        self.reached.get(&sample.id).copied().unwrap_or(0)
    }

    pub fn count(&self, which: impl Fn(&Sample) -> bool) -> usize {
        self.samples.iter().filter(|it| which(it)).count()
    }

    pub fn line(&self) -> String {
        let all = self.amplification(Duration::ZERO, Duration::MAX);
        let p99 = percentile(self.samples.iter().map(|it| it.took), 99);
        let errors = format!("{}/{}", self.errors(false), self.errors(true));
        let (before, after) = (self.before, self.after);
        let rss = format!("{} > {}", mib(before.rss_kib), mib(after.rss_kib));
        let fds = format!("{} > {}", before.descriptors, after.descriptors);
        format!(
            "| {:16} | {:7} | {:8} | {:4} | {errors:10} | {} | {} | {:5} | {:5} | {all:4.2} | {:6} | {:6.1} | {:6.0} | {rss:11} | {fds:9} |",
            self.row,
            self.proxy,
            self.samples.len(),
            self.lost(),
            self.wrong(),
            self.duplicated(),
            seconds(self.troubled()),
            seconds(self.homeless()),
            self.slow(),
            millis(p99),
            millis(self.slowest()),
        )
    }

    /// How requests that were not answered right ended, and how many of each.
    pub fn endings(&self) -> BTreeMap<String, usize> {
        let mut endings = BTreeMap::new();
        for sample in self.samples.iter().filter(|it| !it.is_right()) {
            let method = if sample.post { "POST" } else { "GET" };
            let ended = format!("{method} {:?}", sample.ended);
            *endings.entry(ended).or_default() += 1;
        }
        endings
    }
}

// === impl Report: what keyway must show ===

impl Report {
    /// Tells what a request cost of the processor in two parts of the row, each with the time of its begin and
    /// end and keyway's at these. A machine that does other things too makes it vary by a tenth.
    pub fn tells_cpu(
        &mut self,
        before: [(Duration, Duration); 2],
        during: [(Duration, Duration); 2],
    ) {
        let each = |[from, to]: [(Duration, Duration); 2]| {
            let requests = self.part(from.0, to.0).count();
            millis(to.1.saturating_sub(from.1)) / requests.max(1) as f64
        };
        let (before, during) = (each(before), each(during));
        self.notes.push(format!(
            "{}: {before:.2} ms of CPU a request before, {during:.2} ms during, ratio {:.2}",
            self.row,
            during / before
        ));
    }

    /// Notes it when keyway does not show that.
    pub fn must(&mut self, what: &str, shown: bool) {
        if !shown {
            self.violations.push(what.to_owned());
        }
    }

    /// No right answer is lost, none is wrong, and nothing is done twice or not at all.
    pub fn must_hold(&mut self) {
        let lost = self.lost();
        self.must(&format!("no GET is lost, found {lost}"), lost == 0);
        let errors = self.errors(false);
        self.must(
            &format!("no GET meets an error, found {errors}"),
            errors == 0,
        );
        self.must_be_right();
    }

    /// Whatever is lost: no answer is wrong, and nothing is done twice.
    pub fn must_be_right(&mut self) {
        let counts = [
            ("answer of a wrong shard", self.wrong()),
            ("POST done twice", self.duplicated()),
            ("POST answered and not done", self.unrecorded()),
            (
                "answer that is not the node's",
                self.count(|it| it.ended == Ended::False),
            ),
            (
                "request without any answer",
                self.count(|it| it.ended == Ended::Silence),
            ),
        ];
        for (what, found) in counts {
            self.must(&format!("no {what}, found {found}"), found == 0);
        }
    }

    /// Only keys of the faulty nodes move.
    pub fn must_leave_others_at_home(&mut self) {
        let strays = self.strays();
        self.must(&format!("no other key moves, found {strays}"), strays == 0);
    }

    /// The fault was one: keys left the faulty nodes, or their requests failed or took long.
    pub fn must_be_bitten(&mut self) {
        let bitten = self.count(|it| {
            let home = &self.homes[it.key];
            let fault = self.marks.fault.is_some_and(|fault| it.due >= fault);
            let elsewhere = it.node().is_none_or(|node| node != home);
            self.marks.faulty.contains(home) && fault && (elsewhere || it.took > NOTICED)
        });
        self.must("the fault is met", bitten > 0);
    }

    /// POSTs fail for no other reasons than these.
    pub fn must_fail_posts_only_by(&mut self, reasons: &[&str]) {
        let other = self.count(|it| match &it.ended {
            Ended::Proxy { reason, .. } => it.post && !reasons.contains(&reason.as_str()),
            Ended::Cut => it.post,
            _ => false,
        });
        self.must(
            &format!("POSTs fail only by {reasons:?}, found {other}"),
            other == 0,
        );
    }

    /// The last error is no later after the fault than this.
    pub fn must_be_over_within(&mut self, within: Duration) {
        let troubled = self.troubled().unwrap_or_default();
        let within = within + self.late() * 2;
        self.must(
            &format!("no error after {within:?}, found {troubled:?}"),
            troubled <= within,
        );
    }

    /// Keys are home no later after the repair than this.
    pub fn must_be_home_within(&mut self, within: Duration) {
        let homeless = self.homeless().unwrap_or_default();
        let within = within + self.late() * 2;
        self.must(
            &format!("all keys are home after {within:?}, found {homeless:?}"),
            homeless <= within,
        );
    }
}

// === impl Sample ===

impl Sample {
    pub fn is_right(&self) -> bool {
        matches!(self.ended, Ended::Right { .. })
    }

    /// Whether the proxy made the answer, or made none.
    pub fn is_error(&self) -> bool {
        match self.ended {
            Ended::Right { .. } | Ended::Refused { .. } => false,
            Ended::Proxy { .. } | Ended::Cut | Ended::False | Ended::Silence => true,
        }
    }

    /// The node that answered right.
    pub fn node(&self) -> Option<&str> {
        match &self.ended {
            Ended::Right { node, .. } => Some(node),
            _ => None,
        }
    }

    /// keyway's reason, where it answered itself.
    pub fn reason(&self) -> Option<&str> {
        match &self.ended {
            Ended::Proxy { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// What so many percent are not above.
pub fn percentile(times: impl Iterator<Item = Duration>, percent: usize) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let at = (times.len() * percent).div_ceil(100);
    times.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |it| format!("{:.2}", it.as_secs_f64()))
}

fn mib(kib: usize) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}
