//! Answers of agents, as Envoy reads them.

use super::{CallerError, Kind};
use crate::wire::{Fields, Malformed, read_header};
use std::collections::HashMap;
use tollgate::response::{AuditMetadata, BodyMutation};
use tollgate::{AgentResponse, Decision, HeaderOp};

/// Answer of an agent to one message.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct CallerAnswer {
    /// Decision, changes and audit data. An `ImmediateResponse` is a block, or a redirect.
    pub response: AgentResponse,
    /// Status of an `ImmediateResponse`, which ends the exchange.
    pub immediate_status: Option<u16>,
    /// Set if the agent does not want the request's body.
    pub skips_request_body: bool,
    /// Set if the agent does not want the response's head.
    pub skips_response_headers: bool,
    /// Set if the agent does not want the response's body.
    pub skips_response_body: bool,
}

impl Kind {
    /// Returns the field of `ProcessingResponse` with the answer.
    fn answer_field(self) -> u32 {
        match self {
            Self::RequestHeaders => 1,
            Self::ResponseHeaders => 2,
            Self::RequestBody => 3,
            Self::ResponseBody => 4,
            Self::RequestTrailers => 5,
            Self::ResponseTrailers => 6,
        }
    }

    fn is_of_request(self) -> bool {
        matches!(
            self,
            Self::RequestHeaders | Self::RequestBody | Self::RequestTrailers
        )
    }
}

/// Reads a `ProcessingResponse`; `None` if it is only about the time limit.
pub(super) fn read_answer(kind: Kind, message: &[u8]) -> Result<Option<CallerAnswer>, CallerError> {
    let mut answer = CallerAnswer::default();
    let (mut is_answer, mut is_other, mut is_timing) = (false, false, false);
    let read = Fields::of(message).each(|field, value| {
        match field {
            _ if field == kind.answer_field() => {
                is_answer = true;
                answer.read_change(kind, value.bytes()?)?;
            }
            1..=6 => is_other = true,
            7 => {
                is_answer = true;
                answer.read_immediate(value.bytes()?)?;
            }
            8 => answer.read_metadata(value.bytes()?)?,
            9 => answer.read_modes(value.bytes()?)?,
            10 => is_timing = true,
            _ => {}
        }
        Ok(())
    });
    if read.is_err() {
        return Err(CallerError::Answer("it cannot be decoded"));
    }
    match (is_answer, is_other, is_timing) {
        (true, false, _) => Ok(Some(answer)),
        (false, false, true) => Ok(None),
        _ => Err(CallerError::Answer("it is for another message")),
    }
}

impl CallerAnswer {
    /// Reads the answer to a message: a `CommonResponse` in field 1, or for trailers the changes.
    fn read_change(&mut self, kind: Kind, message: &[u8]) -> Result<(), Malformed> {
        Fields::of(message).each(|field, value| match (field, kind) {
            (1, Kind::RequestTrailers | Kind::ResponseTrailers) => Ok(()),
            (1, _) => Fields::of(value.bytes()?).each(|field, value| match field {
                2 => self.read_ops(kind, value.bytes()?),
                3 => self.read_body(kind, value.bytes()?),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    }

    /// Reads a `HeaderMutation`: removals come first.
    fn read_ops(&mut self, kind: Kind, message: &[u8]) -> Result<(), Malformed> {
        let ops = match kind.is_of_request() {
            true => &mut self.response.request_headers,
            false => &mut self.response.response_headers,
        };
        Fields::of(message).each(|field, value| {
            if field == 2 {
                let name = value.str()?.to_owned();
                ops.push(HeaderOp::Remove { name });
            }
            Ok(())
        })?;
        Fields::of(message).each(|field, value| {
            if field == 1 {
                let (name, value, appends) = read_option(value.bytes()?)?;
                ops.push(match appends {
                    true => HeaderOp::Add { name, value },
                    false => HeaderOp::Set { name, value },
                });
            }
            Ok(())
        })
    }

    /// Reads a `BodyMutation`.
    fn read_body(&mut self, kind: Kind, message: &[u8]) -> Result<(), Malformed> {
        let mut mutation = None;
        Fields::of(message).each(|field, value| {
            match field {
                1 => mutation = Some(BodyMutation::replace(0, value.bytes()?.to_vec())),
                2 if value.bool()? => mutation = Some(BodyMutation::drop_chunk(0)),
                _ => {}
            }
            Ok(())
        })?;
        match kind.is_of_request() {
            true => self.response.request_body_mutation = mutation,
            false => self.response.response_body_mutation = mutation,
        }
        Ok(())
    }

    /// Reads an `ImmediateResponse`.
    fn read_immediate(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let (mut status, mut body) = (200, None);
        let mut headers = HashMap::new();
        Fields::of(message).each(|field, value| {
            match field {
                1 => Fields::of(value.bytes()?).each(|field, value| {
                    if field == 1 {
                        status = u16::try_from(value.number()?).unwrap_or(u16::MAX);
                    }
                    Ok(())
                })?,
                2 => Fields::of(value.bytes()?).each(|field, value| {
                    if field == 1 {
                        let (name, value, _) = read_option(value.bytes()?)?;
                        headers.insert(name, value);
                    }
                    Ok(())
                })?,
                3 => body = Some(String::from_utf8_lossy(value.bytes()?).into_owned()),
                _ => {}
            }
            Ok(())
        })?;
        self.immediate_status = Some(status);
        let is_redirect = (300..400).contains(&status);
        self.response.decision = match headers.remove("location") {
            Some(url) if is_redirect => Decision::Redirect { url, status },
            location => {
                headers.extend(location.map(|url| ("location".to_owned(), url)));
                Decision::Block {
                    status,
                    body,
                    headers: (!headers.is_empty()).then_some(headers),
                }
            }
        };
        Ok(())
    }

    /// Reads the lists of audit data out of dynamic metadata.
    fn read_metadata(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let audit = &mut self.response.audit;
        each_entry(message, |namespace, value| match namespace {
            "tollgate" => each_struct_entry(value, |name, value| read_list(audit, name, value)),
            _ => Ok(()),
        })
    }

    /// Reads a `ProcessingMode`, in which absent bodies are not sent.
    fn read_modes(&mut self, message: &[u8]) -> Result<(), Malformed> {
        (self.skips_request_body, self.skips_response_body) = (true, true);
        Fields::of(message).each(|field, value| {
            match field {
                2 => self.skips_response_headers = value.number()? == 2,
                3 => self.skips_request_body = value.number()? == 0,
                4 => self.skips_response_body = value.number()? == 0,
                _ => {}
            }
            Ok(())
        })
    }
}

/// Reads a `HeaderValueOption`: name, value, and whether the value is added.
fn read_option(message: &[u8]) -> Result<(String, String, bool), Malformed> {
    let (mut name, mut text, mut appends) = (String::new(), String::new(), false);
    Fields::of(message).each(|field, value| {
        match field {
            1 => {
                let (key, value) = read_header(value.bytes()?)?;
                (name, text) = (key.to_owned(), value.into_owned());
            }
            2 => Fields::of(value.bytes()?).each(|field, value| {
                if field == 1 {
                    appends = value.bool()?;
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, text, appends))
}

/// Calls `read` with the name and the `Value` of each entry of a `Struct`.
fn each_entry(
    fields: &[u8],
    mut read: impl FnMut(&str, &[u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    Fields::of(fields).each(|field, value| {
        if field != 1 {
            return Ok(());
        }
        let (mut name, mut content) = ("", &[][..]);
        Fields::of(value.bytes()?).each(|field, value| {
            match field {
                1 => name = value.str()?,
                2 => content = value.bytes()?,
                _ => {}
            }
            Ok(())
        })?;
        read(name, content)
    })
}

/// Like [`each_entry`], for a `Value` that is a `Struct`.
fn each_struct_entry(
    value: &[u8],
    mut read: impl FnMut(&str, &[u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    Fields::of(value).each(|field, value| match field {
        5 => each_entry(value.bytes()?, &mut read),
        _ => Ok(()),
    })
}

/// Reads a `Value` that is a list of texts.
fn read_list(audit: &mut AuditMetadata, name: &str, value: &[u8]) -> Result<(), Malformed> {
    let list = match name {
        "tags" => &mut audit.tags,
        "rule_ids" => &mut audit.rule_ids,
        "reason_codes" => &mut audit.reason_codes,
        _ => return Ok(()),
    };
    Fields::of(value).each(|field, value| match field {
        6 => Fields::of(value.bytes()?).each(|field, value| match field {
            1 => Fields::of(value.bytes()?).each(|field, value| {
                if field == 3 {
                    list.push(value.str()?.to_owned());
                }
                Ok(())
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}
