//! What commands print, and how they end.

use std::io::{self, Write as _};
use std::path::Path;

/// How many problems are told by a start that fails.
const SCREEN: usize = 20;

/// Why a command does not end with 0.
#[derive(Debug)]
pub(super) enum Failure {
    /// The answer is no; it was printed.
    No,
    /// It could not be done, as this says.
    Error(String),
}

/// How a command ends.
pub(super) type Done = Result<(), Failure>;

impl Failure {
    /// What `error` and its causes say, in one line.
    pub(super) fn from_error(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self::Error(message)
    }

    /// What is wrong with the files of `config`, a line for each problem, and no more than a screen.
    pub(super) fn problems(error: &dyn std::error::Error, config: &Path) -> Self {
        let text = error.to_string();
        let lines: Vec<_> = text.lines().collect();
        let mut shown = lines[..lines.len().min(SCREEN)].join("\n");
        if lines.len() > SCREEN {
            let (more, config) = (lines.len() - SCREEN, config.display());
            shown = format!("{shown}\nand {more} more; `keyway check {config}` tells all");
        }
        Self::Error(shown)
    }
}

/// Prints `text` and a line end. A reader that has seen enough is no error.
pub(super) fn line(text: &str) -> Done {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Error(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Tells what went wrong.
pub(super) fn error(message: &str) {
    // Nobody is left to be told when this fails.
    let _lost = writeln!(io::stderr(), "keyway: {message}").is_err();
}
