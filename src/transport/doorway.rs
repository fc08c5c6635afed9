use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// The connections that have not shaken hands yet. There are at most so many: the oldest gives way to a new one,
/// so that connections that never shake hands stand in nobody's way.
#[derive(Debug)]
pub(crate) struct Doorway {
    /// Each is dropped to turn its connection away, and closed once that has shaken hands or gone. The oldest
    /// first.
    visitors: VecDeque<oneshot::Sender<Infallible>>,
    capacity: usize,
}

/// Held by a connection until it has shaken hands.
#[derive(Debug)]
pub(crate) struct Visit(oneshot::Receiver<Infallible>);

impl Doorway {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            visitors: VecDeque::new(),
            capacity,
        }
    }

    /// Lets one more in.
    pub(crate) fn enter(&mut self) -> Visit {
        if self.visitors.len() >= self.capacity {
            self.visitors.retain(|visitor| !visitor.is_closed());
        }
        if self.visitors.len() >= self.capacity {
            self.visitors.pop_front();
        }
        let (visitor, visit) = oneshot::channel();
        self.visitors.push_back(visitor);
        Visit(visit)
    }

    /// Has everybody who is there go.
    #[cfg(feature = "grpc")]
    pub(crate) fn clear(&mut self) {
        self.visitors.clear();
    }
}

impl Visit {
    /// Completes when the connection has to go.
    pub(crate) async fn turned_away(&mut self) {
        poll_fn(|cx| self.poll_turned_away(cx)).await;
    }

    /// Is ready when the connection has to go.
    pub(crate) fn poll_turned_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Nothing is ever sent, so this is the end of the other half.
        Pin::new(&mut self.0).poll(cx).map(|Err(_)| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_turned_away(visit: &mut Visit) -> bool {
        visit.turned_away().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut doorway = Doorway::new(2);
        let (mut first, mut second) = (doorway.enter(), doorway.enter());
        assert!(!is_turned_away(&mut first) && !is_turned_away(&mut second));
        let mut third = doorway.enter();
        assert!(is_turned_away(&mut first));
        assert!(!is_turned_away(&mut second) && !is_turned_away(&mut third));
    }

    #[test]
    fn who_has_shaken_hands_counts_no_more() {
        let mut doorway = Doorway::new(2);
        let (mut first, second) = (doorway.enter(), doorway.enter());
        drop(second);
        let mut third = doorway.enter();
        assert!(!is_turned_away(&mut first) && !is_turned_away(&mut third));
        (0..100).for_each(|_| drop(doorway.enter()));
        assert!(doorway.visitors.len() <= 2);
    }
}
