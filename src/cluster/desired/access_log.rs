//! Pure: which requests are logged, what is said of them, and where to.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::Destination;
use crate::units::Ratio;

mod sample;
mod template;

pub use sample::Sample;
pub use template::{Field, Piece, Template, TemplateError};

/// What is logged of each request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessLog {
    /// What a line says; `None`: there are no lines.
    pub format: Option<LineFormat>,
    /// Where the lines go.
    pub to: Destination,
    /// Which requests are worth one.
    pub only: Only,
    /// Which of them are logged.
    pub sample: Sample,
}

/// What a line of the access log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object with every field.
    Json,
    /// These pieces, one after the other.
    Template(Arc<Template>),
}

/// Which requests are worth a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// All.
    #[default]
    All,
    /// Those that a 5xx or keyway itself answered, that broke, or whose client left.
    Errors,
    /// Those that took at least so long.
    Slow(Duration),
}

impl AccessLog {
    /// Lines that say so, of every request, on standard output.
    pub fn of_all(format: Option<LineFormat>) -> Self {
        Self {
            format,
            ..Self::default()
        }
    }

    /// Whether a line is written of every request.
    pub fn takes_all(&self) -> bool {
        self.sample == Sample::of(Ratio::ALL)
    }
}

impl LineFormat {
    /// One readable line: a template like any other.
    pub fn text() -> Self {
        Self::Template(Template::text())
    }
}
