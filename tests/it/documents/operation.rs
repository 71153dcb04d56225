//! The operations of a description, and the messages that their examples make.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::{example, message};

/// One operation.
pub struct Operation<'d> {
    root: &'d Value,
    item: &'d Value,
    node: &'d Value,
    template: &'d str,
    method: Method,
}

/// All operations of a document, in its order.
pub fn all(root: &Value) -> Vec<Operation<'_>> {
    let paths = root["paths"].as_object().into_iter().flatten();
    let items = paths.map(|(template, item)| (template, example::resolved(root, item)));
    items
        .flat_map(|(template, item)| {
            let methods = ["get", "head", "post", "put", "patch", "delete", "options"];
            methods.into_iter().filter_map(move |name| {
                let method = Method::from_bytes(name.to_ascii_uppercase().as_bytes()).unwrap();
                Some(Operation { root, item, node: item.get(name)?, template, method })
            })
        })
        .collect()
}

/// A route without the names of its parameters.
pub fn unnamed(route: &str) -> String {
    let mut inside = false;
    let kept = route.chars().filter(|c| {
        inside = (inside || *c == '{') && *c != '}';
        !inside || *c == '{'
    });
    kept.collect()
}

impl Operation<'_> {
    /// `METHOD /path` as the description has it.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    /// `METHOD /path` with the path of the server.
    pub fn route(&self) -> String {
        format!("{} {}{}", self.method, self.base(), self.template)
    }

    /// The path of the first server, with the defaults of its variables.
    fn base(&self) -> String {
        let servers = [self.node, self.item, self.root].into_iter().find_map(|node| node.get("servers")?.get(0));
        let Some(server) = servers else { return String::new() };
        let mut url = server["url"].as_str().unwrap_or_default().to_owned();
        for (name, variable) in server["variables"].as_object().into_iter().flatten() {
            url = url.replace(&format!("{{{name}}}"), variable["default"].as_str().unwrap_or_default());
        }
        let path = url.split_once("://").map_or(&*url, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
        path.trim_end_matches('/').to_owned()
    }

    /// The parameters at a location: those of the operation go before those of its path.
    fn parameters(&self, location: &str) -> Vec<&Value> {
        let lists = [self.node, self.item].into_iter().filter_map(|node| node.get("parameters")?.as_array());
        let all = lists.flatten().map(|parameter| example::resolved(self.root, parameter));
        let mut found: Vec<&Value> = Vec::new();
        for parameter in all.filter(|parameter| parameter["in"] == location) {
            if !found.iter().any(|known| known["name"] == parameter["name"]) {
                found.push(parameter);
            }
        }
        found
    }

    /// The example of a parameter. The error is a parameter that is required and has none.
    fn value(&self, parameter: &Value) -> Result<Option<Value>, ()> {
        let media = parameter["content"].as_object().and_then(|content| content.values().next());
        let described = media.unwrap_or(parameter);
        let example = example::all(self.root, described, "readOnly").into_iter().next();
        let schema = example::resolved(self.root, &described["schema"]);
        match example.filter(|example| !example.is_null()) {
            Some(example) => Ok(Some(if media.is_some() { example.to_string().into() } else { example })),
            None if parameter["required"] == true => example::plain(schema).map(Some).ok_or(()),
            None => Ok(None),
        }
    }

    /// Path and query with the examples of their parameters; `None` where one is missing that is required.
    pub fn target(&self) -> Option<String> {
        let mut target = format!("{}{}", self.base(), self.template);
        for parameter in self.parameters("path") {
            let value = self.value(parameter).ok()??;
            let written = message::simple(&value, parameter["explode"] == true, message::escaped);
            let known = matches!(parameter["style"].as_str(), None | Some("simple"));
            target = target.replace(&format!("{{{}}}", parameter["name"].as_str()?), &written);
            if !known || written.is_empty() {
                return None;
            }
        }
        let mut pairs = Vec::new();
        for parameter in self.parameters("query") {
            if let Some(value) = self.value(parameter).ok()? {
                pairs.extend(message::query(parameter, parameter["name"].as_str()?, &value)?);
            }
        }
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        (!target.contains('{')).then(|| format!("{target}{query}"))
    }

    /// Header fields with the examples of their parameters.
    fn headers(&self) -> Option<String> {
        let mut text = "host: localhost\r\n".to_owned();
        for parameter in self.parameters("header") {
            let name = parameter["name"].as_str()?;
            // Other parts of the description define these.
            let ignored = ["accept", "authorization", "content-type"];
            if let (false, Some(value)) = (ignored.contains(&&*name.to_lowercase()), self.value(parameter).ok()?) {
                let value = message::simple(&value, parameter["explode"] == true, str::to_owned);
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let cookies = self.parameters("cookie");
        cookies.iter().all(|cookie| cookie["required"] != true).then_some(text)
    }

    /// The requests of its examples, as bytes.
    pub fn requests(&self, target: &str) -> Vec<Vec<u8>> {
        let Some(headers) = self.headers() else { return Vec::new() };
        let head = format!("{} {target} HTTP/1.1\r\n{headers}", self.method);
        let body = self.node.get("requestBody").map(|body| example::resolved(self.root, body));
        let with = |media: &str, body: &str| {
            format!("{head}content-type: {media}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let mut requests = Vec::new();
        for (media, node) in body.and_then(|body| body["content"].as_object()).into_iter().flatten() {
            for example in example::all(self.root, node, "readOnly") {
                requests.extend(message::body(self.root, media, node, &example).map(|body| with(media, &body)));
            }
        }
        if body.is_none_or(|body| body["required"] != true) && requests.is_empty() {
            requests.push(format!("{head}\r\n").into_bytes());
        }
        requests
    }

    /// The responses of its examples that are JSON.
    pub fn responses(&self) -> Vec<(StatusCode, HeaderMap, Bytes)> {
        let mut made = Vec::new();
        for (status, response) in self.node["responses"].as_object().into_iter().flatten() {
            let status = match status.to_lowercase().replace("xx", "00").as_str() {
                "default" => Some(StatusCode::IM_A_TEAPOT),
                number => number.parse().ok().and_then(|number| StatusCode::from_u16(number).ok()),
            };
            let content = example::resolved(self.root, response)["content"].as_object();
            for (media, node) in content.into_iter().flatten().filter(|(media, _)| message::is_json(media)) {
                let headers = || HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(media).unwrap())]);
                for example in example::all(self.root, node, "writeOnly") {
                    let text = message::json(self.root, node, &example);
                    made.extend(status.map(|status| (status, headers(), text.into())));
                }
            }
        }
        made
    }
}
