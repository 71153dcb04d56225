//! What a task seldom hears of, beside what it is polled for all the time: asked only when it has said that it has news.
//!
//! Polling a timer or a channel that has nothing to say costs little, but a connection would do it for every request, for
//! news that comes once in its life.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Tells whether there may be news.
#[derive(Default)]
pub(crate) struct Aside(Option<Told>);

struct Told {
    news: Arc<News>,
    /// Wakes the task by way of `news`.
    waker: Waker,
}

struct News {
    /// Somebody has said something since it was last asked.
    some: AtomicBool,
    task: Waker,
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.some.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Aside {
    /// The waker to poll everything that is asked aside with, when there may be news; at first there always may.
    pub(crate) fn news(&mut self, cx: &Context<'_>) -> Option<&Waker> {
        if !self.0.as_ref().is_some_and(|told| told.news.task.will_wake(cx.waker())) {
            let news = Arc::new(News { some: AtomicBool::new(true), task: cx.waker().clone() });
            self.0 = Some(Told { waker: Arc::clone(&news).into(), news });
        }
        let told = self.0.as_ref()?;
        // Taken back before anything is polled: what is said meanwhile is for the next time.
        let some = told.news.some.load(Ordering::Acquire) && told.news.some.swap(false, Ordering::AcqRel);
        some.then_some(&told.waker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted(std::sync::atomic::AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn there_is_news_at_first_and_when_it_was_told() {
        let task = Arc::new(Counted(0.into()));
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        let mut aside = Aside::default();
        let kept = aside.news(&cx).expect("at first there may be").clone();
        assert!(aside.news(&cx).is_none());
        kept.wake_by_ref();
        assert_eq!(task.0.load(Ordering::SeqCst), 1, "the task is woken");
        assert!(aside.news(&cx).is_some() && aside.news(&cx).is_none());
        // Another task asks: it is not told what went to the one before.
        let other = Waker::from(Arc::new(Counted(0.into())));
        assert!(aside.news(&Context::from_waker(&other)).is_some());
        kept.wake();
        assert!(aside.news(&Context::from_waker(&other)).is_none());
    }
}
