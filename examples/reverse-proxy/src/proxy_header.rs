//! The header of the PROXY protocol, by which a load balancer names the address of its client.

use bytes::{Bytes, BytesMut};
use ppp::{HeaderResult, PartialResult, v1, v2};
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that a header of version 1 begins with, and its greatest length.
const TEXT: &[u8] = b"PROXY ";
const MAX_TEXT_LEN: usize = 107;

/// Longest header that is read, with additional fields of version 2, in bytes.
const MAX_LEN: usize = 4096;

/// Reads a header of version 1 or 2. Returns the client's address, and the bytes behind the header
/// that have been read. The address is `None` if the header names none, as that of a health check.
///
/// # Errors
///
/// Returns an error if the connection begins with something else, or ends.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(Option<SocketAddr>, Bytes), Error> {
    let mut read = BytesMut::with_capacity(256);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if is_incomplete_text(&read) {
            continue;
        }
        let header = HeaderResult::parse(&read);
        if header.is_incomplete() && read.len() < MAX_LEN {
            continue;
        }
        let (address, len) = match header {
            HeaderResult::V1(Ok(header)) => (source_of_v1(header.addresses), header.header.len()),
            HeaderResult::V2(Ok(header)) => (source_of_v2(&header), header.header.len()),
            HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
                let reason = "the connection does not begin with a header of the PROXY protocol";
                return Err(Error::new(ErrorKind::InvalidData, reason));
            }
        };
        return Ok((address, read.split_off(len).freeze()));
    }
}

/// Returns whether this is the beginning of a header of version 1, whose parser takes half an
/// address for an invalid one.
fn is_incomplete_text(read: &[u8]) -> bool {
    let len = read.len().min(TEXT.len());
    let is_text = read[..len] == TEXT[..len];
    is_text && read.len() < MAX_TEXT_LEN && !read.contains(&b'\n')
}

fn source_of_v1(addresses: v1::Addresses) -> Option<SocketAddr> {
    match addresses {
        v1::Addresses::Tcp4(ends) => Some((ends.source_address, ends.source_port).into()),
        v1::Addresses::Tcp6(ends) => Some((ends.source_address, ends.source_port).into()),
        v1::Addresses::Unknown => None,
    }
}

fn source_of_v2(header: &v2::Header<'_>) -> Option<SocketAddr> {
    if header.command == v2::Command::Local {
        return None;
    }
    let (ip, port): (IpAddr, u16) = match header.addresses {
        v2::Addresses::IPv4(ends) => (ends.source_address.into(), ends.source_port),
        v2::Addresses::IPv6(ends) => (ends.source_address.into(), ends.source_port),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => return None,
    };
    Some((ip, port).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Reads a header from a connection that gives these bytes one by one.
    async fn read_slowly(sent: &[u8]) -> Result<(Option<SocketAddr>, Vec<u8>), ErrorKind> {
        let mut bytes: VecDeque<u8> = sent.iter().copied().collect();
        let (mut far, mut near) = tokio::io::duplex(1);
        let sender = async move {
            use tokio::io::AsyncWriteExt;
            while let Some(byte) = bytes.pop_front() {
                if far.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        };
        let (read, ()) = tokio::join!(
            async {
                let read = read(&mut near).await.map_err(|error| error.kind());
                drop(near);
                read
            },
            sender
        );
        read.map(|(address, rest)| (address, rest.to_vec()))
    }

    #[tokio::test]
    async fn both_versions_name_the_client() {
        let text = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\nG";
        let (address, _) = read_slowly(text).await.unwrap();
        assert_eq!(address, Some("192.0.2.7:4711".parse().unwrap()));
        assert_eq!(read_slowly(b"PROXY UNKNOWN\r\n").await.unwrap().0, None);
        let ends = (
            SocketAddr::from(([192, 0, 2, 7], 4711)),
            SocketAddr::from(([198, 51, 100, 1], 80)),
        );
        let command = v2::Version::Two | v2::Command::Proxy;
        let header = v2::Builder::with_addresses(command, v2::Protocol::Stream, ends);
        let (address, _) = read_slowly(&header.build().unwrap()).await.unwrap();
        assert_eq!(address, Some(ends.0));
    }

    #[tokio::test]
    async fn bytes_behind_the_header_are_kept() {
        let sent = &b"PROXY TCP6 2001:db8::1 2001:db8::2 1 80\r\nGET / HTTP/1.1\r\n"[..];
        let (address, rest) = read(&mut { sent }).await.unwrap();
        assert_eq!(address, Some("[2001:db8::1]:1".parse().unwrap()));
        assert_eq!(rest, "GET / HTTP/1.1\r\n");
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for sent in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 x y 1 2\r\n",
            &[0x80; 64],
        ] {
            assert_eq!(
                read_slowly(sent).await,
                Err(ErrorKind::InvalidData),
                "{sent:?}"
            );
        }
        let early = read_slowly(b"PROXY TCP4 192.0.2.7").await;
        assert_eq!(early, Err(ErrorKind::UnexpectedEof));
    }
}
