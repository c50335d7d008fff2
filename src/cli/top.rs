//! `top`: what the status page shows, in a terminal.

mod screen;
mod seen;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use http::StatusCode;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};

use self::screen::Screen;
use self::seen::Seen;
use super::TopArgs;
use super::admin_client::get;
use super::output::{Done, Failure, line};

/// The shortest time between two looks: more often nobody can read.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How large a terminal is taken to be where there is none.
const PLAIN: (u16, u16) = (120, 200);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Quit,
    Up,
    Down,
    Unwell,
    Nothing,
}

pub(super) fn top(args: &TopArgs) -> Done {
    if args.once {
        return once(args);
    }
    if !io::stdout().is_terminal() {
        let message = "expected a terminal; --once prints the state as text";
        return Err(Failure::Error(message.to_owned()));
    }
    // Asked before the screen is taken: who cannot be reached is told as by any other command.
    let first = look(&args.admin)?;
    let mut terminal = ratatui::try_init().map_err(|it| Failure::from_error(&it))?;
    let ended = follow(args, &mut terminal, first);
    ratatui::restore();
    ended
}

/// Prints the state once, as text. It knows of no rates: those need two looks.
fn once(args: &TopArgs) -> Done {
    let mut screen = Screen::new(args.admin.clone(), look(&args.admin)?);
    let mut terminal =
        Terminal::new(TestBackend::new(PLAIN.0, PLAIN.1)).map_err(|it| Failure::from_error(&it))?;
    let drawn = terminal.draw(|frame| screen.draw(frame));
    let drawn = drawn.map_err(|it| Failure::from_error(&it))?;
    line(lines(drawn.buffer).join("\n").trim_end())
}

/// The text of a screen, without what is blank at the ends of lines.
fn lines(buffer: &Buffer) -> Vec<String> {
    let rows = buffer.content.chunks(usize::from(buffer.area.width));
    let text = |row: &[Cell]| -> String {
        let symbols: String = row.iter().map(Cell::symbol).collect();
        symbols.trim_end().to_owned()
    };
    rows.map(text).collect()
}

/// Shows the state until somebody has seen enough.
fn follow(args: &TopArgs, terminal: &mut DefaultTerminal, first: Seen) -> Done {
    let mut screen = Screen::new(args.admin.clone(), first);
    loop {
        let drawn = terminal.draw(|frame| screen.draw(frame));
        drawn.map_err(|it| Failure::from_error(&it))?;
        match asked(args.interval.max(INTERVAL_MIN))? {
            Some(Asked::Quit) => return Ok(()),
            Some(Asked::Up) => screen.scroll(-1),
            Some(Asked::Down) => screen.scroll(1),
            Some(Asked::Unwell) => screen.toggle_unwell(),
            Some(Asked::Nothing) => {}
            // A keyway that restarts is waited for.
            None => screen.take(look(&args.admin).map_err(reason)),
        }
    }
}

fn reason(failure: Failure) -> String {
    match failure {
        Failure::No => "no answer".to_owned(),
        Failure::Error(message) => message,
    }
}

/// What a key asks for; `None` when none was pressed for as long as an interval.
fn asked(interval: Duration) -> Result<Option<Asked>, Failure> {
    let failed = |it: io::Error| Failure::from_error(&it);
    if !event::poll(interval).map_err(failed)? {
        return Ok(None);
    }
    let asked = match event::read().map_err(failed)? {
        Event::Key(key) if key.is_press() => meaning(key),
        _ => Asked::Nothing,
    };
    Ok(Some(asked))
}

fn meaning(key: KeyEvent) -> Asked {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Asked::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Asked::Quit,
        KeyCode::Char('k') | KeyCode::Up => Asked::Up,
        KeyCode::Char('j') | KeyCode::Down => Asked::Down,
        KeyCode::Char('u') => Asked::Unwell,
        _ => Asked::Nothing,
    }
}

/// The state as the admin server tells it.
fn look(admin: &str) -> Result<Seen, Failure> {
    let (status, body) = get(admin, "/v1/state")?;
    if status != StatusCode::OK {
        return Err(Failure::Error(format!("{admin}: {status}")));
    }
    serde_json::from_slice(&body)
        .map_err(|error| Failure::Error(format!("{admin}: expected a keyway's state: {error}")))
}
