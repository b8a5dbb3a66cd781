//! Processes that die at each of their steps.

use onecopy_sync::Patience;

use super::{Lane, Taken, lane};
use crate::models::{dies, explore, explore_deaths, process};
use crate::queue::MOST_MESSAGES;

/// The numbers of one producer, which are in order.
fn of(producer: u8, taken: &Taken) -> Vec<u8> {
    let numbers: Vec<u8> = taken.iter().filter(|message| message.0 == producer).map(|message| message.1).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{taken:?}");
    numbers
}

#[test]
fn a_producer_that_dies_takes_no_message_of_another_with_it() {
    explore_deaths(|steps, died| {
        let victim = dies(steps, died, |lane: &Lane| {
            lane.put(1, 0..3, &Patience::none()).unwrap();
            lane.put_block(1, 3);
            lane.put(1, 4..6, &Patience::none()).unwrap();
        });
        let other = process(|lane: &Lane| {
            lane.put(2, 0..2, &Patience::none()).unwrap();
            lane.take(2, 1, &Patience::none())
        });
        explore(
            false,
            1,
            || lane(8, MOST_MESSAGES),
            [victim, other],
            |lane, [_, mut taken]| {
                // Whatever lock the dead one had is taken over here, at both ends.
                lane.put(2, 2..3, &Patience::none()).unwrap();
                taken.extend(lane.take(2, 99, &Patience::none()));
                assert_eq!(of(2, &taken), [0, 1, 2]);
                let dead = of(1, &taken);
                assert_eq!(dead, (0..dead.len() as u8).collect::<Vec<_>>());
                lane.channel(2).discard_orphans().unwrap();
                assert!(lane.arena().blocks() <= 2, "orphans are left");
            },
        );
    });
}

#[test]
fn a_consumer_that_dies_loses_at_most_what_it_had_in_hand() {
    explore_deaths(|steps, died| {
        let victim = dies(steps, died, |lane: &Lane| {
            for _ in 0..4 {
                lane.take(1, 1, &Patience::none());
            }
        });
        let full = || {
            let lane = lane(8, MOST_MESSAGES);
            lane.put_block(3, 0);
            lane.put(3, 1..6, &Patience::none()).unwrap();
            lane
        };
        let other = process(|lane: &Lane| lane.take(2, 1, &Patience::none()));
        explore(false, 2, full, [victim, other], |lane, [_, mut taken]| {
            taken.extend(lane.take(2, 99, &Patience::none()));
            let rest = of(3, &taken);
            // What the dead one has is a beginning, but for the one that another took in between.
            assert!(rest.len() >= 2 && rest.ends_with(&[5]), "{rest:?}");
            assert!(lane.object.is_empty());
            assert_eq!(lane.put(2, 0..1, &Patience::none()).unwrap(), 1);
            assert_eq!(lane.take(2, 9, &Patience::none()), [(2, 0)]);
        });
    });
}

#[test]
fn a_producer_that_dies_while_the_ring_grows_twice_leaves_a_way_through() {
    explore_deaths(|steps, died| {
        // Of four units each: one in the first segment, three in the second, one in the third.
        let victim = dies(steps, died, |lane: &Lane| {
            lane.put_long(1, 0..5, 50, &Patience::none()).unwrap();
        });
        let other = process(|lane: &Lane| lane.take(2, 1, &Patience::none()));
        explore(
            false,
            1,
            || lane(8, MOST_MESSAGES),
            [victim, other],
            |lane, [_, mut taken]| {
                lane.put(2, 0..1, &Patience::none()).unwrap();
                // Another dies where it has just come to, in the middle of them; who tidies up leaves the way as it is.
                taken.extend(lane.take(2, 2, &Patience::none()));
                lane.users[2].arena.run_and_kill(0, || drop(lane.take(2, 1, &Patience::none())));
                lane.channel(3).discard_orphans().unwrap();
                taken.extend(lane.take(3, 99, &Patience::none()));
                assert_eq!(of(2, &taken), [0]);
                let dead = of(1, &taken);
                assert_eq!(dead, (0..dead.len() as u8).collect::<Vec<_>>());
                lane.channel(3).discard_orphans().unwrap();
                assert!(lane.arena().blocks() <= 3, "orphans are left");
            },
        );
    });
}

#[test]
fn a_consumer_that_dies_on_its_way_through_segments_leaves_the_way_to_others() {
    explore_deaths(|steps, died| {
        let victim = dies(steps, died, |lane: &Lane| {
            lane.take(1, 99, &Patience::none());
        });
        let full = || {
            let lane = lane(8, MOST_MESSAGES);
            lane.put_long(3, 0..5, 50, &Patience::none()).unwrap();
            lane
        };
        let other = process(|lane: &Lane| lane.take(2, 1, &Patience::none()));
        explore(false, 1, full, [victim, other], |lane, [_, mut taken]| {
            // As who puts does, where a producer has died too.
            lane.channel(2).discard_orphans().unwrap();
            taken.extend(lane.take(2, 99, &Patience::none()));
            // What the dead one had is in a row.
            let rest = of(3, &taken);
            let gaps = rest.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
            assert!(gaps <= 1, "{rest:?}");
            assert_eq!(lane.object.len(), 0);
            lane.put_long(2, 0..9, 50, &Patience::none()).unwrap();
            assert_eq!(of(2, &lane.take(2, 99, &Patience::none())), (0..9).collect::<Vec<_>>());
        });
    });
}

#[test]
fn who_tidies_up_leaves_what_the_living_are_about_to_put() {
    let put = process(|lane: &Lane| {
        lane.put_block(1, 0);
        Taken::new()
    });
    let tidy = process(|lane: &Lane| {
        assert_eq!(lane.channel(2).discard_orphans().unwrap(), 0);
        Taken::new()
    });
    explore(
        false,
        2,
        || lane(8, MOST_MESSAGES),
        [put, tidy],
        |lane, _| assert_eq!(lane.take(3, 9, &Patience::none()), [(1, 0)]),
    );
}
