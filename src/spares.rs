//! What a thread keeps for later instead of giving it back to the allocator.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Things of one kind that a thread will want again, at most so many.
#[derive(Debug)]
pub struct Spares<T> {
    kept: RefCell<Vec<T>>,
    max: usize,
}

impl<T> Spares<T> {
    /// None yet, and never more than `max`.
    pub const fn new(max: usize) -> Self {
        let kept = RefCell::new(Vec::new());
        Self { kept, max }
    }

    /// The one that was kept last.
    pub fn take(of: &'static LocalKey<Self>) -> Option<T> {
        of.try_with(|it| it.kept.borrow_mut().pop()).ok().flatten()
    }

    /// Keeps `spare`, or drops it where there are enough; also of a thread that ends, which may
    /// have given its spares up before its last use of them.
    pub fn keep(of: &'static LocalKey<Self>, spare: T) {
        let kept = of.try_with(|it| {
            let mut kept = it.kept.borrow_mut();
            if kept.len() < it.max {
                kept.push(spare);
            }
        });
        // A thread that has no spares any more drops it.
        let _ends = kept.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static SPARE: Spares<u8> = const { Spares::new(2) };
    }

    #[test]
    fn keeps_the_last_and_no_more_than_the_bound() {
        assert_eq!(Spares::take(&SPARE), None);
        for spare in 1..=3 {
            Spares::keep(&SPARE, spare);
        }
        let taken = [(); 3].map(|()| Spares::take(&SPARE));
        assert_eq!(taken, [Some(2), Some(1), None]);
    }
}
