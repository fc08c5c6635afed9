//! `grpc.reflection.v1.ServerReflection`: descriptions of the services.

use crate::grpc::{Code, GrpcStream, Status};
use crate::wire::{Fields, Malformed, Writer, frame};
use bytes::Bytes;

/// The services that are listed.
const SERVICES: [&str; 4] = [
    "envoy.service.auth.v3.Authorization",
    "envoy.service.ext_proc.v3.ExternalProcessor",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
];

/// A `FileDescriptorSet` of the files in `proto`, each after those that it imports.
const DESCRIPTORS: &[u8] = include_bytes!("../../proto/descriptors.bin");

const NOT_FOUND: u64 = 5;

/// Question of a client.
enum Question<'a> {
    Services,
    File(&'a str),
    Symbol(&'a str),
    Other,
}

/// Answers questions until the client ends the call.
pub(crate) async fn serve(mut stream: GrpcStream<'_>) {
    loop {
        let message = match stream.next().await {
            Ok(Some(message)) => message,
            Ok(None) => return stream.finish(Status::OK),
            Err(_) => return,
        };
        let Ok(question) = Question::read(&message) else {
            let unreadable = Status::new(Code::Internal, "the question cannot be read");
            return stream.finish(unreadable);
        };
        let frame = frame(&mut stream.out, 0, |answer| {
            answer.bytes(2, &message);
            question.answer(answer);
        });
        if stream.send(frame, Bytes::new()).await.is_err() {
            return;
        }
    }
}

impl<'a> Question<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut question = Self::Other;
        Fields::of(message).each(|field, value| {
            match field {
                3 => question = Self::File(value.str()?),
                4 => question = Self::Symbol(value.str()?),
                5..=6 => question = Self::Other,
                7 => question = Self::Services,
                _ => {}
            }
            Ok(())
        })?;
        Ok(question)
    }

    fn answer(&self, answer: &mut Writer<'_>) {
        let found = match self {
            Self::Services => {
                return answer.message(6, |list| {
                    for service in SERVICES {
                        list.message(1, |entry| entry.str(1, service));
                    }
                });
            }
            Self::File(name) => file(|file| file.name == *name),
            Self::Symbol(symbol) => file(|file| file.defines(symbol)),
            Self::Other => None,
        };
        match found {
            // Files come after those that they import, so everything up to this one is enough.
            Some(position) => answer.message(4, |files| {
                for file in files_of().take(position + 1) {
                    files.bytes(1, file.bytes);
                }
            }),
            None => answer.message(7, |error| {
                error.number(1, NOT_FOUND);
                error.str(2, "not found");
            }),
        }
    }
}

/// A file of descriptions.
struct File {
    bytes: &'static [u8],
    name: &'static str,
    package: &'static str,
}

impl File {
    /// Returns whether a symbol is defined here: a message, an enum, a service or a method.
    fn defines(&self, symbol: &str) -> bool {
        let rest = symbol
            .strip_prefix(self.package)
            .and_then(|rest| rest.strip_prefix('.'));
        let Some(name) = rest.and_then(|rest| rest.split('.').next()) else {
            return false;
        };
        let mut is_defined = false;
        // Descriptions that are checked in can be decoded.
        let _ = Fields::of(self.bytes).each(|field, value| {
            if let 4..=6 = field {
                is_defined |= name_of(value.bytes()?, 1)? == name;
            }
            Ok(())
        });
        is_defined
    }
}

fn file(mut is_wanted: impl FnMut(&File) -> bool) -> Option<usize> {
    files_of().position(|file| is_wanted(&file))
}

fn files_of() -> impl Iterator<Item = File> {
    let mut fields = Fields::of(DESCRIPTORS);
    std::iter::from_fn(move || {
        let (_, value) = fields.next().ok()??;
        let bytes = value.bytes().ok()?;
        Some(File {
            bytes,
            name: name_of(bytes, 1).ok()?,
            package: name_of(bytes, 2).ok()?,
        })
    })
}

/// Returns the text in a field of a description.
fn name_of(message: &[u8], number: u32) -> Result<&str, Malformed> {
    let mut name = "";
    Fields::of(message).each(|field, value| {
        if field == number {
            name = value.str()?;
        }
        Ok(())
    })?;
    Ok(name)
}
