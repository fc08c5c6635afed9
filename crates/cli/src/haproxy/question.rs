//! Messages about a request, with the arguments of the configuration that the command writes.

use std::net::Ipv4Addr;
use tollgate_haproxy::client::{ClientError, Question, SpopClient};
use tollgate_haproxy::wire::{Value, Writer};

/// A request as HAProxy tells it, with its lists encoded.
pub(super) struct Prepared {
    method: String,
    path: String,
    query: String,
    headers: Vec<u8>,
    body: Vec<u8>,
}

impl Prepared {
    pub(super) fn new<'a>(
        method: &str,
        uri: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        body: Vec<u8>,
    ) -> Self {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: header_list(headers),
            body,
        }
    }

    /// Queues the question about the request. A body that does not fit into a frame is announced
    /// only.
    pub(super) fn queue(
        &self,
        client: &mut SpopClient,
        stream: u64,
        id: &str,
    ) -> Result<(), ClientError> {
        let size = Value::Int64(i64::try_from(self.body.len()).unwrap_or(i64::MAX));
        let arguments = [
            ("id", Value::from(id)),
            ("src-ip", Value::Ipv4(Ipv4Addr::new(203, 0, 113, 7))),
            ("src-port", Value::Int64(52_814)),
            ("method", Value::from(&*self.method)),
            ("path", Value::from(&*self.path)),
            ("query", Value::from(&*self.query)),
            ("version", Value::from("1.1")),
            ("frontend", Value::from("default")),
            ("headers", Value::Binary(&self.headers)),
            ("body-len", size),
            ("body-size", size),
            ("body", Value::Binary(&self.body)),
        ];
        let without_body = &arguments[..arguments.len() - 1];
        let question = |name, arguments| [Question { name, arguments }];
        if !self.body.is_empty() {
            match client.queue(stream, &question("tollgate-req-body", &arguments[..])) {
                Err(ClientError::TooLarge { .. }) => {}
                queued => return queued,
            }
        }
        client.queue(stream, &question("tollgate-req", without_body))
    }

    /// Asks about a response to the request.
    pub(super) fn queue_response(
        &self,
        client: &mut SpopClient,
        stream: u64,
        id: &str,
    ) -> Result<(), ClientError> {
        let headers = header_list([("content-type", "text/plain")].into_iter());
        let arguments = [
            ("id", Value::from(id)),
            ("method", Value::from(&*self.method)),
            ("path", Value::from(&*self.path)),
            ("query", Value::from(&*self.query)),
            ("version", Value::from("1.1")),
            ("status", Value::Int64(200)),
            ("headers", Value::Binary(&headers)),
        ];
        let question = Question {
            name: "tollgate-res",
            arguments: &arguments,
        };
        client.queue(stream, &[question])
    }
}

/// Writes headers as `req.hdrs_bin` does.
fn header_list<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut list = Vec::new();
    let mut writer = Writer(&mut list);
    for (name, value) in headers.chain([("", "")]) {
        writer.string(name.to_ascii_lowercase());
        writer.string(value);
    }
    list
}
