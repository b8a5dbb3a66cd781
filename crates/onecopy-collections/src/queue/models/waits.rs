//! Whoever waits is told.

use onecopy_sync::Patience;

use super::{Lane, Taken, lane, puts, takes};
use crate::models::{explore, process};
use crate::queue::{Batch, MOST_MESSAGES, QueueError};

#[test]
fn nobody_oversleeps_at_either_end() {
    // One message at a time: each waits for the other in turn.
    explore(
        true,
        3,
        || lane(16, 1),
        [puts(1, 0..2), takes(2, 2)],
        |_, [_, taken]| {
            assert_eq!(taken, [(1, 0), (1, 1)]);
        },
    );
}

#[test]
fn two_producers_wake_a_consumer_for_each_message() {
    explore(
        true,
        2,
        || lane(16, MOST_MESSAGES),
        [puts(1, 0..1), puts(2, 0..1), takes(3, 2)],
        |_, [.., mut taken]| {
            taken.sort_unstable();
            assert_eq!(taken, [(1, 0), (2, 0)]);
        },
    );
}

#[test]
fn two_consumers_are_woken_for_one_message_each() {
    let put_two = process(|lane: &Lane| {
        assert_eq!(lane.put(1, 0..2, &Patience::FOREVER).unwrap(), 2);
        Vec::new()
    });
    explore(
        true,
        2,
        || lane(16, MOST_MESSAGES),
        [put_two, takes(2, 1), takes(3, 1)],
        |_, [_, a, b]| {
            let mut all = [a, b].concat();
            all.sort_unstable();
            assert_eq!(all, [(1, 0), (1, 1)]);
        },
    );
}

#[test]
fn a_close_reaches_whoever_waits() {
    let close = process(|lane: &Lane| {
        lane.object.close();
        Vec::new()
    });
    let wait = process(|lane: &Lane| lane.take(2, 1, &Patience::FOREVER));
    explore(true, 3, || lane(16, 1), [close, wait], |_, [_, taken]| assert_eq!(taken, []));
}

#[test]
fn what_was_put_before_a_close_is_taken() {
    let put_and_close = process(|lane: &Lane| {
        lane.put(1, 0..1, &Patience::FOREVER).unwrap();
        lane.object.close();
        Taken::new()
    });
    let take_all = process(|lane: &Lane| {
        let mut all = Taken::new();
        loop {
            let mut batch = Batch::new();
            match lane.channel(2).take(9, &mut batch, &Patience::FOREVER) {
                Ok(_) => all.extend(batch.messages().map(|message| (message.tag, message.bytes[0]))),
                Err(QueueError::Closed) => return all,
                Err(error) => panic!("{error}"),
            }
        }
    });
    explore(
        true,
        2,
        || lane(16, MOST_MESSAGES),
        [put_and_close, take_all],
        |_, [_, taken]| assert_eq!(taken, [(1, 0)]),
    );
}

#[test]
fn who_joins_is_told_when_all_is_done() {
    let full = || {
        let lane = lane(16, MOST_MESSAGES);
        lane.put(3, 0..2, &Patience::none()).unwrap();
        lane
    };
    let work = |slot| {
        process(move |lane: &Lane| {
            let taken = lane.take(slot, 1, &Patience::FOREVER);
            lane.object.task_done().unwrap();
            taken
        })
    };
    let join = process(|lane: &Lane| {
        lane.object.join(&Patience::FOREVER).unwrap();
        assert_eq!(lane.object.unfinished(), 0);
        Taken::new()
    });
    explore(true, 2, full, [work(1), work(2), join], |lane, _| {
        assert!(matches!(lane.object.task_done(), Err(QueueError::TooManyDone)));
    });
}

#[test]
fn the_length_is_never_less_than_nothing() {
    let put_and_take = process(|lane: &Lane| {
        lane.put(1, 0..1, &Patience::none()).unwrap();
        lane.take(1, 1, &Patience::none())
    });
    let look = process(|lane: &Lane| {
        assert!(lane.object.len() <= 1, "{} messages", lane.object.len());
        Taken::new()
    });
    explore(false, 2, || lane(16, MOST_MESSAGES), [put_and_take, look], |lane, _| assert_eq!(lane.object.len(), 0));
}
