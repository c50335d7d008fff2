//! keyway's peers, configured for the same job as a good operator would.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::stage::Place;
use crate::support::Server;

/// A proxy that stands beside keyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Haproxy,
    Nginx,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Starts it over `shards`, with each key's shard as keyway has it.
    pub fn start(self, shards: &[(String, Vec<Place>)], owners: &[(String, String)]) -> Server {
        match self {
            Self::Haproxy => haproxy(shards, owners),
            Self::Nginx => nginx(shards, owners),
        }
    }
}

/// Keys are mapped to a backend, in which a consistent hash chooses the server. POST is not
/// repeated once it was sent: that is what `disable-l7-retry` is there for.
fn haproxy(shards: &[(String, Vec<Place>)], owners: &[(String, String)]) -> Server {
    let mut backends = String::new();
    for (shard, nodes) in shards {
        write!(
            backends,
            "backend {shard}\n  balance uri depth 1\n  hash-type consistent\n"
        )
        .unwrap();
        for Place { id, address } in nodes {
            writeln!(backends, "  server {id} {address}").unwrap();
        }
    }
    let map = map(owners, "\n");
    Server::start(|folder, address| {
        let (path, file) = (folder.join("shards.map"), folder.join("haproxy.cfg"));
        fs::write(&path, &map).unwrap();
        let path = path.display();
        let config = format!(
            "global\n  maxconn 4000\n\
             defaults\n  mode http\n  retries 3\n  option redispatch 1\n\
             \x20 retry-on conn-failure empty-response response-timeout 502 503\n\
             \x20 timeout connect 250ms\n  timeout server 2s\n  timeout client 60s\n\
             \x20 option httpchk GET /healthz\n  default-server check inter 500ms fall 2 rise 2\n\
             frontend in\n  bind {address}\n\
             \x20 http-request disable-l7-retry if METH_POST\n\
             \x20 use_backend %[path,field(2,/),map({path})]\n\
             {backends}"
        );
        fs::write(&file, config).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        command.env("PATH", path_of_servers());
        command
    })
}

/// Keys are mapped to an upstream, in which a consistent hash chooses the server. POST is not
/// repeated once it was sent: that is nginx's default.
fn nginx(shards: &[(String, Vec<Place>)], owners: &[(String, String)]) -> Server {
    let mut upstreams = String::new();
    for (shard, nodes) in shards {
        writeln!(upstreams, "upstream {shard} {{ hash $key consistent;").unwrap();
        for Place { address, .. } in nodes {
            writeln!(upstreams, "  server {address} max_fails=1 fail_timeout=2s;").unwrap();
        }
        writeln!(upstreams, "  keepalive 32;\n}}").unwrap();
    }
    let map = map(owners, ";\n");
    Server::start(|folder, address| {
        let path = folder.display();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
             events {{ worker_connections 8000; }}\n\
             http {{\n access_log off; keepalive_requests 1000000; keepalive_timeout 300s;\n\
             \x20client_body_temp_path {path}/b; proxy_temp_path {path}/p;\n\
             \x20fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             \x20map_hash_max_size 16384; map $key $shard {{\n{map}}}\n{upstreams}\
             \x20server {{ listen {address};\n  location ~ ^/(?<key>[^/]+)/ {{\n\
             \x20  proxy_pass http://$shard; proxy_http_version 1.1;\n\
             \x20  proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
             \x20  proxy_connect_timeout 250ms; proxy_read_timeout 2s; proxy_send_timeout 2s;\n\
             \x20  proxy_next_upstream error timeout; proxy_next_upstream_tries 3;\n\
             \x20 }}\n }}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file).env("PATH", path_of_servers());
        command
    })
}

/// Each key and its shard.
fn map(owners: &[(String, String)], end: &str) -> String {
    let mut map = String::new();
    for (key, shard) in owners {
        write!(map, "{key} {shard}{end}").unwrap();
    }
    map
}

/// Debian keeps both from the PATH of users.
fn path_of_servers() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin")
}
