//! Models of the mutex, explored by loom: `RUSTFLAGS="--cfg loom" cargo test -p onecopy-sync --release`.

use std::sync::Arc;

use loom::cell::UnsafeCell;

use crate::{Acquired, Owners, RobustMutex, Tag};

struct Table {
    me: Tag,
    dead_slot: Option<u32>,
}

impl Owners for Table {
    fn me(&self) -> Tag {
        self.me
    }
    fn is_alive(&self, tag: Tag) -> bool {
        self.dead_slot != Some(tag.slot())
    }
}

fn table(slot: u32, dead_slot: Option<u32>) -> Table {
    Table { me: Tag::new(slot, 1), dead_slot }
}

fn add_one(mutex: &RobustMutex, cell: &UnsafeCell<u32>, owners: &Table) -> bool {
    let acquired = mutex.lock(owners);
    // SAFETY: the lock is held; loom reports a race where it does not exclude.
    cell.with_mut(|value| unsafe { *value += 1 });
    matches!(acquired, Acquired::OwnerDied(_))
}

#[test]
fn two_takers_exclude_each_other() {
    loom::model(|| {
        let shared = Arc::new((RobustMutex::new(), UnsafeCell::new(0)));
        let other = {
            let shared = shared.clone();
            loom::thread::spawn(move || add_one(&shared.0, &shared.1, &table(1, None)))
        };
        assert!(!add_one(&shared.0, &shared.1, &table(2, None)));
        assert!(!other.join().unwrap());
        // SAFETY: the other thread has ended.
        shared.1.with(|value| assert_eq!(unsafe { *value }, 2));
    });
}

#[test]
fn exactly_one_taker_inherits_from_the_dead() {
    loom::model(|| {
        let shared = Arc::new((RobustMutex::new(), UnsafeCell::new(0)));
        std::mem::forget(shared.0.lock(&table(7, None)));
        let other = {
            let shared = shared.clone();
            loom::thread::spawn(move || add_one(&shared.0, &shared.1, &table(1, Some(7))))
        };
        let mine = add_one(&shared.0, &shared.1, &table(2, Some(7)));
        assert!(mine ^ other.join().unwrap());
        assert_eq!(shared.0.owner(), None);
    });
}
