//! What is logged: levels, for all or for single modules.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

/// What watches files is not to tell of each event: a log in a folder that is watched would be an event
/// itself, without end. The resolver's own lines would tell of each datagram that it does not
/// understand; what comes of a lookup is said once by who asked.
const QUIET: [&str; 3] = ["notify=info", "hickory_net=error", "hickory_proto=error"];

/// What is logged: a level, or directives such as `info,keyway::proxy=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// Why a text is no filter: what it should be, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a level (error, warn, info, debug, trace or off), or directives such as \
     info,keyway::proxy=debug, found {0:?}"
)]
pub struct FilterError(String);

impl LogFilter {
    /// The filter as the subscriber knows it.
    pub(super) fn directives(&self) -> EnvFilter {
        // Those of the filter come last: whoever names one of the quiet modules hears it.
        let all = QUIET.into_iter().chain(self.0.split(',').map(str::trim));
        let parsed = all.map(|it| Directive::from_str(it).expect("a filter must be checked"));
        parsed.fold(EnvFilter::default(), EnvFilter::add_directive)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        let is_directive = |it: &str| {
            let level = it.rsplit_once('=').map_or(it, |it| it.1);
            let is_level = LEVELS.iter().any(|it| it.eq_ignore_ascii_case(level));
            // A word that is no level would be the name of a module.
            is_level && Directive::from_str(it).is_ok()
        };
        let text = text.trim();
        if text.split(',').all(|it| is_directive(it.trim())) {
            Ok(Self(text.to_owned()))
        } else {
            Err(FilterError(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_directives() {
        for text in ["info", "WARN", "off", "info,keyway::proxy=debug", " debug "] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text}");
        }
        for text in [
            "",
            "verbose",
            "info,",
            "no=such=level",
            "keyway",
            "keyway=loud",
        ] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
    }
}
