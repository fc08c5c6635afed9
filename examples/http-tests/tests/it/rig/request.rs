//! Requests, as clients of every version of HTTP send them.

use bytes::Bytes;

/// A request. Its parts are sent by every client; raw bytes only by those that send bytes.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) host: Option<&'static str>,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) body: Option<Body>,
    /// The request as it stands, in place of all others.
    pub(crate) raw: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) chunks: Vec<Bytes>,
    /// `false` if the body has a `content-length`.
    pub(crate) is_chunked: bool,
    pub(crate) trailers: Vec<(&'static str, &'static str)>,
}

impl Body {
    pub(crate) fn whole(data: impl Into<Bytes>) -> Self {
        Self {
            chunks: vec![data.into()],
            is_chunked: false,
            trailers: Vec::new(),
        }
    }

    pub(crate) fn chunked<D: AsRef<[u8]>>(chunks: impl IntoIterator<Item = D>) -> Self {
        let chunks = chunks.into_iter();
        Self {
            chunks: chunks
                .map(|chunk| Bytes::copy_from_slice(chunk.as_ref()))
                .collect(),
            is_chunked: true,
            trailers: Vec::new(),
        }
    }

    pub(crate) fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.trailers.push((name, value));
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

pub(crate) fn get(target: impl Into<String>) -> Request {
    Request {
        method: "GET",
        target: target.into(),
        host: Some("example.test"),
        headers: Vec::new(),
        body: None,
        raw: None,
    }
}

pub(crate) fn post(target: impl Into<String>, body: Body) -> Request {
    Request {
        method: "POST",
        body: Some(body),
        ..get(target)
    }
}

impl Request {
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            raw: Some(bytes.into()),
            ..get("/")
        }
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Returns the head in HTTP/1.
    pub(crate) fn head(&self, version: &str) -> Vec<u8> {
        let mut head = format!("{} {} {version}\r\n", self.method, self.target).into_bytes();
        let mut add = |name: &str, value: &[u8]| {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        };
        if let Some(host) = self.host {
            add("host", host.as_bytes());
        }
        for (name, value) in &self.headers {
            add(name, value);
        }
        match &self.body {
            Some(body) if body.is_chunked => add("transfer-encoding", b"chunked"),
            Some(body) => add("content-length", body.len().to_string().as_bytes()),
            None => {}
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Returns the whole request in HTTP/1.
    pub(crate) fn bytes(&self, version: &str) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut bytes = self.head(version);
        let Some(body) = &self.body else {
            return bytes;
        };
        for chunk in &body.chunks {
            if body.is_chunked {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            }
            bytes.extend_from_slice(chunk);
            if body.is_chunked {
                bytes.extend_from_slice(b"\r\n");
            }
        }
        if body.is_chunked {
            bytes.extend_from_slice(b"0\r\n");
            for (name, value) in &body.trailers {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}
