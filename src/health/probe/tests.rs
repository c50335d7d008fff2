use proptest::prelude::*;

use super::*;
use crate::health::check::HttpCheck;

fn params() -> ProbeParams {
    ProbeParams::default()
}

fn http() -> ProbeParams {
    ProbeParams {
        check: Check::Http(HttpCheck::default()),
        ..params()
    }
}

/// A course whose jitter is none, and what its node is seen to do.
struct Course {
    probing: Probing,
    params: ProbeParams,
    now: Millis,
    seen: Seen,
    attempts: Attempts,
}

/// What is half way between a tenth less and a tenth more.
const MIDDLE: u64 = 1 << 63;

impl Course {
    /// Its first probe is due at 0.
    fn new(params: ProbeParams) -> Self {
        Self {
            probing: Probing::new(0, &params, 0),
            params,
            now: 0,
            seen: Seen {
                in_flight: 0,
                stands: Stands::Serving,
                is_suspect: false,
            },
            attempts: Attempts::default(),
        }
    }

    fn look(&mut self) -> Look {
        let attempts = self.attempts;
        self.probing
            .look(self.now, self.seen, || attempts, &self.params, MIDDLE)
    }

    /// Goes on, looking each millisecond, until a probe begins, and tells when that is.
    fn begin(&mut self) -> Millis {
        loop {
            if let Look::Due(due) = self.look() {
                self.probing.begin(self.now, due, &self.params, MIDDLE);
                return self.now;
            }
            self.now += 1;
            assert!(self.now < 1_000_000, "no probe is due");
        }
    }

    fn end(&mut self, began: Millis, outcome: Outcome) -> Option<Change> {
        self.probing.ended(began, outcome, &self.params, || true)
    }

    /// The next probe ends at once.
    fn probe(&mut self, outcome: Outcome) -> Option<Change> {
        let began = self.begin();
        self.end(began, outcome)
    }

    /// A request is answered.
    fn answer(&mut self) {
        self.attempts.ended += 1;
        self.attempts.answered += 1;
        self.attempts.good += 1;
    }
}

#[test]
fn a_suspect_node_is_probed_at_once_and_by_requests_not_proved() {
    let mut course = Course::new(params());
    course.probe(Outcome::Good);
    (course.now, course.seen.in_flight) = (700, 3);
    assert_eq!(course.look(), Look::Wait);
    course.seen.is_suspect = true;
    // Answers that came before say nothing of now.
    course.answer();
    assert_eq!(course.begin(), 700);
    course.end(700, Outcome::Bad);
    assert_eq!(course.begin(), 700 + 2000 / URGENT);
}

#[test]
fn the_first_probe_is_anywhere_within_the_interval() {
    for (random, due) in [(0, 0), (MIDDLE, 1000), (u64::MAX, 1999)] {
        assert_eq!(Probing::new(0, &params(), random).due, due);
    }
}

#[test]
fn an_idle_node_is_probed_at_the_interval_and_a_failing_one_four_times_as_often() {
    let mut course = Course::new(params());
    let mut began = Vec::new();
    for outcome in [
        Outcome::Good,
        Outcome::Good,
        Outcome::Bad,
        Outcome::Bad,
        Outcome::Bad,
    ] {
        began.push(course.begin());
        course.end(course.now, outcome);
    }
    assert_eq!(began, [0, 2000, 4000, 4500, 5000]);
    // Down, it is probed as often until it is up again.
    assert_eq!(course.begin(), 5500);
    assert_eq!(course.end(5500, Outcome::Good), None);
    assert_eq!(course.begin(), 6000);
    assert_eq!(course.end(6000, Outcome::Good), Some(Change::Up));
    // The pace of one that is down had been chosen when this one began.
    assert_eq!((course.begin(), course.begin_again()), (6500, 8500));
}

impl Course {
    fn begin_again(&mut self) -> Millis {
        self.end(self.now, Outcome::Good);
        self.begin()
    }
}

#[test]
fn so_many_in_a_row_change_the_verdict() {
    let mut course = Course::new(params());
    let said = [
        Outcome::Bad,
        Outcome::Good,
        Outcome::Bad,
        Outcome::Void,
        Outcome::Bad,
        Outcome::Bad,
        Outcome::Good,
        Outcome::Bad,
        Outcome::Good,
        Outcome::Good,
    ]
    .map(|it| course.probe(it));
    let (down, up) = (Some(Change::Down), Some(Change::Up));
    let expected = [None, None, None, None, down, None, None, None, None, up];
    assert_eq!(said, expected);
}

#[test]
fn a_node_that_answers_requests_is_not_probed() {
    let mut course = Course::new(params());
    for _ in 0..3 {
        course.answer();
        assert_eq!(course.look(), Look::Needless);
        course.now += 2000;
    }
    // Without an answer since then, it is.
    assert!(matches!(course.look(), Look::Due(_)));
    // An answer ends a run of bad probes, as a good one would.
    course.probe(Outcome::Bad);
    course.answer();
    course.now += 500;
    assert_eq!(course.look(), Look::Needless);
    assert_eq!(course.probe(Outcome::Bad), None);
    let mut always = Course::new(ProbeParams {
        when: ProbeWhen::Always,
        ..params()
    });
    always.answer();
    assert!(matches!(always.look(), Look::Due(_)));
}

#[test]
fn failing_requests_do_not_stand_for_a_good_probe() {
    let mut course = Course::new(params());
    course.attempts.ended += 1;
    course.attempts.answered += 1;
    assert!(matches!(course.look(), Look::Due(_)));
}

#[test]
fn a_node_at_which_requests_wait_in_vain_is_probed_at_once() {
    let mut course = Course::new(params());
    course.probe(Outcome::Good);
    course.now = 100;
    course.seen.in_flight = 1;
    // Looks at 100 and 350 see no answer; the last probe was at 0.
    assert_eq!(course.begin(), 500);
    // The second one does not wait for the first to time out.
    assert_eq!(course.begin(), 1000);
    assert_eq!(course.end(500, Outcome::Bad), None);
    assert_eq!(course.end(1000, Outcome::Bad), Some(Change::Down));
}

#[test]
fn requests_that_are_only_slow_bring_one_probe() {
    let mut course = Course::new(params());
    course.probe(Outcome::Good);
    course.now = 1000;
    course.seen.in_flight = 3;
    assert_eq!(course.begin(), 1250);
    course.end(1250, Outcome::Good);
    // The same three are still waited for: streams, say.
    assert_eq!(course.begin(), 1750);
    course.end(1750, Outcome::Good);
    assert_eq!(course.begin(), 3750);
    course.end(3750, Outcome::Good);
    // Another one that waits is new.
    course.seen.in_flight = 4;
    let began = course.begin();
    assert!((3751..=4500).contains(&began), "{began}");
}

#[test]
fn a_busy_node_is_not_silent() {
    let mut course = Course::new(params());
    course.seen.in_flight = 5;
    while course.now < 20_000 {
        course.now += 100;
        course.answer();
        assert!(!matches!(course.look(), Look::Due(_)), "{}", course.now);
    }
}

#[test]
fn a_node_that_is_needed_is_kept_until_another_can_stand_in() {
    let mut course = Course::new(params());
    course.probe(Outcome::Bad);
    let mut said = Vec::new();
    for spared in [false, false, true] {
        let began = course.begin();
        let ended = course
            .probing
            .ended(began, Outcome::Bad, &course.params, || spared);
        said.push(ended);
    }
    assert_eq!(said, [Some(Change::Kept), None, Some(Change::Down)]);
}

#[test]
fn good_probes_vouch_for_a_node_that_is_out_once_they_began_after_it_went() {
    for (stands, params, vouches) in [
        (Stands::Resting, params(), true),
        (Stands::Ejected, params(), false),
        (Stands::Resting, http(), true),
        (Stands::Ejected, http(), true),
    ] {
        let mut course = Course::new(params);
        for _ in 0..3 {
            course.probe(Outcome::Good);
        }
        let before = course.begin();
        course.now += 10;
        course.seen.stands = stands;
        course.look();
        assert_eq!(course.end(before, Outcome::Good), None);
        assert_eq!(course.probe(Outcome::Good), None, "{stands:?}");
        let up = vouches.then_some(Change::Up);
        assert_eq!(course.probe(Outcome::Good), up, "{stands:?}");
        // As long as it is out, and not longer.
        assert_eq!(course.probe(Outcome::Good), up, "{stands:?}");
        course.seen.stands = Stands::Serving;
        assert_eq!(course.probe(Outcome::Good), None);
    }
}

#[test]
fn what_is_older_than_news_to_the_contrary_is_none() {
    let mut course = Course::new(params());
    course.probe(Outcome::Bad);
    let (first, second) = (course.begin(), course.begin());
    assert_eq!(course.end(second, Outcome::Good), None);
    assert_eq!(course.end(first, Outcome::Bad), None);
    assert_eq!(course.probe(Outcome::Bad), None);
    assert_eq!(course.probe(Outcome::Bad), Some(Change::Down));
}

#[test]
fn other_rules_begin_anew_and_keep_the_verdict() {
    let mut course = Course::new(params());
    course.probe(Outcome::Bad);
    let before = course.begin();
    course.now += 1;
    course.probing.renew(course.now, &course.params, 0);
    assert_eq!(course.end(before, Outcome::Bad), None);
    assert_eq!(course.probe(Outcome::Bad), None);
    assert_eq!(course.probe(Outcome::Bad), Some(Change::Down));
    course.probing.renew(course.now, &course.params, 0);
    assert_eq!(course.probe(Outcome::Bad), None);
    assert_eq!(course.probe(Outcome::Good), None);
    assert_eq!(course.probe(Outcome::Good), Some(Change::Up));
}

/// What happens at a node within one look, 25 ms.
#[derive(Clone, Copy, Debug)]
struct Happens {
    seen: Seen,
    answers: u64,
    failures: u64,
    /// How the probe ends that begins now, and after how many looks.
    outcome: Outcome,
    takes: usize,
    spared: bool,
    random: u64,
}

fn happens() -> impl Strategy<Value = Happens> {
    let stands = prop_oneof![
        6 => Just(Stands::Serving),
        1 => Just(Stands::Resting),
        1 => Just(Stands::Ejected),
    ];
    let outcome = prop_oneof![Just(Outcome::Good), Just(Outcome::Bad), Just(Outcome::Void)];
    let counts = (0..3_u32, prop_oneof![3 => Just(0), 1 => 1..3_u64], 0..2_u64);
    (
        stands,
        outcome,
        counts,
        0..20_usize,
        (any::<bool>(), prop::bool::weighted(0.1)),
        any::<u64>(),
    )
        .prop_map(
            |(stands, outcome, (in_flight, answers, failures), takes, flags, random)| Happens {
                seen: Seen {
                    in_flight,
                    stands,
                    is_suspect: flags.1,
                },
                answers,
                failures,
                outcome,
                takes,
                spared: flags.0,
                random,
            },
        )
}

/// Probes that ended, by when they began, since the verdict last changed.
type Since = Vec<(Millis, Outcome)>;

/// How many in a row came out as `outcome`, counted back from the newest.
fn run(since: &mut Since, outcome: Outcome) -> usize {
    since.sort_by_key(|it| it.0);
    let newest = since.iter().rev();
    newest.take_while(|it| it.1 == outcome).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_happens_the_rules_hold(
        script in prop::collection::vec(happens(), 1..400),
        interval_ms in 100..3000_u64,
        (rise, fall) in (1..4_u8, 1..4_u8),
        always in any::<bool>(),
        is_http in any::<bool>(),
    ) {
        let params = ProbeParams {
            interval: Duration::from_millis(interval_ms),
            rise: NonZeroU8::new(rise).unwrap(),
            fall: NonZeroU8::new(fall).unwrap(),
            when: if always { ProbeWhen::Always } else { ProbeWhen::IdleOrSuspect },
            ..if is_http { http() } else { params() }
        };
        let mut probing = Probing::new(0, &params, script[0].random);
        let mut attempts = Attempts::default();
        let mut is_down = false;
        // What is under way: when it began, when it ends, and how.
        let mut under_way: Vec<(Millis, usize, Outcome)> = Vec::new();
        let mut since = Since::new();
        let mut begun: Option<Millis> = None;
        let mut decided_at = 0;
        for (at, it) in script.iter().enumerate() {
            let now = at as Millis * 25;
            attempts.ended += it.answers + it.failures;
            attempts.answered += it.answers;
            attempts.good += it.answers;
            for (began, _, outcome) in under_way.extract_if(.., |it| it.1 <= at) {
                let said = probing.ended(began, outcome, &params, || it.spared);
                if outcome == Outcome::Void {
                    prop_assert_eq!(said, None);
                    continue;
                }
                since.push((began, outcome));
                match said {
                    Some(Change::Down) => {
                        prop_assert!(!is_down && it.spared);
                        prop_assert!(run(&mut since, Outcome::Bad) >= fall.into());
                        is_down = true;
                        since.clear();
                    }
                    Some(Change::Up) => {
                        prop_assert!(run(&mut since, Outcome::Good) >= rise.into());
                        if is_down {
                            since.clear();
                        }
                        is_down = false;
                    }
                    Some(Change::Kept) => {
                        prop_assert!(!is_down && !it.spared);
                        prop_assert!(run(&mut since, Outcome::Bad) >= fall.into());
                    }
                    None => {}
                }
            }
            let look = probing.look(now, it.seen, || attempts, &params, it.random);
            let is_proved = attempts.good > decided_at;
            let is_suspect = is_down || probing.out.is_some() || probing.silence.is_suspect();
            match look {
                Look::Wait => {}
                Look::Needless => {
                    prop_assert!(is_proved && !is_suspect && !always);
                    decided_at = attempts.good;
                }
                Look::Due(due) => {
                    prop_assert!(!is_proved || is_suspect || always, "it is proved good");
                    decided_at = attempts.good;
                    // Never more often than a failing node is probed, whatever happens.
                    let pace = (interval_ms / 4).max(PACE_MIN_MS);
                    let apart = begun.map_or(Millis::MAX, |it| now - it);
                    prop_assert!(apart >= (pace - pace / 10).max(PACE_MIN_MS), "{apart}");
                    begun = Some(now);
                    probing.begin(now, due, &params, it.random);
                    under_way.push((now, at + it.takes, it.outcome));
                    prop_assert!(under_way.len() <= usize::from(AT_ONCE_MAX));
                }
            }
        }
    }
}
