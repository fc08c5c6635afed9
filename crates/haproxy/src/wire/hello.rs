//! The payloads that begin and end a connection: names with values.

use super::{MIN_FRAME_SIZE, Malformed, Reader, Status, VERSION, Value, Writer};

const VERSIONS: &str = "supported-versions";
const AGENT_VERSION: &str = "version";
const MAX_FRAME_SIZE: &str = "max-frame-size";
const CAPABILITIES: &str = "capabilities";
const HEALTH_CHECK: &str = "healthcheck";
const ENGINE_ID: &str = "engine-id";
const STATUS_CODE: &str = "status-code";
const MESSAGE: &str = "message";

/// The one capability that is offered: questions need not wait for each other's answers.
pub(crate) const PIPELINING: &str = "pipelining";

/// The hello of HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Size limit of frames in bytes, without their length.
    pub max_frame_size: u32,
    /// Capabilities of HAProxy, separated by commas.
    pub capabilities: &'a [u8],
    /// Id of the part of HAProxy that connects.
    pub engine_id: Option<&'a [u8]>,
    /// Set if HAProxy only asks whether the agent is there.
    pub is_health_check: bool,
}

impl<'a> Hello<'a> {
    /// Reads the payload. Names may come in any order, and unknown ones are skipped.
    ///
    /// # Errors
    ///
    /// The status to disconnect with.
    pub fn read(payload: &'a [u8]) -> Result<Self, Status> {
        let (mut versions, mut max_frame_size, mut capabilities) = (None, None, None);
        let (mut engine_id, mut is_health_check) = (None, false);
        each_pair(payload, |name, value| {
            if name == VERSIONS.as_bytes() {
                versions = value.as_bytes();
            } else if name == MAX_FRAME_SIZE.as_bytes() {
                max_frame_size = value.as_number();
            } else if name == CAPABILITIES.as_bytes() {
                capabilities = value.as_bytes();
            } else if name == ENGINE_ID.as_bytes() {
                engine_id = value.as_bytes();
            } else if name == HEALTH_CHECK.as_bytes() {
                is_health_check = value == Value::Bool(true);
            }
        })
        .map_err(|_| Status::InvalidFrame)?;
        let versions = versions.ok_or(Status::NoVersion)?;
        let max_frame_size = max_frame_size.ok_or(Status::NoMaxFrameSize)?;
        let capabilities = capabilities.ok_or(Status::NoCapabilities)?;
        if !has_our_version(versions) {
            return Err(Status::UnsupportedVersion);
        }
        let max_frame_size = u32::try_from(max_frame_size).ok();
        let max_frame_size = max_frame_size.filter(|size| *size >= MIN_FRAME_SIZE);
        Ok(Self {
            max_frame_size: max_frame_size.ok_or(Status::BadMaxFrameSize)?,
            capabilities,
            engine_id,
            is_health_check,
        })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.pair(VERSIONS, VERSION);
        out.string(MAX_FRAME_SIZE);
        out.value(Value::Uint32(self.max_frame_size));
        out.string(CAPABILITIES);
        out.value(Value::String(self.capabilities));
        if self.is_health_check {
            out.string(HEALTH_CHECK);
            out.value(Value::Bool(true));
        }
        if let Some(id) = self.engine_id {
            out.string(ENGINE_ID);
            out.value(Value::String(id));
        }
    }
}

/// Returns whether a list of versions, with or without spaces, has the one that is spoken here.
fn has_our_version(versions: &[u8]) -> bool {
    versions
        .split(|byte| *byte == b',')
        .any(|version| version.trim_ascii() == VERSION.as_bytes())
}

/// The hello of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentHello {
    /// Size limit of frames in bytes, without their length.
    pub max_frame_size: u32,
}

impl AgentHello {
    /// Reads the payload.
    ///
    /// # Errors
    ///
    /// The status to disconnect with.
    pub fn read(payload: &[u8]) -> Result<Self, Status> {
        let (mut version, mut max_frame_size, mut capabilities) = (None, None, None);
        each_pair(payload, |name, value| {
            if name == AGENT_VERSION.as_bytes() {
                version = value.as_bytes();
            } else if name == MAX_FRAME_SIZE.as_bytes() {
                max_frame_size = value.as_number();
            } else if name == CAPABILITIES.as_bytes() {
                capabilities = value.as_bytes();
            }
        })
        .map_err(|_| Status::InvalidFrame)?;
        if version.ok_or(Status::NoVersion)? != VERSION.as_bytes() {
            return Err(Status::UnsupportedVersion);
        }
        let size = max_frame_size.ok_or(Status::NoMaxFrameSize)?;
        capabilities.ok_or(Status::NoCapabilities)?;
        let size = u32::try_from(size).map_err(|_| Status::BadMaxFrameSize)?;
        if size < MIN_FRAME_SIZE {
            return Err(Status::BadMaxFrameSize);
        }
        Ok(Self {
            max_frame_size: size,
        })
    }

    /// Appends the payload. HAProxy compares prefixes of names, so there are no others.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.pair(AGENT_VERSION, VERSION);
        out.string(MAX_FRAME_SIZE);
        out.value(Value::Uint32(self.max_frame_size));
        out.pair(CAPABILITIES, PIPELINING);
    }
}

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Number of the reason, see [`Status`].
    pub code: u32,
    /// The reason as text.
    pub message: &'a [u8],
}

impl<'a> Disconnect<'a> {
    /// Reads the payload.
    ///
    /// # Errors
    ///
    /// Any of [`Malformed`].
    pub fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let (mut code, mut message) = (0, &b""[..]);
        each_pair(payload, |name, value| {
            if name == STATUS_CODE.as_bytes() {
                let number = value.as_number().and_then(|it| u32::try_from(it).ok());
                code = number.unwrap_or(u32::MAX);
            } else if name == MESSAGE.as_bytes() {
                message = value.as_bytes().unwrap_or_default();
            }
        })?;
        Ok(Self { code, message })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.string(STATUS_CODE);
        out.value(Value::Uint32(self.code));
        out.string(MESSAGE);
        out.value(Value::String(self.message));
    }
}

/// Calls `take` with each name and its value.
fn each_pair<'a>(
    payload: &'a [u8],
    mut take: impl FnMut(&'a [u8], Value<'a>),
) -> Result<(), Malformed> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        let name = reader.string()?;
        take(name, reader.value()?);
    }
    Ok(())
}
