//! Memory of the ring: when it is used again, and how it grows.

use onecopy_sync::Patience;

use super::{Lane, Taken, lane, takes};
use crate::models::{explore, process};
use crate::queue::MOST_MESSAGES;

#[test]
fn room_is_not_used_again_before_what_lay_there_has_been_read() {
    // Each message takes half of the ring: the third lies where the first was.
    let put = process(|lane: &Lane| {
        for number in 0..3 {
            lane.put_long(1, number..number + 1, 50, &Patience::FOREVER).unwrap();
        }
        Vec::new()
    });
    explore(
        true,
        2,
        || lane(8, 1),
        [put, takes(2, 3)],
        |lane, [_, taken]| {
            assert_eq!(taken, [(1, 0), (1, 1), (1, 2)]);
            assert_eq!(lane.arena().blocks(), 1, "the ring has grown");
        },
    );
}

#[test]
fn room_that_is_found_without_waiting_has_been_read() {
    // A ring of 16 units with a message of eight and one of four. Behind these is room for one of four with a link; for
    // the next, which lies where the first did, only when that has been taken. Nobody waits, so nothing but the
    // positions says so.
    let full = || {
        let lane = lane(16, MOST_MESSAGES);
        lane.put_long(3, 0..1, 8 * 16 - 8, &Patience::none()).unwrap();
        lane.put_long(3, 1..2, 4 * 16 - 8, &Patience::none()).unwrap();
        lane
    };
    let put = process(|lane: &Lane| {
        lane.put_long(1, 0..2, 4 * 16 - 8, &Patience::none()).unwrap();
        Taken::new()
    });
    let take = process(|lane: &Lane| lane.take(2, 1, &Patience::none()));
    explore(false, 2, full, [put, take], |lane, [_, mut taken]| {
        taken.extend(lane.take(2, 9, &Patience::none()));
        assert_eq!(taken, [(3, 0), (3, 1), (1, 0), (1, 1)]);
    });
}

#[test]
fn a_ring_that_wraps_and_grows_keeps_the_order() {
    // Four units are kept free for a link, so the ring holds four messages and grows with the fifth.
    let put = process(|lane: &Lane| {
        assert_eq!(lane.put(1, 0..3, &Patience::FOREVER).unwrap(), 3);
        assert_eq!(lane.put(1, 3..7, &Patience::FOREVER).unwrap(), 4);
        Vec::new()
    });
    let take = process(|lane: &Lane| [lane.take(2, 2, &Patience::none()), lane.take(2, 9, &Patience::none())].concat());
    explore(
        false,
        3,
        || lane(8, MOST_MESSAGES),
        [put, take],
        |lane, [_, mut taken]| {
            taken.extend(lane.take(2, 9, &Patience::none()));
            assert_eq!(taken, (0..7).map(|number| (1, number)).collect::<Vec<_>>());
        },
    );
}
