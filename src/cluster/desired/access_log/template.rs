//! Pure: a line's template, parsed once into the pieces that it is written from.

use std::fmt;
use std::sync::{Arc, LazyLock};

/// A line's text and fields, in their order.
#[derive(Debug, PartialEq, Eq)]
pub struct Template(Box<[Piece]>);

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(Box<str>),
    /// What is known of the request.
    Field(Field),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such field.
    #[error("expected one of the fields {names}, found %{{{0}}}", names = Names)]
    Unknown(String),
    /// A percent sign begins neither a field nor another percent sign.
    #[error("expected %{{FIELD}} or %%, found {0:?}")]
    Percent(String),
    /// Every line would be the same.
    #[error("expected a template with at least one field such as %{{target}}, found {0:?}")]
    NoField(String),
    /// A request is one line.
    #[error("expected a template of one line, found a control character in {0:?}")]
    Control(String),
}

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// What is known of a request that ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($(#[$doc])* $variant,)* }

        impl Field {
            /// Every field, in the order of the enum.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in templates and in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

fields! {
    /// When it ended.
    Time "time",
    /// Whose it was.
    Client "client",
    /// Its method.
    Method "method",
    /// Its target, the query included.
    Target "target",
    /// Its target without the query.
    Path "path",
    /// The protocol that the client spoke.
    Version "version",
    /// The host that it asked.
    Host "host",
    /// The answer's status code.
    Status "status",
    /// The bytes of the answer's body that the client was sent.
    Bytes "bytes",
    /// From its head to the end of its answer.
    Duration "duration_seconds",
    /// Its route.
    Route "route",
    /// Its cluster.
    Cluster "cluster",
    /// The shard that was tried last.
    Shard "shard",
    /// The node that was tried last.
    Node "node",
    /// How many attempts were made.
    Attempts "attempts",
    /// How it ended, as the metric has it.
    Class "class",
    /// Why keyway answered itself.
    Reason "reason",
    /// The nodes that were tried, in turn, each with what failed.
    Nodes "nodes",
    /// The bytes of its body that came from the client.
    BytesReceived "bytes_received",
    /// From its head to the head of the node's answer.
    FirstByte "first_byte_seconds",
    /// What of the time to the answer's head no node was waited for: keyway's own.
    Overhead "overhead_seconds",
}

/// What `text` stands for.
const TEXT: &str = "%{time} %{client} \"%{method} %{target} %{version}\" %{status} %{bytes} \
    %{duration_seconds} host=%{host} route=%{route} cluster=%{cluster} shard=%{shard} node=%{node} \
    attempts=%{attempts} class=%{class} reason=%{reason} nodes=%{nodes} received=%{bytes_received} \
    first_byte=%{first_byte_seconds} overhead=%{overhead_seconds}";

impl Template {
    /// The template that `text` is: `%{NAME}` is a field, `%%` a percent sign, the rest stands for
    /// itself.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.contains(char::is_control) {
            return Err(TemplateError::Control(text.to_owned()));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(after) = from.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let named = from.strip_prefix('{').and_then(|it| it.split_once('}'));
            let (name, after) = named.ok_or_else(|| TemplateError::Percent(format!("%{from}")))?;
            let mut fields = Field::ALL.iter();
            let field = fields.find(|it| it.name() == name);
            let field = field.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            push(&mut pieces, &mut plain);
            pieces.push(Piece::Field(*field));
            rest = after;
        }
        plain.push_str(rest);
        push(&mut pieces, &mut plain);
        if !pieces.iter().any(|it| matches!(it, Piece::Field(_))) {
            return Err(TemplateError::NoField(text.to_owned()));
        }
        Ok(Self(pieces.into()))
    }

    /// One readable line.
    ///
    /// # Panics
    /// Never: the text is a constant.
    pub fn text() -> Arc<Self> {
        static PARSED: LazyLock<Arc<Template>> = LazyLock::new(|| {
            Arc::new(Template::parse(TEXT).expect("the built-in template must be one"))
        });
        Arc::clone(&PARSED)
    }

    /// Its parts, in their order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }
}

/// Ends the text before a field.
fn push(pieces: &mut Vec<Piece>, plain: &mut String) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(std::mem::take(plain).into()));
    }
}

/// The names of all fields.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, field) in Field::ALL.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { ", " }, field.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_its_pieces() {
        let text = |it: &str| Piece::Text(it.into());
        let parsed = Template::parse("100%% %{method}%{path} {x}").unwrap();
        assert_eq!(
            parsed.pieces(),
            [
                text("100% "),
                Piece::Field(Field::Method),
                Piece::Field(Field::Path),
                text(" {x}"),
            ]
        );
    }

    #[test]
    fn every_field_has_a_name_of_its_own_and_is_found_by_it() {
        for field in Field::ALL {
            let parsed = Template::parse(&format!("%{{{}}}", field.name())).unwrap();
            assert_eq!(parsed.pieces(), [Piece::Field(*field)]);
        }
        assert!(Template::text().pieces().len() > 30);
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, expected) in [
            ("%{statu}", "expected one of the fields time, client, "),
            ("%{}", "found %{}"),
            (
                "50% %{path}",
                "expected %{FIELD} or %%, found \"% %{path}\"",
            ),
            ("%{path", "expected %{FIELD} or %%, found \"%{path\""),
            ("%", "found \"%\""),
            ("xml", "at least one field such as %{target}, found \"xml\""),
            ("%{path}\n", "a template of one line"),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
