//! A headless Chromium, driven by the DevTools protocol: a tab that goes somewhere, types, and says what it shows.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Client;
use super::eventually;
use super::websocket::{KEY, TEXT, frame, receive};

/// Ends with the test.
pub struct Browser {
    child: Child,
    profile: TempDir,
}

impl Browser {
    /// Opens a page, which can be left to itself.
    pub fn opens(url: &str) -> Self {
        let profile = TempDir::new().unwrap();
        let mut command = Command::new("chromium");
        // Without a sandbox, which root cannot have: the pages are our own.
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        command.args(["--disable-extensions", "--disable-background-networking", "--disable-component-update"]);
        command.args(["--no-proxy-server", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("chromium runs"), profile }
    }

    /// Its tab.
    pub fn tab(&self) -> Tab {
        let file = self.profile.path().join("DevToolsActivePort");
        let (port, path) = eventually("chromium can be driven", || {
            let text = std::fs::read_to_string(&file).ok()?;
            let (port, path) = text.split_once('\n')?;
            Some((port.parse::<u16>().ok()?, path.trim().to_owned()))
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut client = Client::new(address, Arc::default());
        client.raw(
            format!(
                "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
            ),
            1,
        );
        let head = client.connection().head().unwrap().expect("an answer of chromium");
        assert_eq!(head.word(1), "101", "{head:?}");
        let mut tab = Tab { client, session: None, last: 0 };
        let target = eventually("chromium has a tab", || {
            let targets = tab.call("Target.getTargets", json!({}));
            let targets = targets["targetInfos"].as_array()?.iter();
            let mut pages = targets.filter(|target| target["type"] == "page");
            pages.next().map(|target| target["targetId"].clone())
        });
        let attached = tab.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        tab.session = attached["sessionId"].as_str().map(str::to_owned);
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A tab of a browser.
pub struct Tab {
    client: Client,
    session: Option<String>,
    /// Id of the last command.
    last: u64,
}

impl Tab {
    /// Sends a command of the protocol, and returns its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method });
        command["params"] = parameters;
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.client.more(frame(TEXT, command.to_string().as_bytes(), true));
        loop {
            let (opcode, payload) = receive(self.client.connection()).unwrap().expect("chromium still runs");
            assert_eq!(opcode, TEXT);
            let mut answer: Value = serde_json::from_slice(&payload).unwrap();
            // Others are events.
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer:#}");
                return answer["result"].take();
            }
        }
    }

    #[track_caller]
    pub fn goes(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// The value of an expression, awaited. The page's own content security policy does not hinder it.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result:#}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true. While a page loads, it may fail.
    #[track_caller]
    pub fn waits(&mut self, expression: &str) {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        eventually(expression, || {
            (self.call("Runtime.evaluate", parameters.clone())["result"]["value"] == true).then_some(())
        });
    }

    /// Types into what has the focus.
    pub fn types(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key: `Enter`, `Tab`, `Escape`.
    pub fn presses(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            _ => (27, ""),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut parameters = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                parameters["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", parameters);
        }
    }
}
