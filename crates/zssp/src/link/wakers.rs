//! Many tasks that wait for the same.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::{RankedMutex, rank};

/// Tasks that wait for the same thing of a [`Link`](super::Link), to be woken together. Clones share the list.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::task::{Context, Poll};
/// use zssp::link::Wakers;
///
/// #[derive(Default)]
/// struct Gate {
///     open: AtomicBool,
///     waiting: Wakers,
/// }
///
/// impl Gate {
///     fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
///         // On the list before it looks: so an opening in between is not missed.
///         self.waiting.poll(cx, |_| if self.open.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending })
///     }
///
///     fn open(&self) {
///         self.open.store(true, Ordering::SeqCst);
///         self.waiting.wake();
///     }
/// }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Wakers(Arc<List>);

#[derive(Debug, Default)]
struct List(RankedMutex<{ rank::WAKERS }, VecDeque<Waker>>);

impl Wakers {
    /// Puts the task on the list, then looks: at `poll`'s answer, for which it hands on a waker that wakes the whole list.
    /// So something that remembers only the last to ask, such as a timer, serves them all. Not on the list any more when
    /// the answer is [`Poll::Ready`].
    pub fn poll<T>(&self, cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        {
            // Cloned in front of the lock, and dropped behind it: wakers are foreign code.
            let mut own = Some(cx.waker().clone());
            let mut list = self.0.0.lock();
            if !list.iter().any(|waker| waker.will_wake(cx.waker())) {
                list.extend(own.take());
            }
            drop(list);
        }
        let answer = poll(&mut Context::from_waker(&Waker::from(self.0.clone())));
        if answer.is_ready() {
            let mut list = self.0.0.lock();
            let own = list.iter().position(|waker| waker.will_wake(cx.waker()));
            let own = own.and_then(|place| list.remove(place));
            drop(list);
            drop(own);
        }
        answer
    }

    /// Wakes everyone on the list, and takes them off it.
    pub fn wake(&self) {
        self.0.wake_by_ref();
    }
}

impl Wake for List {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // One by one, since wakers are foreign code; and no more than there are now, since who was woken may be back.
        let waiting = self.0.lock().len();
        for _ in 0..waiting {
            let next = self.0.lock().pop_front();
            let Some(next) = next else { return };
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn everyone_who_waits_is_woken_once() {
        let (wakers, counts) =
            (Wakers::default(), [Arc::new(Count::default()), Arc::default(), Arc::default()]);
        let tasks = counts.each_ref().map(|count| Waker::from(count.clone()));
        let mut inner = None;
        for task in [&tasks[0], &tasks[1], &tasks[0]] {
            let answer = wakers.poll(&mut Context::from_waker(task), |cx| {
                inner = Some(cx.waker().clone());
                Poll::<()>::Pending
            });
            assert!(answer.is_pending());
        }
        assert!(wakers.poll(&mut Context::from_waker(&tasks[2]), |_| Poll::Ready(())).is_ready());
        let count = || counts.each_ref().map(|count| count.0.load(Ordering::SeqCst));
        inner.unwrap().wake();
        assert_eq!(count(), [1, 1, 0], "the one that remembers one waker serves all that wait");
        wakers.wake();
        assert_eq!(count(), [1, 1, 0]);
    }
}
