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

/// Prints the manual page of `command`: its own, then a section for each subcommand.
pub(super) fn manual(command: clap::Command) -> Done {
    let mut page = Vec::new();
    let rendered = render(command, &mut page);
    rendered.map_err(|error| Failure::Error(format!("the manual page: {error}")))?;
    line(String::from_utf8_lossy(&page).trim_end())
}

fn render(mut command: clap::Command, page: &mut Vec<u8>) -> io::Result<()> {
    command.build();
    let manual = clap_mangen::Man::new(command.clone());
    manual.render_title(page)?;
    manual.render_name_section(page)?;
    manual.render_synopsis_section(page)?;
    manual.render_description_section(page)?;
    for subcommand in command.get_subcommands() {
        subsections(subcommand, page)?;
    }
    manual.render_version_section(page)
}

/// The sections of a command and of those below it.
fn subsections(command: &clap::Command, page: &mut Vec<u8>) -> io::Result<()> {
    if command.get_name() == "help" || command.is_hide_set() {
        return Ok(());
    }
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    writeln!(page, ".SH \"{}\"", name.to_uppercase())?;
    let manual = clap_mangen::Man::new(command.clone());
    let mut parts = Vec::new();
    manual.render_description_section(&mut parts)?;
    manual.render_options_section(&mut parts)?;
    // Sections of their own, of a page that is all the command's.
    let parts = String::from_utf8_lossy(&parts).replace(".SH ", ".SS ");
    page.write_all(parts.as_bytes())?;
    command
        .get_subcommands()
        .try_for_each(|it| subsections(it, page))
}

/// Tells what went wrong.
pub(super) fn error(message: &str) {
    // Nobody is left to be told when this fails.
    let _lost = writeln!(io::stderr(), "keyway: {message}").is_err();
}
