//! Heads of requests, lent to whoever asks agents about them while the session is looked at.

use http::Method;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::cell::RefCell;
use std::mem;

thread_local! {
    /// What stood in for heads that are back. Boxed, as a head is large and would be copied on its way in and out.
    #[allow(clippy::vec_box, reason = "see above")]
    static SPARE: RefCell<Vec<Box<RequestHeader>>> = const { RefCell::new(Vec::new()) };
}

/// Without a limit a thread that takes over what others have begun would keep ever more.
const MAX_SPARE: usize = 256;

/// Takes the head of the request out of a session. Until [`give_back`] another one stands in for it.
pub(crate) fn lend(session: &mut Session) -> pingora::Result<Box<RequestHeader>> {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    let mut head = spare.map_or_else(stand_in, Ok)?;
    mem::swap(session.req_header_mut(), &mut head);
    Ok(head)
}

/// Puts the head where it was.
pub(crate) fn give_back(session: &mut Session, mut head: Box<RequestHeader>) {
    mem::swap(session.req_header_mut(), &mut head);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MAX_SPARE {
            spare.push(head);
        }
    });
}

fn stand_in() -> pingora::Result<Box<RequestHeader>> {
    RequestHeader::build_no_case(Method::GET, b"/", Some(0)).map(Box::new)
}
