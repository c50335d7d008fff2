//! Pure: the `resolver` section of keyway.yaml.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::NameServer;

/// Who is asked what the names of nodes stand for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Resolver")]
pub(super) struct ResolverFile {
    /// Name servers in place of those of /etc/resolv.conf and of its search list. Default: none.
    #[serde(default)]
    nameservers: Vec<NameServer>,
}

impl ResolverFile {
    pub(super) fn nameservers(&self) -> Vec<SocketAddr> {
        self.nameservers.iter().map(|it| it.0).collect()
    }
}
