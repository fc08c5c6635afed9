//! Heads of requests, lent to whoever asks agents about them while the session is looked at.

use http::Method;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::cell::RefCell;
use std::mem;

thread_local! {
    /// What stood in for heads that are back.
    static SPARE: RefCell<Vec<RequestHeader>> = const { RefCell::new(Vec::new()) };
}

/// Without a limit a thread that takes over what others have begun would keep ever more.
const MAX_SPARE: usize = 256;

/// Takes the head of the request out of a session. Until [`give_back`] another one stands in for it.
pub(crate) fn lend(session: &mut Session) -> pingora::Result<RequestHeader> {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    let stand_in = spare.map_or_else(stand_in, Ok)?;
    Ok(mem::replace(session.req_header_mut(), stand_in))
}

/// Puts the head where it was.
pub(crate) fn give_back(session: &mut Session, head: RequestHeader) {
    let stand_in = mem::replace(session.req_header_mut(), head);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MAX_SPARE {
            spare.push(stand_in);
        }
    });
}

fn stand_in() -> pingora::Result<RequestHeader> {
    RequestHeader::build_no_case(Method::GET, b"/", Some(0))
}
