//! HAProxy's side of SPOP, for tools and tests: asks agents as HAProxy does.

use crate::listener::{Address, SpopEndpoint};
use crate::wire::{
    Action, Actions, AgentHello, Disconnect, Frame, FrameId, FrameKind, Hello, Malformed, Status,
    Value, Writer, next_frame, put_frame,
};
use bytes::{Buf, BytesMut};
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Size limit of frames that a client announces, that of a HAProxy with buffers of 64 KiB.
pub const MAX_FRAME_SIZE: u32 = 65_532;

/// Bytes of a frame's length.
const LENGTH_LEN: usize = 4;

/// A stream to an agent.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection to an agent.
pub struct SpopClient {
    stream: Box<dyn Stream>,
    input: BytesMut,
    output: Vec<u8>,
    max_frame_size: u32,
    next_stream: u64,
}

/// Reason why an agent did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection cannot be opened, or is broken.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The agent has closed the connection.
    #[error("connection closed by the agent")]
    Closed,
    /// The agent ends the connection.
    #[error("the agent disconnects with status {code}: {message}")]
    Disconnected {
        /// Number of the reason.
        code: u32,
        /// The reason as text.
        message: String,
    },
    /// The agent says something that is not valid.
    #[error("invalid answer: {0}")]
    Invalid(String),
    /// A question is larger than what the agent reads.
    #[error("a message of {size} bytes is too large; at most {max} bytes are allowed")]
    TooLarge {
        /// Size of the question.
        size: usize,
        /// Largest size.
        max: usize,
    },
}

impl From<Malformed> for ClientError {
    fn from(malformed: Malformed) -> Self {
        Self::Invalid(malformed.to_string())
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Invalid(status.to_string())
    }
}

/// A message of a question.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Name of the message.
    pub name: &'a str,
    /// Its arguments; at most 255.
    pub arguments: &'a [(&'a str, Value<'a>)],
}

/// A value of a variable that an agent sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(i64),
    /// Text or bytes.
    Bytes(Vec<u8>),
}

impl Variable {
    fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Bool(value) => Some(Self::Bool(value)),
            value => match (value.as_number(), value.as_bytes(), value.as_address()) {
                (Some(number), ..) => Some(Self::Number(number)),
                (_, Some(bytes), _) => Some(Self::Bytes(bytes.to_vec())),
                (.., address) => Some(Self::Bytes(address?.to_string().into_bytes())),
            },
        }
    }
}

/// The variables that an answer sets, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer(pub HashMap<String, Variable>);

impl Answer {
    /// Reads the payload of an answer.
    ///
    /// # Errors
    ///
    /// Any of [`Malformed`].
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let mut variables = HashMap::new();
        let mut actions = Actions::new(payload);
        while let Some(action) = actions.read_next()? {
            match action {
                Action::SetVar { name, value, .. } => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    match Variable::of(value) {
                        Some(value) => variables.insert(name, value),
                        None => variables.remove(&name),
                    };
                }
                Action::UnsetVar { name, .. } => {
                    variables.remove(&*String::from_utf8_lossy(name));
                }
            }
        }
        Ok(Self(variables))
    }

    /// Returns a variable that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// Returns a variable that is text or bytes.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.0.get(name)? {
            Variable::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns a variable that is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            Variable::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl SpopClient {
    /// Connects to an agent, with the handshake.
    ///
    /// # Errors
    ///
    /// Any of [`ClientError`].
    pub async fn connect(endpoint: &SpopEndpoint) -> Result<Self, ClientError> {
        let mut client = Self::open(endpoint).await?;
        client.greet(false).await?;
        Ok(client)
    }

    /// Asks an agent for its health, as `option spop-check` does.
    ///
    /// # Errors
    ///
    /// Any of [`ClientError`] if it is not healthy.
    pub async fn check_health(endpoint: &SpopEndpoint) -> Result<(), ClientError> {
        Self::open(endpoint).await?.greet(true).await
    }

    async fn open(endpoint: &SpopEndpoint) -> Result<Self, ClientError> {
        let stream: Box<dyn Stream> = match &endpoint.0 {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(Self {
            stream,
            input: BytesMut::new(),
            output: Vec::new(),
            max_frame_size: MAX_FRAME_SIZE,
            next_stream: 0,
        })
    }

    /// Returns the size limit of frames that both sides agreed on, in bytes.
    pub fn max_frame_size(&self) -> u32 {
        self.max_frame_size
    }

    async fn greet(&mut self, is_health_check: bool) -> Result<(), ClientError> {
        let hello = Hello {
            max_frame_size: MAX_FRAME_SIZE,
            capabilities: b"pipelining,async",
            engine_id: (!is_health_check).then_some(&b"tollgate"[..]),
            is_health_check,
        };
        put_frame(
            &mut self.output,
            FrameKind::HaproxyHello,
            FrameId::default(),
            |out| {
                hello.write(out);
            },
        );
        self.flush().await?;
        let agent = self
            .read_frame(|frame| match frame.kind {
                FrameKind::AgentHello => Ok(AgentHello::read(frame.payload)?),
                kind => Err(ClientError::Invalid(format!("{kind:?} instead of a hello"))),
            })
            .await?;
        self.max_frame_size = agent.max_frame_size.min(MAX_FRAME_SIZE);
        Ok(())
    }

    /// Asks a question, and returns what `read` makes of the payload of the answer.
    ///
    /// # Errors
    ///
    /// Any of [`ClientError`]. The connection is of no use afterwards.
    pub async fn ask_with<T>(
        &mut self,
        messages: &[Question<'_>],
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, ClientError> {
        let stream = self.next_stream;
        self.next_stream += 1;
        self.queue(stream, messages)?;
        let (answered, answer) = self.next_answer(read).await?;
        if answered != stream {
            let wrong = format!("an answer about {answered} instead of {stream}");
            return Err(ClientError::Invalid(wrong));
        }
        Ok(answer)
    }

    /// Queues a question, which is sent before an answer is waited for. The agent answers the
    /// questions of different streams in any order.
    ///
    /// # Errors
    ///
    /// [`ClientError::TooLarge`] if the question is larger than a frame.
    pub fn queue(&mut self, stream: u64, messages: &[Question<'_>]) -> Result<(), ClientError> {
        let begin = self.output.len();
        let id = FrameId { stream, frame: 1 };
        put_frame(&mut self.output, FrameKind::Notify, id, |out| {
            put_messages(out, messages);
        });
        let size = self.output.len() - begin - LENGTH_LEN;
        let max = self.max_frame_size as usize;
        if size > max {
            self.output.truncate(begin);
            return Err(ClientError::TooLarge { size, max });
        }
        Ok(())
    }

    /// Waits for the next answer. Returns its stream, and what `read` makes of its payload.
    ///
    /// # Errors
    ///
    /// Any of [`ClientError`]. The connection is of no use afterwards.
    pub async fn next_answer<T>(
        &mut self,
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<(u64, T), ClientError> {
        self.read_frame(|frame| match frame.kind {
            FrameKind::Ack => Ok((frame.id.stream, read(frame.payload)?)),
            kind => Err(ClientError::Invalid(format!(
                "{kind:?} instead of an answer"
            ))),
        })
        .await
    }

    /// Asks a question.
    ///
    /// # Errors
    ///
    /// Any of [`ClientError`]. The connection is of no use afterwards.
    pub async fn ask(&mut self, messages: &[Question<'_>]) -> Result<Answer, ClientError> {
        self.ask_with(messages, Answer::read).await
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output.clear();
        }
        Ok(())
    }

    async fn read_frame<T>(
        &mut self,
        take: impl FnOnce(Frame<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let len = loop {
            if let Some(len) = next_frame(&self.input, MAX_FRAME_SIZE as usize)? {
                break len;
            }
            self.flush().await?;
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ClientError::Closed);
            }
        };
        let frame = Frame::read(&self.input[LENGTH_LEN..LENGTH_LEN + len])?;
        let taken = match frame.kind {
            FrameKind::AgentDisconnect => Err(disconnected(frame.payload)),
            _ => take(frame),
        };
        self.input.advance(LENGTH_LEN + len);
        taken
    }
}

fn disconnected(payload: &[u8]) -> ClientError {
    match Disconnect::read(payload) {
        Ok(Disconnect { code, message }) => ClientError::Disconnected {
            code,
            message: String::from_utf8_lossy(message).into_owned(),
        },
        Err(malformed) => malformed.into(),
    }
}

/// Appends messages with their arguments.
pub fn put_messages(out: &mut Writer<'_>, messages: &[Question<'_>]) {
    for message in messages {
        out.string(message.name);
        // More arguments than that cannot be said.
        let count = u8::try_from(message.arguments.len()).unwrap_or(u8::MAX);
        out.0.push(count);
        for (name, value) in message.arguments.iter().take(count.into()) {
            out.pair(name, *value);
        }
    }
}
