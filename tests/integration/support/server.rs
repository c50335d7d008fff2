//! A real server as a child process.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::until;

/// A server on a free port of loopback, with a folder of its own. Dropping it kills it.
pub struct Server {
    pub address: SocketAddr,
    pub folder: TempDir,
    pub process: Child,
}

impl Server {
    /// Starts what `command` makes of the folder and the address; its output goes to the files
    /// `stdout` and `stderr` there.
    pub fn start(command: impl Fn(&Path, SocketAddr) -> Command) -> Self {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        drop(held);
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(folder.path(), address);
        let seen = fs::File::create(folder.path().join("stdout")).unwrap();
        let errors = fs::File::create(folder.path().join("stderr")).unwrap();
        let command = command.stdin(Stdio::null()).stdout(seen).stderr(errors);
        let mut process = command.spawn().expect("the servers must be installed");
        until("the server listens", || {
            if let Some(status) = process.try_wait().unwrap() {
                let errors = fs::read_to_string(folder.path().join("stderr")).unwrap();
                panic!("the server ended with {status}: {errors}");
            }
            TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            folder,
            process,
        }
    }

    /// nginx with `http` in its http block, where `LISTEN` is its address and `FOLDER` its folder.
    pub fn nginx(http: &str) -> Self {
        Self::start(|folder, address| {
            let path = folder.display();
            let http = http.replace("LISTEN", &address.to_string());
            let http = http.replace("FOLDER", folder.to_str().unwrap());
            let config = format!(
                "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
                 events {{}}\nhttp {{ client_body_temp_path {path}/b; proxy_temp_path {path}/p;\n\
                 fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
                 {http} }}\n"
            );
            let file = folder.join("nginx.conf");
            fs::write(&file, config).unwrap();
            let mut command = Command::new("nginx");
            command.arg("-c").arg(file);
            command
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}
