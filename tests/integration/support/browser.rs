//! A headless Chromium, driven over `WebDriver` (W3C) by its own driver.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use super::{Client, Server};

/// A browser with one window. Dropping it closes both.
pub struct Browser {
    driver: Server,
    session: String,
}

impl Browser {
    /// Starts one whose window has this size, in CSS pixels, and prefers `scheme`.
    pub fn start(width: u32, height: u32, scheme: Scheme) -> Self {
        let driver = Server::start(|_, address| {
            let mut command = Command::new("chromedriver");
            command.arg(format!("--port={}", address.port()));
            command
        });
        let profile = driver.folder.path().join("profile");
        let dark = match scheme {
            Scheme::Light => "--disable-features=ForceDark",
            Scheme::Dark => "--force-dark-mode",
        };
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.display()),
            dark,
        ]);
        let options = json!({ "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" } });
        let asked = json!({ "capabilities": { "alwaysMatch": options } });
        let mut browser = Self {
            driver,
            session: String::new(),
        };
        let session = browser.call("POST", "session", &asked);
        browser.session = format!("session/{}", session["sessionId"].as_str().unwrap());
        browser
    }

    /// Loads a page.
    pub fn open(&self, url: &str) {
        self.ask("POST", "url", &json!({ "url": url }));
    }

    /// What a function with this body returns.
    pub fn run(&self, script: &str) -> Value {
        self.ask(
            "POST",
            "execute/sync",
            &json!({ "script": script, "args": [] }),
        )
    }

    /// The text of the elements that `selector` finds.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let script = format!(
            "return [...document.querySelectorAll({})].map((it) => it.textContent)",
            json!(selector)
        );
        let texts = self.run(&script);
        let texts = texts.as_array().unwrap().iter();
        texts.map(|it| it.as_str().unwrap().to_owned()).collect()
    }

    /// Presses keys one after the other, where the focus is; `WebDriver` has codes for those without
    /// a character, such as U+E004 for Tab and U+E007 for Enter.
    pub fn press(&self, keys: &str) {
        let pressed = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [
                json!({ "type": "keyDown", "value": key }),
                json!({ "type": "keyUp", "value": key }),
            ]
        });
        let pressed: Vec<_> = pressed.collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": pressed });
        self.ask("POST", "actions", &json!({ "actions": [keyboard] }));
    }

    /// What the page and the browser complained about.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().unwrap().iter();
        entries.map(ToString::to_string).collect()
    }

    fn ask(&self, method: &str, what: &str, body: &Value) -> Value {
        self.call(method, &format!("{}/{what}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let mut client = Client::connect(self.driver.address);
        let host = self.driver.address;
        client.send(format!(
            "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let reply = client.reply();
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(reply.status, 200, "{method} {path}: {answer}");
        answer["value"].clone()
    }
}

/// Which colours a window prefers.
#[derive(Clone, Copy, Debug)]
pub enum Scheme {
    Light,
    Dark,
}

impl Drop for Browser {
    /// The driver takes its browser along when it is told to, not when it is killed.
    fn drop(&mut self) {
        let Ok(mut stream) = TcpStream::connect(self.driver.address) else {
            return;
        };
        let (session, host) = (&self.session, self.driver.address);
        let asked = format!("DELETE /{session} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let told = stream.write_all(asked.as_bytes());
        let _answered = told.and_then(|()| stream.read(&mut [0; 1]));
    }
}
