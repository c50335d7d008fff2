//! The screen: what was seen last, and how it is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table};

use super::seen::{Place, Route, Seen, rate};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const QUIET: Style = Style::new().fg(Color::DarkGray);
const WELL: Style = Style::new().fg(Color::Green);
const WARN: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red);

/// What the terminal shows.
#[derive(Debug)]
pub(super) struct Screen {
    admin: String,
    seen: Seen,
    /// The look before: what rates are told by.
    before: Option<Seen>,
    /// Why the last look found nothing.
    lost: Option<String>,
    only_unwell: bool,
    /// How many nodes lie above the first that is shown.
    above: usize,
}

impl Screen {
    pub(super) fn new(admin: String, seen: Seen) -> Self {
        Self {
            admin,
            seen,
            before: None,
            lost: None,
            only_unwell: false,
            above: 0,
        }
    }

    /// Takes what a look found, or why it found nothing.
    pub(super) fn take(&mut self, look: Result<Seen, String>) {
        match look {
            Ok(seen) => {
                self.before = Some(std::mem::replace(&mut self.seen, seen));
                self.lost = None;
            }
            Err(reason) => self.lost = Some(reason),
        }
    }

    pub(super) fn scroll(&mut self, lines: isize) {
        self.above = self.above.saturating_add_signed(lines);
    }

    pub(super) fn toggle_unwell(&mut self) {
        self.only_unwell = !self.only_unwell;
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let routes = u16::try_from(self.seen.routes.len()).unwrap_or(u16::MAX);
        let [head, traffic, nodes, foot] = Layout::vertical([
            Constraint::Length(2),
            // With its heading and a line below; never more than a third.
            Constraint::Length((routes + 2).min(frame.area().height / 3)),
            Constraint::Min(2),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(ratatui::text::Text::from(self.head()), head);
        self.draw_routes(frame, traffic);
        self.draw_nodes(frame, nodes);
        let keys = "q quit   u only nodes that are not healthy   ↑ ↓ scroll";
        frame.render_widget(Line::styled(keys, QUIET), foot);
    }

    fn head(&self) -> Vec<Line<'_>> {
        let Seen {
            phase,
            generation,
            version,
            ..
        } = &self.seen;
        let (phase, style) = match phase.as_str() {
            "serving" => ("ready", WELL),
            other => (other, WARN),
        };
        let about = format!(
            "  {}  generation {generation}  version {version}",
            self.admin
        );
        let first = vec![
            Span::styled("keyway ", BOLD),
            Span::styled(phase, style),
            Span::raw(about),
        ];
        let attention = self.seen.attention().join("; ");
        let second = match &self.lost {
            Some(reason) => Line::styled(reason, BAD),
            None if attention.is_empty() => Line::styled("all nodes are healthy", WELL),
            None => Line::styled(attention, WARN),
        };
        vec![Line::from(first), second]
    }

    fn draw_routes(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.seen.routes.iter().map(|it| self.route(it));
        let widths = [
            Constraint::Fill(2),
            Constraint::Fill(2),
            Constraint::Length(11),
            Constraint::Length(9),
            Constraint::Length(10),
            Constraint::Length(10),
        ];
        let heading = [
            "route",
            "cluster",
            "requests/s",
            "errors/s",
            "mean",
            "under way",
        ];
        let table = Table::new(rows, widths).header(Row::new(heading).style(BOLD));
        frame.render_widget(table, area);
    }

    fn route(&self, route: &Route) -> Row<'_> {
        let then = self.before.as_ref().and_then(|it| it.route(&route.name));
        let seconds = self.seconds();
        let requests = rate(route.requests, then.map(|it| it.requests), seconds);
        let errors = rate(route.errors, then.map(|it| it.errors), seconds);
        let spent = then.map(|it| (route.seconds - it.seconds) / seconds);
        // What a second's requests took, shared among them.
        let mean = spent.zip(requests).filter(|it| it.1 > 0.0);
        Row::new([
            Cell::from(route.name.clone()),
            Cell::from(route.cluster.clone()),
            Cell::from(number(requests)),
            Cell::from(number(errors)).style(alarm(errors)),
            Cell::from(mean.map_or_else(
                || "-".to_owned(),
                |(spent, requests)| time(spent / requests),
            )),
            Cell::from(route.in_flight.to_string()),
        ])
    }

    fn draw_nodes(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let shown: Vec<_> = self
            .seen
            .places()
            .filter(|it| !self.only_unwell || !it.is_well())
            .collect();
        let room = usize::from(area.height.saturating_sub(1));
        let above = self.above.min(shown.len().saturating_sub(room));
        let rows = shown.iter().skip(above).take(room).map(|it| self.node(it));
        let widths = [
            Constraint::Fill(2),
            Constraint::Fill(2),
            Constraint::Length(7),
            Constraint::Fill(2),
            Constraint::Length(10),
            Constraint::Length(11),
            Constraint::Length(10),
            Constraint::Length(10),
            Constraint::Length(6),
            Constraint::Fill(3),
        ];
        let heading = [
            "cluster",
            "shard",
            "owns",
            "node",
            "standing",
            "attempts/s",
            "failures/s",
            "under way",
            "conns",
            "address",
        ];
        let table = Table::new(rows, widths).header(Row::new(heading).style(BOLD));
        frame.render_widget(table, area);
        self.above = above;
    }

    fn node(&self, place: &Place<'_>) -> Row<'static> {
        let Place {
            cluster,
            shard,
            node,
        } = place;
        let mut old = self.before.iter().flat_map(Seen::places);
        let then = old.find(|it| place.is_same(it)).map(|it| it.node);
        let attempts = rate(node.attempts, then.map(|it| it.attempts), self.seconds());
        let failures = rate(node.failed, then.map(|it| it.failed), self.seconds());
        let standing = match node.standing.as_str() {
            "healthy" => WELL,
            "ejected" | "down" => BAD,
            _ => WARN,
        };
        Row::new([
            Cell::from(cluster.name.clone()),
            Cell::from(shard.name.clone()),
            Cell::from(format!("{:.1} %", shard.ownership * 100.0)),
            Cell::from(node.id.clone()),
            Cell::from(node.standing.clone()).style(standing),
            Cell::from(number(attempts)),
            Cell::from(number(failures)).style(alarm(failures)),
            Cell::from(node.in_flight.to_string()),
            Cell::from(node.connections.to_string()),
            Cell::from(node.address.clone()),
        ])
    }

    /// What passed between the two looks, by the process's own clock.
    fn seconds(&self) -> f64 {
        let before = self.before.as_ref();
        before.map_or(0.0, |it| self.seen.uptime_seconds - it.uptime_seconds)
    }
}

fn alarm(rate: Option<f64>) -> Style {
    match rate {
        Some(rate) if rate > 0.0 => BAD,
        _ => Style::new(),
    }
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value == 0.0 || value >= 10.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
    }
}

fn time(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    /// `nodes` of one shard, of which the last is ejected, after so many requests.
    fn seen(nodes: usize, requests: u64) -> Seen {
        let node = |at: usize| {
            let standing = if at + 1 == nodes {
                "ejected"
            } else {
                "healthy"
            };
            json!({
                "id": format!("n{at}"), "address": "127.0.0.1:1", "standing": standing, "in_flight": 0,
                "connections": 2, "attempts": requests, "failed": 0
            })
        };
        let nodes: Vec<_> = (0..nodes).map(node).collect();
        let seconds = Some(requests).map_or(0, |it| it / 10);
        let state = json!({
            "version": "1", "uptime_seconds": seconds, "phase": "serving", "generation": 3,
            "restart_required": false, "reloads": [{ "outcome": "rejected" }],
            "routes": [{
                "name": "r", "cluster": "c", "requests": requests, "errors": requests / 2, "seconds": 0.001,
                "in_flight": 1
            }],
            "clusters": [{
                "name": "c", "shards": [{ "name": "s0", "ownership": 1.0, "nodes": nodes }]
            }]
        });
        serde_json::from_value(state).unwrap()
    }

    fn drawn(screen: &mut Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(100, 12)).unwrap();
        let drawn = terminal.draw(|frame| screen.draw(frame)).unwrap();
        super::super::lines(drawn.buffer)
    }

    #[test]
    fn rates_are_of_what_happened_between_two_looks() {
        let mut screen = Screen::new("here".to_owned(), seen(2, 100));
        let line = |screen: &mut Screen| {
            let lines = drawn(screen);
            let found = lines.into_iter().find(|it| it.starts_with("r "));
            found
                .unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(line(&mut screen), ["r", "c", "-", "-", "-", "1"]);
        screen.take(Ok(seen(2, 200)));
        assert_eq!(line(&mut screen)[..4], ["r", "c", "10", "5.0"]);
    }

    #[test]
    fn what_is_wrong_is_said_first() {
        let mut screen = Screen::new("here".to_owned(), seen(2, 0));
        let lines = drawn(&mut screen);
        assert!(
            lines[0].starts_with("keyway ready  here  generation 3"),
            "{lines:?}"
        );
        let expected = "1 node is not healthy; the last change of the files was refused";
        assert_eq!(lines[1], expected);
        screen.take(Err("no answer".to_owned()));
        assert_eq!(drawn(&mut screen)[1], "no answer");
    }

    #[test]
    fn of_many_nodes_the_screen_shows_what_was_scrolled_to() {
        let mut screen = Screen::new("here".to_owned(), seen(50, 0));
        let shows = |screen: &mut Screen, id: &str| drawn(screen).iter().any(|it| it.contains(id));
        assert!(shows(&mut screen, " n0 ") && !shows(&mut screen, " n49 "));
        screen.scroll(1000);
        assert!(!shows(&mut screen, " n0 ") && shows(&mut screen, " n49 "));
        screen.scroll(-1);
        assert!(shows(&mut screen, " n48 ") && !shows(&mut screen, " n49 "));
        screen.toggle_unwell();
        assert!(!shows(&mut screen, " n48 ") && shows(&mut screen, " n49 "));
    }
}
