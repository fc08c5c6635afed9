//! Takes the request head out of a session, so that agents can be asked about the head while the
//! session is watched for a disconnect.

use http::Method;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::cell::RefCell;
use std::mem;

thread_local! {
    /// Unused placeholders. They are boxed because a head is large and would otherwise be copied
    /// when it is pushed and popped.
    #[allow(clippy::vec_box, reason = "see above")]
    static SPARE: RefCell<Vec<Box<RequestHeader>>> = const { RefCell::new(Vec::new()) };
}

/// Limits the unused placeholders of a thread. A thread that gives back more heads than it lends,
/// because tasks move between threads, would otherwise collect placeholders without bound.
const MAX_SPARE: usize = 256;

/// Takes the request head out of a session and leaves a placeholder until [`give_back`].
pub(crate) fn lend(session: &mut Session) -> pingora::Result<Box<RequestHeader>> {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    let mut head = spare.map_or_else(placeholder, Ok)?;
    mem::swap(session.req_header_mut(), &mut head);
    Ok(head)
}

/// Puts a request head back into its session.
pub(crate) fn give_back(session: &mut Session, mut head: Box<RequestHeader>) {
    mem::swap(session.req_header_mut(), &mut head);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MAX_SPARE {
            spare.push(head);
        }
    });
}

fn placeholder() -> pingora::Result<Box<RequestHeader>> {
    RequestHeader::build_no_case(Method::GET, b"/", Some(0)).map(Box::new)
}
